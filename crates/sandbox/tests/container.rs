//! The container driver with real sandboxes.
//!
//! Without the usual harness, as this program is also the zygote that it tests with.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "clippy knows tests by the attribute that this harness does without"
)]

#[path = "container/adapt.rs"]
mod adapt;
#[path = "common/conformance.rs"]
mod conformance;
#[path = "container/image.rs"]
mod image;
#[path = "container/pause.rs"]
mod pause;
#[path = "container/remains.rs"]
mod remains;
#[path = "container/walls.rs"]
mod walls;
#[path = "common/world.rs"]
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use hearth_sandbox::{Container, ContainerConfig, Driver, Recovered, ZYGOTE_ARGUMENT, zygote_main};
use libtest_mimic::{Arguments, Trial};

/// Sandboxes that are made at once.
const MANY: usize = 100;

/// The driver that the tests are of.
async fn open(name: &str, directory: &Path) -> (Arc<dyn Driver>, Recovered) {
    let config = ContainerConfig {
        name: name.to_owned(),
        directory: directory.to_owned(),
        program: std::env::current_exe().unwrap(),
        resolvers: Vec::new(),
    };
    let (driver, recovered) = Container::open(config).await.unwrap();
    (Arc::new(driver), recovered)
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == ZYGOTE_ARGUMENT) {
        return zygote_main();
    }
    let mut arguments = Arguments::from_args();
    // Each looks at processes and mounts of the whole machine.
    arguments.test_threads = Some(1);
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(conformance::trials());
    trials.extend(adapt::trials());
    trials.extend(walls::trials());
    trials.extend(image::trials());
    trials.extend(pause::trials());
    trials.extend(remains::trials());
    if !rustix::process::geteuid().is_root() {
        println!("skipped: the container driver's tests need root");
        trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
