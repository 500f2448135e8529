//! Names of images: `HOST/REPOSITORY:TAG@DIGEST`, as Docker reads them.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// The longest name of a repository: it becomes the name of a directory.
const REPOSITORY_BYTES: usize = 200;
const TAG_BYTES: usize = 128;
const HOST_BYTES: usize = 255;
/// Where names without a host are, and what they mean there.
const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// Which image in which registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry: a name or address, with a port if it has one.
    pub host: String,
    /// The repository in it.
    pub repository: String,
    /// The tag, if one was said.
    pub tag: Option<String>,
    /// The manifest's digest, if one was said; it wins over the tag.
    pub digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image reference ([HOST[:PORT]/]REPOSITORY[:TAG][@sha256:DIGEST]): {problem}")]
pub struct InvalidReference {
    text: String,
    problem: &'static str,
}

// === impl Reference ===

impl Reference {
    /// What a registry is asked for: the digest, else the tag, else `latest`.
    #[must_use]
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |problem| InvalidReference { text: text.chars().take(200).collect::<String>(), problem };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest: Digest = digest
                    .parse()
                    .map_err(|_| wrong("the digest is not sha256: and 64 hexadecimal digits"))?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let after_slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name[after_slash..].split_once(':') {
            Some((last, tag)) => (&name[..after_slash + last.len()], Some(tag)),
            None => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("the tag has other characters than letters, digits, _, . and -, or too many"));
        }
        let (host, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (first.to_owned(), rest.to_owned())
            }
            Some(_) => (DEFAULT_HOST.to_owned(), name.to_owned()),
            None => (DEFAULT_HOST.to_owned(), format!("{DEFAULT_NAMESPACE}/{name}")),
        };
        if !is_host(&host) {
            return Err(wrong("the host is not a name or address with a port from 1 to 65535"));
        }
        if !is_repository(&repository) {
            return Err(wrong(
                "the repository must be lower-case letters and digits, parts of it joined by ., _, - or /",
            ));
        }
        Ok(Self { host, repository, tag: tag.map(str::to_owned), digest })
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        }
        Some(_) => return false,
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    host.len() <= HOST_BYTES && name.split('.').all(part) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Whether a text may be a repository's name. Source: the OCI distribution specification 1.1, "Pulling manifests".
#[must_use]
pub fn is_repository(name: &str) -> bool {
    name.len() <= REPOSITORY_BYTES && name.split('/').all(is_component)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    let separators = bytes.split(alphanumeric).filter(|separator| !separator.is_empty());
    ends && separators.into_iter().all(|separator| match separator {
        b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|byte| *byte == b'-'),
    })
}

/// Whether a text may be a tag.
#[must_use]
pub fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_BYTES
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_mean_what_they_mean_to_docker() {
        let digest = Digest::of(b"");
        for (text, host, repository, tag) in [
            ("alpine", "docker.io", "library/alpine", None),
            ("alpine:3.20", "docker.io", "library/alpine", Some("3.20")),
            ("me/app", "docker.io", "me/app", None),
            ("localhost/app", "localhost", "app", None),
            ("localhost:9000/a/b:x", "localhost:9000", "a/b", Some("x")),
            ("[::1]:5000/app", "[::1]:5000", "app", None),
            ("ghcr.io/o/r__x.y---z:v_1", "ghcr.io", "o/r__x.y---z", Some("v_1")),
        ] {
            let parsed: Reference = text.parse().unwrap();
            assert_eq!((&*parsed.host, &*parsed.repository, parsed.tag.as_deref()), (host, repository, tag));
            let with_digest: Reference = format!("{text}@{digest}").parse().unwrap();
            assert_eq!((with_digest.digest, with_digest.wanted()), (Some(digest), digest.to_string()));
        }
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        let long = "a".repeat(201);
        for wrong in [
            "",
            "/",
            "a/",
            "/a",
            "A",
            "a//b",
            "a..b",
            "a/../b",
            "../a",
            "-a",
            "a-",
            "a.",
            "a___b",
            "a b",
            "a:",
            "a:-x",
            "a@",
            "a@sha256:00",
            "a:b:c",
            "host.:x/a",
            "host.x:0/a",
            "host.x:99999/a",
            "h_.x/a",
            "a\nb",
            "a%2fb",
            "user@host.x/a",
            "https://host.x/a",
            &long,
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_reference_survives_the_trip_through_its_text(text in "[a-z0-9./:@_-]{0,40}") {
            if let Ok(parsed) = text.parse::<Reference>() {
                prop_assert_eq!(parsed.to_string().parse::<Reference>(), Ok(parsed));
            }
        }
    }
}
