//! Functions that are images: which image an `ImageUri` means, and how such functions are configured and shown.
//!
//! An image is recorded by digest, however it was named. One whose host is this server's own is looked for in its own registry, in the
//! caller's account; any other is brought from where it is, its manifest at once and its layers when the function is made ready.

use hearth_oci::{Digest, Manifest, OciError, PullError, Reference};
use hearth_store::{CodeRef, FunctionConfig};
use hearth_types::{AccountId, ImageSource};
use hyper::header::{HOST, HeaderMap};
use serde_json::{Map, Value, json};

use crate::Backend;
use crate::core::Core;
use crate::error::ApiError;
use crate::registry;
use crate::request::Members;

/// Most bytes of an image's own words about how it starts.
const START_BYTES: usize = 32 << 10;

/// An image that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) code: CodeRef,
    uri: String,
    resolved: String,
}

/// The image of a function that gets one.
pub(crate) fn empty() -> ImageSource {
    let (uri, resolved) = (String::new(), String::new());
    ImageSource { uri, resolved, entry_point: None, command: None, working_directory: None }
}

/// Applies `ImageConfig`, and checks what goes with images and what does not.
///
/// # Errors
/// A combination that Lambda does not allow.
pub(crate) fn change(config: &mut FunctionConfig, members: &Members) -> Result<(), ApiError> {
    let given = members.given("ImageConfig").and_then(Value::as_object);
    let Some(image) = &mut config.image else {
        return match given.filter(|given| given.values().any(|value| !value.is_null())) {
            Some(_) => Err(ApiError::parameter(
                "Please don't provide ImageConfig when the function's PackageType is Zip.",
            )),
            None => Ok(()),
        };
    };
    let layers = members.given("Layers").and_then(Value::as_array).is_some_and(|layers| !layers.is_empty());
    if layers || members.given("Runtime").is_some() || members.given("Handler").is_some() {
        return Err(ApiError::parameter(
            "Please don't provide Handler or Runtime or Layers when the intended function PackageType is Image.",
        ));
    }
    let Some(given) = given else { return Ok(()) };
    let list = |name: &str| {
        let items = given.get(name)?.as_array()?;
        let texts = items.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        (!texts.is_empty()).then_some(texts)
    };
    (image.entry_point, image.command) = (list("EntryPoint"), list("Command"));
    let directory = given.get("WorkingDirectory").and_then(Value::as_str).filter(|text| !text.is_empty());
    image.working_directory = directory.map(str::to_owned);
    let texts = || image.entry_point.iter().chain(&image.command).flatten().chain(&image.working_directory);
    if texts().any(|text| text.contains('\0')) || texts().map(String::len).sum::<usize>() > START_BYTES {
        return Err(ApiError::parameter(format!(
            "ImageConfig has a NUL character in it, or more than {START_BYTES} bytes"
        )));
    }
    Ok(())
}

/// Puts into a configuration which image was found.
pub(crate) fn set(config: &mut FunctionConfig, found: Option<Found>) {
    if let (Some(image), Some(found)) = (&mut config.image, found) {
        (image.uri, image.resolved) = (found.uri, found.resolved);
    }
}

/// Makes a configuration's document that of an image.
pub(crate) fn show(image: &ImageSource, code: CodeRef, document: &mut Map<String, Value>) {
    document.retain(|name, _| name != "Runtime" && name != "Handler");
    document.insert("PackageType".to_owned(), "Image".into());
    document.insert("CodeSha256".to_owned(), code.digest.to_string().into());
    document.insert("CodeSize".to_owned(), 0.into());
    let mut config = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        config.extend(value.map(|value| (name.to_owned(), value)));
    };
    add("EntryPoint", image.entry_point.as_ref().map(|texts| json!(texts)));
    add("Command", image.command.as_ref().map(|texts| json!(texts)));
    add("WorkingDirectory", image.working_directory.as_ref().map(|text| json!(text)));
    if !config.is_empty() {
        document.insert("ImageConfigResponse".to_owned(), json!({"ImageConfig": config}));
    }
}

/// `Code` of GetFunction.
pub(crate) fn location(image: &ImageSource) -> Value {
    json!({"RepositoryType": "ECR", "ImageUri": image.uri, "ResolvedImageUri": image.resolved})
}

impl<B: Backend> Core<B> {
    /// Finds the image that `uri` means to an account.
    ///
    /// # Errors
    /// There is none, it cannot be had, or it does not run here.
    pub(crate) async fn find_image(
        &self,
        uri: &str,
        account: &AccountId,
        headers: &HeaderMap,
    ) -> Result<Found, ApiError> {
        let reference: Reference = uri.parse().map_err(|error: hearth_oci::InvalidReference| {
            ApiError::parameter(format!("Source image is not valid: {error}"))
        })?;
        let (digest, manifest) = if self.is_here(&reference.host, headers) {
            self.find_own(&reference, account).await?
        } else {
            self.puller.resolve(&reference).await.map_err(|error| pull_error(uri, &error))?
        };
        let size = manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        let code = CodeRef { digest: digest.0, size };
        Ok(Found { code, uri: uri.to_owned(), resolved: reference.at(digest).to_string() })
    }

    async fn find_own(
        &self,
        reference: &Reference,
        account: &AccountId,
    ) -> Result<(Digest, Manifest), ApiError> {
        let owned = registry::owner(account, true, &reference.repository);
        let repository =
            owned.and_then(|(account, name)| self.puller.images().repositories().get(&account, &name));
        let found = repository.and_then(|repository| repository.manifest(&reference.wanted()));
        let Some((digest, _)) = found else {
            return Err(ApiError::parameter(format!(
                "Source image {reference} does not exist. Provide a valid source image. (Nothing of that name was pushed \
                 here by account {account}.)"
            )));
        };
        let images = std::sync::Arc::clone(self.puller.images());
        let checked = tokio::task::spawn_blocking(move || {
            let (digest, manifest) = images.resolve(digest)?;
            images.config(&manifest)?;
            match manifest.layers.iter().find(|layer| images.blobs().size(layer.digest).is_none()) {
                Some(layer) => Err(OciError::Missing(layer.digest)),
                None => Ok((digest, manifest)),
            }
        });
        let checked = checked.await.map_err(|error| {
            tracing::error!(%error, "looking an image up broke down");
            ApiError::internal("Hearth failed while it looked the image up; its log says why")
        })?;
        checked.map_err(|error| pull_error(&reference.to_string(), &error.into()))
    }

    /// Whether a registry's host is this server: as it knows itself, or as the caller has just called it.
    pub(crate) fn is_here(&self, host: &str, headers: &HeaderMap) -> bool {
        let own = self.config.public_endpoint.split("://").last().unwrap_or_default().trim_end_matches('/');
        let port = |host: &str| host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_loopback = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
        let called = headers.get(HOST).and_then(|value| value.to_str().ok());
        host == own
            || called == Some(host)
            || (is_loopback && port(host).is_some() && port(host) == port(own))
    }
}

/// Lambda's words for an image that cannot be had, and behind them what exactly is wrong.
fn pull_error(uri: &str, error: &PullError) -> ApiError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    match error {
        PullError::Image(OciError::Io { .. } | OciError::DiskFull) => {
            tracing::error!(uri, error = text, "cannot keep an image");
            ApiError::internal("Hearth could not keep the image; its log says why")
        }
        PullError::NotFound { .. } => ApiError::parameter(format!(
            "Source image {uri} does not exist. Provide a valid source image. ({text})"
        )),
        PullError::Denied { .. } | PullError::Credentials { .. } => ApiError::parameter(format!(
            "Hearth does not have permission to access the image {uri}. ({text})"
        )),
        _ => ApiError::parameter(format!("Source image {uri} is not valid. ({text})")),
    }
}
