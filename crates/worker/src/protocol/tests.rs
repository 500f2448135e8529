use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// A parked call of a test: its number, and whether its caller has hung up.
#[derive(Clone, Debug)]
struct Call(Rc<Cell<bool>>);

impl Call {
    fn new() -> Self {
        Self(Rc::new(Cell::new(false)))
    }
}

impl Waiter for Call {
    fn is_gone(&self) -> bool {
        self.0.get()
    }
}

type Tested = Protocol<Call, Call>;

fn invoke_only(name: &str) -> Registration {
    Registration { name: name.to_owned(), events: vec![ExtensionEvent::Invoke] }
}

#[test]
fn an_answer_is_taken_once_and_only_for_the_invocation_in_hand() {
    let mut protocol = Tested::new(1, Vec::new());
    let id = RequestId::random();
    assert_eq!(protocol.begin_answer(&id.to_string()), Err(Refusal::InvalidRequestId), "before next");
    protocol.invoke(id);
    protocol.next(Call::new()).unwrap();
    assert_eq!(protocol.deliver().unwrap().id, id);
    assert_eq!(protocol.next(Call::new()), Err(Refusal::InvalidStateTransition), "next instead of an answer");
    for wrong in ["", "x", &RequestId::random().to_string()] {
        assert_eq!(protocol.begin_answer(wrong), Err(Refusal::InvalidRequestId));
    }
    assert_eq!(protocol.begin_answer(&id.to_string()), Ok(id));
    assert_eq!(protocol.begin_answer(&id.to_string()), Err(Refusal::InvalidStateTransition), "while posted");
    protocol.broke_off(id);
    assert_eq!(protocol.begin_answer(&id.to_string()), Ok(id), "after it broke off");
    protocol.answered(id);
    assert_eq!(protocol.begin_answer(&id.to_string()), Err(Refusal::InvalidStateTransition), "twice");
    assert_eq!(protocol.init_error(), Err(Refusal::InvalidStateTransition), "after init");
}

#[test]
fn a_second_next_is_refused_unless_the_first_caller_hung_up() {
    let mut protocol = Tested::new(1, Vec::new());
    let first = Call::new();
    protocol.next(first.clone()).unwrap();
    assert_eq!(protocol.next(Call::new()), Err(Refusal::InvalidStateTransition));
    first.0.set(true);
    assert_eq!(protocol.next(Call::new()), Ok(()));
}

#[test]
fn the_next_invocation_waits_until_extensions_are_done_with_the_last() {
    let mut protocol = Tested::new(1, Vec::new());
    protocol.register(invoke_only("watcher"), "e".to_owned()).unwrap();
    protocol.next(Call::new()).unwrap();
    assert!(!protocol.initialized(), "the extension has not asked yet");
    assert!(protocol.extensions.next("e", Call::new()).unwrap().is_none());
    assert!(protocol.initialized());
    assert_eq!(protocol.register(invoke_only("late"), "l".to_owned()), Err(Refusal::RegistrationClosed));
    let (first, second) = (RequestId::random(), RequestId::random());
    protocol.invoke(first);
    assert_eq!(protocol.deliver().unwrap().extensions.len(), 1);
    protocol.begin_answer(&first.to_string()).unwrap();
    protocol.answered(first);
    protocol.next(Call::new()).unwrap();
    protocol.invoke(second);
    assert!(protocol.deliver().is_none(), "the extension is still at work");
    assert!(protocol.extensions.next("e", Call::new()).unwrap().is_none());
    assert_eq!(protocol.deliver().unwrap().id, second);
}

#[test]
fn external_extensions_come_first_and_internal_ones_hear_of_no_shutdown() {
    let mut protocol = Tested::new(1, vec!["outer".to_owned()]);
    assert_eq!(protocol.register(invoke_only("other"), "o".to_owned()), Err(Refusal::InvalidExtensionName));
    let shutdown =
        |name: &str| Registration { name: name.to_owned(), events: vec![ExtensionEvent::Shutdown] };
    protocol.register(shutdown("outer"), "outer-id".to_owned()).unwrap();
    assert!(protocol.extensions.all_registered());
    assert_eq!(
        protocol.register(shutdown("outer"), "x".to_owned()),
        Err(Refusal::ExtensionAlreadyRegistered)
    );
    assert_eq!(protocol.register(shutdown("inner"), "x".to_owned()), Err(Refusal::InvalidEventType));
    protocol.register(invoke_only("inner"), "inner-id".to_owned()).unwrap();
    for n in 0..8 {
        protocol.register(invoke_only(&format!("more-{n}")), n.to_string()).unwrap();
    }
    assert_eq!(protocol.register(invoke_only("eleventh"), "x".to_owned()), Err(Refusal::TooManyExtensions));
    assert_eq!(protocol.extensions.next("", Call::new()).unwrap_err(), Refusal::MissingExtensionIdentifier);
    assert_eq!(
        protocol.extensions.next("nobody", Call::new()).unwrap_err(),
        Refusal::UnknownExtensionIdentifier
    );
    protocol.extensions.next("outer-id", Call::new()).unwrap();
    protocol.extensions.next("inner-id", Call::new()).unwrap();
    protocol.close();
    assert_eq!(protocol.extensions.take_for_shutdown().len(), 1, "only the external one is told");
}

#[derive(Clone, Debug)]
enum Step {
    Next,
    HangUp(usize),
    Invoke,
    Begin(usize),
    BreakOff(usize),
    Finish(usize),
    ExtensionNext,
    InitError,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Next),
        1 => any::<usize>().prop_map(Step::HangUp),
        6 => Just(Step::Invoke),
        6 => any::<usize>().prop_map(Step::Begin),
        1 => any::<usize>().prop_map(Step::BreakOff),
        6 => any::<usize>().prop_map(Step::Finish),
        4 => Just(Step::ExtensionNext),
        1 => Just(Step::InitError),
        1 => Just(Step::Close),
    ]
}

proptest! {
    /// Whatever is called in whatever order: no slot is passed, nothing is delivered twice or answered twice, and nothing is
    /// delivered to a call whose caller has gone.
    #[test]
    fn no_order_of_calls_breaks_the_rules(
        slots in 1_u32..4,
        with_extension in any::<bool>(),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut protocol = Tested::new(slots, Vec::new());
        if with_extension {
            protocol.register(invoke_only("watcher"), "e".to_owned()).unwrap();
        }
        let mut calls = Vec::new();
        let mut all: Vec<RequestId> = Vec::new();
        let (mut delivered, mut posting, mut answered) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut closed = false;
        let pick = |all: &Vec<RequestId>, at: usize| (!all.is_empty()).then(|| all[at % all.len()]);
        for step in steps {
            match step {
                Step::Next => {
                    let call = Call::new();
                    if protocol.next(call.clone()).is_ok() {
                        calls.push(call);
                    }
                }
                Step::HangUp(at) if !calls.is_empty() => calls[at % calls.len()].0.set(true),
                Step::HangUp(_) => {}
                Step::Invoke => {
                    let id = RequestId::random();
                    protocol.invoke(id);
                    all.push(id);
                }
                Step::Begin(at) => if let Some(id) = pick(&all, at) {
                    let allowed = protocol.begin_answer(&id.to_string()).is_ok();
                    let free = delivered.contains(&id) && !posting.contains(&id) && !answered.contains(&id);
                    prop_assert_eq!(allowed, free);
                    if allowed { posting.insert(id); }
                },
                Step::BreakOff(at) => if let Some(id) = pick(&all, at).filter(|id| posting.contains(id)) {
                    protocol.broke_off(id);
                    posting.remove(&id);
                },
                Step::Finish(at) => if let Some(id) = pick(&all, at).filter(|id| posting.contains(id)) {
                    protocol.answered(id);
                    posting.remove(&id);
                    answered.insert(id);
                },
                Step::ExtensionNext => { let _ = protocol.extensions.next("e", Call::new()); }
                Step::InitError => { let _ = protocol.init_error(); }
                Step::Close => { protocol.close(); protocol.extensions.take_for_shutdown(); closed = true; }
            }
            while let Some(delivery) = protocol.deliver() {
                prop_assert!(!closed && !delivery.runtime.is_gone());
                prop_assert!(delivered.insert(delivery.id), "delivered twice");
            }
            prop_assert!(delivered.len() - answered.len() <= usize::try_from(slots).unwrap());
        }
    }
}
