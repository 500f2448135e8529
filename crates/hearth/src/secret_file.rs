//! Files with secrets in them: there whole or not at all, and readable by their owner alone.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes a file in place of the one that may be there; `for_good`, so that it is there after a power cut.
///
/// # Errors
/// What the kernel said; the old file is as it was then.
pub(crate) fn replace(path: &Path, content: &[u8], for_good: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    // Made with mode 600.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    if for_good {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    if for_good { File::open(folder)?.sync_all() } else { Ok(()) }
}
