//! Images that are files here: OCI layouts, and what `docker save` and `skopeo copy` write.
//!
//! `hearth deploy` puts them into the server's registry, blob by blob, and only those that are not there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use hearth_oci::{Descriptor, Digest, Document, MANIFEST_BYTES, media};
use serde::Deserialize;
use serde_json::json;
use sha2::Digest as _;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Where a tar archive says that it is one.
const MAGIC_AT: u64 = 257;

/// An image that is about to be pushed.
pub(crate) struct LocalImage {
    files: Files,
    /// The manifest, and what kind it is.
    pub(crate) manifest: Vec<u8>,
    pub(crate) media_type: String,
    /// What it is made of: names of content, bytes, and the files that have it.
    pub(crate) blobs: Vec<(Digest, u64, String)>,
}

/// Where an image's files are.
enum Files {
    Directory(PathBuf),
    /// Files in a tar archive: where each begins, and its bytes.
    Archive(File, HashMap<String, (u64, u64)>),
}

/// What a user named, as far as it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A directory or zip archive with a function's code.
    Code(PathBuf),
    /// An image in files; which of several, if said.
    Image(PathBuf, Option<String>),
    /// An image in a registry.
    Remote(String),
}

/// `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    layers: Vec<String>,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

// === impl Named ===

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for prefix in ["oci:", "oci-archive:", "docker-archive:"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                // A path may have colons in it; a tag has none.
                let (path, tag) = match rest.rsplit_once(':') {
                    Some((path, tag)) if !Path::new(rest).exists() => (path, Some(tag.to_owned())),
                    _ => (rest, None),
                };
                return Ok(Self::Image(path.into(), tag));
            }
        }
        let path = Path::new(text);
        if path.is_dir() && path.join("oci-layout").exists() || path.is_file() && is_tar(path) {
            return Ok(Self::Image(path.into(), None));
        }
        let could_be_remote = text.contains([':', '@', '/']) && !text.starts_with(['.', '/']);
        if !path.exists() && could_be_remote {
            return match text.parse::<hearth_oci::Reference>() {
                Ok(_) => Ok(Self::Remote(text.to_owned())),
                Err(error) => Err(format!("there is no file {text}, and {error}")),
            };
        }
        Ok(Self::Code(path.into()))
    }
}

/// Whether a file is a tar archive, compressed or not. Zip archives begin with two letters that gzip does not.
fn is_tar(path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut start = [0; 2];
    if file.read_exact(&mut start).is_ok() && start == GZIP {
        return true;
    }
    let mut magic = [0; 5];
    file.seek(SeekFrom::Start(MAGIC_AT)).and_then(|_| file.read_exact(&mut magic)).is_ok()
        && &magic == b"ustar"
}

// === impl LocalImage ===

impl LocalImage {
    /// Reads which files an image is made of.
    pub(crate) fn open(path: &Path, tag: Option<&str>) -> anyhow::Result<Self> {
        let files = Files::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let image = if files.has("index.json") {
            Self::of_layout(files, tag)
        } else if files.has("manifest.json") {
            Self::of_docker(files, tag)
        } else {
            bail!(
                "{} is no image: it has neither an index.json, as OCI layouts have, nor a manifest.json, as \
                 `docker save` writes",
                path.display()
            )
        };
        image.with_context(|| format!("cannot deploy {}", path.display()))
    }

    /// What a file of the image has in it.
    pub(crate) fn content(&self, name: &str) -> anyhow::Result<Box<dyn Read + '_>> {
        self.files.read(name).map(|(content, _)| content)
    }

    fn of_layout(files: Files, tag: Option<&str>) -> anyhow::Result<Self> {
        let Document::Index(mut index) = Document::parse(&files.small("index.json")?, Some(media::INDEX))?
        else {
            bail!("its index.json is no index")
        };
        if let Some(tag) = tag {
            index.manifests.retain(|descriptor| {
                let name = descriptor
                    .annotations
                    .as_ref()
                    .and_then(|all| all.get("org.opencontainers.image.ref.name"));
                name.is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
            });
            if index.manifests.is_empty() {
                bail!("it has no image that is called {tag}");
            }
        }
        // One image, or images of different machines; each may be behind an index of its own.
        let mut descriptor = index.for_this_machine()?.clone();
        for _ in 0..3 {
            let content = files.small(&blob_path(descriptor.digest))?;
            if Digest::of(&content) != descriptor.digest {
                bail!("its manifest {} is damaged", descriptor.digest);
            }
            let told = Some(descriptor.media_type.as_str()).filter(|told| !told.is_empty());
            match Document::parse(&content, told)? {
                Document::Index(index) => descriptor = index.for_this_machine()?.clone(),
                Document::Manifest(manifest) => {
                    let needed = std::iter::once(&manifest.config).chain(&manifest.layers);
                    let blobs =
                        needed.map(|Descriptor { digest, size, .. }| (*digest, *size, blob_path(*digest)));
                    let blobs = blobs.collect();
                    let media_type = told.map_or_else(|| media::MANIFEST.to_owned(), str::to_owned);
                    return Ok(Self { files, manifest: content, media_type, blobs });
                }
            }
        }
        bail!("its indexes lead to each other and to no image")
    }

    /// `docker save` has no manifest of the registry's kind: it is made here.
    fn of_docker(files: Files, tag: Option<&str>) -> anyhow::Result<Self> {
        let saved: Vec<Saved> = serde_json::from_slice(&files.small("manifest.json")?)
            .context("its manifest.json cannot be read")?;
        let named = |saved: &Saved| {
            let tags = saved.repo_tags.as_deref().unwrap_or_default();
            tag.is_none_or(|tag| tags.iter().any(|name| name == tag || name.ends_with(&format!(":{tag}"))))
        };
        let mut fitting: Vec<Saved> = saved.into_iter().filter(named).collect();
        let count = fitting.len();
        let (Some(saved), 1) = (fitting.pop(), count) else {
            bail!("it has {count} such images: say which, as docker-archive:FILE:TAG")
        };
        let mut blobs = Vec::new();
        for name in std::iter::once(&saved.config).chain(&saved.layers) {
            let (mut content, size) = files.read(name)?;
            blobs.push((hash(&mut content)?, size, name.clone()));
        }
        let describe = |(digest, size, _): &(Digest, u64, String), media_type: &str| json!({"mediaType": media_type, "digest": digest, "size": size});
        let config = blobs.first().map(|config| describe(config, media::CONFIG));
        let layers: Vec<_> = blobs.iter().skip(1).map(|layer| describe(layer, media::LAYER)).collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers});
        let (manifest, media_type) = (manifest.to_string().into_bytes(), media::MANIFEST.to_owned());
        Ok(Self { files, manifest, media_type, blobs })
    }
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn hash(content: &mut dyn Read) -> io::Result<Digest> {
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(Digest(hearth_types::CodeDigest(hash.finalize().into()))),
            count => hash.update(&buffer[..count]),
        }
    }
}

// === impl Files ===

impl Files {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let mut file = File::open(path)?;
        let mut start = [0; 2];
        if file.read_exact(&mut start).is_ok() && start == GZIP {
            file.rewind()?;
            let mut plain = tempfile::tempfile()?;
            io::copy(&mut flate2::read::MultiGzDecoder::new(file), &mut plain)?;
            file = plain;
        }
        file.rewind()?;
        let (mut found, mut links) = (HashMap::new(), Vec::new());
        for entry in tar::Archive::new(&file).entries_with_seek()? {
            let entry = entry.context("it is no whole tar archive")?;
            let name = normal(&entry.path()?);
            match entry.link_name()? {
                // Docker has a layer that is there twice once, and a link to it.
                Some(target) if entry.header().entry_type().is_symlink() => {
                    links.push((name.clone(), normal(&Path::new(&name).join("..").join(target))));
                }
                Some(target) => links.push((name, normal(&target))),
                None => drop(found.insert(name, (entry.raw_file_position(), entry.size()))),
            }
        }
        for (name, target) in links {
            if let Some(place) = found.get(&target).copied() {
                found.insert(name, place);
            }
        }
        Ok(Self::Archive(file, found))
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(directory) => directory.join(name).is_file(),
            Self::Archive(_, found) => found.contains_key(&normal(Path::new(name))),
        }
    }

    fn read(&self, name: &str) -> anyhow::Result<(Box<dyn Read + '_>, u64)> {
        match self {
            Self::Directory(directory) => {
                let file =
                    File::open(directory.join(name)).with_context(|| format!("it has no file {name}"))?;
                let size = file.metadata()?.len();
                Ok((Box::new(file), size))
            }
            Self::Archive(file, found) => {
                let place = found.get(&normal(Path::new(name)));
                let (at, size) = *place.with_context(|| format!("it has no file {name}"))?;
                Ok((Box::new(Section { file, at, end: at + size }), size))
            }
        }
    }

    fn small(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let (content, size) = self.read(name)?;
        if size > MANIFEST_BYTES as u64 {
            bail!("its {name} is larger than {MANIFEST_BYTES} bytes");
        }
        let mut read = Cursor::new(Vec::new());
        io::copy(&mut content.take(size), &mut read)?;
        Ok(read.into_inner())
    }
}

/// A path without dots and double slashes.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts.join("/")
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..left], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("layout")).unwrap();
        std::fs::write(path("layout/oci-layout"), "{}").unwrap();
        std::fs::write(path("code.zip"), "PK\u{3}\u{4}").unwrap();
        std::fs::write(path("saved.tar.gz"), GZIP).unwrap();
        let named = |text: &str| text.parse::<Named>().unwrap();
        let text = |name: &str| path(name).display().to_string();
        assert_eq!(named(&text("layout")), Named::Image(path("layout"), None));
        assert_eq!(
            named(&format!("oci:{}:v1", text("layout"))),
            Named::Image(path("layout"), Some("v1".into()))
        );
        assert_eq!(named(&text("code.zip")), Named::Code(path("code.zip")));
        assert_eq!(named(&text("saved.tar.gz")), Named::Image(path("saved.tar.gz"), None));
        assert_eq!(named("localhost:9000/app:v1"), Named::Remote("localhost:9000/app:v1".into()));
        assert_eq!(named("./missing"), Named::Code("./missing".into()));
        assert_eq!(named("missing"), Named::Code("missing".into()));
        assert!("Host.x/UPPER".parse::<Named>().is_err());
    }
}
