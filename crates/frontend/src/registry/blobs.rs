//! Content that a repository has.

use std::io::SeekFrom;

use hearth_oci::Digest;
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use hyper::{Method, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::answer::{DIGEST, Refusal, header};
use super::{Answer, Call, blocking};
use crate::body::{Body, empty, stream};

/// Bytes read from disk at once.
const PIECE: usize = 256 * 1024;

impl Call {
    pub(super) async fn blob(&self, digest: &str) -> Answer {
        let digest = read_digest(digest)?;
        let repository = self.repository()?;
        let unknown = || {
            let text = format!("{} has no blob {digest}", self.said);
            Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", text)
        };
        match self.method {
            Method::GET | Method::HEAD => {
                let images = self.images.clone();
                let size = blocking(move || {
                    Ok(repository.has_blob(digest).then(|| images.blobs().size(digest)).flatten())
                });
                let size = size.await?.ok_or_else(unknown)?;
                self.send_blob(digest, size).await
            }
            Method::DELETE => match blocking(move || repository.delete_blob(digest)).await? {
                true => Ok(empty(StatusCode::ACCEPTED)),
                false => Err(unknown()),
            },
            _ => Err(self.wrong_method()),
        }
    }

    async fn send_blob(&self, digest: Digest, size: u64) -> Answer {
        let range = self.head.headers.get(RANGE).and_then(|value| value.to_str().ok());
        let (first, length, status) = match range.map(|range| part(range, size)) {
            None | Some(Part::Unknown) => (0, size, StatusCode::OK),
            Some(Part::Of(first, length)) => (first, length, StatusCode::PARTIAL_CONTENT),
            Some(Part::Nowhere) => {
                let text = format!("the blob has {size} bytes");
                return Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", text));
            }
        };
        let mut response = match self.method {
            Method::HEAD => empty(status),
            _ => Response::new(self.pieces(digest, first, length).await?),
        };
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        header(&mut response, CONTENT_TYPE, "application/octet-stream");
        header(&mut response, ACCEPT_RANGES, "bytes");
        header(&mut response, DIGEST, &digest.to_string());
        header(&mut response, ETAG, &format!("\"{digest}\""));
        if status == StatusCode::PARTIAL_CONTENT {
            let last = first + length - 1;
            header(&mut response, CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
        }
        Ok(response)
    }

    async fn pieces(&self, digest: Digest, first: u64, length: u64) -> Result<Body, Refusal> {
        let images = self.images.clone();
        let file = blocking(move || images.blobs().file(digest)).await?;
        let mut file = tokio::fs::File::from_std(file);
        let (sender, pieces) = mpsc::channel(2);
        tokio::spawn(async move {
            if file.seek(SeekFrom::Start(first)).await.is_err() {
                return;
            }
            let mut file = file.take(length);
            loop {
                let mut piece = bytes::BytesMut::with_capacity(PIECE);
                match file.read_buf(&mut piece).await {
                    Ok(1..) if sender.send(piece.freeze()).await.is_ok() => {}
                    // The body ends short of its announced length, which the client notices.
                    _ => return,
                }
            }
        });
        Ok(stream(pieces))
    }
}

pub(super) fn read_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error: hearth_oci::InvalidDigest| {
        Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string())
    })
}

/// What a `Range` means for content of some size.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// From where, and how much.
    Of(u64, u64),
    /// Nothing of it.
    Nowhere,
    /// Something that need not be understood.
    Unknown,
}

fn part(range: &str, size: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::Unknown;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
        (Some(first), None) if last.trim().is_empty() => (first, size.saturating_sub(1)),
        (None, Some(count)) if first.trim().is_empty() => {
            (size.saturating_sub(count), size.saturating_sub(1))
        }
        _ => return Part::Unknown,
    };
    if first >= size { Part::Nowhere } else { Part::Of(first, last - first + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        for (range, expected) in [
            ("bytes=0-0", Part::Of(0, 1)),
            ("bytes=2-", Part::Of(2, 8)),
            ("bytes=8-99", Part::Of(8, 2)),
            ("bytes=-3", Part::Of(7, 3)),
            ("bytes=-99", Part::Of(0, 10)),
            ("bytes=10-", Part::Nowhere),
            ("bytes=5-4", Part::Unknown),
            ("bytes=0-1,3-4", Part::Unknown),
            ("lines=0-1", Part::Unknown),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Nowhere);
    }
}
