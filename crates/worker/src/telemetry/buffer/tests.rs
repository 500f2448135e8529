use super::*;
use proptest::prelude::*;
use std::time::Duration;

const LIMITS: Buffering = Buffering { items: 3, bytes: 500, time: Duration::from_millis(50) };

const ROOM: usize = 700;

fn buffer(room: usize) -> (Buffer, Instant) {
    (Buffer::new(LIMITS, Arc::new(Room::new(room))), Instant::now())
}

fn put(buffer: &mut Buffer, now: Instant, bytes: usize) -> bool {
    buffer.offer(now, vec![b'x'; bytes].into())
}

#[test]
fn a_batch_is_due_when_its_oldest_is_old_enough_or_there_is_enough_of_it() {
    let (mut few, now) = buffer(5_000);
    assert_eq!(few.due(now), Due::Never);
    assert!(put(&mut few, now, 10));
    assert!(put(&mut few, now + LIMITS.time / 2, 10));
    assert_eq!(few.due(now), Due::At(now + LIMITS.time));
    assert_eq!(few.due(now + LIMITS.time), Due::Now);
    assert!(put(&mut few, now, 10));
    assert_eq!(few.due(now), Due::Now, "three are enough");
    let (mut large, now) = buffer(5_000);
    assert!(put(&mut large, now, 372));
    assert_eq!(large.due(now), Due::Now, "so many bytes are enough");
}

#[test]
fn what_does_not_fit_is_counted_and_said_with_the_next_batch() {
    let (mut full, now) = buffer(5_000);
    for _ in 0..6 {
        assert!(put(&mut full, now, 10));
    }
    let made = std::cell::Cell::new(0);
    let make = |line: &[u8]| {
        made.set(made.get() + 1);
        Bytes::copy_from_slice(line)
    };
    assert_eq!(full.offer_lines(now, &mut Lines::new(b"0123456789\n", make)), 1);
    assert_eq!(made.get(), 0, "it is not made where there is no room");
    assert!(!put(&mut full, now, 7));
    let batch = full.take();
    assert_eq!((batch.events.len(), batch.dropped), (6, Dropped { records: 2, bytes: 17 }));
    assert!(!put(&mut full, now, 1), "what is under way still counts");
    full.sent();
    assert!(put(&mut full, now, 1));
    assert_eq!(full.take().dropped, Dropped { records: 1, bytes: 1 });
}

#[test]
fn lines_that_find_no_room_are_counted_in_one_step_and_made_events_once_for_all() {
    let ((mut first, now), (mut second, _)) = (buffer(5_000), buffer(5_000));
    assert!(put(&mut second, now, 10) && put(&mut second, now, 10));
    let made = std::cell::Cell::new(0);
    let make = |line: &[u8]| {
        made.set(made.get() + 1);
        Bytes::copy_from_slice(line)
    };
    let mut lines = Lines::new(b"a\n\nbcd\n\n\ne\n\nfgh\n", make);
    assert_eq!(second.offer_lines(now, &mut lines), 4);
    assert_eq!((made.get(), first.offer_lines(now, &mut lines)), (4, 2));
    assert_eq!(made.get(), 6);
    let (first, second) = (first.take(), second.take());
    assert_eq!(first.events, ["a", "", "bcd", "", "", "e"]);
    assert_eq!(
        (first.dropped, second.dropped),
        (Dropped { records: 2, bytes: 3 }, Dropped { records: 4, bytes: 4 })
    );
    assert_eq!(second.events[2..], ["a", "", "bcd", ""]);
}

#[test]
fn a_batch_that_is_given_up_is_counted_with_what_it_was_to_say() {
    let (mut lossy, now) = buffer(5_000);
    assert!(put(&mut lossy, now, 10) && !put(&mut lossy, now, 900));
    let batch = lossy.take();
    lossy.given_up(batch.dropped);
    assert!(lossy.is_settled());
    assert_eq!(lossy.due(now), Due::Never);
    lossy.close();
    assert_eq!(lossy.due(now), Due::Now, "the loss itself is news in the end");
    assert!(!lossy.is_settled());
    let last = lossy.take();
    assert_eq!(last.dropped, Dropped { records: 2, bytes: 910 });
    assert!(!lossy.is_settled(), "it is under way");
    lossy.given_up(last.dropped);
    assert!(lossy.is_settled() && lossy.due(now) == Due::Never, "nobody listens");
}

#[test]
fn who_is_in_a_hurry_waits_for_nothing() {
    let (mut one, now) = buffer(5_000);
    one.hurry();
    assert!(put(&mut one, now, 10));
    assert_ne!(one.due(now), Due::Now, "there was nothing to hurry with");
    one.hurry();
    assert_eq!(one.due(now), Due::Now);
    one.take();
    one.sent();
    one.close();
    assert!(one.is_settled() && put(&mut one, now, 10));
    assert_eq!(one.due(now), Due::Now);
}

#[test]
fn subscribers_of_an_instance_share_its_room() {
    let room = Arc::new(Room::new(2 * (80 + 20) + 2 * OVERHEAD));
    let now = Instant::now();
    let mut first = Buffer::new(LIMITS, Arc::clone(&room));
    let mut second = Buffer::new(LIMITS, Arc::clone(&room));
    assert!(put(&mut first, now, 80) && !put(&mut second, now, 30) && put(&mut second, now, 20));
    drop(first);
    assert!(put(&mut second, now, 80));
    second.take();
    second.given_up(Dropped::default());
    drop(second);
    assert_eq!(room.used.load(Ordering::Relaxed), 0);
}

proptest! {
    #[test]
    fn no_event_is_lost_without_being_counted_and_no_bound_is_passed(
        steps in prop::collection::vec((0_u8..5, 0_usize..120), 0..200),
    ) {
        let (mut buffer, now) = buffer(ROOM);
        let (mut offered, mut arrived, mut said) = (0_u64, 0_u64, 0_u64);
        let mut under_way: Option<Batch> = None;
        for (step, bytes) in steps {
            match (step, under_way.take()) {
                (0 | 1, batch) => {
                    offered += 1;
                    put(&mut buffer, now, bytes);
                    under_way = batch;
                }
                (2, None) => under_way = Some(buffer.take()),
                (3, Some(batch)) => {
                    arrived += batch.events.len() as u64;
                    said += batch.dropped.records;
                    buffer.sent();
                }
                (_, Some(batch)) => drop(buffer.given_up(batch.dropped)),
                (_, None) => buffer.hurry(),
            }
            let bytes = buffer.waiting_bytes + buffer.under_way.1;
            let events = buffer.waiting.len() + buffer.under_way.0;
            prop_assert!(weight(events, bytes) <= 2 * LIMITS.bytes && share(events, bytes) <= ROOM);
            prop_assert!(events <= 2 * LIMITS.items);
            prop_assert_eq!(buffer.room.used.load(Ordering::Relaxed), share(events, bytes));
        }
        if let Some(batch) = under_way.take() {
            arrived += batch.events.len() as u64;
            said += batch.dropped.records;
            buffer.sent();
        }
        let dropped = buffer.dropped.records;
        prop_assert_eq!(offered, arrived + said + buffer.discard() as u64 + dropped);
        prop_assert_eq!(buffer.room.used.load(Ordering::Relaxed), 0);
    }
}
