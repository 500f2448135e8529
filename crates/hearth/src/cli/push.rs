//! Puts an image that is in files into the server's registry.

use anyhow::Context;
use hearth_oci::Digest;

use crate::client::Client;
use crate::local_image::LocalImage;

/// Pushes what of an image the server does not have; the image's name there, without its tag. `say` hears how it goes.
pub(crate) fn push(
    client: &Client,
    image: &LocalImage,
    name: &str,
    say: &dyn Fn(&str),
) -> anyhow::Result<String> {
    let repository = repository(name);
    let path = format!("/v2/{repository}");
    let count = image.blobs.len();
    for (number, (digest, size, file)) in (1..).zip(&image.blobs) {
        let there = client.head(&format!("{path}/blobs/{digest}"))?;
        if there.status == 200 {
            continue;
        }
        say(&format!("pushing {number} of {count}, {} KiB", size.div_ceil(1024)));
        let begun =
            client.post(&format!("{path}/blobs/uploads/"), &[], b"")?.into_success("push the image")?;
        let place = begun.header("location").context("the server's answer to an upload has no Location")?;
        let place = format!("{place}?digest={digest}");
        client.put_stream(&place, image.content(file)?, *size)?.into_success("push the image")?;
    }
    let digest = Digest::of(&image.manifest);
    client
        .put(&format!("{path}/manifests/latest"), &image.media_type, &image.manifest)?
        .into_success("push the image's manifest")?;
    Ok(format!("{}/{repository}@{digest}", client.authority()))
}

/// A function's name as a repository's.
fn repository(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name: Vec<&str> =
        name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    if name.is_empty() { "function".to_owned() } else { name.join("-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_functions_name_gives_a_repositorys_name() {
        for (name, expected) in [("My_App", "my-app"), ("-a--b-", "a-b"), ("___", "function"), ("x", "x")] {
            assert_eq!(repository(name), expected);
            assert!(hearth_oci::is_repository(&repository(name)));
        }
    }
}
