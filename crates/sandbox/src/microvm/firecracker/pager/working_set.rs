//! Which pages clones of a machine ask for: those that its first clone asked for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Machines whose working sets are kept; the one used longest ago is forgotten.
const MAX_SETS: usize = 64;
/// The most pages of one: a gibibyte.
const MAX_PAGES: usize = 1 << 18;

/// What a clone asked for, as it was noted.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pages: BTreeSet<u64>,
}

/// The pages of one saved machine: first page and how many, in order.
#[derive(Debug, Default)]
pub(super) struct WorkingSet {
    recorded: OnceLock<Vec<(u64, u64)>>,
    recording: AtomicBool,
}

/// A file, by its device and its number there.
type FileName = (u64, u64);

/// Those of all machines that were cloned of late, by the file that their memory is in.
#[derive(Debug, Default)]
pub(in super::super) struct WorkingSets(Mutex<Vec<(FileName, Arc<WorkingSet>)>>);

// === impl WorkingSets ===

impl WorkingSets {
    /// That of the machine whose memory is in this file.
    pub(super) fn of(&self, memory: &File) -> io::Result<Arc<WorkingSet>> {
        let about = memory.metadata()?;
        let name = (about.dev(), about.ino());
        let mut sets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sets.iter().position(|(other, _)| *other == name);
        let set = known.map_or_else(Arc::default, |place| sets.remove(place).1);
        sets.push((name, Arc::clone(&set)));
        if sets.len() > MAX_SETS {
            sets.remove(0);
        }
        Ok(set)
    }
}

// === impl WorkingSet ===

impl WorkingSet {
    /// What was recorded, if it was.
    pub(super) fn recorded(&self) -> Option<&[(u64, u64)]> {
        self.recorded.get().map(Vec::as_slice)
    }

    /// For the one clone that is to record it; nothing for those beside it.
    pub(super) fn record(&self) -> Option<Recorder> {
        (!self.recording.swap(true, Ordering::AcqRel)).then(Recorder::default)
    }

    /// Keeps what was noted.
    pub(super) fn finish(&self, recorder: Recorder) {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for page in recorder.pages {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == page => *count += 1,
                _ => runs.push((page, 1)),
            }
        }
        let pages: u64 = runs.iter().map(|(_, count)| count).sum();
        tracing::debug!(pages, runs = runs.len(), "recorded a working set");
        // Only one records.
        let _ = self.recorded.set(runs);
    }
}

// === impl Recorder ===

impl Recorder {
    /// A page was asked for.
    pub(super) fn note(&mut self, page: u64) {
        if self.pages.len() < MAX_PAGES {
            self.pages.insert(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_clone_records_and_later_ones_know() {
        let set = WorkingSet::default();
        let mut recorder = set.record().unwrap();
        assert!(set.record().is_none() && set.recorded().is_none());
        for page in [7, 3, 4, 5, 4, 9] {
            recorder.note(page);
        }
        set.finish(recorder);
        assert_eq!(set.recorded(), Some([(3, 3), (7, 1), (9, 1)].as_slice()));
    }

    #[test]
    fn sets_are_told_apart_by_their_file_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(directory.path().join(name)).unwrap();
        let sets = WorkingSets::default();
        let (a, b) = (file("a"), file("b"));
        let of_a = sets.of(&a).unwrap();
        assert!(!Arc::ptr_eq(&of_a, &sets.of(&b).unwrap()));
        assert!(Arc::ptr_eq(&of_a, &sets.of(&a).unwrap()));
        let others: Vec<File> = (0..MAX_SETS).map(|number| file(&number.to_string())).collect();
        for other in &others {
            sets.of(other).unwrap();
        }
        assert!(!Arc::ptr_eq(&of_a, &sets.of(&a).unwrap()), "it was forgotten");
    }
}
