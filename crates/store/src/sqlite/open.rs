//! Opening the file: made with care, checked whole, never started over when something is wrong with it.
//!
//! A new database is made under another name and renamed when it is complete, so a file at the real name is
//! never half made: an empty or strange one there is damage. A marker beside it remembers that there was one, so
//! that a missing file is not taken for a first start.
//!
//! Somebody waits for a start, so a new database costs two waits for the disk: its content before its name, and its name before
//! the marker could be there without it. The marker itself reaches the disk in the kernel's own time, seconds later.
//!
//! All of a file is read for the check. So that this stays in proportion to what is in it, a file gives back what it no longer
//! needs: [`shrink`].

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Says in the file's header that it is Hearth's: "Hrth".
const APPLICATION_ID: i32 = 0x4872_7468;
/// A schema's versions, each the step from the one before; `user_version` counts those that were taken.
pub(super) type Migrations = &'static [&'static str];
/// The schema of functions.
pub(super) const FUNCTIONS: Migrations = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];
/// The schema of events.
pub(super) const EVENTS: Migrations = &[include_str!("schema/events-1.sql")];
/// What a SQLite file begins with, and where in it some numbers are. Source: sqlite.org/fileformat2.html.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER: usize = 100;
const PAGE_SIZE_AT: usize = 16;
const PAGES_AT: usize = 28;
const APPLICATION_ID_AT: usize = 68;
/// The log is cut back to this many bytes when it was longer.
const LOG_BYTES: i64 = 4 << 20;
/// What `PRAGMA auto_vacuum` calls a file that gives pages back when it is asked to. Source: sqlite.org/pragma.html.
const INCREMENTAL: i64 = 2;
/// Pages without content that a file keeps for what comes next: 16 MiB.
const FREE_PAGES: i64 = 4_096;
/// Pages given back at once: each may be written elsewhere first, and whoever comes meanwhile waits.
const SHRINK_PAGES: usize = 256;

/// Why the store cannot be opened. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There was a database, and now there is none.
    #[error(
        "database {path} is missing, though {evidence} shows that there was one: \
         restore it from a backup, or remove {evidence} to start with an empty one"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// The file that shows it.
        evidence: PathBuf,
    },
    /// The file is not a whole SQLite database.
    #[error(
        "database {path} is damaged ({problem}): restore it from a backup, \
         or move {path} and the files beside it whose names begin with its name away to start with an empty one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A SQLite database, but of another program.
    #[error(
        "{path} is a SQLite database, but not Hearth's (application id {application_id:#010x}): \
         move it away, or choose another data folder"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        application_id: i32,
    },
    /// Written by a later Hearth.
    #[error(
        "database {path} has schema {found}, and this hearth knows schemas up to {known}: \
         use the later hearth that wrote it, or restore a backup from before"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The latest schema of this program.
        known: usize,
    },
    /// Another process, or another store in this one, has it open.
    #[error("database {path} is in use by another process: stop that one first")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("cannot open database {path}: the disk is full; make room and start again")]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("cannot {step} {path}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// SQLite failed.
    #[error("cannot {step} database {path}")]
    Sqlite {
        /// What was being done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

pub(super) fn open(path: &Path, schema: Migrations) -> Result<Connection, OpenError> {
    let marker = beside(path, "-made");
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let traces = [&marker, &beside(path, "-wal")];
            if let Some(evidence) = traces.into_iter().find(|trace| trace.exists()) {
                return Err(OpenError::Missing { path: path.to_owned(), evidence: evidence.clone() });
            }
            create(path, schema)?;
        }
        Err(source) => return Err(io_error("find", path, source)),
    }
    check_file(path)?;
    let connection = check_pages(path, schema)?;
    let result = prepare(&connection, schema, "FULL");
    result.map_err(|error| sqlite_error("prepare", path, error))?;
    if !marker.exists() {
        let text = "Beside this file is Hearth's database. This file remembers that there was one.\n";
        fs::write(&marker, text).map_err(|error| io_error("write", &marker, error))?;
    }
    Ok(connection)
}

/// Gives some of a file's pages without content back to the disk, if there are many of them and more than there are others. Whether
/// it did: then there may be more. When there are no more and it `shrank`, what the log says of that goes into the file.
pub(super) fn shrink(connection: &Connection, shrank: bool) -> rusqlite::Result<bool> {
    let number = |pragma: &str| connection.pragma_query_one::<i64>(None, pragma);
    let free = number("freelist_count")?;
    if free <= FREE_PAGES || free <= number("page_count")? - free || number("auto_vacuum")? != INCREMENTAL {
        if shrank {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        return Ok(false);
    }
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({SHRINK_PAGES})"))?;
    // Each step gives one page.
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}

/// Makes a complete, empty database at `path`, or nothing.
fn create(path: &Path, schema: Migrations) -> Result<(), OpenError> {
    let draft = beside(path, "-new");
    remove_draft(&draft)?;
    let made = make(&draft, schema).map_err(|error| sqlite_error("make", path, error)).and_then(|()| {
        File::open(&draft)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&draft, path))
            .map_err(|error| io_error("make", path, error))
    });
    match made {
        Ok(()) => sync_directory(path),
        Err(error) => {
            remove_draft(&draft)?;
            Err(error)
        }
    }
}

fn make(draft: &Path, schema: Migrations) -> rusqlite::Result<()> {
    let connection = connect(draft, OpenFlags::SQLITE_OPEN_CREATE)?;
    // Nobody relies on a draft: its file is synced once, when it is whole.
    connection.pragma_update(None, "synchronous", "OFF")?;
    // Before anything else: it decides how pages are laid out.
    connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    prepare(&connection, schema, "OFF")?;
    connection.close().map_err(|(_, error)| error)
}

fn remove_draft(draft: &Path) -> Result<(), OpenError> {
    for suffix in ["", "-wal", "-journal"] {
        let file = beside(draft, suffix);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &file, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses what SQLite would not: it takes an empty file for a new database, and fills up a page that is cut off.
fn check_file(path: &Path) -> Result<(), OpenError> {
    let damaged = |problem: &str| OpenError::Damaged { path: path.to_owned(), problem: problem.to_owned() };
    let metadata = fs::metadata(path).map_err(|error| io_error("read", path, error))?;
    if !metadata.is_file() {
        return Err(damaged("it is not a file"));
    }
    let mut header = Vec::with_capacity(HEADER);
    File::open(path)
        .and_then(|file| file.take(HEADER as u64).read_to_end(&mut header))
        .map_err(|error| io_error("read", path, error))?;
    if header.is_empty() {
        return Err(damaged("it is empty"));
    }
    let Ok(header) = <[u8; HEADER]>::try_from(header) else {
        return Err(damaged("it is cut off within its header"));
    };
    if !header.starts_with(MAGIC) {
        return Err(damaged("it is not a SQLite database"));
    }
    let application_id = field(&header, APPLICATION_ID_AT).cast_signed();
    if application_id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned(), application_id });
    }
    // A log may hold pages that the file still lacks.
    let page = u64::from(field(&header, PAGE_SIZE_AT) >> 16);
    let pages = u64::from(field(&header, PAGES_AT));
    if !beside(path, "-wal").exists() && metadata.len() < page * pages {
        return Err(damaged("it is shorter than its header says"));
    }
    Ok(())
}

/// Four bytes of the header, big-endian as SQLite writes them.
fn field(header: &[u8; HEADER], at: usize) -> u32 {
    header[at..at + 4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Takes the file for this process and has SQLite check all of it, without writing.
fn check_pages(path: &Path, schema: Migrations) -> Result<Connection, OpenError> {
    // Closing must not move an existing log into a file that is refused.
    let keep_log = beside(path, "-wal").exists();
    let check = || -> rusqlite::Result<_> {
        let connection = connect(path, OpenFlags::empty())?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep_log)?;
        let taken: i64 = connection.pragma_query_one(None, "user_version")?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((connection, taken, verdict))
    };
    let (connection, found, verdict) = check().map_err(|error| sqlite_error("check", path, error))?;
    if verdict != "ok" {
        return Err(OpenError::Damaged { path: path.to_owned(), problem: verdict.replace('\n', " ") });
    }
    if usize::try_from(found).map_or(true, |found| found > schema.len()) {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known: schema.len() });
    }
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(|error| sqlite_error("set up", path, error))?;
    Ok(connection)
}

fn connect(path: &Path, extra: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | extra;
    let connection = Connection::open_with_flags(path, flags)?;
    // Whoever holds the file holds it for good: waiting would not help.
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    Ok(connection)
}

/// Sets the connection up, with `FULL` to lose nothing that was committed, and brings the schema up to date.
fn prepare(connection: &Connection, schema: Migrations, synchronous: &str) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()))?;
    let taken: usize = connection.pragma_query_one(None, "user_version")?;
    let vacuum: i64 = connection.pragma_query_one(None, "auto_vacuum")?;
    if taken > 0 && vacuum != INCREMENTAL {
        // Made before databases gave anything back: only a copy of the whole can change that.
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        if let Err(error) = connection.execute_batch("VACUUM") {
            tracing::warn!(%error, "a database is not made anew, and so will not become smaller");
        }
    }
    for (step, sql) in (1_i64..).zip(schema).skip(taken) {
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {sql}; PRAGMA user_version = {step}; COMMIT;"))?;
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| io_error("sync", parent, error))
}

fn io_error(step: &'static str, path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::DiskFull { path },
        _ => OpenError::Io { step, path, source },
    }
}

fn sqlite_error(step: &'static str, path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Damaged { path, problem: source.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path },
        Some(ErrorCode::DiskFull) => OpenError::DiskFull { path },
        _ => OpenError::Sqlite { step, path, source },
    }
}
