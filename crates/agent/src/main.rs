//! The first process of a micro-VM: it makes the machine a place for one function, and speaks with the worker.
//!
//! A static program in the initramfs. It mounts the root, starts the function's processes as an ordinary user, and relays
//! between them and the worker: connections to the Runtime API's address, what processes write, connections to their ports.
//! It knows nothing of Lambda. One thread, one loop over `epoll`; every buffer is bounded by the credit that `hearth-wire`
//! gives. Whatever goes wrong ends it, and the machine with it: the worker sees that and makes another.
//!
//! | file | what it owns |
//! |---|---|
//! | `boot` | from the first instruction to a root with /proc, /sys and /dev |
//! | `link` | the byte stream to the worker: a virtio port or a vsock |
//! | `agent` | the loop, and what the worker's messages do |
//! | `relay` | connections between the function and the worker |
//! | `process` | the function's processes and their limits |
//! | `network` | the network device's address and way out, and whom to ask for names |
//! | `configure` | what makes a machine an instance: disks, host name, limits |
//! | `image` | an image as the root of the function's processes |
//! | `sys` | system calls without a safe form |

mod agent;
mod boot;
mod configure;
mod image;
mod link;
mod network;
mod process;
mod relay;
mod sys;

use std::io;
use std::process::ExitCode;

use agent::Agent;

/// A step that failed, and how.
#[derive(Debug)]
struct Failed {
    /// An infinitive.
    step: String,
    error: io::Error,
}

/// Names the step of a result.
fn step<T>(step: &str, result: Result<T, impl Into<io::Error>>) -> Result<T, Failed> {
    result.map_err(|error| Failed { step: step.to_owned(), error: error.into() })
}

fn run() -> Result<(), Failed> {
    boot::early()?;
    let link = link::open()?;
    boot::root()?;
    Agent::new(link)?.run()
}

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("hearth-agent is the first process of a micro-VM and nothing else");
        return ExitCode::FAILURE;
    }
    if let Err(Failed { step, error }) = run() {
        // To the console: the worker keeps its last lines.
        println!("hearth-agent: cannot {step}: {error}");
    }
    // A first process that just ends makes the kernel panic, which takes longer.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    ExitCode::FAILURE
}
