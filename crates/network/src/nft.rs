//! `nft`, the packet filter's own program: it alone knows how rules are spoken to every version of the kernel.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// It is done within this, or it never is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of what it complains about, bytes that are told.
const MOST_SAID: usize = 400;

/// Why the packet filter is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// It is not installed.
    #[error("there is no nft here, which hearth:egress needs: install nftables")]
    Absent,
    /// It does not start.
    #[error("cannot run nft")]
    Run(#[source] io::Error),
    /// It did not end.
    #[error("nft took longer than {} s", PATIENCE.as_secs())]
    Late,
    /// It, or the kernel, refused.
    #[error("nft refused: {0}")]
    Refused(String),
}

/// Whether it is there, and the kernel answers it. Blocks.
///
/// # Errors
/// It is not installed, or was refused.
pub fn probe() -> Result<(), NftError> {
    let said = std::process::Command::new("nft").args(["list", "tables"]).stdin(Stdio::null()).output();
    let said = said.map_err(from_start)?;
    if said.status.success() { Ok(()) } else { Err(refused(&said.stderr)) }
}

fn from_start(error: io::Error) -> NftError {
    match error.kind() {
        io::ErrorKind::NotFound => NftError::Absent,
        _ => NftError::Run(error),
    }
}

fn refused(said: &[u8]) -> NftError {
    NftError::Refused(String::from_utf8_lossy(said).trim().chars().take(MOST_SAID).collect())
}

/// Has all of these commands take effect, or none.
pub(crate) async fn load(text: String) -> Result<(), NftError> {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = nft.spawn().map_err(from_start)?;
    let input = child.stdin.take();
    let work = async {
        if let Some(mut input) = input {
            // One that ended early says why.
            let _ = input.write_all(text.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output =
        tokio::time::timeout(PATIENCE, work).await.map_err(|_| NftError::Late)?.map_err(NftError::Run)?;
    if output.status.success() { Ok(()) } else { Err(refused(&output.stderr)) }
}
