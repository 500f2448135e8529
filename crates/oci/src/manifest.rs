//! Manifests and indexes: which blobs an image is made of, and which image is for which machine.
//!
//! Both kinds of both makers are read alike: OCI's, and those of Docker's schema 2. What could be read as two things is refused.

use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::{Digest, OciError};

/// The most bytes of a manifest or index, as registries commonly have it.
pub const MANIFEST_BYTES: usize = 4 << 20;
/// Layers of an image: overlayfs takes no more than some hundreds, Docker 127.
const LAYERS: usize = 127;
/// Images in an index.
const MANIFESTS: usize = 1_000;

/// Media types.
pub mod media {
    /// OCI's manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI's index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// OCI's configuration of an image.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's configuration of an image.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// OCI's layer, not compressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker's layer, compressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// What some content is, how much, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// What it is called.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Which machines an image is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact a manifest is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What its maker says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// A kind of machine, in Go's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `v8` and such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that it says something about.
    pub subject: Option<Descriptor>,
    /// What kind of artifact it is, if no image.
    pub artifact_type: Option<String>,
    /// What its maker says of it.
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Images of the same name for different machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Their manifests.
    pub manifests: Vec<Descriptor>,
    /// The manifest that it says something about.
    pub subject: Option<Descriptor>,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// What its maker says of it.
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Either of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// Either, with every field that decides which.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

// === impl Platform ===

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn here() -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    pub(crate) fn runs_here(&self) -> bool {
        let here = Self::here();
        self.os == here.os && self.architecture == here.architecture
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

// === impl Document ===

impl Document {
    /// Reads a manifest or an index; `told` is the media type that it came with, if any.
    ///
    /// # Errors
    /// It is neither, it could be both, or it has more in it than images may have.
    pub fn parse(bytes: &[u8], told: Option<&str>) -> Result<Self, OciError> {
        let wrong = |problem: &str| OciError::invalid("the manifest", problem);
        if bytes.len() > MANIFEST_BYTES {
            let (what, unit) = ("the manifest".to_owned(), "bytes");
            return Err(OciError::TooLarge { what, limit: MANIFEST_BYTES as u64, unit });
        }
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| OciError::invalid("the manifest", format!("it cannot be read: {error}")))?;
        if raw.schema_version == 1 || raw.fs_layers.is_some() {
            return Err(wrong(
                "it is of Docker's schema 1, which no client makes any more: push the image again",
            ));
        }
        if raw.schema_version != 2 {
            return Err(wrong("its schemaVersion is not 2"));
        }
        let said = raw.media_type.as_deref();
        if let (Some(said), Some(told)) = (said, told)
            && said != told
        {
            return Err(wrong("its mediaType is not the one that it came with"));
        }
        let is_index = match said.or(told) {
            Some(media::MANIFEST | media::DOCKER_MANIFEST) => false,
            Some(media::INDEX | media::DOCKER_LIST) => true,
            Some(_) => return Err(wrong("its media type is none of a manifest or an index")),
            None => raw.manifests.is_some(),
        };
        match (is_index, raw.config, raw.layers, raw.manifests) {
            (false, Some(config), layers, None) => {
                let layers = layers.unwrap_or_default();
                bounded(layers.len(), LAYERS, "layers")?;
                let (subject, artifact_type, annotations) = (raw.subject, raw.artifact_type, raw.annotations);
                Ok(Self::Manifest(Manifest { config, layers, subject, artifact_type, annotations }))
            }
            (true, None, None, Some(manifests)) => {
                bounded(manifests.len(), MANIFESTS, "images")?;
                let (subject, artifact_type, annotations) = (raw.subject, raw.artifact_type, raw.annotations);
                Ok(Self::Index(Index { manifests, subject, artifact_type, annotations }))
            }
            (false, None, ..) => Err(wrong("it has no config")),
            (false, ..) => Err(wrong("it has layers and manifests: it could be read as two things")),
            (true, None, None, None) => Err(wrong("it is an index without manifests")),
            (true, ..) => {
                Err(wrong("it is an index with a config or layers: it could be read as two things"))
            }
        }
    }

    /// What it cannot do without: other manifests, or its blobs.
    #[must_use]
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Self::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
            Self::Index(index) => index.manifests.iter().collect(),
        }
    }

    /// The manifest that it says something about.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(Manifest { subject, .. }) | Self::Index(Index { subject, .. }) => subject.as_ref(),
        }
    }
}

fn bounded(count: usize, most: usize, unit: &'static str) -> Result<(), OciError> {
    if count > most {
        return Err(OciError::TooLarge { what: "the manifest".to_owned(), limit: most as u64, unit });
    }
    Ok(())
}

// === impl Index ===

impl Index {
    /// The image for this machine.
    ///
    /// # Errors
    /// There is none.
    pub fn for_this_machine(&self) -> Result<&Descriptor, OciError> {
        let platform = |descriptor: &Descriptor| descriptor.platform.clone().unwrap_or_default();
        let is_image = |descriptor: &&Descriptor| {
            matches!(descriptor.media_type.as_str(), media::MANIFEST | media::DOCKER_MANIFEST)
        };
        if let Some(found) =
            self.manifests.iter().filter(is_image).find(|descriptor| platform(descriptor).runs_here())
        {
            return Ok(found);
        }
        // One image that does not say what it is for is for whoever has it: so are OCI layouts of one image.
        if let [only] = &*self.manifests
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let offered: Vec<_> = self
            .manifests
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            .filter(|platform| platform.os != "unknown")
            .take(20)
            .map(Platform::to_string)
            .collect();
        let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
        Err(OciError::NoPlatform { offered, wanted: Platform::here().to_string() })
    }
}

impl Manifest {
    /// Whether an image of this configuration runs on this machine.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check_platform(config: &ImageConfig) -> Result<(), OciError> {
        let (os, architecture) = (config.os.clone(), config.architecture.clone());
        let platform = Platform { os, architecture, variant: None };
        if platform.runs_here() {
            return Ok(());
        }
        Err(OciError::NoPlatform { offered: platform.to_string(), wanted: Platform::here().to_string() })
    }
}

#[cfg(test)]
mod tests;
