//! Python: how it starts with AWS's own client, and how that client is installed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hearth_types::Runtime;

use crate::catalog::{AddError, Program};
use crate::home::{self, fingerprint};
use crate::interpreters;

/// The client and what it needs, pinned by version and hash.
const REQUIREMENTS: &str = include_str!("../clients/python/requirements.txt");
/// Starts the client.
const START: (&str, &str) = ("hearth_start.py", include_str!("../clients/python/hearth_start.py"));
/// The oldest Python that the client has a wheel for.
pub(crate) const OLDEST: &str = "python3.10";

pub(crate) fn has_client(runtime: &Runtime) -> bool {
    let minor =
        runtime.language_version().and_then(|version| version.strip_prefix("3.")?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor >= 10)
}

/// Where a runtime's client is, once it is installed.
pub(crate) fn client(home: &Path, runtime: &Runtime) -> PathBuf {
    home.join(client_name(runtime))
}

fn client_name(runtime: &Runtime) -> String {
    format!("{runtime}-{:016x}", fingerprint(&[("requirements.txt", REQUIREMENTS), START]))
}

/// How an instance starts Python.
pub(crate) fn program(home: &Path, runtime: &Runtime, interpreter: &Path) -> io::Result<Program> {
    let prefix = prefix(interpreter)?;
    if interpreters::shows_too_much(&prefix) {
        return Err(io::Error::other(format!("its prefix {} holds more than Python", prefix.display())));
    }
    let name = interpreter.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Program {
        mounts: vec![
            (prefix, PathBuf::from("/var/lang")),
            (client(home, runtime), PathBuf::from("/var/runtime")),
        ],
        argv: [&format!("/var/lang/bin/{name}"), "-S", "-m", "hearth_start"].map(str::to_owned).to_vec(),
        handler_argument: true,
        heap_limits: false,
        waits: true,
        saved_arguments: Vec::new(),
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
    let pip = find_pip(interpreter).ok_or_else(|| AddError::NoPip(runtime.clone()))?;
    home::install(home, &client_name(runtime), |half_made| {
        progress(&format!("installing AWS's runtime client and boto3 with {}", pip.display()));
        run_pip(&pip, runtime, half_made)?;
        let start = half_made.join(START.0);
        fs::write(&start, START.1).map_err(home::failed("write", &start))?;
        progress("compiling them");
        compile(interpreter, half_made);
        Ok(())
    })
    .map(drop)
}

/// Compiles what was installed: instances see it read-only, and would compile it again at each start.
fn compile(interpreter: &Path, directory: &Path) {
    // Not by time stamp, which is checked against a file that nobody may change. Failing means slower starts, nothing worse.
    let result = Command::new(interpreter)
        .args(["-I", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"])
        .args(["-s", &directory.to_string_lossy(), "-p", "/var/runtime"])
        .arg(directory)
        .stdin(Stdio::null())
        .output();
    if !result.as_ref().is_ok_and(|output| output.status.success()) {
        tracing::warn!(directory = %directory.display(), "the Python client could not be compiled; its starts will be slower");
    }
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
    let requirements = target.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).map_err(home::failed("write", &requirements))?;
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
        .arg(&requirements)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| AddError::Pip(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(AddError::Pip(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
