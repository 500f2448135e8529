//! Takes the times for the benchmark: of requests, and of commands that run to their end.
//!
//! A closed loop: each connection sends its next request when it has the answer to the last, and every answer is
//! compared with what it must be. One thread a connection and no library, so that the client costs the machine
//! that it shares with the server as little as it can. Prints one line of JSON; any failure ends it with exit code 1.

mod http;

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use http::Connection;

const USAGE: &str = "\
usage: load requests ADDRESS PATH CONNECTIONS SECONDS   post for a while over kept connections
       load same ADDRESS PATH CONNECTIONS SECONDS BODY [HEADER]...  likewise, the same request with these headers each time
       load events ADDRESS PATH CONNECTIONS SECONDS BYTES  likewise, events of a size, each answered with 202
       load burst ADDRESS PATH CONNECTIONS              post once over each of so many connections, all at once
       load each ADDRESS PATH FIRST COUNT               post once to each PATH, its {n} counting from FIRST
       load command COUNT PROGRAM [ARGUMENT]...         run to the end, an argument's {n} counting from 0";

/// The status of an event that is on disk; there is no answer to it yet.
const ACCEPTED: u16 = 202;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<String, Box<dyn Error>> {
    match words {
        ["requests", address, path, connections, seconds] => {
            posts(&burden(address, path, connections, Loop::For(time(seconds)?))?, numbered)
        }
        ["same", address, path, connections, seconds, body, headers @ ..] => {
            let headers = headers.iter().map(|header| format!("{header}\r\n")).collect();
            let (burden, body) =
                (burden(address, path, connections, Loop::For(time(seconds)?))?, (*body).to_owned());
            posts(&Burden { headers, ..burden }, move |_, _| body.clone())
        }
        ["events", address, path, connections, seconds, bytes] => {
            let burden = burden(address, path, connections, Loop::For(time(seconds)?))?;
            let body = format!("\"{}\"", "x".repeat(bytes.parse::<usize>()?.saturating_sub(2)));
            posts(&Burden { good: ACCEPTED, ..burden }, move |_, _| body.clone())
        }
        ["burst", address, path, connections] => {
            posts(&burden(address, path, connections, Loop::Once)?, numbered)
        }
        ["each", address, path, first, count] => each(address, path, first.parse()?, count.parse()?),
        ["command", count, command @ ..] if !command.is_empty() => commands(count.parse()?, command),
        _ => Err(USAGE.into()),
    }
}

fn time(seconds: &str) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

fn burden<'a>(
    address: &'a str,
    path: &'a str,
    connections: &str,
    how: Loop,
) -> Result<Burden<'a>, Box<dyn Error>> {
    Ok(Burden { address, path, connections: connections.parse()?, how, headers: String::new(), good: 200 })
}

/// A request that no other is.
fn numbered(connection: usize, sequence: u64) -> String {
    format!("{{\"connection\":{connection},\"sequence\":{sequence}}}")
}

/// How often each connection posts.
#[derive(Clone, Copy)]
enum Loop {
    Once,
    For(Duration),
}

/// What the connections do: how many there are, where they are to, how often each posts, lines of every request's head, the good status.
struct Burden<'a> {
    address: &'a str,
    path: &'a str,
    connections: usize,
    how: Loop,
    headers: String,
    good: u16,
}

/// Posts over connections that are open before the first request, and takes the times. `body` makes what is posted of the numbers of
/// the connection and of the request; the answer must be the same.
fn posts(
    burden: &Burden<'_>,
    body: impl Fn(usize, u64) -> String + Send + Clone + 'static,
) -> Result<String, Box<dyn Error>> {
    let start = Arc::new(Barrier::new(burden.connections + 1));
    let threads: Vec<_> = (0..burden.connections)
        .map(|number| {
            let (start, address, path) =
                (Arc::clone(&start), burden.address.to_owned(), burden.path.to_owned());
            let (headers, good, how, body) = (burden.headers.clone(), burden.good, burden.how, body.clone());
            thread::spawn(move || {
                let connection = Connection::open(&address);
                start.wait();
                let mut connection = connection?.saying(&headers).expecting(good);
                post_all(&mut connection, &path, how, |sequence| body(number, sequence))
            })
        })
        .collect();
    start.wait();
    let began = Instant::now();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| "a thread panicked")??);
    }
    Ok(report(times, began.elapsed()))
}

fn post_all(
    connection: &mut Connection,
    path: &str,
    how: Loop,
    body: impl Fn(u64) -> String,
) -> Result<Vec<Duration>, http::HttpError> {
    let start = Instant::now();
    let mut times = Vec::with_capacity(1 << 16);
    for sequence in 0_u64.. {
        let began = Instant::now();
        let goes_on = match how {
            Loop::Once => sequence == 0,
            Loop::For(time) => began < start + time,
        };
        if !goes_on {
            break;
        }
        post(connection, path, &body(sequence))?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Posts once to each of `count` paths, one after the other.
fn each(address: &str, path: &str, first: u64, count: u64) -> Result<String, Box<dyn Error>> {
    let mut connection = Connection::open(address)?;
    let mut times = Vec::new();
    let began = Instant::now();
    for number in first..first + count {
        let path = path.replace("{n}", &number.to_string());
        let sent = Instant::now();
        post(&mut connection, &path, &format!("{{\"sequence\":{number}}}"))?;
        times.push(sent.elapsed());
    }
    Ok(report(times, began.elapsed()))
}

/// One request whose answer must be the request, unless it is only accepted.
fn post(connection: &mut Connection, path: &str, body: &str) -> Result<(), http::HttpError> {
    let only_accepted = connection.good() == ACCEPTED;
    let answer = connection.post(path, body.as_bytes())?;
    if only_accepted || answer == body.as_bytes() {
        Ok(())
    } else {
        Err(http::HttpError::WrongBody(shortened(answer)))
    }
}

fn shortened(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(200).collect()
}

/// Runs a command `count` times, one after the other.
fn commands(count: u64, command: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut times = Vec::new();
    let began = Instant::now();
    for number in 0..count {
        let words: Vec<String> =
            command.iter().map(|word| word.replace("{n}", &number.to_string())).collect();
        let started = Instant::now();
        let status = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).status()?;
        times.push(started.elapsed());
        if !status.success() {
            return Err(format!("{} ended with {status}", words.join(" ")).into());
        }
    }
    Ok(report(times, began.elapsed()))
}

fn report(mut times: Vec<Duration>, wall: Duration) -> String {
    times.sort_unstable();
    let at = |share: f64| {
        let rank = (share * times.len() as f64).ceil() as usize;
        times.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    format!(
        "{{\"count\":{},\"wall_ms\":{:.3},\"p50_ms\":{:.4},\"p90_ms\":{:.4},\"p99_ms\":{:.4},\"max_ms\":{:.4},\"per_second\":{:.1}}}",
        times.len(),
        wall.as_secs_f64() * 1e3,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        times.len() as f64 / wall.as_secs_f64(),
    )
}
