//! Node.js: how it starts with Hearth's own client.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hearth_types::Runtime;

use crate::catalog::{AddError, Program};
use crate::home::{self, fingerprint};

pub(crate) mod release;

/// The client's files, by name.
const CLIENT: [(&str, &str); 8] = [
    ("index.cjs", include_str!("../clients/node/index.cjs")),
    ("ahead.cjs", include_str!("../clients/node/ahead.cjs")),
    ("handler.cjs", include_str!("../clients/node/handler.cjs")),
    ("runtime-api.cjs", include_str!("../clients/node/runtime-api.cjs")),
    ("console.cjs", include_str!("../clients/node/console.cjs")),
    ("streaming.cjs", include_str!("../clients/node/streaming.cjs")),
    ("openssl.cnf", include_str!("../clients/node/openssl.cnf")),
    ("snapshot.cjs", include_str!("../clients/node/snapshot.cjs")),
];

/// How an instance starts Node.js. Writes the client to `home` if it is not there.
pub(crate) fn program(home: &Path, runtime: &Runtime, interpreter: &Path) -> Result<Program, AddError> {
    let major = runtime.language_version().unwrap_or_default();
    // bin/node below its prefix; the prefix holds what npm installed globally, too.
    let prefix = interpreter.ancestors().nth(2).unwrap_or(interpreter);
    Ok(Program {
        mounts: vec![
            (prefix.to_owned(), PathBuf::from("/var/lang")),
            (write_client(home)?, PathBuf::from("/var/runtime")),
        ],
        argv: vec!["/var/lang/bin/node".to_owned(), "/var/runtime/index.cjs".to_owned()],
        handler_argument: false,
        heap_limits: true,
        waits: true,
        saved_arguments: vec!["--openssl-config=/var/runtime/openssl.cnf".to_owned()],
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
fn write_client(home: &Path) -> Result<PathBuf, AddError> {
    home::install(home, &format!("node-client-{:016x}", fingerprint(&CLIENT)), |half_made| {
        for (name, text) in CLIENT {
            let path = half_made.join(name);
            fs::write(&path, text).map_err(home::failed("write", &path))?;
        }
        Ok(())
    })
}
