//! Manifests, their tags, and what refers to them.

use std::time::Duration;

use bytes::Bytes;
use hearth_oci::{Descriptor, Digest, Document, Images, MANIFEST_BYTES, Repository, is_tag, media};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use hyper::{Method, StatusCode};
use serde_json::json as object;

use super::answer::{DIGEST, Refusal, header, json, link_next, made, typed};
use super::blobs::read_digest;
use super::{Answer, Call, blocking, page};
use crate::body::empty;
use crate::names::query_value;

/// How long a manifest may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

impl Call {
    pub(super) async fn manifest(&self, wanted: String, body: Incoming) -> Answer {
        if wanted.parse::<Digest>().is_err() && !is_tag(&wanted) {
            let text = "it is neither a tag nor sha256: and 64 hexadecimal digits";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", text));
        }
        match self.method {
            Method::GET | Method::HEAD => self.read_manifest(wanted).await,
            Method::PUT => self.put_manifest(wanted, body).await,
            Method::DELETE => self.delete_manifest(wanted).await,
            _ => Err(self.wrong_method()),
        }
    }

    async fn read_manifest(&self, wanted: String) -> Answer {
        let (images, repository, name) = (self.images.clone(), self.repository()?, wanted.clone());
        let found = blocking(move || {
            let Some((digest, media_type)) = repository.manifest(&name) else {
                return Ok(Err(repository.exists()));
            };
            let content = images.blobs().read(digest, MANIFEST_BYTES as u64)?;
            Ok(Ok((digest, media_type, content)))
        });
        let (digest, media_type, content) = found.await?.map_err(|exists| self.unknown(exists, &wanted))?;
        let length = content.len();
        let is_head = self.method == Method::HEAD;
        let content = if is_head { Bytes::new() } else { Bytes::from(content) };
        let mut response = typed(StatusCode::OK, &media_type, content);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        header(&mut response, DIGEST, &digest.to_string());
        header(&mut response, ETAG, &format!("\"{digest}\""));
        Ok(response)
    }

    async fn put_manifest(&self, wanted: String, body: Incoming) -> Answer {
        let told = self.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let told = told.and_then(|text| text.split(';').next()).map(|text| text.trim().to_owned());
        let content = tokio::time::timeout(PATIENCE, Limited::new(body, MANIFEST_BYTES).collect()).await;
        let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", text);
        let content = match content {
            Err(_) => return Err(bad(format!("it did not come within {} s", PATIENCE.as_secs()))),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                let text = format!("a manifest may have {MANIFEST_BYTES} bytes");
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", text));
            }
            Ok(Err(error)) => return Err(bad(format!("it broke off: {error}"))),
            Ok(Ok(content)) => content.to_bytes(),
        };
        let digest = Digest::of(&content);
        let tag = match wanted.parse::<Digest>() {
            Ok(named) if named != digest => {
                let text = format!("it is {digest}, not {named}");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", text));
            }
            Ok(_) => None,
            Err(_) => Some(wanted),
        };
        let document = Document::parse(&content, told.as_deref());
        let document = document.map_err(|error| bad(error.to_string()))?;
        let media_type = told.unwrap_or_else(|| default_type(&document).to_owned());
        let subject = document.subject().map(|subject| subject.digest);
        let about = subject.map(|subject| (subject, describe(&document, &media_type, digest, content.len())));
        let (images, repository) = (self.images.clone(), self.repository()?);
        let kept = blocking(move || {
            if let Some(problem) = lacks(&images, &repository, &document) {
                return Ok(Err(problem));
            }
            images.blobs().put(&content)?;
            let about = about.as_ref().map(|(subject, descriptor)| (*subject, descriptor));
            repository.put_manifest(digest, &media_type, about, tag.as_deref()).map(Ok)
        });
        kept.await?
            .map_err(|problem| Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", problem))?;
        let mut response = made(&format!("/v2/{}/manifests/{digest}", self.said), digest);
        if let Some(subject) = subject {
            let name = hyper::header::HeaderName::from_static("oci-subject");
            header(&mut response, name, &subject.to_string());
        }
        Ok(response)
    }

    async fn delete_manifest(&self, wanted: String) -> Answer {
        let (repository, name) = (self.repository()?, wanted.clone());
        let deleted = blocking(move || match name.parse::<Digest>() {
            Ok(digest) => Ok((repository.exists(), repository.delete_manifest(digest)?)),
            Err(_) => Ok((repository.exists(), repository.delete_tag(&name)?)),
        });
        match deleted.await? {
            (_, true) => Ok(empty(StatusCode::ACCEPTED)),
            (exists, false) => Err(self.unknown(exists, &wanted)),
        }
    }

    fn unknown(&self, exists: bool, wanted: &str) -> Refusal {
        if exists {
            let text = format!("{} has no manifest {wanted}", self.said);
            return Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", text);
        }
        let text = format!("there is no repository {}", self.said);
        Refusal::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", text)
    }

    pub(super) async fn tags(&self) -> Answer {
        if !matches!(self.method, Method::GET | Method::HEAD) {
            return Err(self.wrong_method());
        }
        let repository = self.repository()?;
        let tags = blocking(move || Ok((repository.exists(), repository.tags()?)));
        let (exists, tags) = tags.await?;
        if !exists {
            return Err(self.unknown(false, ""));
        }
        let (page, more) = page(tags, &self.query);
        let mut response = json(StatusCode::OK, &object!({"name": self.said, "tags": page}));
        let path = format!("/v2/{}/tags/list", self.said);
        link_next(&mut response, &path, more.then(|| page.last()).flatten(), page.len());
        Ok(response)
    }

    pub(super) async fn referrers(&self, subject: &str) -> Answer {
        if !matches!(self.method, Method::GET | Method::HEAD) {
            return Err(self.wrong_method());
        }
        let (subject, repository) = (read_digest(subject)?, self.repository()?);
        let mut found = blocking(move || repository.referrers(subject)).await?;
        let wanted = query_value(&self.query, "artifactType");
        if let Some(wanted) = &wanted {
            found.retain(|descriptor| descriptor.artifact_type.as_ref() == Some(wanted));
        }
        let index = object!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": found});
        let mut response = typed(StatusCode::OK, media::INDEX, Bytes::from(index.to_string()));
        if wanted.is_some() {
            let name = hyper::header::HeaderName::from_static("oci-filters-applied");
            header(&mut response, name, "artifactType");
        }
        Ok(response)
    }
}

/// What a manifest needs and the repository does not have, if anything.
fn lacks(images: &Images, repository: &Repository, document: &Document) -> Option<String> {
    let is_index = matches!(document, Document::Index(_));
    document.children().into_iter().find_map(|child| {
        let Descriptor { digest, size, media_type, .. } = child;
        // Content that its owner wants nobody to pass on is not pushed.
        if media_type.contains("foreign") || media_type.contains("nondistributable") {
            return None;
        }
        let is_here = match is_index {
            true => repository.manifest(&digest.to_string()).is_some(),
            false => repository.has_blob(*digest),
        };
        match images.blobs().size(*digest).filter(|_| is_here) {
            None => Some(format!("the repository does not have {digest}: push it first")),
            Some(found) if found != *size => Some(format!("{digest} has {found} bytes, not {size}")),
            Some(_) => None,
        }
    })
}

fn default_type(document: &Document) -> &'static str {
    match document {
        Document::Manifest(_) => media::MANIFEST,
        Document::Index(_) => media::INDEX,
    }
}

/// What the list of referrers says of a manifest.
fn describe(document: &Document, media_type: &str, digest: Digest, size: usize) -> Descriptor {
    let (artifact_type, annotations) = match document {
        Document::Manifest(manifest) => {
            let kind = manifest.artifact_type.clone().unwrap_or_else(|| manifest.config.media_type.clone());
            (Some(kind), manifest.annotations.clone())
        }
        Document::Index(index) => (index.artifact_type.clone(), index.annotations.clone()),
    };
    let (media_type, size) = (media_type.to_owned(), size as u64);
    Descriptor { media_type, digest, size, platform: None, artifact_type, annotations }
}
