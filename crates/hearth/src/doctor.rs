//! `hearth doctor`: what this machine can do, with proof, and what to do about each lack.
//!
//! A check tries the thing itself wherever it can: that a file exists or a device opens proves little.

mod checks;

pub(crate) use checks::{KVM_ARGUMENT, kvm_guest, kvm_runs, kvm_runs_as_noted};

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::runtime::HomeArgs;
use crate::cli::{default_listen, listen_address, runtimes_home};
use crate::terminal::{self, PrintError};

/// What `hearth doctor` can be told.
#[derive(Args, Debug)]
#[command(after_help = "Exits with 1 when functions cannot run here at all.")]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The address that a server is to listen on
    #[arg(long, env = "HEARTH_LISTEN", default_value_t = default_listen(), value_parser = listen_address)]
    listen: SocketAddr,
    /// The folder that a server is to keep its data in [default: where throw-away ones are]
    #[arg(long, env = "HEARTH_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    runtimes: HomeArgs,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Works.
    Good,
    /// Works less well, or is not needed now.
    Lacking,
    /// Functions cannot run without it.
    Missing,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Lacking => "lacking",
            Self::Missing => "missing",
        }
    }

    fn colored(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32mok\x1b[0m     ",
            Self::Lacking => "\x1b[33mlacking\x1b[0m",
            Self::Missing => "\x1b[31mmissing\x1b[0m",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// What.
    pub(crate) what: String,
    /// How it came out.
    pub(crate) verdict: Verdict,
    /// What was seen: the proof.
    pub(crate) proof: String,
    /// What to do about a lack.
    pub(crate) advice: Option<String>,
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let data = args.data.clone().unwrap_or_else(std::env::temp_dir);
    let findings = checks::all(args.listen, &data, runtimes_home(args.runtimes.home.as_ref()));
    if args.json {
        let list: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "what": finding.what,
                    "verdict": finding.verdict.as_str(),
                    "proof": finding.proof,
                    "advice": finding.advice,
                })
            })
            .collect();
        terminal::line(format_args!("{:#}", json!(list)))?;
    } else {
        print(&findings)?;
    }
    let fatal = findings.iter().any(|finding| finding.verdict == Verdict::Missing);
    Ok(if fatal { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(findings: &[Finding]) -> Result<(), PrintError> {
    let color = std::io::stdout().is_terminal();
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    for finding in findings {
        let verdict = if color {
            finding.verdict.colored().to_owned()
        } else {
            format!("{:<7}", finding.verdict.as_str())
        };
        terminal::line(format_args!("{verdict}  {:<width$}  {}", finding.what, finding.proof))?;
        if let Some(advice) = &finding.advice {
            terminal::line(format_args!("{:9}{:width$}  -> {advice}", "", ""))?;
        }
    }
    Ok(())
}
