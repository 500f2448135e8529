//! Floods, in virtual time, with room for a few instances only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;

const ROOM: usize = 10;
const START: Duration = Duration::from_millis(50);
const RUN: Duration = Duration::from_millis(100);
const SECONDS: u64 = 60;

/// What is yet to come, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Coming {
    Request { name: &'static str },
    Ready { instance: InstanceId },
    Done { lease: LeaseId, name: &'static str },
    Gone { instance: InstanceId },
    Clock,
}

/// One worker with room for [`ROOM`] instances, and its callers.
struct Machine {
    story: Story,
    coming: BinaryHeap<Reverse<(Time, u64, Coming)>>,
    number: u64,
    placed: usize,
    since: BTreeMap<WaitId, (&'static str, Time)>,
    waits: BTreeMap<&'static str, Vec<Duration>>,
    /// Its callers send the next request as soon as they have an answer.
    flooder: &'static str,
}

impl Machine {
    fn later(&mut self, after: Duration, coming: Coming) {
        self.number += 1;
        self.coming.push(Reverse((self.story.now + after, self.number, coming)));
    }

    fn request(&mut self, name: &'static str) {
        match self.story.acquire(spec(name, 1)) {
            Acquired::Leased(lease) => self.runs(&lease, name, Duration::ZERO),
            Acquired::Waiting(wait) => {
                self.since.insert(wait, (name, self.story.now));
            }
            Acquired::Refused(_) => self.refused(name),
        }
    }

    fn runs(&mut self, lease: &Lease, name: &'static str, waited: Duration) {
        self.waits.entry(name).or_default().push(waited);
        self.later(RUN, Coming::Done { lease: lease.id, name });
    }

    fn refused(&mut self, name: &'static str) {
        if name == self.flooder {
            self.later(START, Coming::Request { name });
        } else {
            self.waits.entry(name).or_default().push(Duration::from_secs(3_600));
        }
    }

    /// Does what the manager asks for, and what it asks for in answer, until it asks for nothing.
    fn carry_out(&mut self) {
        while !self.story.actions.is_empty() {
            for action in self.story.take_actions() {
                match action {
                    Action::StartInstance { instance, .. } if self.placed < ROOM => {
                        self.placed += 1;
                        self.story.placed(instance);
                        self.later(START, Coming::Ready { instance });
                    }
                    Action::StartInstance { instance, .. } => {
                        let reason = "full".to_owned();
                        self.story.event(Event::PlacementFailed { instance, reason, room_may_come: true });
                    }
                    Action::EndInstance { instance, .. } => {
                        self.later(Duration::from_millis(1), Coming::Gone { instance });
                    }
                    Action::HibernateInstance { .. }
                    | Action::WakeInstance { .. }
                    | Action::MakeBlank { .. }
                    | Action::EndBlank { .. } => {}
                    Action::Grant { wait, lease } => {
                        let (name, since) = self.since.remove(&wait).unwrap();
                        self.runs(&lease, name, self.story.now - since);
                    }
                    Action::Refuse { wait, .. } => {
                        let (name, _) = self.since.remove(&wait).unwrap();
                        self.refused(name);
                    }
                }
            }
        }
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((now, _, coming))) = self.coming.pop() else { return false };
        self.story.now = now;
        match coming {
            Coming::Request { name } => self.request(name),
            Coming::Ready { instance } => self.story.ready(instance),
            Coming::Done { lease, name } => {
                let Story { manager, actions, .. } = &mut self.story;
                manager.release(now, lease, LeaseOutcome::Reusable, actions);
                if name == self.flooder {
                    self.request(name);
                }
            }
            Coming::Gone { instance } => {
                self.placed -= 1;
                self.story.event(Event::InstanceGone { instance });
            }
            Coming::Clock => {
                self.story.event(Event::TimePassed);
                self.later(Duration::from_millis(20), Coming::Clock);
            }
        }
        self.carry_out();
        now < Time::ZERO + Duration::from_secs(SECONDS)
    }
}

/// The 99th percentile of what a modest function's callers wait and run, with so many callers of another.
fn p99(flood: usize) -> Duration {
    let mut machine = Machine {
        story: Story::new(),
        coming: BinaryHeap::new(),
        number: 0,
        placed: 0,
        since: BTreeMap::new(),
        waits: BTreeMap::new(),
        flooder: "flood",
    };
    machine.later(Duration::ZERO, Coming::Clock);
    for _ in 0..flood {
        machine.later(Duration::ZERO, Coming::Request { name: "flood" });
    }
    // Five requests a second, now and then two at once.
    for number in 0..SECONDS * 5 {
        let at = Duration::from_millis(1_000 + number * 200);
        for _ in 0..=u64::from(number % 50 == 0) {
            machine.later(at, Coming::Request { name: "modest" });
        }
    }
    while machine.step() {}
    let waits = machine.waits.get_mut("modest").unwrap();
    assert!(waits.len() as u64 >= SECONDS * 4, "{} answered", waits.len());
    waits.sort();
    waits[waits.len() * 99 / 100] + RUN
}

#[test]
fn a_flood_of_one_function_adds_no_more_than_a_tenth_to_the_p99_of_another() {
    let alone = p99(0);
    for flood in [20, 200, 900] {
        let flooded = p99(flood);
        assert!(flooded <= alone + alone / 10, "{flood} callers: {flooded:?}, {alone:?} without");
    }
}
