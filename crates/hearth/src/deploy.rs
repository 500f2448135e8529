//! What `hearth deploy` finds in a directory or archive: which runtime it is for, which handler, which files go in.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hearth_types::RuntimeFamily;
use hearth_types::limits::{UNZIPPED_BYTES, ZIP_BYTES};
use zip::write::SimpleFileOptions;

/// Directories that are never part of a function.
const LEFT_OUT: [&str; 6] = [".git", ".hg", ".svn", "__pycache__", ".venv", ".DS_Store"];
/// Files that a Python function's handler is looked for in, in this order.
const PYTHON_FILES: [&str; 6] =
    ["lambda_function.py", "app.py", "handler.py", "main.py", "index.py", "function.py"];
/// Files that a Node function's handler is looked for in, in this order.
const NODE_STEMS: [&str; 5] = ["index", "app", "handler", "main", "function"];
const NODE_ENDINGS: [&str; 3] = ["mjs", "js", "cjs"];
/// Names that a handler is known by, in this order.
const HANDLER_NAMES: [&str; 3] = ["lambda_handler", "handler", "main"];
/// More of a source file is not read to guess with.
const MAX_SOURCE_BYTES: u64 = 1024 * 1024;

/// A bundle to deploy, and what was guessed of it.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The zip archive.
    pub(crate) archive: Vec<u8>,
    /// Files in it.
    pub(crate) files: usize,
    /// What it seems to be, if anything.
    pub(crate) guess: Option<Guess>,
}

/// What a bundle seems to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) family: RuntimeFamily,
    pub(crate) handler: String,
    /// What it was guessed from, for people.
    pub(crate) because: String,
}

/// Reads what `path` names into a bundle.
pub(crate) fn read(path: &Path) -> anyhow::Result<Bundle> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_dir() {
        let directory = bundle_root(path)?;
        let files = walk(&directory)?;
        if files.is_empty() {
            bail!("{} has no files to deploy", directory.display());
        }
        let guess = guess(&|name| read_source(&directory.join(name)));
        return Ok(Bundle { archive: pack(&directory, &files)?, files: files.len(), guess });
    }
    if metadata.len() > ZIP_BYTES as u64 {
        bail!("{} is {} bytes; an archive may have {ZIP_BYTES}", path.display(), metadata.len());
    }
    let archive = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut zip = zip::ZipArchive::new(Cursor::new(&archive))
        .with_context(|| format!("{} is neither a directory nor a zip archive", path.display()))?;
    let files = zip.len();
    let zip = std::cell::RefCell::new(&mut zip);
    let guess = guess(&|name| {
        let mut zip = zip.borrow_mut();
        let entry = zip.by_name(name).ok()?;
        let mut source = Vec::new();
        entry.take(MAX_SOURCE_BYTES).read_to_end(&mut source).ok()?;
        Some(source)
    });
    Ok(Bundle { archive, files, guess })
}

/// `cargo lambda build` leaves its result in `target/lambda/NAME`; a source tree by itself cannot run.
fn bundle_root(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.join("Cargo.toml").exists() || path.join("bootstrap").exists() {
        return Ok(path.to_owned());
    }
    let built: Vec<PathBuf> = fs::read_dir(path.join("target/lambda"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("bootstrap").exists())
        .collect();
    match built.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!(
            "{} is a Rust project that is not built: run `cargo lambda build --release` in it, then deploy again",
            path.display()
        ),
        several => bail!(
            "{} has several built functions: deploy one of {}",
            path.display(),
            several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn read_source(path: &Path) -> Option<Vec<u8>> {
    let mut source = Vec::new();
    File::open(path).ok()?.take(MAX_SOURCE_BYTES).read_to_end(&mut source).ok()?;
    Some(source)
}

/// What the files that `source` can read seem to be.
fn guess(source: &dyn Fn(&str) -> Option<Vec<u8>>) -> Option<Guess> {
    if source("bootstrap").is_some() {
        return Some(Guess {
            family: RuntimeFamily::Provided,
            handler: "bootstrap".into(),
            because: "it has a bootstrap".into(),
        });
    }
    guess_node(source).or_else(|| guess_python(source))
}

fn guess_python(source: &dyn Fn(&str) -> Option<Vec<u8>>) -> Option<Guess> {
    PYTHON_FILES.iter().find_map(|file| {
        let text = String::from_utf8_lossy(&source(file)?).into_owned();
        let handler = HANDLER_NAMES.iter().find(|name| {
            text.lines().any(|line| {
                let line = line.strip_prefix("async ").unwrap_or(line);
                line.strip_prefix("def ").is_some_and(|rest| starts_with_word(rest, name))
                    || line.strip_prefix(*name).is_some_and(|rest| rest.trim_start().starts_with('='))
            })
        })?;
        let module = file.strip_suffix(".py")?;
        Some(Guess {
            family: RuntimeFamily::Python,
            handler: format!("{module}.{handler}"),
            because: format!("{file} defines {handler}"),
        })
    })
}

fn guess_node(source: &dyn Fn(&str) -> Option<Vec<u8>>) -> Option<Guess> {
    let package: serde_json::Value =
        source("package.json").and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let main = package["main"].as_str().map(|main| main.trim_start_matches("./").to_owned());
    let usual = NODE_STEMS.iter().flat_map(|stem| NODE_ENDINGS.map(|ending| format!("{stem}.{ending}")));
    main.into_iter().chain(usual).find_map(|file| {
        let text = String::from_utf8_lossy(&source(&file)?).into_owned();
        let exported = HANDLER_NAMES.iter().find(|name| {
            text.lines().any(|line| {
                line.contains(&format!("exports.{name}"))
                    || (line.trim_start().starts_with("export") && contains_word(line, name))
                    || (line.contains("module.exports") && contains_word(line, name))
            })
        })?;
        let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem);
        Some(Guess {
            family: RuntimeFamily::Node,
            handler: format!("{stem}.{exported}"),
            because: format!("{file} exports {exported}"),
        })
    })
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.trim_start()
        .strip_prefix(word)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn contains_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

/// A function's name from a path: its last part, in the characters that names have.
pub(crate) fn function_name(path: &Path) -> anyhow::Result<String> {
    let full = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
    let last = if full.is_dir() { full.file_name() } else { full.file_stem() };
    word_as_name(&last.unwrap_or_default().to_string_lossy(), &path.display().to_string())
}

/// The same from a word, which is of `whole`.
pub(crate) fn word_as_name(word: &str, whole: &str) -> anyhow::Result<String> {
    let name: String = word
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(64)
        .collect();
    // A name that begins like an option could not be said to any command.
    let name = name.trim_matches('-');
    if name.is_empty() {
        bail!("{whole} gives the function no name: say --name NAME");
    }
    Ok(name.to_owned())
}

/// All files and links below `root`, in order, as paths relative to it.
fn walk(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let path = root.join(&directory);
        for entry in fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))? {
            let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
            if LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let relative = directory.join(entry.file_name());
            let kind =
                entry.file_type().with_context(|| format!("cannot read {}", entry.path().display()))?;
            if kind.is_dir() {
                directories.push(relative);
            } else if kind.is_file() || kind.is_symlink() {
                found.push(relative);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A zip archive of `files` below `root`: the same files give the same bytes.
fn pack(root: &Path, files: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut total = 0;
    for relative in files {
        let path = root.join(relative);
        let name = relative.to_str().with_context(|| format!("{} is not a UTF-8 name", path.display()))?;
        let metadata =
            fs::symlink_metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let options = SimpleFileOptions::default().unix_permissions(metadata.permissions().mode() & 0o777);
        if metadata.is_symlink() {
            let target = fs::read_link(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let target =
                target.to_str().with_context(|| format!("{} has a target not in UTF-8", path.display()))?;
            zip.add_symlink(name, target, options)?;
            continue;
        }
        total += metadata.len();
        if total > UNZIPPED_BYTES {
            bail!(
                "{} has more than {UNZIPPED_BYTES} bytes of files, the most that a function may have",
                root.display()
            );
        }
        zip.start_file(name, options)?;
        let mut file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        io::copy(&mut file, &mut zip).with_context(|| format!("cannot pack {}", path.display()))?;
    }
    zip.flush()?;
    let archive = zip.finish()?.into_inner();
    if archive.len() > ZIP_BYTES {
        bail!("the packed archive is {} bytes; it may have {ZIP_BYTES}", archive.len());
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(files: &[(&str, &str)]) -> Option<(RuntimeFamily, String)> {
        let source = |name: &str| {
            files.iter().find(|(file, _)| *file == name).map(|(_, text)| text.as_bytes().to_vec())
        };
        guess(&source).map(|guess| (guess.family, guess.handler))
    }

    #[test]
    fn the_runtime_and_handler_are_guessed_from_what_is_there() {
        use RuntimeFamily::{Node, Provided, Python};
        for (files, want) in [
            (vec![("bootstrap", "#!/bin/sh")], Some((Provided, "bootstrap"))),
            (vec![("app.py", "def handler(event, context):\n  pass")], Some((Python, "app.handler"))),
            (
                vec![("lambda_function.py", "def lambda_handler(e, c): ...")],
                Some((Python, "lambda_function.lambda_handler")),
            ),
            (vec![("app.py", "def handlers(): ...")], None),
            (vec![("index.mjs", "export const handler = async () => 1")], Some((Node, "index.handler"))),
            (vec![("index.js", "exports.handler = async () => 1")], Some((Node, "index.handler"))),
            (vec![("index.js", "module.exports = { handler }")], Some((Node, "index.handler"))),
            (
                vec![("package.json", r#"{"main":"./dist/fn.js"}"#), ("dist/fn.js", "exports.handler = 1")],
                Some((Node, "dist/fn.handler")),
            ),
            (vec![("readme.md", "hello")], None),
        ] {
            assert_eq!(
                guessed(&files),
                want.map(|(family, handler)| (family, handler.to_owned())),
                "{files:?}"
            );
        }
    }

    #[test]
    fn a_word_becomes_a_name_that_no_command_takes_for_an_option() {
        for (word, name) in
            [("my fn", "my-fn"), ("-dash-", "dash"), ("\u{fc}n\u{ef}", "n"), ("a_B-1", "a_B-1")]
        {
            assert_eq!(word_as_name(word, word).unwrap(), name);
        }
        assert!(word_as_name("\u{65e5}\u{672c}", "there").unwrap_err().to_string().contains("say --name"));
    }

    #[test]
    fn packing_the_same_files_twice_gives_the_same_bytes_and_leaves_the_rest_out() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("my fn");
        fs::create_dir_all(root.join("__pycache__")).unwrap();
        fs::write(root.join("__pycache__/x.pyc"), "x").unwrap();
        fs::write(root.join("app.py"), "def handler(e, c): ...").unwrap();
        fs::write(root.join("bin"), "x").unwrap();
        fs::set_permissions(root.join("bin"), fs::Permissions::from_mode(0o755)).unwrap();
        let (first, second) = (read(&root).unwrap(), read(&root).unwrap());
        assert_eq!(first.archive, second.archive);
        assert_eq!((first.files, function_name(&root).unwrap().as_str()), (2, "my-fn"));
        let mut zip = zip::ZipArchive::new(Cursor::new(&first.archive)).unwrap();
        assert_eq!(zip.by_name("bin").unwrap().unix_mode().map(|mode| mode & 0o777), Some(0o755));
    }

    #[test]
    fn a_rust_project_that_is_not_built_says_how_to_build_it() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("Cargo.toml"), "").unwrap();
        let error = read(root.path()).unwrap_err().to_string();
        assert!(error.contains("cargo lambda build"), "{error}");
    }
}
