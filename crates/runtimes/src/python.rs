//! Python: how it starts with AWS's own client, and how that client is installed.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hearth_types::Runtime;

use crate::catalog::{AddError, Program};
use crate::interpreters;

/// The client and what it needs, pinned by version and hash.
const REQUIREMENTS: &str = include_str!("../clients/python/requirements.txt");
/// The client's version, in the name of its folder.
const CLIENT_VERSION: &str = "awslambdaric-4.2.2";
/// The oldest Python that the client has a wheel for.
pub(crate) const OLDEST: &str = "python3.10";

pub(crate) fn has_client(runtime: &Runtime) -> bool {
    let minor =
        runtime.language_version().and_then(|version| version.strip_prefix("3.")?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 10)
}

/// Where a runtime's client is, once it is installed.
pub(crate) fn client(home: &Path, runtime: &Runtime) -> PathBuf {
    home.join(format!("{runtime}-{CLIENT_VERSION}"))
}

/// How an instance starts Python.
pub(crate) fn program(home: &Path, runtime: &Runtime, interpreter: &Path) -> io::Result<Program> {
    let prefix = prefix(interpreter)?;
    let name = interpreter.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Program {
        mounts: vec![
            (prefix, PathBuf::from("/var/lang")),
            (client(home, runtime), PathBuf::from("/var/runtime")),
        ],
        argv: vec![format!("/var/lang/bin/{name}"), "-m".to_owned(), "awslambdaric".to_owned()],
        handler_argument: true,
        environment: BTreeMap::from([
            (
                "PYTHONPATH".to_owned(),
                format!("/opt/python/lib/{runtime}/site-packages:/opt/python:/var/runtime"),
            ),
            // The code is read-only; without this Python would try to write beside it.
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ]),
        execution_environment: format!("AWS_Lambda_{runtime}"),
    })
}

/// What the interpreter calls its prefix: the folder with its `bin` and `lib`.
fn prefix(interpreter: &Path) -> io::Result<PathBuf> {
    let output = Command::new(interpreter)
        .args(["-I", "-S", "-c", "import sys; print(sys.base_prefix)"])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Installs the client with pip, from wheels that must have the pinned hashes.
pub(crate) fn install(
    home: &Path,
    runtime: &Runtime,
    interpreter: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), AddError> {
    let io = |step, path: &Path| {
        let path = path.to_owned();
        move |source| AddError::Io { step, path, source }
    };
    fs::create_dir_all(home).map_err(io("make", home))?;
    let pip = find_pip(interpreter).ok_or_else(|| AddError::NoPip(runtime.clone()))?;
    // One at a time: a second caller waits here and then finds the work done.
    let lock_path = home.join(".lock");
    let lock = fs::File::create(&lock_path).map_err(io("open", &lock_path))?;
    lock.lock().map_err(io("lock", &lock_path))?;
    let finished = client(home, runtime);
    if finished.is_dir() {
        return Ok(());
    }
    let half_made = home.join(format!(".{runtime}-half-made"));
    if half_made.exists() {
        fs::remove_dir_all(&half_made).map_err(io("remove", &half_made))?;
    }
    progress(&format!("installing {CLIENT_VERSION} with {}", pip.display()));
    run_pip(&pip, runtime, &half_made)?;
    progress("compiling it");
    // Slower starts, nothing worse, if this does not work.
    let _ = Command::new(interpreter)
        .args(["-I", "-m", "compileall", "-q"])
        .arg(&half_made)
        .stdin(Stdio::null())
        .output();
    open_to_all(&half_made).map_err(io("open to all", &half_made))?;
    fs::rename(&half_made, &finished).map_err(io("rename", &half_made))
}

/// A Python that has pip: the runtime's own, or any other.
fn find_pip(interpreter: &Path) -> Option<PathBuf> {
    let others = interpreters::runtimes_found();
    let others = others.iter().filter_map(interpreters::python);
    std::iter::once(interpreter.to_owned()).chain(others).find(|python| {
        let tried = Command::new(python).args(["-I", "-m", "pip", "--version"]).stdin(Stdio::null()).output();
        tried.is_ok_and(|output| output.status.success())
    })
}

fn run_pip(pip: &Path, runtime: &Runtime, target: &Path) -> Result<(), AddError> {
    let failed = |error: io::Error| AddError::Pip(error.to_string());
    let mut requirements = tempfile_in(target).map_err(failed)?;
    requirements.1.write_all(REQUIREMENTS.as_bytes()).map_err(failed)?;
    let arch = std::env::consts::ARCH;
    let platforms =
        ["manylinux2014", "manylinux_2_17", "manylinux_2_28"].map(|tag| format!("--platform={tag}_{arch}"));
    let output = Command::new(pip)
        .args(["-I", "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
        .args(["--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile", "--implementation=cp"])
        .arg(format!("--python-version={}", runtime.language_version().unwrap_or_default()))
        .args(platforms)
        .arg("--target")
        .arg(target)
        .arg("-r")
        .arg(&requirements.0)
        .stdin(Stdio::null())
        .output();
    let _ = fs::remove_file(&requirements.0);
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let _ = fs::remove_dir_all(target);
    Err(AddError::Pip(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn tempfile_in(beside: &Path) -> io::Result<(PathBuf, fs::File)> {
    let path = beside.with_extension("requirements.txt");
    let file = fs::File::create(&path)?;
    Ok((path, file))
}

/// Instances run as users of their own, who must be able to read.
pub(crate) fn open_to_all(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    } else if metadata.is_file() {
        fs::set_permissions(path, Permissions::from_mode(0o644 | (metadata.permissions().mode() & 0o111)))?;
    }
    Ok(())
}
