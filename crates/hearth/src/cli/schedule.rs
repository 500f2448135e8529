//! `hearth schedule`: functions that run at times, over EventBridge Scheduler's API.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::ServerArgs;
use crate::client::segment;
use crate::table::{printable, render};
use crate::terminal;

/// What `hearth schedule` can be told.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  hearth schedule add tidy clean-up 'rate(5 minutes)'
  hearth schedule add report mail-report 'cron(30 8 ? * MON-FRI *)' --zone Europe/Berlin
  hearth schedule add once hello 'at(2027-01-01T00:00:00)' --input '{\"name\":\"2027\"}'
  hearth schedule list
  hearth schedule rm tidy")]
pub(crate) enum ScheduleCommand {
    /// Make a schedule that runs a function
    Add(AddArgs),
    /// List schedules
    List(ListArgs),
    /// Remove a schedule
    Rm(RmArgs),
}

/// What `hearth schedule add` can be told.
#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// The schedule's name
    name: String,
    /// The function: a name, or name:qualifier
    function: String,
    /// When: cron(...), rate(...) or at(...)
    expression: String,
    /// The time zone that it is read in
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// The event, JSON
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// How late a run may be that was missed, minutes
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1440))]
    window: Option<u32>,
    #[command(flatten)]
    server: ServerArgs,
}

/// What `hearth schedule list` can be told.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// What `hearth schedule rm` can be told.
#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// The schedule's name
    name: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(command: &ScheduleCommand) -> anyhow::Result<ExitCode> {
    match command {
        ScheduleCommand::Add(args) => add(args),
        ScheduleCommand::List(args) => list(args),
        ScheduleCommand::Rm(args) => rm(args),
    }
}

fn add(args: &AddArgs) -> anyhow::Result<ExitCode> {
    let client = args.server.client()?;
    let path = format!("/2015-03-31/functions/{}/configuration", segment(&args.function));
    let function = client.get(&path)?.into_success("find the function")?.json()?;
    let window = match args.window {
        Some(minutes) => json!({"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes}),
        None => json!({"Mode": "OFF"}),
    };
    let mut target = json!({"Arn": function["FunctionArn"], "RoleArn": function["Role"]});
    if let Some(input) = &args.input {
        target["Input"] = input.as_str().into();
    }
    let body = json!({
        "ScheduleExpression": args.expression,
        "ScheduleExpressionTimezone": args.zone,
        "FlexibleTimeWindow": window,
        "Target": target,
    });
    let path = format!("/schedules/{}", segment(&args.name));
    let made = client.post_json(&path, &body)?.into_success("make the schedule")?.json()?;
    terminal::line(printable(made["ScheduleArn"].as_str().unwrap_or("-")))?;
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let client = args.server.client()?;
    let mut schedules: Vec<Value> = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let query = next.map_or_else(String::new, |token| format!("?NextToken={}", segment(&token)));
        let page = client.get(&format!("/schedules{query}"))?.into_success("list the schedules")?.json()?;
        for schedule in page["Schedules"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let text = |key: &str| segment(schedule[key].as_str().unwrap_or_default());
            let path = format!("/schedules/{}?groupName={}", text("Name"), text("GroupName"));
            let whole = client.get(&path)?;
            // Deleted in between.
            if let Ok(whole) = whole.into_success("read a schedule") {
                schedules.push(whole.json()?);
            }
        }
        next = page["NextToken"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    if args.json {
        terminal::line(format_args!("{:#}", Value::Array(schedules)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = schedules.iter().map(row).collect();
    terminal::bytes(render(&["NAME", "GROUP", "STATE", "WHEN", "ZONE", "FUNCTION"], &rows).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn row(schedule: &Value) -> Vec<String> {
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let arn = text(&schedule["Target"]["Arn"]);
    vec![
        text(&schedule["Name"]),
        text(&schedule["GroupName"]),
        text(&schedule["State"]),
        text(&schedule["ScheduleExpression"]),
        text(&schedule["ScheduleExpressionTimezone"]),
        arn.split_once(":function:").map_or_else(|| arn.clone(), |(_, name)| name.to_owned()),
    ]
}

fn rm(args: &RmArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/schedules/{}", segment(&args.name));
    args.server.client()?.delete(&path)?.into_success("remove the schedule")?;
    Ok(ExitCode::SUCCESS)
}
