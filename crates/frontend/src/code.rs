//! Where code comes from: a request's own bytes, or an object of S3.

use std::sync::Arc;

use hearth_aws::{CallError, Object};
use hearth_image::{ArchiveError, ImageStore};
use hearth_store::CodeRef;
use hearth_types::{CodeDigest, limits};
use hyper::StatusCode;
use serde_json::Value;

use crate::Backend;
use crate::core::Core;
use crate::error::ApiError;

impl<B: Backend> Core<B> {
    /// Unpacks and keeps the code of a request.
    pub(crate) async fn take_code(
        &self,
        source: &Value,
        zip: Option<Vec<u8>>,
        operation: &str,
    ) -> Result<CodeRef, ApiError> {
        let given = |name: &str| source.get(name).is_some_and(|value| !value.is_null());
        let Some(zip) = zip else {
            if given("ImageUri") {
                let text = "Please don't provide ImageUri when the function's PackageType is Zip.";
                return Err(ApiError::parameter(text));
            }
            return self.code_from_s3(source).await;
        };
        if given("S3Bucket") || given("S3Key") || given("ImageUri") {
            return Err(ApiError::parameter(
                "Please do not provide other FunctionCode parameters when providing a ZipFile.",
            ));
        }
        if zip.len() > limits::ZIP_BYTES {
            return Err(ApiError::too_large("RequestEntityTooLargeException", limits::ZIP_BYTES, operation));
        }
        let size = zip.len() as u64;
        let digest = self.unpack(move |images| images.add_zip(&zip)).await?;
        Ok(CodeRef { digest, size })
    }

    async fn code_from_s3(&self, source: &Value) -> Result<CodeRef, ApiError> {
        let text = |name: &str| source.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let object = match (text("S3Bucket"), text("S3Key")) {
            (Some(bucket), Some(key)) => Object { bucket, key, version: text("S3ObjectVersion") },
            _ => return Err(ApiError::parameter("Please provide a source for function code.")),
        };
        let Some(s3) = &self.config.s3 else {
            return Err(ApiError::unsupported(
                "an S3 to get code from: start it with --s3-endpoint URL, or send the archive as ZipFile",
            ));
        };
        let failed =
            |source| archive_error(&ArchiveError::Io { step: "receive the archive".to_owned(), source });
        let _turn = self.turn(&self.fetches).await?;
        let file = self.images.scratch_file().map_err(failed)?;
        let mut receiving = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
        let read = s3.read(object, limits::UNZIPPED_BYTES, &mut receiving).await;
        let size = read.map_err(|error| object_error(object, &error))?;
        let digest = self.unpack(move |images| images.add_zip_file(file)).await?;
        Ok(CodeRef { digest, size })
    }

    async fn unpack<F>(&self, add: F) -> Result<CodeDigest, ApiError>
    where
        F: FnOnce(&ImageStore) -> Result<CodeDigest, ArchiveError> + Send + 'static,
    {
        let _turn = self.turn(&self.unpacking).await?;
        let images = Arc::clone(&self.images);
        let added = tokio::task::spawn_blocking(move || add(&images)).await;
        let added = added.map_err(|error| {
            tracing::error!(%error, "the unpacking of an archive broke down");
            ApiError::internal("Hearth failed while it unpacked the archive; its log says why")
        })?;
        added.map_err(|error| archive_error(&error))
    }
}

/// Lambda's words for an object that cannot be had.
fn object_error(object: Object<'_>, error: &CallError) -> ApiError {
    let mut causes = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push_str(&format!(": {error}"));
        cause = error.source();
    }
    let Object { bucket, key, .. } = object;
    match error {
        CallError::Refused { status: 401 | 403, code, message } => {
            let text = format!(
                "Your access has been denied by S3, please make sure your request credentials have permission to GetObject \
                 for {bucket}/{key}. S3 Error Code: {code}. S3 Error Message: {message}"
            );
            ApiError::new(StatusCode::FORBIDDEN, "AccessDeniedException", text)
        }
        CallError::Refused { status, code, message } if *status < 500 => ApiError::parameter(format!(
            "Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        )),
        CallError::Invalid(_) => ApiError::parameter(format!("Error occurred while GetObject. {causes}")),
        CallError::TooLarge { most } => ApiError::parameter(format!(
            "Unzipped size must be smaller than {most} bytes (the object {bucket}/{key} is larger itself)"
        )),
        CallError::Write(source) if source.kind() == std::io::ErrorKind::StorageFull => {
            archive_error(&ArchiveError::DiskFull)
        }
        CallError::Write(_) => {
            tracing::error!(error = causes, "cannot keep an archive");
            ApiError::internal("Hearth could not keep the archive; its log says why")
        }
        CallError::Refused { .. }
        | CallError::Unreachable { .. }
        | CallError::Late { .. }
        | CallError::BrokeOff { .. }
        | CallError::Nonsense { .. } => {
            tracing::warn!(bucket, error = causes, "an object did not come");
            ApiError::unavailable(format!("Error occurred while GetObject of {bucket}/{key}: {causes}"))
        }
    }
}

/// Lambda's words for an archive that is not taken, and behind them what exactly is wrong.
pub(crate) fn archive_error(error: &ArchiveError) -> ApiError {
    match error {
        ArchiveError::TooLarge { what: "bytes", .. } => ApiError::parameter(format!(
            "Unzipped size must be smaller than {} bytes ({error})",
            limits::UNZIPPED_BYTES
        )),
        ArchiveError::Corrupt(_)
        | ArchiveError::Empty
        | ArchiveError::TooLarge { .. }
        | ArchiveError::BadEntry { .. } => ApiError::parameter(format!(
            "Could not unzip uploaded file. Please check your file, then try to upload again. ({error})"
        )),
        ArchiveError::DiskFull => {
            tracing::error!(%error, "cannot keep an archive");
            ApiError::internal("The disk that holds Hearth's code is full; nothing was changed")
        }
        ArchiveError::Io { source, .. } => {
            tracing::error!(%error, %source, "cannot keep an archive");
            ApiError::internal("Hearth could not keep the archive; its log says why")
        }
    }
}
