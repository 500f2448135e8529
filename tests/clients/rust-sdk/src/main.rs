//! What a Rust developer does with `aws-sdk-lambda`, which finds its server in the environment alone; run by the tests in tests/e2e.

mod errors;
mod life;
mod stream;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::RequestId;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_smithy_http_client::Builder;
use serde_json::Value;

const USAGE: &str = "\
usage: rust-sdk life ZIP NEW-ZIP NAME RUNTIME   a function of Node from its creation to its end
       rust-sdk event NAME                      hands an event over, and prints its id
       rust-sdk stream NAME                     reads streamed answers";

/// What went wrong, whatever it is.
pub(crate) type Wrong = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("rust-sdk: {wrong}");
            let mut cause = wrong.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<(), Wrong> {
    // One attempt: what is wrong once is to be seen.
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Builder::new().build_http())
        .retry_config(RetryConfig::standard().with_max_attempts(1))
        .load()
        .await;
    let client = Client::new(&config);
    match words {
        ["life", zip, new_zip, name, runtime] => life::live(&client, (zip, new_zip), name, runtime).await,
        ["event", name] => event(&client, name).await,
        ["stream", name] => stream::read(&client, name).await,
        _ => Err(USAGE.into()),
    }
}

async fn event(client: &Client, name: &str) -> Result<(), Wrong> {
    let sent = client.invoke().function_name(name).invocation_type(InvocationType::Event);
    let sent = sent.payload(json(&"an event".into())).send().await?;
    same("an event's status", sent.status_code(), 202)?;
    same("an event's answer", sent.payload().map_or(0, |payload| payload.as_ref().len()), 0)?;
    println!("{}", sent.request_id().ok_or("the answer has no request id")?);
    Ok(())
}

/// A payload.
pub(crate) fn json(value: &Value) -> Blob {
    Blob::new(value.to_string())
}

/// What a payload says.
pub(crate) fn value(payload: Option<&Blob>) -> Result<Value, Wrong> {
    Ok(serde_json::from_slice(payload.ok_or("the answer has no payload")?.as_ref())?)
}

/// The end of a log, as answers have it.
pub(crate) fn log(result: Option<&str>) -> Result<String, Wrong> {
    let bytes = aws_smithy_types::base64::decode(result.ok_or("the answer has no end of the log")?)?;
    Ok(String::from_utf8(bytes)?)
}

pub(crate) fn same<T: PartialEq<U>, U>(what: &str, found: T, wanted: U) -> Result<(), Wrong>
where
    T: std::fmt::Debug,
    U: std::fmt::Debug,
{
    if found == wanted { Ok(()) } else { Err(format!("{what} is {found:?}, not {wanted:?}").into()) }
}
