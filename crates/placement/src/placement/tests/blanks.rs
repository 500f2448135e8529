//! Instances made of blanks.

use hearth_types::BlankKind;

use super::*;

fn kind() -> BlankKind {
    BlankKind { runtime: "python3.13".parse().unwrap(), memory_mb: 128 }
}

fn blank(placement: &mut Placement, number: u64) -> WorkerId {
    let blank = InstanceId::new(9, number);
    let worker = placement.place_blank(NOW, blank, &kind()).unwrap();
    placement.handle(NOW, Event::BlankReady { blank, kind: kind() });
    worker
}

fn promised(placement: &Placement) -> u64 {
    placement.workers().map(|worker| worker.memory_promised_mb).sum()
}

#[test]
fn an_instance_goes_where_a_blank_is_and_takes_over_its_promise() {
    let mut placement = Placement::new();
    join(&mut placement, "a", capacity(4096));
    join(&mut placement, "b", capacity(4096));
    let workers: std::collections::BTreeSet<_> = (1..4).map(|number| blank(&mut placement, number)).collect();
    assert_eq!(workers.len(), 2, "blanks of a kind are spread");
    assert_eq!(promised(&placement), 384);
    let (worker, of) = placement.place_on_blank(NOW, &request(1, 512), &kind()).unwrap();
    assert_eq!(placement.worker_of(InstanceId::new(0, 1)), Some(&worker));
    assert_eq!(placement.worker_of(of.unwrap()), None, "it is no blank any more");
    assert_eq!(promised(&placement), 512 + 256);
    // Asked again, the answer is the same, and nothing is taken.
    assert_eq!(placement.place_on_blank(NOW, &request(1, 512), &kind()), Ok((worker, None)));
    for number in [2, 3] {
        assert!(placement.place_on_blank(NOW, &request(number, 512), &kind()).unwrap().1.is_some());
    }
    let (_, of) = placement.place_on_blank(NOW, &request(4, 512), &kind()).unwrap();
    assert_eq!(of, None, "there are no more");
}

#[test]
fn blanks_take_only_room_that_is_to_spare() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(1024));
    assert!(placement.place(NOW, &request(1, 512)).is_ok());
    blank(&mut placement, 1);
    blank(&mut placement, 2);
    assert!(placement.place_blank(NOW, InstanceId::new(9, 3), &kind()).is_err());
    assert_eq!(promised(&placement), 768);
    assert!(placement.place(NOW, &request(2, 256)).is_ok(), "an instance takes it all");
}

#[test]
fn a_worker_that_is_full_but_for_its_blank_takes_the_instance_in_its_stead() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(256));
    blank(&mut placement, 1);
    assert!(placement.place(NOW, &request(1, 128)).is_ok());
    assert!(placement.place(NOW, &request(2, 128)).is_err());
    assert!(placement.place_on_blank(NOW, &request(2, 256), &kind()).is_err(), "it is too large even so");
    assert_eq!(promised(&placement), 256, "and the blank is still there");
    let (_, of) = placement.place_on_blank(NOW, &request(2, 128), &kind()).unwrap();
    assert_eq!((of, promised(&placement)), (Some(InstanceId::new(9, 1)), 256));
}

#[test]
fn no_instance_is_made_of_a_blank_of_another_kind_or_one_that_is_withdrawn_or_gone() {
    let mut placement = Placement::new();
    join(&mut placement, "local", capacity(4096));
    blank(&mut placement, 1);
    let other = BlankKind { runtime: "nodejs22.x".parse().unwrap(), ..kind() };
    assert_eq!(placement.place_on_blank(NOW, &request(1, 128), &other).unwrap().1, None);
    placement.handle(NOW, Event::BlankWithdrawn { blank: InstanceId::new(9, 1) });
    assert_eq!(placement.place_on_blank(NOW, &request(2, 128), &kind()).unwrap().1, None);
    blank(&mut placement, 2);
    placement.handle(NOW, Event::InstanceEnded { instance: InstanceId::new(9, 2) });
    placement.handle(NOW, Event::BlankReady { blank: InstanceId::new(9, 2), kind: kind() });
    assert_eq!(placement.place_on_blank(NOW, &request(3, 128), &kind()).unwrap().1, None);
    blank(&mut placement, 3);
    placement.handle(NOW, Event::WorkerLeft { worker: WorkerId::new("local") });
    assert!(placement.blanks.is_empty());
}
