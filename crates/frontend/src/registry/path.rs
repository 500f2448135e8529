//! Which operation a path means. Names have slashes in them, so paths are read from their end.

use crate::names::percent_decode;

/// What a path names in a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Tags,
    Referrers(String),
    Manifest(String),
    Blob(String),
    Uploads,
    Upload(String),
}

/// The repository's name and what of it is meant. `path` is what follows `/v2`.
pub(super) fn parse(path: &str) -> Option<(String, Target)> {
    let path = percent_decode(path)?;
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let (name, target) = match *parts.as_slice() {
        [ref name @ .., "tags", "list"] => (name, Target::Tags),
        [ref name @ .., "blobs", "uploads"] | [ref name @ .., "blobs", "uploads", ""] => {
            (name, Target::Uploads)
        }
        [ref name @ .., "blobs", "uploads", id] => (name, Target::Upload(id.to_owned())),
        [ref name @ .., "blobs", digest] => (name, Target::Blob(digest.to_owned())),
        [ref name @ .., "manifests", wanted] => (name, Target::Manifest(wanted.to_owned())),
        [ref name @ .., "referrers", digest] => (name, Target::Referrers(digest.to_owned())),
        _ => return None,
    };
    if name.is_empty() { None } else { Some((name.join("/"), target)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_look_like_what_follows_them() {
        let target = |path: &str| parse(path);
        let some = |name: &str, target| Some((name.to_owned(), target));
        assert_eq!(target("/a/tags/list"), some("a", Target::Tags));
        assert_eq!(target("/a/b/manifests/v1"), some("a/b", Target::Manifest("v1".to_owned())));
        assert_eq!(target("/blobs/blobs/blobs/x"), some("blobs/blobs", Target::Blob("x".to_owned())));
        assert_eq!(target("/a/blobs/uploads/"), some("a", Target::Uploads));
        assert_eq!(target("/a/blobs/uploads/7"), some("a", Target::Upload("7".to_owned())));
        assert_eq!(target("/a/blobs/sha256%3Ax"), some("a", Target::Blob("sha256:x".to_owned())));
        for none in ["", "/", "/a", "/tags/list", "/a/manifests", "/%ff/tags/list"] {
            assert_eq!(target(none), None, "{none}");
        }
    }
}
