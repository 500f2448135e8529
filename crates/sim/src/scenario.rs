//! The file that describes a run, TOML: cluster, policies, starts, failures, functions. Everything has a default but
//! what is asked; keys that are not known are refused, with line and column.
//!
//! ```toml
//! hours = 24
//! seed = 7
//! policies = ["fixed:10m", "learned"]
//!
//! [cluster]            # workers, memory_mb, cpus, instances, memory_percent, cpu_percent, account_concurrency,
//! workers = 20         # blanks (sandboxes of each kind made ahead)
//!
//! [memory]             # what instances really use of theirs; without it, no worker is ever pressed
//! busy_percent = 60
//! idle_percent = 40
//! hibernating_percent = 5
//!
//! [starts]             # median, p99, end, failing_percent, repeated_percent (reports that come twice),
//! median = "250ms"     # init_failing_percent, of_blank_percent (of the time, of a blank), wake
//!
//! [[workers_die]]      # at, workers, back_after
//! at = "6h"
//! workers = 2
//!
//! [[slow_starts]]      # from, until, times
//! from = "12h"
//! until = "13h"
//! times = 10
//!
//! [generate]           # functions, requests
//! functions = 100
//! requests = 100000
//!
//! [[function]]         # name, rate, arrivals, duration, duration_p99, memory_mb, copies, concurrency, reserved,
//!                      # provisioned, account
//! name = "thumbnail"
//! rate = "5/s"
//! arrivals = "poisson" # or periodic, bursty, daily
//! duration = "120ms"
//! ```

mod file;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::cluster::{Cluster, Failure, Starts};
use crate::policy::Policy;
use crate::units::HOUR;
use crate::workload::generate::Generate;
use crate::workload::lines::InputError;
use crate::workload::{Function, MAX_FUNCTIONS, Workload};

/// Largest scenario file, bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// A run, described.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// For how long requests come, hours.
    pub hours: u32,
    /// What is compared.
    pub policies: Vec<Policy>,
    /// What serves.
    pub cluster: Cluster,
    /// How instances start.
    pub starts: Starts,
    /// What goes wrong.
    pub failures: Vec<Failure>,
    /// Functions and requests to generate, if any.
    pub generate: Option<(u32, u64)>,
    functions: Vec<Function>,
    name: String,
}

impl Default for Scenario {
    /// A day, the default cluster, and nothing asked.
    fn default() -> Self {
        Self {
            seed: 1,
            hours: 24,
            policies: Vec::new(),
            cluster: Cluster::default(),
            starts: Starts::default(),
            failures: Vec::new(),
            generate: None,
            functions: Vec::new(),
            name: String::new(),
        }
    }
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or says something that is not understood, with line and column.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let name = path.display().to_string();
        let unreadable = |source| InputError::Unreadable { file: name.clone(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(InputError::whole(path, format!("more than {MAX_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|&b| b == b'\n').count();
            InputError::Line { file: name.clone(), line: line as u64, problem: "it is not UTF-8".to_owned() }
        })?;
        Self::parse(&text, &name)
    }

    /// Understands a text; `name` is what errors call it.
    ///
    /// # Errors
    /// When it says something that is not understood, with line and column.
    pub fn parse(text: &str, name: &str) -> Result<Self, InputError> {
        let scenario = file::parse(text, name)?;
        let generated = scenario.generate.map_or(0, |(functions, _)| u64::from(functions));
        let total = generated + scenario.functions.len() as u64;
        if total > u64::from(MAX_FUNCTIONS) {
            let problem = format!("{total} functions in all; at most {MAX_FUNCTIONS} are allowed");
            return Err(InputError::whole(Path::new(name), problem));
        }
        Ok(scenario)
    }

    /// Whether any function is described or to be generated.
    #[must_use]
    pub const fn asks_anything(&self) -> bool {
        self.generate.is_some() || !self.functions.is_empty()
    }

    /// The functions that are described and those to be generated.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let end = u64::from(self.hours) * HOUR;
        let origin = format!("scenario {}", self.name);
        let mut workload = Workload { functions: self.functions.clone(), end, origin };
        if let Some((functions, requests)) = self.generate {
            let generate = Generate { functions, requests, hours: self.hours, seed: self.seed };
            let generated = generate.workload();
            let after = workload.functions.iter().map(|function| function.account + 1).max().unwrap_or(0);
            if workload.functions.is_empty() {
                workload.origin = generated.origin;
            }
            workload.functions.extend(
                generated
                    .functions
                    .into_iter()
                    .map(|function| Function { account: function.account + after, ..function }),
            );
        }
        workload
    }
}
