//! Sandboxes that are made before their function is known.

use super::*;
use crate::BlankState;

/// A story with at most so many of each kind.
fn story(blanks: u32) -> Story {
    Story::with(Config { blanks, ..Config::default() })
}

impl Story {
    fn after_millis(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.event(Event::TimePassed);
    }

    /// Blanks that were to be made since the last look, each placed and ready at once; other actions are dropped.
    fn makes_blanks(&mut self) -> Vec<InstanceId> {
        let made = |action: &Action| match action {
            Action::MakeBlank { blank, .. } => Some(*blank),
            Action::StartInstance { .. }
            | Action::EndInstance { .. }
            | Action::EndBlank { .. }
            | Action::HibernateInstance { .. }
            | Action::WakeInstance { .. }
            | Action::Grant { .. }
            | Action::Refuse { .. } => None,
        };
        let mut all = Vec::new();
        loop {
            let made: Vec<_> = self.take_actions().iter().filter_map(made).collect();
            if made.is_empty() {
                return all;
            }
            for &blank in &made {
                self.event(Event::Placed { instance: blank, worker: local() });
                self.event(Event::BlankReady { blank, worker: local() });
            }
            all.extend(made);
        }
    }

    fn ends_blanks(&mut self) -> Vec<InstanceId> {
        let ended = |action: Action| match action {
            Action::EndBlank { blank, .. } => Some(blank),
            Action::StartInstance { .. }
            | Action::EndInstance { .. }
            | Action::MakeBlank { .. }
            | Action::HibernateInstance { .. }
            | Action::WakeInstance { .. }
            | Action::Grant { .. }
            | Action::Refuse { .. } => None,
        };
        self.take_actions().into_iter().filter_map(ended).collect()
    }
}

#[test]
fn blanks_are_made_when_starts_have_come_to_rest_as_many_as_were_wanted_at_once() {
    let mut story = story(3);
    let _ = story.waits(spec("f", 1));
    let _ = story.waits(spec("g", 1));
    assert_eq!(story.makes_blanks(), [], "not while they start");
    story.after_millis(249);
    assert_eq!(story.makes_blanks(), []);
    story.after_millis(1);
    assert_eq!(story.makes_blanks().len(), 2);
    // One after the other needs no more than one, but what was wanted at once may be so again.
    story.after_millis(2_000);
    let _ = story.waits(spec("h", 1));
    story.after_millis(250);
    assert_eq!(story.makes_blanks(), []);
    assert!(story.manager.blanks().all(|blank| blank.state == BlankState::Ready));
}

#[test]
fn never_more_blanks_of_a_kind_are_made_than_the_settings_say_and_none_if_they_say_none() {
    for (most, made) in [(2, 2), (0, 0)] {
        let mut story = story(most);
        for number in 0..10 {
            let _ = story.waits(spec(&format!("f{number}"), 1));
        }
        story.after_millis(250);
        assert_eq!(story.makes_blanks().len(), made);
    }
}

#[test]
fn a_blank_that_was_taken_is_counted_and_made_again() {
    let mut story = story(1);
    let _ = story.waits(spec("f", 1));
    story.after_millis(250);
    let blank = story.makes_blanks()[0];
    assert!(story.manager.offers(blank));
    let _ = story.waits(spec("g", 1));
    story.event(Event::BlankTaken { blank });
    story.event(Event::BlankTaken { blank });
    assert_eq!((story.manager.savings().blanks, story.manager.blanks().count()), (1, 0));
    story.after_millis(250);
    assert_eq!(story.makes_blanks().len(), 1);
}

#[test]
fn blanks_are_the_first_to_go_when_memory_is_short_and_come_back_late() {
    let mut story = story(1);
    let _ = story.waits(spec("f", 1));
    let instance = story.started()[0];
    story.event(Event::InstanceReady { instance, worker: local(), initialized: true });
    story.after_millis(250);
    let blank = story.makes_blanks()[0];
    story.event(Event::MemoryShort { worker: local(), relief: Relief::Evict });
    assert_eq!(story.ends_blanks(), [blank], "and no instance with it");
    story.event(Event::BlankGone { blank });
    story.after_millis(9_999);
    assert_eq!(story.makes_blanks(), []);
    story.after_millis(1);
    assert_eq!(story.makes_blanks().len(), 1);
}

#[test]
fn a_blank_makes_room_for_an_instance_before_an_idle_one_does() {
    let mut story = story(1);
    let _ = story.waits(spec("f", 1));
    let instance = story.started()[0];
    story.event(Event::InstanceReady { instance, worker: local(), initialized: true });
    story.after_millis(250);
    let blank = story.makes_blanks()[0];
    story.after(60);
    let wait = story.waits(spec("g", 1));
    let other = story.started()[0];
    story.event(Event::PlacementFailed { instance: other, reason: "full".into(), room_may_come: true });
    let actions = story.take_actions();
    assert_eq!(actions, [Action::EndBlank { blank, worker: local() }]);
    story.event(Event::BlankGone { blank });
    let again = story.started()[0];
    story.event(Event::InstanceReady { instance: again, worker: local(), initialized: true });
    assert!(
        story
            .take_actions()
            .iter()
            .any(|action| matches!(action, Action::Grant { wait: granted, .. } if *granted == wait))
    );
}

#[test]
fn a_blank_that_is_still_being_made_makes_room_too() {
    let mut story = story(1);
    let _ = story.waits(spec("f", 1));
    let instance = story.started()[0];
    story.event(Event::InstanceReady { instance, worker: local(), initialized: true });
    story.after_millis(250);
    let Some(Action::MakeBlank { blank, .. }) = story.take_actions().pop() else { panic!("no blank") };
    story.event(Event::Placed { instance: blank, worker: local() });
    let _ = story.waits(spec("g", 1));
    let other = story.started()[0];
    story.event(Event::PlacementFailed { instance: other, reason: "full".into(), room_may_come: true });
    assert_eq!(story.take_actions(), [Action::EndBlank { blank, worker: local() }]);
}

#[test]
fn a_blank_that_cannot_be_made_is_tried_again_ever_later() {
    let mut story = story(1);
    let _ = story.waits(spec("f", 1));
    story.after_millis(250);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let blank = match &story.take_actions()[..] {
            [.., Action::MakeBlank { blank, .. }] => *blank,
            other => panic!("{other:?}"),
        };
        story.event(Event::Placed { instance: blank, worker: local() });
        story.event(Event::BlankGone { blank });
        let before = story.now;
        while story.actions.is_empty() {
            story.now = story.manager.next_deadline().unwrap();
            story.event(Event::TimePassed);
        }
        pauses.push((story.now - before).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16]);
}

#[test]
fn blanks_of_a_runtime_that_nobody_starts_any_more_end() {
    let mut story = story(2);
    let _ = story.waits(spec("f", 1));
    story.after_millis(250);
    let blank = story.makes_blanks();
    story.after(899);
    assert_eq!(story.ends_blanks(), []);
    story.after(2);
    assert_eq!(story.ends_blanks(), blank);
}

#[test]
fn a_server_that_stops_ends_its_blanks_also_those_not_placed_yet() {
    let mut story = story(2);
    let _ = story.waits(spec("f", 1));
    story.after_millis(250);
    let Some(Action::MakeBlank { blank, kind }) = story.take_actions().pop() else { panic!("no blank") };
    assert_eq!((kind.runtime.as_str(), kind.memory_mb), ("provided.al2023", 128));
    story.event(Event::Stopping);
    assert_eq!(story.ends_blanks(), []);
    story.event(Event::Placed { instance: blank, worker: local() });
    assert_eq!(story.ends_blanks(), [blank]);
    story.event(Event::BlankReady { blank, worker: local() });
    assert!(!story.manager.offers(blank));
}
