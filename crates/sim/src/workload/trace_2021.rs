//! Traces in the shape of the Azure Functions trace of 2021: one CSV file, one line an invocation, with the columns
//! `app`, `func`, `end_timestamp` and `duration`, both in seconds. Source: `AzureFunctionsInvocationTrace2021.md` in the
//! repository Azure/AzurePublicDataset on GitHub.
//!
//! Memory is not in it: every function gets the generator's median. Every app is an account.

use std::path::Path;
use std::sync::Arc;

use hearth_types::Concurrency;

use super::arrivals::Arrivals;
use super::durations::Durations;
use super::generate::MEDIAN_MEMORY_MB;
use super::lines::{InputError, Table};
use super::{Function, MAX_FUNCTIONS, Numbers, Workload};
use crate::units::{SECOND, whole};

/// Most invocations: 16 bytes each.
const MAX_INVOCATIONS: usize = 50_000_000;
/// Latest moment, seconds from the start of the trace: 31 days.
const LATEST: f64 = 31.0 * 86_400.0;

/// One function on the way.
struct Found {
    name: Arc<str>,
    account: u32,
    /// Start and duration, microseconds.
    requests: Vec<(u64, u64)>,
}

/// Reads the file.
///
/// # Errors
/// When it cannot be read or is not in the shape described, with line and column.
pub fn read(file: &Path) -> Result<Workload, InputError> {
    let mut table = Table::open(file)?;
    let (app, func) = (table.column("app")?, table.column("func")?);
    let (end, duration) = (table.column("end_timestamp")?, table.column("duration")?);
    let mut accounts = Numbers::<Box<str>>::default();
    let mut numbers = Numbers::<(u32, Box<str>)>::default();
    let mut found: Vec<Found> = Vec::new();
    let (mut invocations, mut latest) = (0, 0);
    while table.next_line()? {
        let ended = table.number(end, 0.0..=LATEST, "a time in seconds")?;
        let ran = table.number(duration, 0.0..=LATEST, "a duration in seconds")?;
        let account = accounts.of(table.text(app)?.into());
        let name = table.text(func)?;
        let number = numbers.of((account, name.into())) as usize;
        if number == found.len() {
            let name = name.chars().take(16).collect::<String>().into();
            found.push(Found { name, account, requests: Vec::new() });
        }
        // A request that ran when the trace began starts with it.
        let start = whole((ended - ran).max(0.0) * 1e6);
        latest = latest.max(start);
        found[number].requests.push((start, whole(ran * 1e6)));
        invocations += 1;
        if invocations > MAX_INVOCATIONS || found.len() > MAX_FUNCTIONS as usize {
            let problem =
                format!("more than {MAX_INVOCATIONS} invocations or {MAX_FUNCTIONS} functions; cut the file");
            return Err(table.wrong_line(&problem));
        }
    }
    let functions = found.into_iter().map(|mut found| {
        found.requests.sort_unstable();
        Function {
            name: found.name,
            account: found.account,
            memory_mb: MEDIAN_MEMORY_MB,
            arrivals: Arrivals::Recorded(found.requests.into()),
            durations: Durations::fixed(0),
            concurrency: Concurrency::default(),
            reserved: None,
            provisioned: 0,
        }
    });
    // Whole seconds, and past the last request's start.
    let end = (latest / 1_000_000 + 1) * SECOND;
    Ok(Workload { functions: functions.collect(), end, origin: format!("2021 trace {}", file.display()) })
}
