//! `hearth runtime`: which languages this machine can run, and adding one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hearth_runtimes::{Catalog, RuntimeState};
use hearth_types::Runtime;

use crate::cli::runtimes_home;
use crate::table::render;
use crate::terminal;

/// What `hearth runtime` can be told.
#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// List the runtimes and what each still needs
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        home: HomeArgs,
    },
    /// Install what a runtime needs besides its interpreter, pinned by hash
    #[command(after_help = "Example:\n  hearth runtime add python3.12")]
    Add {
        /// The runtimes, such as python3.12 or nodejs22.x
        #[arg(required = true)]
        runtimes: Vec<Runtime>,
        #[command(flatten)]
        home: HomeArgs,
    },
}

/// Where clients are installed.
#[derive(Args, Clone, Debug)]
pub(crate) struct HomeArgs {
    /// The folder that holds the runtimes' clients [default: per machine for root, else per user]
    #[arg(long = "runtimes", env = "HEARTH_RUNTIMES", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
}

pub(crate) fn run(command: &RuntimeCommand) -> anyhow::Result<ExitCode> {
    match command {
        RuntimeCommand::List { json, home } => {
            let listed = Catalog::open(runtimes_home(home.home.as_ref())).list();
            if *json {
                terminal::line(serde_json::to_string_pretty(&listed)?)?;
                return Ok(ExitCode::SUCCESS);
            }
            let rows: Vec<Vec<String>> = listed
                .iter()
                .map(|runtime| {
                    let (state, detail) = match &runtime.state {
                        RuntimeState::Ready { interpreter, .. } => (
                            "ready",
                            interpreter.as_ref().map_or_else(String::new, |path| path.display().to_string()),
                        ),
                        RuntimeState::NeedsClient { fix, .. } => ("needs client", fix.clone()),
                        RuntimeState::NoInterpreter { fix } => ("not here", fix.clone()),
                    };
                    vec![runtime.name.to_string(), state.to_owned(), detail]
                })
                .collect();
            terminal::bytes(render(&["RUNTIME", "STATE", "INTERPRETER OR WHAT TO DO"], &rows).as_bytes())?;
        }
        RuntimeCommand::Add { runtimes, home } => {
            let catalog = Catalog::open(runtimes_home(home.home.as_ref()));
            for runtime in runtimes {
                catalog.add(runtime, &mut |step| terminal::tell(format_args!("{runtime}: {step}")))?;
                terminal::line(format_args!("{runtime} is ready"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
