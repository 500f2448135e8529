//! Node.js: how it starts with Hearth's own client.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearth_types::Runtime;

use crate::catalog::Program;

/// The client's files, by name.
const CLIENT: [(&str, &str); 3] = [
    ("index.mjs", include_str!("../clients/node/index.mjs")),
    ("handler.mjs", include_str!("../clients/node/handler.mjs")),
    ("runtime-api.mjs", include_str!("../clients/node/runtime-api.mjs")),
];

/// How an instance starts Node.js. Writes the client to `home` if it is not there.
pub(crate) fn program(home: &Path, runtime: &Runtime, interpreter: &Path) -> io::Result<Program> {
    let major = runtime.language_version().unwrap_or_default();
    // bin/node below its prefix; the prefix holds what npm installed globally, too.
    let prefix = interpreter.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
    Ok(Program {
        mounts: vec![
            (prefix.to_owned(), PathBuf::from("/var/lang")),
            (write_client(home)?, PathBuf::from("/var/runtime")),
        ],
        argv: vec!["/var/lang/bin/node".to_owned(), "/var/runtime/index.mjs".to_owned()],
        handler_argument: false,
        environment: BTreeMap::from([(
            "NODE_PATH".to_owned(),
            format!(
                "/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/task"
            ),
        )]),
        execution_environment: format!("AWS_Lambda_{runtime}"),
    })
}

/// The client in a folder of its own, named by what is in it, so that an older one in use is never changed.
fn write_client(home: &Path) -> io::Result<PathBuf> {
    let directory = home.join(format!("node-client-{:016x}", fingerprint()));
    if directory.is_dir() {
        return Ok(directory);
    }
    fs::create_dir_all(home)?;
    let half_made = home.join(format!(".node-client-{}", std::process::id()));
    if half_made.exists() {
        fs::remove_dir_all(&half_made)?;
    }
    fs::create_dir(&half_made)?;
    for (name, text) in CLIENT {
        fs::write(half_made.join(name), text)?;
    }
    crate::python::open_to_all(&half_made)?;
    match fs::rename(&half_made, &directory) {
        Ok(()) => {}
        // Somebody else was quicker, with the same files.
        Err(_) if directory.is_dir() => fs::remove_dir_all(&half_made)?,
        Err(error) => return Err(error),
    }
    Ok(directory)
}

/// FNV-1a over all files: told apart, not trusted.
fn fingerprint() -> u64 {
    let bytes = CLIENT.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
