//! The one binary of Hearth: the server in all its roles, and the command line that speaks to it.

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
mod local_image;
mod operator;
mod role;
mod seal_key;
mod table;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The zygote must stay a small, single-threaded process: it is told apart before anything else is set up.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == hearth_sandbox::ZYGOTE_ARGUMENT) {
        return hearth_sandbox::zygote_main();
    }
    // Likewise a process of its own, which the check kills if it hangs.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == doctor::KVM_ARGUMENT) {
        println!("{}", doctor::kvm_guest());
        return ExitCode::SUCCESS;
    }
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hearth: {error:#}");
            ExitCode::FAILURE
        }
    }
}
