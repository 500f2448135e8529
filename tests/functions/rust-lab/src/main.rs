//! Does what tests ask of an instance: draws random numbers in the ways that Rust's users know, takes memory and keeps it, exits.

use std::sync::Mutex;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

static HELD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    if event.payload.get("exit").is_some() {
        std::process::exit(0);
    }
    if let Some(megabytes) = event.payload["hold_mb"].as_u64() {
        return hold(megabytes);
    }
    Ok(json!({
        "rand": rand::random::<u64>().to_string(),
        "kernel": getrandom::u64()?.to_string(),
    }))
}

/// Takes so much more memory, with bytes that are not the same everywhere; how much it has.
fn hold(megabytes: u64) -> Result<Value, Error> {
    let mut held = HELD.lock().map_err(|_| "a thread failed before")?;
    for _ in 0..megabytes {
        held.push((0..MIB).map(|at| (at / 4096) as u8 | 1).collect());
    }
    Ok(json!({ "held_mb": held.len() }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // So that the kernel was asked before a snapshot is taken.
    getrandom::u64()?;
    lambda_runtime::run(service_fn(handle)).await
}
