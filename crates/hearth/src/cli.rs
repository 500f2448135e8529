//! The command line: what can be said, and where each command is carried out.

mod bench;
mod deploy;
mod events;
mod functions;
mod instance;
pub(crate) mod kernel;
mod key;
mod push;
pub(crate) mod runtime;
mod schedule;
mod sim;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use hearth_types::AccountId;

use crate::client::{Client, Identity};
use crate::{dev, doctor, terminal};

/// A serverless server: functions in, answers out, on machines you own.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hearth dev                              start a server on this machine
  hearth deploy examples/python-hello     make or update a function from a directory
  hearth invoke python-hello '{\"name\":\"Ada\"}'
  hearth logs python-hello -f             follow what it writes
  hearth ps                               see its instances come and go
  hearth doctor                           see what this machine can do";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every role in this process: a whole Hearth on this machine
    Dev(Box<dev::DevArgs>),
    /// Make or update a function from a directory, a zip archive or a container image
    Deploy(deploy::DeployArgs),
    /// Call a function and print its answer
    Invoke(functions::InvokeArgs),
    /// Print what a function's instances wrote
    Logs(functions::LogsArgs),
    /// List instances
    Ps(functions::PsArgs),
    /// List what waits to be run: events, by function and destination
    Events(events::EventsArgs),
    /// Suspend, wake or end one instance
    #[command(subcommand)]
    Instance(instance::InstanceCommand),
    /// Run functions at times: add, list and remove schedules
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Make, list, switch off and remove access keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Empty a worker: no new instances, idle ones end, busy ones finish
    Drain(functions::DrainArgs),
    /// Delete a function, its logs and its instances
    Rm(functions::RmArgs),
    /// Say what this machine can do, with proof, and what to do about each lack
    Doctor(doctor::DoctorArgs),
    /// List the language runtimes of this machine, or add one
    #[command(subcommand)]
    Runtime(runtime::RuntimeCommand),
    /// Add, list and remove the kernels that micro-VMs boot
    #[command(subcommand)]
    Kernel(kernel::KernelCommand),
    /// Simulate days of requests in minutes: which policy costs what, before it is deployed
    Sim(sim::SimArgs),
    /// Time what this machine does, beside what is published
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  hearth completions bash > ~/.local/share/bash-completion/completions/hearth"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Which server a command speaks to, and as whom.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// The server's address
    #[arg(long, env = "HEARTH_ENDPOINT", default_value = "http://127.0.0.1:9000", global = true)]
    endpoint: String,
    /// The account to act for, twelve digits; servers that ask for keys go by the key (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)
    #[arg(long, env = "HEARTH_ACCOUNT", global = true)]
    account: Option<AccountId>,
}

impl ServerArgs {
    /// Where a service of the server is reached: by its own name where that leads here, by a path elsewhere.
    pub(crate) fn service_url(&self, name: &str) -> String {
        let account = self.account.as_ref();
        let endpoint = self.endpoint.trim_end_matches('/');
        let port =
            ["http://127.0.0.1", "http://localhost"].iter().find_map(|here| endpoint.strip_prefix(here));
        match port.filter(|port| port.is_empty() || port.starts_with(':')) {
            Some(port) => {
                let account = account.map(|account| format!(".{account}")).unwrap_or_default();
                format!("http://{name}{account}.localhost{port}/")
            }
            None => format!("{endpoint}/_/{name}/"),
        }
    }

    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let identity = match (key::from_environment(), &self.account) {
            // One of Hearth's own is what a server asks for that has keys; an account is for servers that have none.
            (Some(Identity::Key(key, region)), account)
                if account.is_none() || key.key_id.starts_with("HRT") =>
            {
                Identity::Key(key, region)
            }
            (_, Some(account)) => Identity::Account(account.to_string()),
            (_, None) => Identity::Nobody,
        };
        Client::new(&self.endpoint, identity)
    }
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Dev(args) => dev::run(&args),
            Command::Deploy(args) => deploy::run(&args),
            Command::Invoke(args) => functions::invoke(&args),
            Command::Logs(args) => functions::logs(&args),
            Command::Ps(args) => functions::ps(&args),
            Command::Events(args) => events::run(&args),
            Command::Instance(command) => instance::run(&command),
            Command::Schedule(command) => schedule::run(&command),
            Command::Key(command) => key::run(&command),
            Command::Drain(args) => functions::drain(&args),
            Command::Rm(args) => functions::rm(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Runtime(command) => runtime::run(&command),
            Command::Kernel(command) => kernel::run(&command),
            Command::Sim(args) => sim::run(&args),
            Command::Bench(command) => bench::run(&command),
            Command::Completions { shell } => {
                // Into memory first: the generators panic where they cannot write.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "hearth", &mut script);
                terminal::bytes(&script)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The settings' types that several commands share.
pub(crate) fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9000))
}

/// Where to listen, as users write it.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    let named = port.map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        "it has to be an address and a port, as 127.0.0.1:9000, [::1]:9000 or localhost:9000; 0.0.0.0:9000 is all addresses of \
         this machine"
            .to_owned()
    })
}

/// A region by its form: ARNs with another one would not be taken back.
pub(crate) fn region(text: &str) -> Result<String, String> {
    let mut parts = text.rsplit('-');
    let number = parts.next().is_some_and(|part| part.len() == 1 && part.bytes().all(|b| b.is_ascii_digit()));
    let words: Vec<_> = parts.collect();
    let word = |part: &&str| part.len() >= 2 && part.bytes().all(|b| b.is_ascii_lowercase());
    if number && (2..=4).contains(&words.len()) && words.iter().all(word) {
        Ok(text.to_owned())
    } else {
        Err("a region looks like eu-central-1".to_owned())
    }
}

/// Where the runtimes' clients are installed, unless a flag says otherwise.
pub(crate) fn runtimes_home(flag: Option<&PathBuf>) -> PathBuf {
    flag.cloned().unwrap_or_else(hearth_runtimes::Catalog::default_home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn where_to_listen_is_an_address_and_a_port_or_localhost() {
        for (text, wanted) in [
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("[::1]:9", "[::1]:9"),
            ("localhost:9", "127.0.0.1:9"),
            ("0.0.0.0:0", "0.0.0.0:0"),
        ] {
            assert_eq!(listen_address(text), Ok(wanted.parse().unwrap()), "{text}");
        }
        for text in
            ["", "9000", ":9000", "localhost", "localhost:", "localhost:70000", "example.com:9", "127.0.0.1"]
        {
            assert!(listen_address(text).unwrap_err().contains("127.0.0.1:9000"), "{text}");
        }
    }

    #[test]
    fn a_region_has_the_form_of_one() {
        for good in ["us-east-1", "ap-southeast-4", "us-gov-west-1", "eusc-de-east-1"] {
            assert_eq!(region(good).as_deref(), Ok(good));
        }
        for bad in ["", "x y", "local", "us-east-", "US-EAST-1", "us-east-10", "-1", "us-1", "a-b-c-d-e-1"] {
            assert!(region(bad).is_err(), "{bad}");
        }
    }
}
