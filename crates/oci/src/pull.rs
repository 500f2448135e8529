//! Images from other registries, by the OCI distribution specification.
//!
//! A registry is a stranger: what it sends is bounded in bytes and time, followed through few redirects, and believed only when its hash
//! is the one that was asked for. A blob that breaks off goes on where it was; what may pass (429, 5xx, no connection) is tried again a
//! few times, and then said.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap};
use tokio::task::JoinSet;

use crate::config::CONFIG_BYTES;
use crate::manifest::MANIFEST_BYTES;
use crate::receive::{ReceiveError, receive};
use crate::{Descriptor, Digest, Document, Images, Manifest, OciError, Reference, Upload, media};

mod auth;
mod client;
mod error;

use client::{Ask, Client};
pub use error::PullError;

/// Blobs of one image that come at once.
const AT_ONCE: usize = 3;
/// Times that a blob may break off without anything having come.
const BREAKS: u32 = 5;
/// Times that it may break off at all.
const ALL_BREAKS: u32 = 100;
/// The most bytes of a layer as it comes.
const LAYER_BYTES: u64 = 10 << 30;
/// What is asked for when it is not known which kind an image's manifest is.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// How registries are dealt with.
#[derive(Clone, Debug)]
pub struct PullConfig {
    /// Registries that are spoken to without TLS, besides those on this machine's loopback.
    pub insecure: Vec<String>,
    /// How long nothing may come.
    pub patience: Duration,
    /// How long a blob may take in all.
    pub deadline: Duration,
    /// The first pause before something is tried again; each is twice as long as the one before.
    pub pause: Duration,
}

/// Brings images from other registries.
#[derive(Debug)]
pub struct Puller {
    images: Arc<Images>,
    client: Client,
}

// === impl PullConfig ===

impl Default for PullConfig {
    fn default() -> Self {
        let (patience, deadline) = (Duration::from_secs(30), Duration::from_secs(3_600));
        Self { insecure: Vec::new(), patience, deadline, pause: Duration::from_millis(500) }
    }
}

// === impl Puller ===

impl Puller {
    /// One that puts what it brings into `images`.
    #[must_use]
    pub fn new(images: Arc<Images>, config: PullConfig) -> Self {
        Self { images, client: Client::new(config) }
    }

    /// Where it puts images.
    #[must_use]
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// Finds out which image a reference means on this machine, and brings its manifest and configuration.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn resolve(&self, reference: &Reference) -> Result<(Digest, Manifest), PullError> {
        let (digest, document) = self.document(reference).await?;
        let (digest, manifest) = match document {
            Document::Manifest(manifest) => (digest, manifest),
            Document::Index(index) => {
                let chosen = index.for_this_machine()?.digest;
                match self.document(&reference.at(chosen)).await? {
                    (digest, Document::Manifest(manifest)) => (digest, manifest),
                    (_, Document::Index(_)) => {
                        let problem = "the image for this machine is an index again";
                        return Err(OciError::invalid("the index", problem).into());
                    }
                }
            }
        };
        if manifest.config.size > CONFIG_BYTES {
            let what = "the image's configuration".to_owned();
            return Err(OciError::TooLarge { what, limit: CONFIG_BYTES, unit: "bytes" }.into());
        }
        self.blob(reference, &manifest.config).await?;
        self.images.config(&manifest)?;
        Ok((digest, manifest))
    }

    /// Brings all of an image that is not here. `reference` has the digest of a manifest.
    ///
    /// # Errors
    /// See [`PullError`].
    pub async fn fetch(self: &Arc<Self>, reference: &Reference) -> Result<(), PullError> {
        let (_, manifest) = match reference.digest.map(|digest| self.images.resolve(digest)) {
            Some(Ok(known)) if self.images.config(&known.1).is_ok() => known,
            _ => self.resolve(reference).await?,
        };
        let blobs = self.images.blobs();
        let missing: Vec<_> =
            manifest.layers.iter().filter(|layer| blobs.size(layer.digest).is_none()).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let bytes: u64 = missing.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        tracing::info!(image = %reference, layers = missing.len(), mib = bytes >> 20, "pulling");
        let (mut coming, mut waiting) = (JoinSet::new(), missing.into_iter());
        let mut left = bytes;
        loop {
            while coming.len() < AT_ONCE
                && let Some(layer) = waiting.next()
            {
                let (puller, reference) = (Arc::clone(self), reference.clone());
                coming.spawn(async move { puller.blob(&reference, &layer).await.map(|()| layer.size) });
            }
            match coming.join_next().await {
                None => break,
                Some(Ok(came)) => left = left.saturating_sub(came?),
                Some(Err(error)) => return Err(OciError::io("pull", std::io::Error::other(error)).into()),
            }
            tracing::info!(image = %reference, mib_left = left >> 20, "pulling");
        }
        Ok(())
    }

    async fn document(&self, reference: &Reference) -> Result<(Digest, Document), PullError> {
        if let Some(digest) = reference.digest
            && let Ok(document) = self.images.document(digest)
        {
            return Ok((digest, document));
        }
        let ask = Ask { kind: "manifests", name: &reference.wanted(), accept: ACCEPTED, from: 0 };
        let (headers, content) = self.client.small(reference, ask, MANIFEST_BYTES).await?;
        let digest = Digest::of(&content);
        if let Some(wanted) = reference.digest.filter(|wanted| *wanted != digest) {
            let problem = format!("the registry sent {digest} for it");
            return Err(OciError::invalid(wanted.to_string(), problem).into());
        }
        let document = Document::parse(&content, media_type(&headers))?;
        let images = Arc::clone(&self.images);
        blocking(move || images.blobs().put(&content)).await?;
        Ok((digest, document))
    }

    /// Brings a blob, unless it is here.
    async fn blob(&self, reference: &Reference, wanted: &Descriptor) -> Result<(), PullError> {
        match self.images.blobs().size(wanted.digest) {
            Some(size) if size == wanted.size => return Ok(()),
            Some(size) => {
                let problem = format!("it has {size} bytes, and the manifest says {}", wanted.size);
                return Err(OciError::invalid(wanted.digest.to_string(), problem).into());
            }
            None => {}
        }
        if wanted.size > LAYER_BYTES {
            let (what, limit) = (wanted.digest.to_string(), LAYER_BYTES);
            return Err(OciError::TooLarge { what, limit, unit: "bytes" }.into());
        }
        let deadline = self.client.config.deadline;
        let whole = tokio::time::timeout(deadline, self.whole_blob(reference, wanted)).await;
        let upload =
            whole.map_err(|_| PullError::Late { host: reference.host.clone(), after: deadline })??;
        let (images, digest) = (Arc::clone(&self.images), wanted.digest);
        blocking(move || images.blobs().finish(upload, digest)).await?;
        Ok(())
    }

    /// Asks until all of a blob has come.
    async fn whole_blob(&self, reference: &Reference, wanted: &Descriptor) -> Result<Upload, PullError> {
        let (mut fruitless, mut all) = (0, 0);
        let mut upload = self.images.blobs().begin()?;
        loop {
            let before = upload.size();
            let name = wanted.digest.to_string();
            let ask = Ask { kind: "blobs", name: &name, accept: "*/*", from: before };
            let response = self.client.ask(reference, ask).await?;
            if before > 0 && !goes_on(response.status(), response.headers(), before) {
                upload = self.images.blobs().begin()?;
            }
            let patience = self.client.config.patience;
            let problem = match receive(upload, response.into_body(), wanted.size, patience).await {
                Ok(whole) if whole.size() == wanted.size => return Ok(whole),
                Ok(short) => {
                    upload = short;
                    "it ended early".to_owned()
                }
                Err((ReceiveError::Disk(error), _)) => return Err(error.into()),
                Err((ReceiveError::TooMuch(most), _)) => {
                    let problem =
                        format!("the registry sends more than the {most} bytes that the manifest says");
                    return Err(OciError::invalid(name, problem).into());
                }
                Err((error, part)) => {
                    upload = part.map_or_else(|| self.images.blobs().begin(), Ok)?;
                    error.to_string()
                }
            };
            fruitless = if upload.size() > before { 0 } else { fruitless + 1 };
            all += 1;
            if fruitless >= BREAKS || all >= ALL_BREAKS {
                return Err(PullError::BrokeOff { host: reference.host.clone(), what: name, problem });
            }
            tracing::warn!(image = %reference, blob = name, at = upload.size(), problem, "goes on where it broke off");
            self.client.pause(fruitless).await;
        }
    }
}

/// Whether an answer begins where the one before broke off.
fn goes_on(status: StatusCode, headers: &HeaderMap, from: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    status == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

/// The media type of a manifest, unless what is told is no such type at all.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let told = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    let known = [media::MANIFEST, media::INDEX, media::DOCKER_MANIFEST, media::DOCKER_LIST];
    known.contains(&told).then_some(told)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OciError> + Send + 'static,
) -> Result<T, OciError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(OciError::io("keep a blob", std::io::Error::other(error))))
}
