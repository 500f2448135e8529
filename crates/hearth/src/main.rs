//! The one binary of Hearth: the server in all its roles, and the command line that speaks to it.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod access_args;
mod acme;
mod aws_args;
mod cli;
mod client;
mod data_dir;
mod deploy;
mod dev;
mod doctor;
mod drivers;
mod event_args;
mod https;
mod local_image;
mod operator;
mod role;
mod seal_key;
mod secret_file;
mod stop_signals;
mod table;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The zygote must stay a small, single-threaded process: it is told apart before anything else is set up.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == hearth_sandbox::ZYGOTE_ARGUMENT) {
        return hearth_sandbox::zygote_main();
    }
    // Likewise a process of its own, which the check kills if it hangs.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == doctor::KVM_ARGUMENT) {
        let printed = terminal::line(doctor::kvm_guest());
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) if matches!(error.downcast_ref(), Some(terminal::PrintError::ReaderGone)) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            terminal::tell(format_args!("hearth: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
