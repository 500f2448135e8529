//! Pulls from registries that hang, cut off, lie, redirect in circles, refuse, or are merely slow: scripted ones, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod registry;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_oci::{Digest, Images, OciError, PullConfig, PullError, Puller, Reference, media};
use registry::{Registry, Say, image};
use serde_json::json;

struct World {
    folder: tempfile::TempDir,
    puller: Arc<Puller>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = Arc::new(Images::open(&folder.path().join("images")).unwrap());
        let (patience, pause) = (Duration::from_millis(400), Duration::from_millis(5));
        let config =
            PullConfig { patience, pause, deadline: Duration::from_secs(10), ..PullConfig::default() };
        Self { folder, puller: Arc::new(Puller::new(images, config)) }
    }

    async fn pull(&self, reference: &Reference) -> Result<Digest, PullError> {
        let (digest, _) = self.puller.resolve(reference).await?;
        self.puller.fetch(&reference.at(digest)).await?;
        Ok(digest)
    }

    /// Nothing that is not whole is kept.
    fn check(&self) {
        let images = self.folder.path().join("images");
        assert_eq!(std::fs::read_dir(images.join("tmp")).unwrap().count(), 0);
        for blob in std::fs::read_dir(images.join("blobs")).unwrap() {
            let path = blob.unwrap().path();
            assert_eq!(
                Digest::of(&std::fs::read(&path).unwrap()).hex(),
                path.file_name().unwrap().to_str().unwrap()
            );
        }
    }

    async fn fails(&self, reference: &Reference) -> PullError {
        let began = Instant::now();
        let error = self.pull(reference).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(9), "{error}");
        self.check();
        error
    }
}

#[tokio::test]
async fn an_image_comes_with_a_token_through_redirects_and_in_parts() {
    let layer = vec![7; 3 << 20];
    let (registry, wanted) = Registry::with(image(&layer)).await;
    registry.demand_token();
    registry.redirect_blobs();
    registry.cut_blobs(1 << 20);
    let world = World::new();
    let digest = world.pull(&wanted).await.unwrap();
    assert_eq!(digest, registry.manifest_digest());
    assert_eq!(world.puller.images().blobs().size(Digest::of(&layer)), Some(3 << 20));
    assert!(registry.ranges() >= 2, "it went on where it broke off");
    assert_eq!(registry.strangers_told(), 0, "whom one is sent to is not told who we are");
    let before = registry.asked();
    world.puller.fetch(&wanted.at(digest)).await.unwrap();
    assert_eq!(registry.asked(), before, "what is here is not asked for");
    world.check();
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_does_not_pass_is_said() {
    let (registry, wanted) = Registry::with(image(b"x")).await;
    let world = World::new();
    registry.say_next(&[Say::Status(503), Say::Status(429), Say::Status(500), Say::Drop]);
    world.pull(&wanted).await.unwrap();
    for status in [500, 503, 429] {
        let (registry, wanted) = Registry::with(image(b"x")).await;
        registry.always(Say::Status(status));
        let error = World::new().fails(&wanted).await;
        assert!(
            matches!(error, PullError::Status { status: said, times: 5, .. } if said == status),
            "{error}"
        );
        assert_eq!(registry.asked(), 5);
    }
}

#[tokio::test]
async fn registries_that_hang_drop_or_send_in_circles_are_given_up() {
    for (say, expected) in [
        (Say::Hang, "did not answer within"),
        (Say::Drop, "cannot be reached"),
        (Say::Circle, "more than 5 times"),
        (Say::Away, "to no address"),
        (Say::Status(404), "has no"),
        (Say::Status(403), "docker login"),
        (Say::Status(401), "docker login"),
        (Say::Status(418), "answers 418"),
    ] {
        let (registry, wanted) = Registry::with(image(b"x")).await;
        registry.always(say);
        let error = World::new().fails(&wanted).await.to_string();
        assert!(error.contains(expected), "{say:?}: {error}");
    }
    let nobody = "127.0.0.1:1/app:v1".parse().unwrap();
    assert!(matches!(World::new().fails(&nobody).await, PullError::Unreachable { .. }));
}

#[tokio::test]
async fn a_blob_that_never_comes_to_its_end_is_given_up() {
    for stall in [false, true] {
        let (registry, wanted) = Registry::with(image(&vec![1; 1 << 20])).await;
        registry.cut_blobs(0);
        if stall {
            registry.stall_blobs();
        }
        let error = World::new().fails(&wanted).await;
        assert!(matches!(error, PullError::BrokeOff { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_refused() {
    let mut lies = image(b"layer");
    let config = lies.blob_of("config");
    lies.blobs.entry(config).and_modify(|content| content[0] = b'[');
    let mut longer = image(b"layer");
    let layer = longer.blob_of("layer");
    longer.blobs.insert(layer, b"layer and more".to_vec());
    let mut other = image(b"layer");
    let layer = other.blob_of("layer");
    other.blobs.insert(layer, b"LAYER".to_vec());
    for lying in [lies, longer, other] {
        let (_registry, wanted) = Registry::with(lying).await;
        let error = World::new().fails(&wanted).await;
        assert!(matches!(error, PullError::Image(OciError::Invalid { .. })), "{error}");
    }
    // By digest, another manifest.
    let (_registry, wanted) = Registry::with(image(b"layer")).await;
    let error = World::new().fails(&wanted.at(Digest::of(b"other"))).await;
    assert!(error.to_string().contains("the registry sent"), "{error}");
    // A manifest without end.
    let mut endless = image(b"layer");
    endless.manifest = vec![b' '; 5 << 20];
    let (_registry, wanted) = Registry::with(endless).await;
    assert!(matches!(World::new().fails(&wanted).await, PullError::BrokeOff { .. }));
    // A layer that would fill the disk.
    let mut huge = image(b"layer");
    huge.manifest =
        String::from_utf8(huge.manifest).unwrap().replace("\"size\":5", "\"size\":99999999999").into();
    let (_registry, wanted) = Registry::with(huge).await;
    assert!(matches!(World::new().fails(&wanted).await, PullError::Image(OciError::TooLarge { .. })));
}

#[tokio::test]
async fn an_index_without_an_image_for_this_machine_says_what_it_has() {
    let mut index = image(b"layer");
    let platform = json!({"os": "linux", "architecture": "s390x"});
    let manifest =
        json!({"mediaType": media::MANIFEST, "digest": Digest::of(b"x"), "size": 1, "platform": platform});
    let document = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [manifest]});
    (index.manifest, index.media_type) = (document.to_string().into(), media::INDEX);
    let (_registry, wanted) = Registry::with(index).await;
    let error = World::new().fails(&wanted).await.to_string();
    assert!(error.contains("linux/s390x") && error.contains("build it for that"), "{error}");
}
