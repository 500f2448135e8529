//! Which functions were deleted lately: a request that read its function before that may ask for a slot after it.
//!
//! Revisions of one store are numbered upwards over all functions, so one number tells those of a deleted function from those of
//! a later one of the same name.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hearth_types::{FunctionId, RevisionId, Time};

/// Longer than anybody has a request in hand before asking for its slot.
pub(crate) const KEEP: Duration = Duration::from_secs(900);
/// Deletions kept; those are forgotten first that happened first.
const MOST: usize = 10_000;

/// Deletions.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    newest: HashMap<FunctionId, u64>,
    order: VecDeque<(Time, FunctionId, u64)>,
}

impl Deleted {
    /// Takes note that a function is deleted whose newest revision that was.
    pub(crate) fn note(&mut self, now: Time, function: &FunctionId, newest: u64) {
        // What is told again, and late, changes nothing.
        if self.newest.get(function).is_none_or(|known| *known < newest) {
            self.newest.insert(function.clone(), newest);
            self.order.push_back((now, function.clone(), newest));
        }
        while let Some((time, _, _)) = self.order.front()
            && (self.order.len() > MOST || now - *time > KEEP)
        {
            let Some((_, function, newest)) = self.order.pop_front() else { break };
            // Unless one of the same name was deleted since.
            if self.newest.get(&function) == Some(&newest) {
                self.newest.remove(&function);
            }
        }
    }

    /// Whether it is one of a function that was deleted.
    pub(crate) fn has(&self, revision: &RevisionId) -> bool {
        self.newest.get(&revision.version.function).is_some_and(|newest| revision.number <= *newest)
    }
}

#[cfg(test)]
mod tests {
    use hearth_types::{Version, VersionId};

    use super::*;

    fn function(number: usize) -> FunctionId {
        FunctionId { account: "123456789012".parse().unwrap(), name: number.to_string().into() }
    }

    fn revision(function: FunctionId, number: u64) -> RevisionId {
        RevisionId { version: VersionId { function, version: Version::Latest }, number }
    }

    #[test]
    fn a_later_function_of_the_name_is_another() {
        let mut deleted = Deleted::default();
        deleted.note(Time::ZERO, &function(1), 7);
        assert!(deleted.has(&revision(function(1), 7)) && deleted.has(&revision(function(1), 1)));
        assert!(!deleted.has(&revision(function(1), 8)) && !deleted.has(&revision(function(2), 1)));
        deleted.note(Time::ZERO, &function(1), 3);
        assert!(
            deleted.has(&revision(function(1), 7)),
            "an older deletion that is told late changes nothing"
        );
    }

    #[test]
    fn no_more_are_kept_than_need_be() {
        let mut deleted = Deleted::default();
        for number in 0..=MOST {
            deleted.note(Time::ZERO, &function(number), 7);
        }
        assert_eq!((deleted.newest.len(), deleted.order.len()), (MOST, MOST));
        assert!(!deleted.has(&revision(function(0), 7)));
        deleted.note(Time::ZERO, &function(1), 9);
        deleted.note(Time::ZERO + KEEP, &function(2), 8);
        assert!(deleted.has(&revision(function(1), 9)));
        deleted.note(Time::ZERO + KEEP + Duration::from_nanos(1), &function(3), 8);
        assert_eq!((deleted.newest.len(), deleted.order.len()), (2, 2));
    }
}
