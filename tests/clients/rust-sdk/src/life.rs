//! A function's life: created, waited for, called in every way, updated, published, named, listed, deleted.

use std::fs;
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::client::Waiters;
use aws_sdk_lambda::operation::RequestId;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionCode, InvocationType, LastUpdateStatus, LogType, Runtime, State};
use serde_json::json;

use crate::{Wrong, errors, json as payload, log, same, value};

/// How long anything may take to become ready.
const PATIENCE: Duration = Duration::from_secs(90);
const ROLE: &str = "arn:aws:iam::123456789012:role/e2e";

pub(crate) async fn live(
    client: &Client,
    (zip, new_zip): (&str, &str),
    name: &str,
    runtime: &str,
) -> Result<(), Wrong> {
    let code = FunctionCode::builder().zip_file(Blob::new(fs::read(zip)?)).build();
    let create = client.create_function().function_name(name).runtime(Runtime::from(runtime));
    let create = create.handler("index.handler").role(ROLE).memory_size(256).code(code);
    let made = create.clone().send().await?;
    same("a new function's state", made.state(), Some(&State::Pending))?;
    errors::conflict(create).await?;
    let ready = client.wait_until_function_active_v2().function_name(name).wait(PATIENCE).await?;
    let ready = ready.into_result().map_err(|_| "the waiter ended with an error")?;
    same("the state", ready.configuration().and_then(|config| config.state()), Some(&State::Active))?;

    called(client, name).await?;
    errors::by_type(client, name).await?;
    updated(client, name, new_zip).await?;
    named(client, name).await?;
    listed(client, name).await?;

    client.delete_function().function_name(name).send().await?;
    errors::gone(client, name).await
}

/// Synchronously, with its log; when it fails; and only as if.
async fn called(client: &Client, name: &str) -> Result<(), Wrong> {
    let call = client.invoke().function_name(name).log_type(LogType::Tail);
    let good = call.clone().payload(payload(&json!({"from": "rust"}))).send().await?;
    same("a call's status", good.status_code(), 200)?;
    same("a call's version", good.executed_version(), Some("$LATEST"))?;
    same("a call's error", good.function_error(), None)?;
    let said = value(good.payload())?;
    same("the event", &said["event"], &json!({"from": "rust"}))?;
    same("the memory", &said["memory"], "256")?;
    same("the request id", said["request_id"].as_str(), good.request_id())?;
    let (log, id) = (log(good.log_result())?, good.request_id().unwrap_or_default());
    same("the log has this request", log.contains(&format!("REPORT RequestId: {id}\tDuration: ")), true)?;

    let bad = call.payload(payload(&json!({"fail": "as told"}))).send().await?;
    same("a failed call's status", bad.status_code(), 200)?;
    same("its error", bad.function_error(), Some("Unhandled"))?;
    let said = value(bad.payload())?;
    same("its error's type", &said["errorType"], "TypeError")?;
    same("its error's message", &said["errorMessage"], "as told")?;

    let dry = client.invoke().function_name(name).invocation_type(InvocationType::DryRun).send().await?;
    same("a dry run's status", dry.status_code(), 204)
}

async fn updated(client: &Client, name: &str, zip: &str) -> Result<(), Wrong> {
    let update = client.update_function_code().function_name(name).zip_file(Blob::new(fs::read(zip)?));
    update.send().await?;
    settled(client, name).await?;
    let new = client.invoke().function_name(name).send().await?;
    same("the new code's answer", value(new.payload())?, "new")
}

/// Waits until an update has been made.
pub(crate) async fn settled(client: &Client, name: &str) -> Result<(), Wrong> {
    let ready = client.wait_until_function_updated_v2().function_name(name).wait(PATIENCE).await?;
    let ready = ready.into_result().map_err(|_| "the waiter ended with an error")?;
    let status = ready.configuration().and_then(|config| config.last_update_status());
    same("the update", status, Some(&LastUpdateStatus::Successful))
}

/// Versions, and aliases that name them.
async fn named(client: &Client, name: &str) -> Result<(), Wrong> {
    let version = client.publish_version().function_name(name).description("first").send().await?;
    same("the version", version.version(), Some("1"))?;
    let wait = client.wait_until_published_version_active().function_name(name).qualifier("1");
    wait.wait(PATIENCE).await?;
    let alias = client.create_alias().function_name(name).name("live").function_version("1").send().await?;
    same("the alias' version", alias.function_version(), Some("1"))?;
    let called = client.invoke().function_name(name).qualifier("live").send().await?;
    same("the version that was called", called.executed_version(), Some("1"))?;
    same("its answer", value(called.payload())?, "new")?;
    let moved = client.update_alias().function_name(name).name("live").function_version("$LATEST");
    moved.send().await?;
    let called = client.invoke().function_name(name).qualifier("live").send().await?;
    same("the version that is called now", called.executed_version(), Some("$LATEST"))?;
    let aliases = client.list_aliases().function_name(name).send().await?;
    let names: Vec<_> = aliases.aliases().iter().filter_map(|alias| alias.name()).collect();
    same("the aliases", names, ["live"])?;
    client.delete_alias().function_name(name).name("live").send().await?;
    errors::no_alias(client, name).await
}

/// Page by page, of one each.
async fn listed(client: &Client, name: &str) -> Result<(), Wrong> {
    let pages = client.list_versions_by_function().function_name(name).max_items(1).into_paginator();
    let pages: Vec<_> = pages.send().try_collect().await?;
    let versions: Vec<_> =
        pages.iter().flat_map(|page| page.versions()).filter_map(|config| config.version()).collect();
    same("the versions", versions, ["$LATEST", "1"])?;
    let functions = client.list_functions().into_paginator().page_size(1).items().send();
    let functions: Vec<_> = functions.try_collect().await?;
    let found = functions.iter().filter(|config| config.function_name() == Some(name)).count();
    same("how often the function is listed", found, 1)
}
