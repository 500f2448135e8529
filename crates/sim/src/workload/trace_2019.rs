//! Traces in the shape of the Azure Functions trace of 2019: a directory with three kinds of CSV files, told apart by
//! their headers. Source: `AzureFunctionsDataset2019.md` in the repository Azure/AzurePublicDataset on GitHub.
//!
//! | file | columns used |
//! |---|---|
//! | invocations | `HashOwner`, `HashApp`, `HashFunction`, then `1`, `2`, ...: how many in each minute |
//! | durations (if there) | the same names, `percentile_Average_0` to `_100`, in ms |
//! | memory (if there) | owner and app, the function if it has that column, `AverageAllocatedMb` |
//!
//! What a file does not know of a function is as in the generator's middle: 0.68 s and 170 MB.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_types::Concurrency;

use super::arrivals::Arrivals;
use super::durations::Durations;
use super::generate::{DURATION_SIGMA_WITHIN, MEDIAN_DURATION_NANOS, MEDIAN_MEMORY_MB};
use super::lines::{InputError, Table};
use super::{Function, MAX_FUNCTIONS, Numbers, Workload, memory_for};
use crate::units::{SECOND, whole};

/// Most minutes of a trace: two weeks.
const MAX_MINUTES: usize = 14 * 24 * 60;
/// Most invocations of a function in a minute.
const MAX_PER_MINUTE: u32 = 10_000_000;
/// Most minutes with invocations, over all functions: 8 bytes each.
const MAX_ENTRIES: usize = 100_000_000;
/// Most files that are looked at.
const MAX_FILES: usize = 100;
/// The percentiles of durations that are used.
const PERCENTILES: [&str; 7] = ["0", "1", "25", "50", "75", "99", "100"];

/// A function's names, in numbers: owner, app, function.
type Key = (u32, u32, u32);

/// The names of owners, apps and functions.
#[derive(Default)]
struct Names {
    numbers: Numbers<Box<str>>,
}

impl Names {
    fn key(&mut self, table: &Table, columns: [usize; 3]) -> Result<Key, InputError> {
        let mut number = |column| Ok::<_, InputError>(self.numbers.of(table.text(column)?.into()));
        Ok((number(columns[0])?, number(columns[1])?, number(columns[2])?))
    }
}

/// Reads the directory.
///
/// # Errors
/// When a file cannot be read or is not in the shape described, with its line and column.
pub fn read(directory: &Path) -> Result<Workload, InputError> {
    let mut files = Files::default();
    for path in csv_files(directory)? {
        files.sort_in(Table::open(&path)?, &path)?;
    }
    let Some(invocations) = files.invocations else {
        let problem = "no CSV file here has the columns HashFunction and 1 (invocations per minute)";
        return Err(InputError::whole(directory, problem));
    };
    let mut names = Names::default();
    let durations = files.durations.map(|table| read_durations(table, &mut names)).transpose()?;
    let memory = files.memory.map(|table| read_memory(table, &mut names)).transpose()?;
    let (durations, memory) = (durations.unwrap_or_default(), memory.unwrap_or_default());
    read_invocations(invocations, directory, &mut names, &durations, &memory)
}

fn csv_files(directory: &Path) -> Result<Vec<PathBuf>, InputError> {
    let unreadable = |source| InputError::Unreadable { file: directory.display().to_string(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(InputError::whole(directory, format!("more than {MAX_FILES} CSV files")));
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Default)]
struct Files {
    invocations: Option<Table>,
    durations: Option<Table>,
    memory: Option<Table>,
}

impl Files {
    /// Puts a table where its header says it belongs; tables of other shapes are left alone.
    fn sort_in(&mut self, table: Table, path: &Path) -> Result<(), InputError> {
        let has = |name| table.optional_column(name).is_some();
        let (place, kind) = if has("HashFunction") && has("1") {
            (&mut self.invocations, "invocations")
        } else if has("percentile_Average_50") {
            (&mut self.durations, "durations")
        } else if has("AverageAllocatedMb") {
            (&mut self.memory, "memory")
        } else {
            return Ok(());
        };
        if place.replace(table).is_some() {
            let problem = format!("a second file with {kind} in this directory; one day at a time is read");
            return Err(InputError::whole(path, problem));
        }
        Ok(())
    }
}

fn read_durations(mut table: Table, names: &mut Names) -> Result<HashMap<Key, Durations>, InputError> {
    let columns = [table.column("HashOwner")?, table.column("HashApp")?, table.column("HashFunction")?];
    let mut percentiles = [0; 7];
    for (column, name) in percentiles.iter_mut().zip(PERCENTILES) {
        *column = table.column(&format!("percentile_Average_{name}"))?;
    }
    let mut durations = HashMap::new();
    while table.next_line()? {
        let mut nanos = [0; 7];
        for (nanos, column) in nanos.iter_mut().zip(percentiles) {
            *nanos = whole(table.number(column, 0.0..=1e10, "a duration in ms")? * 1e6);
        }
        durations.insert(names.key(&table, columns)?, Durations::new(nanos));
        check_rows(&table, durations.len())?;
    }
    Ok(durations)
}

/// By function, or by app with the app in the function's place.
fn read_memory(mut table: Table, names: &mut Names) -> Result<HashMap<Key, u32>, InputError> {
    let (owner, app) = (table.column("HashOwner")?, table.column("HashApp")?);
    let columns = [owner, app, table.optional_column("HashFunction").unwrap_or(app)];
    let average = table.column("AverageAllocatedMb")?;
    let mut memory = HashMap::new();
    while table.next_line()? {
        let used = table.number(average, 0.0..=1e7, "memory in MB")?;
        memory.insert(names.key(&table, columns)?, memory_for(used));
        check_rows(&table, memory.len())?;
    }
    Ok(memory)
}

fn check_rows(table: &Table, rows: usize) -> Result<(), InputError> {
    if rows > MAX_FUNCTIONS as usize {
        return Err(table.wrong_line(&format!("more than {MAX_FUNCTIONS} functions")));
    }
    Ok(())
}

/// The columns `1`, `2`, ... in order.
fn minute_columns(table: &Table) -> Result<Vec<usize>, InputError> {
    let numbered = table.header().iter().enumerate();
    let mut columns: Vec<(u64, usize)> =
        numbered.filter_map(|(column, name)| Some((name.parse().ok()?, column))).collect();
    if columns.len() > MAX_MINUTES {
        return Err(table.wrong_line(&format!("more than {MAX_MINUTES} minutes (two weeks)")));
    }
    columns.sort_unstable();
    if columns.iter().zip(1..).any(|(&(minute, _), expected)| minute != expected) {
        let count = columns.len();
        let problem = format!("{count} columns are numbers; they must be 1, 2, 3 and so on, each once");
        return Err(table.wrong_line(&problem));
    }
    Ok(columns.into_iter().map(|(_, column)| column).collect())
}

fn read_invocations(
    mut table: Table,
    directory: &Path,
    names: &mut Names,
    durations: &HashMap<Key, Durations>,
    memory: &HashMap<Key, u32>,
) -> Result<Workload, InputError> {
    let columns = [table.column("HashOwner")?, table.column("HashApp")?, table.column("HashFunction")?];
    let minute_columns = minute_columns(&table)?;
    let mut functions = Vec::new();
    let mut accounts = Numbers::<u32>::default();
    let (mut minutes, mut entries) = (Vec::new(), 0);
    while table.next_line()? {
        minutes.clear();
        for (minute, &column) in (0_u32..).zip(&minute_columns) {
            let count = table.count(column, MAX_PER_MINUTE)?;
            if count > 0 {
                minutes.push((minute, count));
            }
        }
        entries += minutes.len();
        if entries > MAX_ENTRIES {
            return Err(table.wrong_line(&format!("more than {MAX_ENTRIES} minutes with invocations")));
        }
        let key = names.key(&table, columns)?;
        let (owner, app, _) = key;
        let known = memory.get(&key).or_else(|| memory.get(&(owner, app, app)));
        functions.push(Function {
            name: table.text(columns[2])?.chars().take(16).collect::<String>().into(),
            account: accounts.of(owner),
            memory_mb: known.copied().unwrap_or(MEDIAN_MEMORY_MB),
            arrivals: Arrivals::Minutes(Arc::from(minutes.as_slice())),
            durations: durations
                .get(&key)
                .copied()
                .unwrap_or_else(|| Durations::log_normal(MEDIAN_DURATION_NANOS, DURATION_SIGMA_WITHIN)),
            concurrency: Concurrency::default(),
            reserved: None,
            provisioned: 0,
        });
        check_rows(&table, functions.len())?;
    }
    let end = minute_columns.len() as u64 * 60 * SECOND;
    Ok(Workload { functions, end, origin: format!("2019 trace {}", directory.display()) })
}
