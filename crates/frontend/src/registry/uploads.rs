//! Content on its way in: in one request, in two, or in pieces.
//!
//! An upload lives in this process. One that nobody goes on with is dropped, and a client that finds its upload gone begins again, as the
//! specification has it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hearth_oci::{Digest, ReceiveError, Upload, receive};
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, LOCATION, RANGE};
use hyper::{Method, Response, StatusCode};

use super::answer::{Refusal, header, made};
use super::blobs::read_digest;
use super::{Answer, Call, blocking};
use crate::body::{Body, empty};
use crate::names::query_value;

/// Uploads at once, of all accounts.
const UPLOADS: usize = 256;
/// How long an upload waits for its next piece.
const IDLE: Duration = Duration::from_secs(3_600);
/// How long a piece may stand still.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most bytes of a blob: as much as an image may unpack to.
const BLOB_BYTES: u64 = 10 << 30;

/// All uploads.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, Session>>);

#[derive(Debug)]
struct Session {
    /// Account and repository.
    owner: (String, String),
    /// Nothing while a request adds to it.
    upload: Option<Upload>,
    touched: Instant,
}

/// A request about uploads.
pub(super) struct Uploading<'a> {
    pub(super) call: &'a Call,
    pub(super) uploads: &'a Uploads,
}

// === impl Uploads ===

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, owner: (String, String), upload: Upload) -> Result<String, Refusal> {
        let mut all = self.lock();
        all.retain(|_, session| session.upload.is_none() || session.touched.elapsed() < IDLE);
        if all.len() >= UPLOADS {
            let text = format!("{UPLOADS} uploads are on their way already: try again later");
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", text));
        }
        let id = uuid::Uuid::new_v4().to_string();
        all.insert(id.clone(), Session { owner, upload: Some(upload), touched: Instant::now() });
        Ok(id)
    }

    /// Takes an upload for one request; it is given back or over.
    fn take(&self, owner: &(String, String), id: &str) -> Result<Upload, Refusal> {
        let mut all = self.lock();
        let session = all.get_mut(id).filter(|session| session.owner == *owner);
        let unknown = || {
            let text = "there is no such upload (any more): begin again";
            Refusal::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", text)
        };
        session.ok_or_else(unknown)?.upload.take().ok_or_else(|| {
            let text = "another request is adding to this upload";
            Refusal::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", text)
        })
    }

    fn give_back(&self, id: &str, upload: Upload) {
        if let Some(session) = self.lock().get_mut(id) {
            session.upload = Some(upload);
            session.touched = Instant::now();
        }
    }

    fn remove(&self, id: &str) {
        self.lock().remove(id);
    }
}

/// Ends an upload's session unless it was given back.
struct Taken<'a> {
    uploads: &'a Uploads,
    id: &'a str,
    ends: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.ends {
            self.uploads.remove(self.id);
        }
    }
}

// === impl Uploading ===

impl Uploading<'_> {
    fn owner(&self) -> (String, String) {
        (self.call.account.to_string(), self.call.name.clone())
    }

    /// `POST .../blobs/uploads/`: mounts a blob that is here, takes one whole, or begins an upload.
    pub(super) async fn begin(&self, body: Incoming) -> Answer {
        let call = self.call;
        if call.method != Method::POST {
            return Err(call.wrong_method());
        }
        call.repository()?;
        if let Some(mount) = query_value(&call.query, "mount")
            && let Some(mounted) = self.mount(&mount).await?
        {
            return Ok(mounted);
        }
        let images = call.images.clone();
        let upload = blocking(move || images.blobs().begin()).await?;
        if let Some(digest) = query_value(&call.query, "digest") {
            let digest = read_digest(&digest)?;
            let upload = received(receive(upload, body, BLOB_BYTES, PATIENCE).await)?;
            return self.keep(upload, digest).await;
        }
        let id = self.uploads.add(self.owner(), upload)?;
        Ok(self.progress(StatusCode::ACCEPTED, &id, 0))
    }

    /// A blob that another repository of the account has.
    async fn mount(&self, digest: &str) -> Result<Option<Response<Body>>, Refusal> {
        let call = self.call;
        let digest = read_digest(digest)?;
        let from = query_value(&call.query, "from").unwrap_or_default();
        let Some((owner, from)) = super::owner(&call.account, true, &from) else { return Ok(None) };
        let Some(source) = call.images.repositories().get(&owner, &from) else { return Ok(None) };
        let (images, to) = (call.images.clone(), call.repository()?);
        let mounted = blocking(move || {
            if !source.has_blob(digest) || images.blobs().size(digest).is_none() {
                return Ok(false);
            }
            to.link_blob(digest).map(|()| true)
        });
        Ok(mounted.await?.then(|| made(&self.blob_path(digest), digest)))
    }

    /// What follows the beginning: another piece, the end, a question, or a change of mind.
    pub(super) async fn go_on(&self, id: &str, body: Incoming) -> Answer {
        let call = self.call;
        let upload = self.uploads.take(&self.owner(), id)?;
        let mut taken = Taken { uploads: self.uploads, id, ends: true };
        match call.method {
            Method::DELETE => Ok(empty(StatusCode::NO_CONTENT)),
            Method::GET => {
                taken.ends = false;
                let size = upload.size();
                self.uploads.give_back(id, upload);
                Ok(self.progress(StatusCode::NO_CONTENT, id, size))
            }
            Method::PATCH | Method::PUT => {
                let begins = call.head.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let begins =
                    begins.map(|range| range.trim_start_matches("bytes ").split('-').next()?.parse().ok());
                if begins.is_some_and(|begins| begins != Some(upload.size())) {
                    taken.ends = false;
                    let size = upload.size();
                    self.uploads.give_back(id, upload);
                    return Ok(self.progress(StatusCode::RANGE_NOT_SATISFIABLE, id, size));
                }
                let received_all = receive(upload, body, BLOB_BYTES, PATIENCE).await;
                let upload = match received_all {
                    Err((error, Some(part))) if call.method == Method::PATCH => {
                        taken.ends = false;
                        self.uploads.give_back(id, part);
                        return received(Err((error, None))).map(|_| empty(StatusCode::BAD_REQUEST));
                    }
                    other => received(other)?,
                };
                if call.method == Method::PATCH {
                    taken.ends = false;
                    let size = upload.size();
                    self.uploads.give_back(id, upload);
                    return Ok(self.progress(StatusCode::ACCEPTED, id, size));
                }
                let digest = query_value(&call.query, "digest").unwrap_or_default();
                self.keep(upload, read_digest(&digest)?).await
            }
            _ => {
                taken.ends = false;
                self.uploads.give_back(id, upload);
                Err(call.wrong_method())
            }
        }
    }

    async fn keep(&self, upload: Upload, digest: Digest) -> Answer {
        let (images, repository) = (self.call.images.clone(), self.call.repository()?);
        blocking(move || {
            images.blobs().finish(upload, digest)?;
            repository.link_blob(digest)
        })
        .await?;
        Ok(made(&self.blob_path(digest), digest))
    }

    fn blob_path(&self, digest: Digest) -> String {
        format!("/v2/{}/blobs/{digest}", self.call.said)
    }

    fn progress(&self, status: StatusCode, id: &str, size: u64) -> Response<Body> {
        let mut response = empty(status);
        header(&mut response, LOCATION, &format!("/v2/{}/blobs/uploads/{id}", self.call.said));
        header(&mut response, RANGE, &format!("0-{}", size.saturating_sub(1)));
        header(&mut response, hyper::header::HeaderName::from_static("docker-upload-uuid"), id);
        response
    }
}

fn received(received: Result<Upload, (ReceiveError, Option<Upload>)>) -> Result<Upload, Refusal> {
    received.map_err(|(error, _)| match &error {
        ReceiveError::Disk(error) => Refusal::of(error),
        ReceiveError::TooMuch(_) => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", error.to_string())
        }
        ReceiveError::Silent(_) | ReceiveError::Broken(_) => {
            Refusal::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", error.to_string())
        }
    })
}
