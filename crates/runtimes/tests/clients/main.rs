//! The clients of languages, run for real: every interpreter of this machine against a small Runtime API.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod api;
mod node;
mod python;

use std::fs;
use std::path::Path;

use hearth_runtimes::{Catalog, RuntimeState};
use hearth_types::{Runtime, RuntimeFamily};

/// The runtimes of a language whose interpreters are here.
fn found(home: &Path, family: RuntimeFamily) -> Vec<Runtime> {
    let list = Catalog::open(home.to_owned()).list().into_iter();
    let here = list.filter(|status| !matches!(status.state, RuntimeState::NoInterpreter { .. }));
    let names: Vec<Runtime> = here.map(|status| status.name).filter(|name| name.family() == family).collect();
    if names.is_empty() {
        println!("skipped: no interpreter for {family:?} is on this machine");
    }
    names
}

/// A function's directory with these files.
fn task(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}
