//! Errors, each of the type that the SDK has for it.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::http::HttpResponse;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::create_function::CreateFunctionError;
use aws_sdk_lambda::operation::create_function::builders::CreateFunctionFluentBuilder;
use aws_sdk_lambda::operation::get_alias::GetAliasError;
use aws_sdk_lambda::operation::get_function::GetFunctionError;
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::operation::update_function_configuration::UpdateFunctionConfigurationError;
use aws_sdk_lambda::primitives::Blob;

use crate::life::settled;
use crate::{Wrong, same};

/// The error that an answer must be, and its status.
fn refused<T, E: std::fmt::Debug>(
    what: &str,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<(E, u16), Wrong> {
    match answer {
        Ok(_) => Err(format!("{what} was allowed").into()),
        Err(SdkError::ServiceError(refusal)) => {
            let status = refusal.raw().status().as_u16();
            Ok((refusal.into_err(), status))
        }
        Err(other) => Err(format!("{what}: {other:?}").into()),
    }
}

pub(crate) async fn conflict(create: CreateFunctionFluentBuilder) -> Result<(), Wrong> {
    match refused("a name that is taken", create.clone().send().await)? {
        (CreateFunctionError::ResourceConflictException(error), 409) => {
            same(
                "the message names the function",
                error.message().is_some_and(|text| text.contains("exist")),
                true,
            )?;
        }
        other => return Err(format!("a name that is taken: {other:?}").into()),
    }
    match refused(
        "a role that is none",
        create.function_name("another").role("arn:aws:iam::1:role/x").send().await,
    )? {
        (CreateFunctionError::InvalidParameterValueException(_), 400) => Ok(()),
        // What breaks a pattern of the model has no type of its own.
        (error, 400) if error.meta().code() == Some("ValidationException") => Ok(()),
        other => Err(format!("a role that is none: {other:?}").into()),
    }
}

pub(crate) async fn by_type(client: &Client, name: &str) -> Result<(), Wrong> {
    let call = client.invoke().function_name(name);
    match refused("text that is no JSON", call.clone().payload(Blob::new("{")).send().await)? {
        (InvokeError::InvalidRequestContentException(_), 400) => {}
        other => return Err(format!("text that is no JSON: {other:?}").into()),
    }
    let large = format!("\"{}\"", "x".repeat(6 << 20));
    match refused("a payload that is too large", call.clone().payload(Blob::new(large)).send().await)? {
        (InvokeError::RequestTooLargeException(_), 413) => {}
        other => return Err(format!("a payload that is too large: {other:?}").into()),
    }
    match refused("a version that is none", call.clone().qualifier("77").send().await)? {
        (InvokeError::ResourceNotFoundException(_), 404) => {}
        other => return Err(format!("a version that is none: {other:?}").into()),
    }

    client.put_function_concurrency().function_name(name).reserved_concurrent_executions(0).send().await?;
    match refused("a call without a slot", call.send().await)? {
        (InvokeError::TooManyRequestsException(error), 429) => {
            let reason = error.reason().map(|reason| reason.as_str());
            same("the reason", reason, Some("ReservedFunctionConcurrentInvocationLimitExceeded"))?;
            same("whether it says when to come again", error.retry_after_seconds().is_some(), true)?;
        }
        other => return Err(format!("a call without a slot: {other:?}").into()),
    }
    client.delete_function_concurrency().function_name(name).send().await?;

    let config = client.get_function_configuration().function_name(name).send().await?;
    let revision = config.revision_id().ok_or("the function has no revision")?;
    let update = client.update_function_configuration().function_name(name).revision_id(revision);
    update.clone().description("first").send().await?;
    settled(client, name).await?;
    match refused("a revision that is past", update.description("second").send().await)? {
        (UpdateFunctionConfigurationError::PreconditionFailedException(_), 412) => Ok(()),
        other => Err(format!("a revision that is past: {other:?}").into()),
    }
}

pub(crate) async fn no_alias(client: &Client, name: &str) -> Result<(), Wrong> {
    match refused("an alias that is gone", client.get_alias().function_name(name).name("live").send().await)?
    {
        (GetAliasError::ResourceNotFoundException(_), 404) => Ok(()),
        other => Err(format!("an alias that is gone: {other:?}").into()),
    }
}

pub(crate) async fn gone(client: &Client, name: &str) -> Result<(), Wrong> {
    match refused("a function that is gone", client.get_function().function_name(name).send().await)? {
        (GetFunctionError::ResourceNotFoundException(error), 404) => same(
            "the message names the function",
            error.message().is_some_and(|text| text.contains(name)),
            true,
        ),
        other => Err(format!("a function that is gone: {other:?}").into()),
    }
}
