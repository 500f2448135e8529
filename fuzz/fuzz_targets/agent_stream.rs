//! Any bytes from a micro-VM's agent: frames and messages or a violation, and no more held than was given credit for.
//!
//! `cargo +nightly fuzz run agent_stream`

#![no_main]

use std::collections::BTreeMap;

use hearth_wire::{GuestMessage, Mux, Purpose, Side, Sink, StreamId, decode};
use libfuzzer_sys::fuzz_target;

/// No stream may be ahead of its reader by more.
const MOST_AHEAD: usize = 256 << 10;

/// A worker that never reads what streams bring.
#[derive(Default)]
struct Worker {
    unread: BTreeMap<StreamId, usize>,
}

impl Sink for Worker {
    fn opened(&mut self, stream: StreamId, purpose: &[u8]) {
        let _ = decode::<Purpose>(purpose);
        self.unread.insert(stream, 0);
    }
    fn data(&mut self, stream: StreamId, bytes: &[u8]) {
        let unread = self.unread.get_mut(&stream).expect("bytes on a stream that was never opened");
        *unread += bytes.len();
        assert!(*unread <= MOST_AHEAD);
    }
    fn ended(&mut self, _: StreamId) {}
    fn reset(&mut self, stream: StreamId) {
        self.unread.remove(&stream);
    }
    fn writable(&mut self, _: StreamId) {}
    fn message(&mut self, bytes: &[u8]) {
        let _ = decode::<GuestMessage>(bytes);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (mut mux, mut worker) = (Mux::new(Side::Host), Worker::default());
    for piece in bytes.chunks(61) {
        if mux.receive(piece, &mut worker).is_err() {
            return;
        }
    }
});
