//! The house rules that a machine can check.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file of code, lines.
const MAX_LINES: usize = 600;

/// What each crate may use: the arrows of ARCHITECTURE.md.
const ARROWS: [(&str, &[&str]); 20] = [
    ("types", &[]),
    ("aws", &[]),
    ("wire", &[]),
    ("agent", &["wire"]),
    ("manager", &["types"]),
    ("placement", &["types"]),
    ("events", &["types"]),
    ("schedules", &[]),
    ("keys", &["types"]),
    ("kernel", &[]),
    ("rootfs", &[]),
    ("network", &["types"]),
    ("sandbox", &["types", "network", "wire", "kernel", "rootfs"]),
    ("image", &["types"]),
    ("oci", &["types", "image"]),
    ("runtimes", &["types"]),
    ("store", &["types"]),
    ("worker", &["types", "sandbox"]),
    ("frontend", &["types", "aws", "store", "image", "oci", "schedules", "keys"]),
    ("sim", &["types", "manager", "placement"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn files_below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let files = files_below(&root().join("crates"), "rs");
    assert!(files.len() > 50, "only {} files of code were found", files.len());
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_file_says_why_it_exists_and_is_not_too_long() {
    for (path, text) in sources() {
        let is_library_or_module = path.components().any(|part| part.as_os_str() == "src");
        if is_library_or_module && !path.ends_with("tests.rs") {
            assert!(text.starts_with("//!"), "{} does not open with //!", path.display());
        }
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines, more than {MAX_LINES}", path.display());
    }
}

#[test]
fn unsafe_code_is_only_where_the_kernel_needs_it() {
    for (path, text) in sources() {
        if text.contains("expect(unsafe_code") {
            let in_sys = path.iter().any(|part| part == "sys" || part == "sys.rs");
            assert!(
                in_sys || path.components().any(|part| part.as_os_str() == "tests"),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn arrows_between_crates_go_down_only() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    for entry in fs::read_dir(root().join("crates")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name == "hearth" {
            continue;
        }
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
        let dependencies =
            manifest.split("[dependencies]").nth(1).unwrap_or("").split("\n[").next().unwrap_or("");
        for line in dependencies.lines() {
            let Some(used) = line.strip_prefix("hearth-").and_then(|rest| rest.split(['.', ' ', '=']).next())
            else {
                continue;
            };
            let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in ARROWS"));
            assert!(allowed.contains(used), "{name} may not use {used}");
        }
    }
}

#[test]
fn every_promise_of_the_specification_names_a_test_that_exists() {
    let root = root();
    let specification = fs::read_to_string(root.join("SPECIFICATION.md")).unwrap();
    let code: String = sources()
        .into_iter()
        .map(|(_, text)| text)
        .chain(
            files_below(&root.join("tests"), "py")
                .into_iter()
                .chain([root.join("bench/run"), root.join("bench/scale")])
                .map(|path| fs::read_to_string(path).unwrap()),
        )
        .collect();
    let mut promises = 0;
    for line in specification.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"))
    {
        let held_by = line.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test is named for: {line}");
        for name in names {
            let known = [format!("fn {name}("), format!("def {name}("), format!("\"{name}\"")];
            assert!(known.iter().any(|form| code.contains(form)), "{name} does not exist: {line}");
        }
        promises += 1;
    }
    assert!(promises > 10, "only {promises} promises were found");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = root();
    let mut documents = files_below(&root.join("docs"), "md");
    documents.extend(
        fs::read_dir(&root)
            .unwrap()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "md")),
    );
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let path = document.parent().unwrap().join(target.split('#').next().unwrap());
            assert!(path.exists(), "{} links to {target}, which does not exist", document.display());
        }
    }
}
