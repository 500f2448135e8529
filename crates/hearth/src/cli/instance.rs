//! `hearth instance`: one instance suspended, woken or ended by hand.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ServerArgs;
use crate::client::segment;
use crate::table::printable;
use crate::terminal;

/// What is done to an instance.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  hearth ps                                  lists instances
  hearth instance suspend 5f0c...            a micro-VM becomes a file, a container stands still; requests wake it
  hearth instance resume 5f0c...             wakes it without a request
  hearth instance terminate 5f0c...          ends it once its requests are answered")]
pub(crate) enum InstanceCommand {
    /// Have an idle instance give its memory back; the next request wakes it
    Suspend(InstanceArgs),
    /// Wake a suspended instance without a request
    Resume(InstanceArgs),
    /// End an instance once its requests are answered
    Terminate(InstanceArgs),
}

/// Which instance.
#[derive(Args, Debug)]
pub(crate) struct InstanceArgs {
    /// Its id, as `hearth ps --json` lists it
    instance: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(command: &InstanceCommand) -> anyhow::Result<ExitCode> {
    let (args, verb) = match command {
        InstanceCommand::Suspend(args) => (args, "suspend"),
        InstanceCommand::Resume(args) => (args, "resume"),
        InstanceCommand::Terminate(args) => (args, "terminate"),
    };
    let client = args.server.client()?;
    let path = format!("/_hearth/instances/{}", segment(&args.instance));
    let reply = match command {
        InstanceCommand::Suspend(_) | InstanceCommand::Resume(_) => {
            client.post(&format!("{path}/{verb}"), &[], &[])
        }
        InstanceCommand::Terminate(_) => client.delete(&path),
    };
    let name = printable(&args.instance);
    let reply = reply?.into_success(&format!("{verb} instance {name}"))?.json()?;
    terminal::line(format_args!(
        "{name} was {}; `hearth ps` says what it is now",
        reply["before"].as_str().unwrap_or("there")
    ))?;
    Ok(ExitCode::SUCCESS)
}
