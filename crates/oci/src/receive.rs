//! Content that comes over the network, onto the disk.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

use crate::{OciError, Upload};

/// Bytes that are gathered before the disk is asked, which is done off the runtime's threads.
const GATHERED: usize = 1 << 20;

/// Why content did not come to its end. What came is in the upload.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// More came than was wanted.
    #[error("more than {0} bytes came")]
    TooMuch(u64),
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    /// The sender went away or broke the protocol.
    #[error("it broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] OciError),
}

/// Adds a body to an upload, which may have at most `most` bytes then. The upload is lost only when the disk failed.
///
/// # Errors
/// See [`ReceiveError`].
pub async fn receive<B>(
    mut upload: Upload,
    mut body: B,
    most: u64,
    patience: Duration,
) -> Result<Upload, (ReceiveError, Option<Upload>)>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut gathered = BytesMut::new();
    let mut coming = upload.size();
    loop {
        let next = match timeout(patience, body.frame()).await {
            Err(_) => Err(ReceiveError::Silent(patience)),
            Ok(Some(Err(error))) => Err(ReceiveError::Broken(error.into())),
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
            Ok(None) => Ok(None),
        };
        let next = match next {
            Ok(Some(data)) if coming + data.len() as u64 > most => Err(ReceiveError::TooMuch(most)),
            next => next,
        };
        if let Ok(Some(data)) = &next {
            coming += data.len() as u64;
            gathered.extend_from_slice(data);
            if gathered.len() < GATHERED {
                continue;
            }
        }
        let full = gathered.split().freeze();
        let written = tokio::task::spawn_blocking(move || upload.write(&full).map(|()| upload)).await;
        upload = match written {
            Ok(Ok(upload)) => upload,
            Ok(Err(error)) => return Err((error.into(), None)),
            Err(error) => {
                let error = OciError::io("write a blob", std::io::Error::other(error));
                return Err((error.into(), None));
            }
        };
        match next {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(upload),
            Err(error) => return Err((error, Some(upload))),
        }
    }
}
