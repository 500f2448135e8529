use serde_json::{Value, json};

use super::*;

fn descriptor(media_type: &str, platform: Option<(&str, &str)>) -> Value {
    let mut descriptor = json!({"mediaType": media_type, "digest": Digest::of(b"x").to_string(), "size": 1});
    if let Some((os, architecture)) = platform {
        descriptor["platform"] = json!({"os": os, "architecture": architecture});
    }
    descriptor
}

fn parse(document: &Value, told: Option<&str>) -> Result<Document, OciError> {
    Document::parse(document.to_string().as_bytes(), told)
}

#[test]
fn what_could_be_read_as_two_things_is_refused() {
    let config = descriptor(media::CONFIG, None);
    let plain = json!({"schemaVersion": 2, "config": config, "layers": [config]});
    assert!(matches!(parse(&plain, None), Ok(Document::Manifest(_))));
    let both = json!({"schemaVersion": 2, "config": config, "layers": [config], "manifests": [config]});
    for told in [None, Some(media::MANIFEST), Some(media::INDEX)] {
        assert!(matches!(parse(&both, told), Err(OciError::Invalid { .. })), "{told:?}");
    }
    let says = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": []});
    assert!(parse(&says, Some(media::MANIFEST)).is_ok());
    assert!(parse(&says, Some(media::DOCKER_MANIFEST)).is_err());
}

#[test]
fn documents_that_are_none_or_too_large_are_refused() {
    let config = descriptor(media::CONFIG, None);
    let layers = vec![config.clone(); LAYERS + 1];
    for wrong in [
        json!([]),
        json!({"schemaVersion": 1, "fsLayers": []}),
        json!({"schemaVersion": 3, "config": config}),
        json!({"schemaVersion": 2}),
        json!({"schemaVersion": 2, "config": config, "layers": layers}),
        json!({"schemaVersion": 2, "config": config, "layers": [{"digest": "sha256:00", "size": 1}]}),
        json!({"schemaVersion": 2, "config": config, "layers": [{"digest": config["digest"], "size": -1}]}),
    ] {
        assert!(parse(&wrong, None).is_err(), "{wrong}");
    }
    assert!(Document::parse(&vec![b' '; MANIFEST_BYTES + 1], None).is_err());
}

#[test]
fn an_index_gives_the_image_for_this_machine_or_says_what_it_has() {
    let here = Platform::here();
    let mine = descriptor(media::MANIFEST, Some(("linux", &here.architecture)));
    let other = descriptor(media::MANIFEST, Some(("linux", "riscv64")));
    let attestation = descriptor(media::MANIFEST, Some(("unknown", "unknown")));
    let index = |manifests: &[&Value]| match parse(&json!({"schemaVersion": 2, "manifests": manifests}), None)
    {
        Ok(Document::Index(index)) => index,
        other => panic!("{other:?}"),
    };
    let found = index(&[&other, &attestation, &mine]);
    assert_eq!(found.for_this_machine().unwrap().platform, Some(here));
    let error = index(&[&other, &attestation]).for_this_machine().unwrap_err().to_string();
    assert!(error.contains("linux/riscv64") && !error.contains("unknown"), "{error}");
}
