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
#[path = "common/image.rs"]
mod image;
#[path = "common/image_users.rs"]
mod image_users;
#[path = "container/limits.rs"]
mod limits;
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

/// Whether a sandbox has a kernel of its own, which bounds what its programs can do to others.
const OWN_KERNEL: bool = false;
/// Sandboxes that are made at once.
const MANY: usize = 100;
/// Says that this is a machine of the tests' own, and which: `cgroup2` has no other cgroups, and in `delegated` this process is not
/// root there, in a group that is its own.
const TEST_HOST: &str = "HEARTH_TEST_HOST";
/// What takes an emulated machine long, and is the same whatever cgroups there are.
const LONG: [&str; 2] =
    ["many_sandboxes_are_made_at_once", "prepared_disks_are_few_however_many_sandboxes_and_sizes_there_were"];
/// What must hold without root, where groups are delegated.
const DELEGATED: [&str; 6] = [
    "a_program_runs_and_its_status_and_output_are_seen",
    "a_memory_hog_is_killed_and_counted_and_its_neighbour_lives",
    "a_fork_bomb_is_bounded_and_ends_with_its_sandbox",
    "a_program_that_ignores_sigterm_is_ended_by_destroy",
    "a_paused_counter_stands_still_and_goes_on_when_it_is_resumed",
    "each_limit_is_set_where_the_kernel_keeps_it",
];

fn test_host(name: &str) -> bool {
    std::env::var(TEST_HOST).is_ok_and(|host| host == name)
}

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
    if conformance::was_inside() {
        return ExitCode::SUCCESS;
    }
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
    trials.extend(image_users::trials());
    trials.extend(pause::trials());
    trials.extend(remains::trials());
    trials.extend(limits::trials());
    if test_host("cgroup2") {
        trials.retain(|trial| !LONG.contains(&trial.name()));
    }
    if test_host("delegated") {
        trials.retain(|trial| DELEGATED.contains(&trial.name()));
    } else if !rustix::process::geteuid().is_root() {
        println!("skipped: the container driver's tests need root");
        trials = trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect();
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
