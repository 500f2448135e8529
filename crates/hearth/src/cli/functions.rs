//! `hearth invoke`, `logs`, `ps`, `rm`: what one does with functions that are there.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use hearth_types::TenantId;
use hearth_types::limits::SYNC_PAYLOAD_BYTES;
use serde_json::Value;

use crate::cli::ServerArgs;
use crate::client::segment;
use crate::table::{printable, render};
use crate::terminal;

/// A line of a log is no longer than this; more means the server is not one of ours.
const MAX_LOG_LINE_BYTES: u64 = 1024 * 1024;

/// What `hearth invoke` can be told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hearth invoke hello '{\"name\":\"Ada\"}'
  echo '[1,2,3]' | hearth invoke sum -
  hearth invoke hello @event.json --log
  hearth invoke hello '{}' --event     does not wait; see `hearth events`
  hearth invoke shop '{}' --tenant-id ada    in an instance that serves nobody but ada

Exits with 1 when the function fails; its error document is on stdout all the same.")]
pub(crate) struct InvokeArgs {
    /// The function: a name, or name:qualifier
    name: String,
    /// The event, JSON; - reads it from stdin, @FILE from a file
    #[arg(default_value = "{}")]
    payload: String,
    /// Print the end of the invocation's log to stderr
    #[arg(long, conflicts_with = "event")]
    log: bool,
    /// Only hand the event over, to be run later and again if it fails; prints its id
    #[arg(long)]
    event: bool,
    /// Whom the event is for, if the function keeps tenants apart
    #[arg(long, value_name = "TENANT")]
    tenant_id: Option<TenantId>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn invoke(args: &InvokeArgs) -> anyhow::Result<ExitCode> {
    let payload = read_payload(&args.payload)?;
    let path = format!("/2015-03-31/functions/{}/invocations", segment(&args.name));
    let mut headers = vec![("content-type", "application/json")];
    if args.log {
        headers.push(("x-amz-log-type", "Tail"));
    }
    if args.event {
        headers.push(("x-amz-invocation-type", "Event"));
    }
    if let Some(tenant) = &args.tenant_id {
        headers.push(("x-amz-tenant-id", tenant.as_str()));
    }
    let reply = args.server.client()?.post(&path, &headers, &payload)?.into_success("invoke the function")?;
    if args.event {
        terminal::line(printable(reply.header("x-amzn-requestid").unwrap_or("-")))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(tail) = reply.header("x-amz-log-result") {
        let tail = BASE64.decode(tail).context("the server's log tail is not base64")?;
        for line in String::from_utf8_lossy(&tail).lines() {
            terminal::tell(printable(line));
        }
    }
    terminal::bytes(&reply.body)?;
    terminal::bytes(b"\n")?;
    match reply.header("x-amz-function-error") {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => {
            terminal::tell(format_args!("hearth: the function failed ({})", printable(error)));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn read_payload(argument: &str) -> anyhow::Result<Vec<u8>> {
    let limit = SYNC_PAYLOAD_BYTES as u64 + 1;
    let mut payload = Vec::new();
    if argument == "-" {
        io::stdin().take(limit).read_to_end(&mut payload).context("cannot read the event from stdin")?;
    } else if let Some(file) = argument.strip_prefix('@').map(PathBuf::from) {
        let open = std::fs::File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
        open.take(limit)
            .read_to_end(&mut payload)
            .with_context(|| format!("cannot read {}", file.display()))?;
    } else {
        payload = argument.as_bytes().to_vec();
    }
    if payload.len() > SYNC_PAYLOAD_BYTES {
        bail!("the event is larger than {SYNC_PAYLOAD_BYTES} bytes, the most that an invocation takes");
    }
    Ok(payload)
}

/// What `hearth logs` can be told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hearth logs hello              what is kept of its log
  hearth logs hello -n 20 -f     the last 20 lines, then each as it comes")]
pub(crate) struct LogsArgs {
    /// The function's name
    name: String,
    /// Go on printing lines as they come
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines of what is kept
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn logs(args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let mut path = format!("/_hearth/logs/{}?follow={}", segment(&args.name), args.follow);
    if let Some(lines) = args.lines {
        path.push_str(&format!("&lines={lines}"));
    }
    let mut reader = BufReader::new(args.server.client()?.stream(&path).context("cannot read the log")?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = (&mut reader)
            .take(MAX_LOG_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .context("the log broke off")?;
        if length == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let text = String::from_utf8_lossy(&line);
        terminal::line(printable(text.trim_end_matches('\n')))?;
    }
}

/// What `hearth ps` can be told.
#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn ps(args: &PsArgs) -> anyhow::Result<ExitCode> {
    let reply = args.server.client()?.get("/_hearth/ps")?.into_success("list the instances")?.json()?;
    if args.json {
        terminal::line(format_args!("{reply:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let instances = reply["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let blanks = reply["blanks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = instances.iter().map(ps_row).chain(blanks.iter().map(blank_row)).collect();
    let header = [
        "FUNCTION", "VERSION", "TENANT", "INSTANCE", "STATE", "SLOTS", "AGE", "IDLE", "MEMORY", "CPU",
        "REQUESTS", "WORKER",
    ];
    terminal::bytes(render(&header, &rows).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn ps_row(instance: &Value) -> Vec<String> {
    let text = |key: &str| printable(instance[key].as_str().unwrap_or("-"));
    let number = |key: &str| instance[key].as_u64();
    let seconds = |key: &str| {
        number(key).map_or_else(|| "-".to_owned(), |ms| format!("{}.{}s", ms / 1000, ms % 1000 / 100))
    };
    let mib = |key: &str| number(key).map_or_else(|| "-".to_owned(), |bytes| (bytes >> 20).to_string());
    vec![
        text("function"),
        text("version"),
        text("tenant"),
        // The first half is the same for a server's whole life.
        text("instance").chars().skip(20).collect(),
        text("state"),
        slots(instance),
        seconds("age_ms"),
        seconds("idle_ms"),
        format!("{}/{} MB", mib("memory_bytes"), number("memory_mb").unwrap_or(0)),
        seconds("cpu_ms"),
        number("invocations").unwrap_or(0).to_string(),
        text("worker"),
    ]
}

/// A sandbox made before its function is known: what it can be, in place of what it is.
fn blank_row(blank: &Value) -> Vec<String> {
    let mut row = ps_row(blank);
    if let [function, _, _, id, state, slots, ..] = row.as_mut_slice() {
        *function = format!("({})", printable(blank["runtime"].as_str().unwrap_or("-")));
        *id = printable(blank["blank"].as_str().unwrap_or("-")).chars().skip(20).collect();
        let ready = *state == "ready";
        *state = if ready { "blank".to_owned() } else { format!("blank, {state}") };
        *slots = "-".to_owned();
    }
    row
}

/// Requests in hand, those it is given at once, and behind a `<` the most it may ever have, if it is held below that.
fn slots(instance: &Value) -> String {
    let number = |key: &str| instance[key].as_u64().unwrap_or(0);
    let (leases, slots, most) = (number("leases"), number("slots"), number("most_slots"));
    if slots < most { format!("{leases}/{slots}<{most}") } else { format!("{leases}/{slots}") }
}

/// Time between looks at a worker that drains.
const POLL: Duration = Duration::from_millis(200);

/// What `hearth drain` can be told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hearth drain local-1             waits until it is empty
  hearth drain local-1 --undo      lets it take instances again")]
pub(crate) struct DrainArgs {
    /// The worker's name, as `hearth ps --json` lists it
    worker: String,
    /// Let it take instances again
    #[arg(long)]
    undo: bool,
    /// Do not wait until it is empty
    #[arg(long, conflicts_with = "undo")]
    no_wait: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn drain(args: &DrainArgs) -> anyhow::Result<ExitCode> {
    let client = args.server.client()?;
    let path = format!("/_hearth/workers/{}/drain", segment(&args.worker));
    let name = printable(&args.worker);
    if args.undo {
        client.delete(&path)?.into_success(&format!("let worker {name} take instances"))?;
        terminal::line(format_args!("{name} takes instances again"))?;
        return Ok(ExitCode::SUCCESS);
    }
    client.post(&path, &[], &[])?.into_success(&format!("drain worker {name}"))?;
    if args.no_wait {
        terminal::line(format_args!("{name} drains"))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Bounded by the longest that a function may run; whoever cannot wait presses Ctrl-C, and the drain goes on.
    loop {
        let reply = client.get("/_hearth/ps")?.into_success("list workers")?.json()?;
        let workers = reply["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let worker = workers.iter().find(|worker| worker["worker"] == args.worker.as_str());
        let worker = worker.with_context(|| format!("worker {name} has gone"))?;
        if worker["drained"] == true {
            terminal::line(format_args!("{name} is empty"))?;
            return Ok(ExitCode::SUCCESS);
        }
        anyhow::ensure!(worker["draining"] == true, "worker {name} was let take instances again");
        std::thread::sleep(POLL);
    }
}

/// What `hearth rm` can be told.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// The functions' names
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn rm(args: &RmArgs) -> anyhow::Result<ExitCode> {
    let client = args.server.client()?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        let reply = client.delete(&format!("/2015-03-31/functions/{}", segment(name)))?;
        match reply.into_success(&format!("delete {}", printable(name))) {
            Ok(_) => terminal::line(printable(name))?,
            Err(error) => {
                // One that is not there keeps no other.
                terminal::tell(format_args!("hearth: {error:#}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
