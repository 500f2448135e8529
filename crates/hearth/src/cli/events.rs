//! `hearth events`: what waits to be run.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::cli::ServerArgs;
use crate::table::{printable, render};
use crate::terminal;

/// What `hearth events` can be told.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hearth events                    how many events wait, for whom, and for how long
  hearth invoke hello '{}' --event sends one")]
pub(crate) struct EventsArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let reply = args.server.client()?.get("/_hearth/events")?.into_success("list the events")?.json()?;
    if args.json {
        terminal::line(format_args!("{reply:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let lanes = reply["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = lanes.iter().map(row).collect();
    terminal::bytes(render(&["FOR", "WAITING", "RUNNING", "BYTES", "OLDEST", "NEXT IN"], &rows).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn row(lane: &Value) -> Vec<String> {
    let number = |key: &str| lane[key].as_u64().unwrap_or(0).to_string();
    let seconds = |key: &str| {
        lane[key].as_u64().map_or_else(|| "-".to_owned(), |ms| format!("{}.{}s", ms / 1000, ms % 1000 / 100))
    };
    vec![
        printable(lane["for"].as_str().unwrap_or("-")),
        number("waiting"),
        number("running"),
        number("bytes"),
        seconds("oldest_ms"),
        seconds("next_ms"),
    ]
}
