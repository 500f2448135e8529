//! Does what tests ask of an instance: draws random numbers in the ways that Rust's users know, takes memory and keeps it, connects
//! to where it is told, exits. As `rust-lab serve ADDRESS` it tells whoever connects there who that is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;
/// What a connection that leads somewhere does not take.
const PATIENCE: Duration = Duration::from_secs(5);

static HELD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    if event.payload.get("exit").is_some() {
        std::process::exit(0);
    }
    if let Some(megabytes) = event.payload["hold_mb"].as_u64() {
        return hold(megabytes);
    }
    if let Some(places) = event.payload["connect"].as_array() {
        return connect(places, event.payload["rest_ms"].as_u64().unwrap_or(0));
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

/// What is said at each of these places, or how a connection to it failed, and the own address towards the first.
fn connect(places: &[Value], rest_ms: u64) -> Result<Value, Error> {
    let places: Vec<SocketAddr> = places.iter().map(|place| serde_json::from_value(place.clone())).collect::<Result<_, _>>()?;
    let own = UdpSocket::bind("0.0.0.0:0")?;
    own.connect(places.first().ok_or("nowhere to connect to")?)?;
    let said: Vec<String> = places.iter().map(|place| hear(place).unwrap_or_else(|error| format!("{:?}", error.kind()))).collect();
    std::thread::sleep(Duration::from_millis(rest_ms));
    Ok(json!({ "own": own.local_addr()?.ip().to_string(), "said": said }))
}

fn hear(place: &SocketAddr) -> std::io::Result<String> {
    let mut said = String::new();
    let mut stream = TcpStream::connect_timeout(place, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Says who called, for ever.
fn serve(place: &str) -> Result<(), Error> {
    for stream in TcpListener::bind(place)?.incoming() {
        let mut stream = stream?;
        let caller = stream.peer_addr()?.ip();
        // One that went away hears nothing.
        let _ = write!(stream, "{caller}");
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, place] = &arguments[..]
        && word == "serve"
    {
        return serve(place);
    }
    // So that the kernel was asked before a snapshot is taken.
    getrandom::u64()?;
    lambda_runtime::run(service_fn(handle)).await
}
