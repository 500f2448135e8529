//! Where interpreters are: PATH, and the folders that pyenv, uv and nvm keep versions in.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hearth_types::Runtime;

/// Searched even if PATH does not say so, as in a service.
const USUAL: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// The interpreter of a Python runtime, if it is here.
pub(crate) fn python(runtime: &Runtime) -> Option<PathBuf> {
    let version = runtime.language_version()?;
    let name = format!("python{version}");
    let managed = [
        (environment("PYENV_ROOT").or_else(|| home(".pyenv")).map(|root| root.join("versions")), ""),
        (home(".local/share/uv/python"), "cpython-"),
    ];
    let in_path = directories_of_path().map(|directory| directory.join(&name));
    let in_managers = managed.into_iter().flat_map(|(root, prefix)| {
        versions(root, &format!("{prefix}{version}.")).into_iter().map(|directory| directory.join("bin"))
    });
    in_path.chain(in_managers.map(|bin| bin.join(&name))).find_map(real_program)
}

/// The interpreter of a Node.js runtime, if it is here.
pub(crate) fn node(runtime: &Runtime) -> Option<PathBuf> {
    let wanted = runtime.language_version()?;
    nodes().into_iter().find(|(major, _)| major == wanted).map(|(_, path)| path)
}

/// Runtimes whose interpreters are here, known to Lambda or not.
pub(crate) fn runtimes_found() -> Vec<Runtime> {
    let pythons = (10..=30).filter_map(|minor| format!("python3.{minor}").parse::<Runtime>().ok());
    let pythons = pythons.filter(|runtime| python(runtime).is_some());
    let nodes = nodes().into_iter().filter_map(|(major, _)| format!("nodejs{major}.x").parse().ok());
    pythons.chain(nodes).collect()
}

/// Every Node.js with its major version, as it says itself or as nvm's folder is called.
fn nodes() -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    for path in directories_of_path().map(|directory| directory.join("node")).filter_map(real_program) {
        if found.iter().any(|(_, known)| *known == path) || !is_installed_node(&path) {
            continue;
        }
        if let Some(major) = node_major(&path) {
            found.push((major, path));
        }
    }
    let nvm = environment("NVM_DIR").or_else(|| home(".nvm")).map(|root| root.join("versions/node"));
    for directory in versions(nvm, "v") {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let major = name.trim_start_matches('v').split('.').next().unwrap_or_default().to_owned();
        if let Some(path) = real_program(directory.join("bin/node")).filter(|path| is_installed_node(path)) {
            found.push((major, path));
        }
    }
    found
}

/// Whether a prefix, which functions get to see, is more than an interpreter's own: the root, or a folder around a home.
pub(crate) fn shows_too_much(prefix: &Path) -> bool {
    prefix.parent().is_none() || environment("HOME").is_some_and(|home| home.starts_with(prefix))
}

/// Whether this is a whole Node.js, as packages and archives unpack it, in a folder that functions may see.
fn is_installed_node(path: &Path) -> bool {
    let Some(prefix) = path.parent().filter(|bin| bin.ends_with("bin")).and_then(Path::parent) else {
        return false;
    };
    let shared = [Path::new("/usr"), Path::new("/usr/local")].contains(&prefix);
    (shared || prefix.join("include/node").is_dir()) && !shows_too_much(prefix)
}

fn node_major(path: &Path) -> Option<String> {
    let output =
        Command::new(path).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().strip_prefix('v')?.split('.').next()?.to_owned())
}

/// Folders of `root` that begin with `prefix`, newest version first.
fn versions(root: Option<PathBuf>, prefix: &str) -> Vec<PathBuf> {
    let entries = root.and_then(|root| fs::read_dir(root).ok()).into_iter().flatten().flatten();
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix(prefix)?;
            let numbers =
                rest.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
            Some((numbers, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn directories_of_path() -> impl Iterator<Item = PathBuf> {
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    let told: Vec<PathBuf> =
        std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect();
    told.into_iter().chain(USUAL.map(PathBuf::from))
}

/// The program itself behind any links, unless it is a script that chooses one, as pyenv's shims are.
fn real_program(path: PathBuf) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    let mut magic = [0; 4];
    std::io::Read::read_exact(&mut fs::File::open(&real).ok()?, &mut magic).ok()?;
    (magic == *b"\x7fELF").then_some(real)
}

fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn home(below: &str) -> Option<PathBuf> {
    environment("HOME").map(|home| home.join(below))
}
