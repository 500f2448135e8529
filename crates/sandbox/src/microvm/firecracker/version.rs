//! Which Firecracker there is, and what to do when it is none.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest that machines are run with: its snapshots, rate limiters and jailer are as they are used here.
const OLDEST: FirecrackerVersion = FirecrackerVersion { major: 1, minor: 7, patch: 0 };
/// A version is in the first so many bytes of what a program says.
const MAX_SAID: usize = 4 << 10;

/// A version, as `firecracker --version` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirecrackerVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

/// Why Firecracker is not used.
#[derive(Debug, thiserror::Error)]
pub enum NoFirecracker {
    /// It, or its jailer, cannot be run.
    #[error(
        "cannot run {}: install Firecracker {OLDEST} or newer with its jailer, or say where they are \
         (--firecracker, --jailer)", program.display()
    )]
    Program {
        /// What was tried.
        program: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It says something else.
    #[error("{} is not {what}: asked for its version, it says {said:?}", program.display())]
    Another {
        /// What was tried.
        program: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Its first line, shortened.
        said: String,
    },
    /// It is too old, or of a future that is not known.
    #[error("{} is version {version}: {OLDEST} or newer is needed, below 2", program.display())]
    Version {
        /// What was tried.
        program: PathBuf,
        /// Its own.
        version: FirecrackerVersion,
    },
    /// The two are not of one release.
    #[error("firecracker is version {firecracker} and its jailer {jailer}: they have to be of one release")]
    Pair {
        /// Firecracker's.
        firecracker: FirecrackerVersion,
        /// Its jailer's.
        jailer: FirecrackerVersion,
    },
    /// The jailer changes users and makes namespaces.
    #[error("the jailer of Firecracker needs root")]
    Root,
}

// === impl FirecrackerVersion ===

impl fmt::Display for FirecrackerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FirecrackerVersion {
    /// That of a pair of programs that machines can be run with.
    ///
    /// # Errors
    /// When one is missing, or another program, or too old, or they are not of one release.
    pub fn of_pair(firecracker: &Path, jailer: &Path) -> Result<Self, NoFirecracker> {
        let version = ask(firecracker, "Firecracker")?;
        let jailers = ask(jailer, "Jailer")?;
        if version != jailers {
            return Err(NoFirecracker::Pair { firecracker: version, jailer: jailers });
        }
        if version < OLDEST || version.major != OLDEST.major {
            return Err(NoFirecracker::Version { program: firecracker.to_owned(), version });
        }
        Ok(version)
    }
}

fn ask(program: &Path, what: &'static str) -> Result<FirecrackerVersion, NoFirecracker> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|source| NoFirecracker::Program { program: program.to_owned(), source })?;
    let said = output.stdout.get(..output.stdout.len().min(MAX_SAID)).unwrap_or_default();
    let said = String::from_utf8_lossy(said);
    parse(&said, what).ok_or_else(|| {
        let line = said.lines().next().unwrap_or_default();
        let said = line.chars().filter(|letter| !letter.is_control()).take(80).collect();
        NoFirecracker::Another { program: program.to_owned(), what, said }
    })
}

/// `Firecracker v1.12.1`, with or without more behind it.
fn parse(said: &str, what: &str) -> Option<FirecrackerVersion> {
    let line = said.lines().next()?.trim();
    let rest = line.strip_prefix(what)?.trim_start();
    let number = rest.strip_prefix('v').unwrap_or(rest).split([' ', '-', '+']).next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    let version = FirecrackerVersion { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(directory: &Path, name: &str, said: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        let version = |text| parse(text, "Firecracker").map(|version| version.to_string());
        assert_eq!(version("Firecracker v1.12.1\n\nSupported snapshot").as_deref(), Some("1.12.1"));
        assert_eq!(version("Firecracker v1.7.0-dirty").as_deref(), Some("1.7.0"));
        for text in
            ["", "Firecracker", "Firecracker v1.12", "Jailer v1.12.1", "v1.12.1", "Firecracker v1.2.3.4"]
        {
            assert_eq!(version(text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_or_missing_program_is_told_from_a_right_one() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, said: &str| program(directory.path(), name, said);
        let (good, jailer) = (make("fc", "Firecracker v1.12.1"), make("jailer", "Jailer v1.12.1"));
        assert_eq!(FirecrackerVersion::of_pair(&good, &jailer).unwrap().to_string(), "1.12.1");
        let missing = directory.path().join("none");
        let error = FirecrackerVersion::of_pair(&missing, &jailer).unwrap_err().to_string();
        assert!(error.contains("none") && error.contains("install Firecracker 1.7.0"), "{error}");
        let error = FirecrackerVersion::of_pair(&good, &good).unwrap_err();
        assert!(matches!(error, NoFirecracker::Another { what: "Jailer", .. }), "{error}");
        let other = make("other", "Jailer v1.11.0");
        assert!(matches!(FirecrackerVersion::of_pair(&good, &other), Err(NoFirecracker::Pair { .. })));
        for version in ["1.6.9", "2.0.0"] {
            let old = make("old", &format!("Firecracker v{version}"));
            let its = make("its", &format!("Jailer v{version}"));
            assert!(matches!(FirecrackerVersion::of_pair(&old, &its), Err(NoFirecracker::Version { .. })));
        }
    }
}
