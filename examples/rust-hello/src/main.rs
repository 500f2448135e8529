//! Greets, after an optional pause, and says which instance did.

use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

async fn hello(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let pause = event.payload["sleep_ms"].as_u64().unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let name = event.payload["name"].as_str().unwrap_or("world");
    Ok(json!({
        "message": format!("Hello, {name}, from Rust!"),
        "instance": event.context.env_config.log_stream,
        "request_id": event.context.request_id,
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(hello)).await
}
