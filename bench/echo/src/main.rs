//! The function that both sides of the benchmark run: it answers what it was asked, and as many requests at once as
//! it is told that it may have (AWS_LAMBDA_MAX_CONCURRENCY, which both sides set).

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let echo = service_fn(|event: LambdaEvent<Value>| async { Ok::<_, Error>(event.payload) });
    lambda_runtime::run_concurrent(echo).await
}
