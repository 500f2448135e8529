//! Two honest ends understand each other however their bytes are cut; a hostile one gets nowhere.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Keeps what it is told.
#[derive(Default)]
struct Heard {
    opened: Vec<(StreamId, Vec<u8>)>,
    data: BTreeMap<StreamId, Vec<u8>>,
    ended: Vec<StreamId>,
    reset: Vec<StreamId>,
    writable: Vec<StreamId>,
    messages: Vec<Vec<u8>>,
    order: Vec<StreamId>,
    bytes: usize,
}

impl Sink for Heard {
    fn opened(&mut self, stream: StreamId, purpose: &[u8]) {
        self.opened.push((stream, purpose.to_vec()));
    }
    fn data(&mut self, stream: StreamId, bytes: &[u8]) {
        self.data.entry(stream).or_default().extend_from_slice(bytes);
        self.order.push(stream);
        self.bytes += bytes.len();
    }
    fn ended(&mut self, stream: StreamId) {
        self.ended.push(stream);
    }
    fn reset(&mut self, stream: StreamId) {
        self.reset.push(stream);
    }
    fn writable(&mut self, stream: StreamId) {
        self.writable.push(stream);
    }
    fn message(&mut self, bytes: &[u8]) {
        self.messages.push(bytes.to_vec());
    }
}

/// Carries all that `from` has to say to `to`, in pieces of `piece` bytes.
fn carry(from: &mut Mux, to: &mut Mux, heard: &mut Heard, piece: usize) {
    let bytes = from.output().to_vec();
    from.sent(bytes.len(), &mut Heard::default());
    for piece in bytes.chunks(piece) {
        to.receive(piece, heard).unwrap();
    }
}

type Frames<'a> = &'a [(Kind, StreamId, &'a [u8])];

fn hostile(frames: Frames<'_>) -> (Result<(), Violation>, Heard) {
    let mut bytes = Vec::new();
    for (kind, stream, payload) in frames {
        let length = u16::try_from(payload.len()).unwrap();
        bytes.extend_from_slice(&Header { kind: *kind, length, stream: *stream }.encode());
        bytes.extend_from_slice(payload);
    }
    let mut heard = Heard::default();
    (Mux::new(Side::Host).receive(&bytes, &mut heard), heard)
}

#[test]
fn a_stream_carries_bytes_both_ways_and_ends_each_way_by_itself() {
    let (mut host, mut guest) = (Mux::new(Side::Host), Mux::new(Side::Guest));
    let (mut at_host, mut at_guest) = (Heard::default(), Heard::default());
    let stream = guest.open(b"api").unwrap();
    assert_eq!(guest.send(stream, b"question"), 8);
    guest.end(stream);
    carry(&mut guest, &mut host, &mut at_host, 3);
    assert_eq!(at_host.opened, [(stream, b"api".to_vec())]);
    assert_eq!(at_host.data[&stream], b"question");
    assert_eq!(at_host.ended, [stream]);
    assert_eq!(host.send(stream, b"answer"), 6);
    host.end(stream);
    carry(&mut host, &mut guest, &mut at_guest, 1);
    assert_eq!(at_guest.data[&stream], b"answer");
    assert_eq!(at_guest.ended, [stream]);
    assert_eq!((host.streams(), guest.streams()), (0, 0));
}

#[test]
fn frames_arrive_in_the_order_in_which_they_were_queued() {
    let (mut host, mut guest) = (Mux::new(Side::Host), Mux::new(Side::Guest));
    let mut at_host = Heard::default();
    let (output, api) = (guest.open(b"o").unwrap(), guest.open(b"a").unwrap());
    for _ in 0..20 {
        guest.send(output, b"a line");
        guest.send(api, b"an answer");
    }
    carry(&mut guest, &mut host, &mut at_host, 4096);
    let expected: Vec<_> = std::iter::repeat_n([output, api], 20).flatten().collect();
    assert_eq!(at_host.order, expected);
}

#[test]
fn an_unread_stream_holds_no_more_than_its_first_window() {
    let (mut host, mut guest) = (Mux::new(Side::Host), Mux::new(Side::Guest));
    let stream = guest.open(b"").unwrap();
    let sent = guest.send(stream, &vec![7; 1 << 20]);
    assert_eq!(sent, FIRST_WINDOW as usize);
    let mut at_host = Heard::default();
    carry(&mut guest, &mut host, &mut at_host, 8192);
    assert_eq!(guest.send(stream, b"x"), 0);
    host.consumed(stream, sent);
    let mut at_guest = Heard::default();
    carry(&mut host, &mut guest, &mut at_guest, 8192);
    assert_eq!(at_guest.writable, [stream]);
    assert_eq!(guest.room(stream), 2 * FIRST_WINDOW as usize);
}

#[test]
fn windows_grow_only_within_the_budget_that_all_share() {
    let (mut host, mut guest) = (Mux::new(Side::Host), Mux::new(Side::Guest));
    let streams: Vec<_> = (0..MAX_STREAMS).map(|_| guest.open(b"").unwrap()).collect();
    assert_eq!(guest.open(b""), Err(Refused::Streams));
    for _ in 0..6 {
        for stream in &streams {
            let room = guest.room(*stream);
            let sent = guest.send(*stream, &vec![0; room]);
            carry(&mut guest, &mut host, &mut Heard::default(), 1 << 20);
            host.consumed(*stream, sent);
            carry(&mut host, &mut guest, &mut Heard::default(), 1 << 20);
        }
    }
    let held: usize = streams.iter().map(|stream| guest.room(*stream)).sum();
    assert!(held <= MAX_STREAMS * FIRST_WINDOW as usize + GROWTH as usize, "{held}");
    for stream in streams {
        guest.reset(stream);
        carry(&mut guest, &mut host, &mut Heard::default(), 1 << 20);
    }
    assert_eq!((host.streams(), host.grown), (0, 0));
}

#[test]
fn what_no_honest_peer_sends_ends_the_conversation() {
    use Kind::{Credit, Data, End, Open};
    let too_much = vec![0; MAX_DATA];
    let cases: [(Frames<'_>, Violation); 9] = [
        (&[(Data, 2, b"x")], Violation::Stream),
        (&[(Open, 1, b"")], Violation::Stream),
        (&[(Open, 4, b""), (Open, 2, b"")], Violation::Stream),
        (&[(Open, 2, b""), (Open, 2, b"")], Violation::Stream),
        (&[(Data, 1, b"x")], Violation::Stream),
        (&[(Open, 2, b""), (Data, 2, &too_much), (Data, 2, b"x")], Violation::Credit),
        (&[(Open, 2, b""), (End, 2, b""), (Data, 2, b"x")], Violation::Credit),
        (&[(Open, 2, b""), (Credit, 2, &[255; 4])], Violation::Credit),
        (&[(Open, 2, b""), (End, 2, b""), (End, 2, b"")], Violation::Credit),
    ];
    for (frames, violation) in cases {
        assert_eq!(hostile(frames).0, Err(violation), "{frames:?}");
    }
    for header in [[0; 8], [9, 0, 0, 0, 2, 0, 0, 0], [1, 1, 0, 0, 2, 0, 0, 0], [2, 0, 255, 255, 2, 0, 0, 0]] {
        assert_eq!(Mux::new(Side::Host).receive(&header, &mut Heard::default()), Err(Violation::Frame));
    }
}

#[test]
fn streams_past_the_limit_are_refused_and_one_who_does_not_listen_is_cut_off() {
    let mut host = Mux::new(Side::Host);
    let mut heard = Heard::default();
    let mut result = Ok(());
    for number in 1..2_000_000_u32 {
        let open = Header { kind: Kind::Open, length: 0, stream: number * 2 }.encode();
        result = host.receive(&open, &mut heard);
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(Violation::Flood));
    assert_eq!(heard.opened.len(), MAX_STREAMS);
}

#[test]
fn what_crosses_with_the_end_of_a_stream_is_no_violation() {
    let (mut host, mut guest) = (Mux::new(Side::Host), Mux::new(Side::Guest));
    let stream = guest.open(b"").unwrap();
    carry(&mut guest, &mut host, &mut Heard::default(), 64);
    host.reset(stream);
    guest.send(stream, b"on its way");
    guest.end(stream);
    let mut at_host = Heard::default();
    carry(&mut guest, &mut host, &mut at_host, 64);
    assert_eq!(at_host.bytes, 0);
}

proptest! {
    #[test]
    fn random_bytes_never_hold_more_than_the_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let mut heard = Heard::default();
        let mut host = Mux::new(Side::Host);
        let _ = host.receive(&bytes, &mut heard);
        prop_assert!(host.streams() <= MAX_STREAMS);
        prop_assert!(heard.bytes <= bytes.len());
    }

    #[test]
    fn all_that_is_sent_arrives_whole_however_it_is_cut(
        sizes in proptest::collection::vec((0..8_usize, 1..60_000_usize), 1..40),
        piece in 1..5_000_usize,
    ) {
        let (mut host, mut guest) = (Mux::new(Side::Host), Mux::new(Side::Guest));
        let streams: Vec<_> = (0..8).map(|_| guest.open(b"s").unwrap()).collect();
        let mut sent: BTreeMap<StreamId, Vec<u8>> = BTreeMap::new();
        let mut heard = Heard::default();
        for (number, (stream, size)) in sizes.into_iter().enumerate() {
            let bytes: Vec<u8> = (0..size).map(|at| u8::try_from((at + number) % 251).unwrap()).collect();
            let stream = streams[stream];
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let count = guest.send(stream, rest);
                rest = &rest[count..];
                let before = heard.data.get(&stream).map_or(0, Vec::len);
                carry(&mut guest, &mut host, &mut heard, piece);
                let after = heard.data.get(&stream).map_or(0, Vec::len);
                host.consumed(stream, after - before);
                carry(&mut host, &mut guest, &mut Heard::default(), piece);
            }
            sent.entry(stream).or_default().extend_from_slice(&bytes);
        }
        prop_assert_eq!(heard.data, sent);
    }
}
