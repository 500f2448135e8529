//! The tool that writes erofs: erofs-utils, 1.5 and newer.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::RootfsError;

/// Where the tool is on machines whose PATH is a user's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Later than any file, 2100-01-01.
const END_OF_TIME: &str = "4102444800";

/// Whom files in an image belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// The root user.
    Root,
    /// Whom they belong to here.
    Kept,
}

/// Writes an image of all that is below `root`: the same for the same contents. Files keep
/// their times: Python takes compiled code for stale whose source has another.
pub(crate) fn make(root: &Path, image: &Path, owners: Owners) -> Result<(), RootfsError> {
    let output = Command::new("mkfs.erofs")
        .args([
            "-T",
            "0",
            "--preserve-mtime",
            "-U",
            "00000000-0000-0000-0000-000000000000",
            "-x",
            "-1",
            "--quiet",
        ])
        .args((owners == Owners::Root).then_some("--all-root"))
        .args([image, root])
        .env("PATH", PATH)
        // The time of the making; files that are younger would get it, too.
        .env("SOURCE_DATE_EPOCH", END_OF_TIME)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RootfsError::NoTool(error),
            _ => RootfsError::Tool(error.to_string()),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let said = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    let said: String = said.unwrap_or("it says nothing").chars().take(200).collect();
    Err(RootfsError::Tool(format!("{said} ({})", output.status)))
}
