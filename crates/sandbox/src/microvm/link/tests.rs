//! Agents that keep to the rules, and agents that do not.

use hearth_wire::{GuestMessage, HostMessage, MAX_STREAMS, PROTOCOL, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::events::{Event, Inbox};
use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// The other end: what an agent would be.
struct Guest {
    mux: Mux,
    socket: UnixStream,
    inbox: Vec<Event>,
}

impl Guest {
    async fn flush(&mut self) {
        while !self.mux.output().is_empty() {
            let count = self.socket.write(self.mux.output()).await.unwrap();
            self.mux.sent(count, &mut Inbox::default());
        }
    }

    async fn tell(&mut self, message: &GuestMessage) {
        self.mux.message(&encode(message)).unwrap();
        self.flush().await;
    }

    /// The next thing that the worker sends, of the kind that `pick` takes.
    async fn next<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(found) = self.inbox.iter().position(|event| pick(event).is_some()) {
                    return pick(&self.inbox.remove(found)).unwrap();
                }
                let mut buffer = [0; 4096];
                let count = self.socket.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the worker hung up");
                let mut inbox = Inbox::default();
                self.mux.receive(&buffer[..count], &mut inbox).unwrap();
                self.inbox.extend(inbox.0);
            }
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap()
    }

    async fn hear(&mut self) -> HostMessage {
        self.next(|event| match event {
            Event::Message(bytes) => Some(decode(bytes).unwrap()),
            _ => None,
        })
        .await
    }

    /// Until the worker hangs up.
    async fn is_cut_off(&mut self) {
        let mut buffer = [0; 4096];
        let ended = async { while !matches!(self.socket.read(&mut buffer).await, Ok(0) | Err(_)) {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("the worker goes on listening");
    }
}

/// A link that was greeted, and its guest.
async fn greeted() -> (Link, Guest) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut guest = Guest { mux: Mux::new(Side::Guest), socket: theirs, inbox: Vec::new() };
    let link = Link::new();
    let hello = GuestMessage::Hello { protocol: PROTOCOL };
    let (protocol, ()) = tokio::join!(link.greet(ours, PATIENCE), guest.tell(&hello));
    assert_eq!(protocol.unwrap(), PROTOCOL);
    (link, guest)
}

async fn spawned(link: &Link, guest: &mut Guest) -> (Spawned, StreamId) {
    let spawned = link.spawn(vec!["/x".into()], Vec::new(), "/".into()).unwrap();
    assert!(matches!(guest.hear().await, HostMessage::Spawn { number: 1, .. }));
    let output = guest.mux.open(&encode(&Purpose::Output(1))).unwrap();
    guest.tell(&GuestMessage::Spawned { number: 1 }).await;
    (spawned, output)
}

#[tokio::test]
async fn a_process_writes_and_ends() {
    let (link, mut guest) = greeted().await;
    let (mut process, output) = spawned(&link, &mut guest).await;
    process.starting.await.unwrap().unwrap();
    guest.mux.send(output, b"hello");
    guest.mux.end(output);
    guest.tell(&GuestMessage::Exited { number: 1, status: 3, signal: false }).await;
    let mut text = String::new();
    process.output.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    assert_eq!(process.exit.await.unwrap(), Exit::Status(3));
    assert!(link.shared.lock().processes.is_empty());
}

#[tokio::test]
async fn what_was_written_before_an_answer_is_in_the_pipe_before_it() {
    let (link, mut guest) = greeted().await;
    let (process, output) = spawned(&link, &mut guest).await;
    let call = guest.mux.open(&encode(&Purpose::RuntimeApi)).unwrap();
    guest.mux.send(output, b"log");
    guest.mux.send(call, b"answer");
    guest.flush().await;
    let mut stream = link.accept().await.unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await.unwrap();
    let mut log = [0; 16];
    assert_eq!(process.output.try_read(&mut log).unwrap(), 3);
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_end() {
    let (link, mut guest) = greeted().await;
    let call = guest.mux.open(&encode(&Purpose::RuntimeApi)).unwrap();
    guest.flush().await;
    let mut stream = link.accept().await.unwrap();
    let body = vec![7; 300_000];
    let for_writer = body.clone();
    let writing = tokio::spawn(async move {
        stream.write_all(&for_writer).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    });
    let mut received = Vec::new();
    while received.len() < body.len() {
        let bytes = guest
            .next(|event| match event {
                Event::Data(id, bytes) if *id == call => Some(bytes.clone()),
                _ => None,
            })
            .await;
        guest.mux.consumed(call, bytes.len());
        guest.flush().await;
        received.extend(bytes);
    }
    assert_eq!(received, body);
    guest.next(|event| matches!(event, Event::Ended(_)).then_some(())).await;
    guest.mux.end(call);
    guest.flush().await;
    let mut stream = writing.await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    drop(stream);
    assert_eq!(link.shared.lock().mux.streams(), 0);
}

#[tokio::test]
async fn a_conversation_ends_and_another_begins_with_the_same_processes() {
    let (link, mut guest) = greeted().await;
    let (mut process, _) = spawned(&link, &mut guest).await;
    let call = guest.mux.open(&encode(&Purpose::RuntimeApi)).unwrap();
    guest.mux.send(call, b"GET next");
    guest.flush().await;
    let mut parked = link.accept().await.unwrap();
    let quiet = async {
        assert!(matches!(guest.hear().await, HostMessage::Quiesce));
        guest.tell(&GuestMessage::Quiesced).await;
    };
    tokio::join!(async { link.quiesce(PATIENCE).await.unwrap() }, quiet);
    assert!(parked.read(&mut [0; 8]).await.is_err(), "its conversation is over");
    assert!(matches!(link.say(&HostMessage::Terminate), Err(LinkError::Gone(_))));
    // Whoever answers now is another machine, with another socket and the same names.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut guest = Guest { mux: Mux::new(Side::Guest), socket: theirs, inbox: Vec::new() };
    let awake = HostMessage::Awake { wall_clock_ns: 1, entropy: [1; 32], network: None };
    let again = async {
        assert!(matches!(guest.hear().await, HostMessage::Awake { wall_clock_ns: 1, .. }));
        guest.tell(&GuestMessage::Resumed { processes: vec![1] }).await;
        let output = guest.mux.open(&encode(&Purpose::Output(1))).unwrap();
        guest.mux.send(output, b"later");
        let call = guest.mux.open(&encode(&Purpose::RuntimeApi)).unwrap();
        guest.mux.send(call, b"GET next");
        guest.flush().await;
    };
    let (processes, ()) = tokio::join!(link.awaken(ours, &awake, PATIENCE), again);
    assert_eq!(processes.unwrap(), [1]);
    let mut text = [0; 5];
    process.output.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"later");
    let mut next = [0; 8];
    link.accept().await.unwrap().read_exact(&mut next).await.unwrap();
    assert_eq!(&next, b"GET next");
    assert!(parked.write(b"late").await.is_err(), "a stream of the first conversation stays dead");
}

#[tokio::test]
async fn a_guest_that_hangs_up_takes_its_processes_with_it() {
    let (link, mut guest) = greeted().await;
    let (process, _) = spawned(&link, &mut guest).await;
    drop(guest);
    assert_eq!(process.exit.await.unwrap_or(Exit::SandboxGone), Exit::SandboxGone);
    assert!(link.accept().await.is_err());
    assert!(link.spawn(vec!["/x".into()], Vec::new(), "/".into()).is_err());
}

#[tokio::test]
async fn a_guest_that_says_nothing_is_not_waited_for() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let silent = Link::new().greet(ours, Duration::from_millis(20)).await;
    assert!(matches!(silent, Err(LinkError::Silent(_))));
}

#[tokio::test]
async fn a_guest_that_breaks_the_rules_is_cut_off() {
    let message = |message: &GuestMessage| {
        let mut mux = Mux::new(Side::Guest);
        mux.message(&encode(message)).unwrap();
        mux.output().to_vec()
    };
    let opened = |purpose: &[u8]| {
        let mut mux = Mux::new(Side::Guest);
        mux.open(purpose).unwrap();
        mux.output().to_vec()
    };
    let crimes = [
        ("no frame", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a message of nothing", [6, 0, 0, 0, 0, 0, 0, 0].to_vec()),
        ("an answer to no question", message(&GuestMessage::Configured)),
        ("the start of a process that nobody asked for", message(&GuestMessage::Spawned { number: 9 })),
        ("the end of one", message(&GuestMessage::Exited { number: 9, status: 0, signal: false })),
        ("output of one", opened(&encode(&Purpose::Output(9)))),
        ("a connection to the worker's ports", opened(&encode(&Purpose::Port(22)))),
        ("a purpose that is none", opened(&[99])),
        ("bytes on a stream that is not there", [2, 0, 1, 0, 8, 0, 0, 0, 1].to_vec()),
    ];
    for (crime, bytes) in crimes {
        let (link, mut guest) = greeted().await;
        guest.socket.write_all(&bytes).await.unwrap();
        assert!(link.accept().await.is_err(), "{crime} is borne");
        guest.is_cut_off().await;
        assert!(matches!(link.say(&HostMessage::Terminate), Err(LinkError::Gone(Some(_)))), "{crime}");
    }
}

#[tokio::test]
async fn a_connection_to_a_port_is_there_when_its_guest_says_so_and_not_before() {
    let (link, mut guest) = greeted().await;
    let asked = |event: &Event| match event {
        Event::Opened(id, purpose) => {
            assert_eq!(decode::<Purpose>(purpose).unwrap(), Purpose::Port(8080));
            Some(*id)
        }
        _ => None,
    };
    let says = async {
        let refused = guest.next(asked).await;
        guest.mux.reset(refused);
        guest.flush().await;
        let made = guest.next(asked).await;
        guest.tell(&GuestMessage::Connected { stream: made }).await;
        guest.next(asked).await
    };
    let hears = async {
        let refused = link.connect(8080, PATIENCE).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let stream = link.connect(8080, PATIENCE).await.unwrap();
        let late = link.connect(8080, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        stream
    };
    let (late, stream) = tokio::join!(says, hears);
    // One that nobody waits for any more is no crime; one that is there already is.
    guest.tell(&GuestMessage::Connected { stream: late }).await;
    guest.next(|event| matches!(event, Event::Reset(_)).then_some(())).await;
    let again = link.connect(8080, PATIENCE);
    let says = async {
        let made = guest.next(asked).await;
        guest.tell(&GuestMessage::Connected { stream: made }).await;
        guest.tell(&GuestMessage::Connected { stream: made }).await;
        guest.is_cut_off().await;
    };
    let (again, ()) = tokio::join!(again, says);
    drop((again, stream));
    assert!(matches!(link.say(&HostMessage::Terminate), Err(LinkError::Gone(Some(_)))));
}

#[tokio::test]
async fn thousands_of_connections_that_nobody_takes_are_refused() {
    let (link, mut guest) = greeted().await;
    for _ in 0..MAX_STREAMS {
        guest.mux.open(&encode(&Purpose::RuntimeApi)).unwrap();
    }
    guest.flush().await;
    let mut refused = 0;
    while refused < MAX_STREAMS - MAX_UNTAKEN {
        guest.next(|event| matches!(event, Event::Reset(_)).then_some(())).await;
        refused += 1;
    }
    let state = link.shared.lock();
    assert_eq!((state.untaken.len(), state.streams.len()), (MAX_UNTAKEN, MAX_UNTAKEN));
}

#[tokio::test]
async fn output_that_nobody_reads_is_thrown_away_and_holds_nothing_up() {
    let (link, mut guest) = greeted().await;
    let (process, output) = spawned(&link, &mut guest).await;
    drop(process.output);
    for _ in 0..64 {
        let mut left: &[u8] = &[b'x'; 8_000];
        while !left.is_empty() {
            let sent = guest.mux.send(output, left);
            left = &left[sent..];
            guest.flush().await;
            if !left.is_empty() {
                guest.next(|event| matches!(event, Event::Writable(_)).then_some(())).await;
            }
        }
    }
    guest.tell(&GuestMessage::Exited { number: 1, status: 0, signal: false }).await;
    assert_eq!(process.exit.await.unwrap(), Exit::Status(0));
}

#[tokio::test]
async fn a_guest_that_does_not_read_holds_nobody_else_up() {
    let (link, mut guest) = greeted().await;
    let environment = vec![format!("BIG={}", "x".repeat(30_000))];
    let most = 32;
    let waiting: Vec<_> =
        (0..most).map(|_| link.spawn(vec!["/x".into()], environment.clone(), "/".into()).unwrap()).collect();
    assert!(!link.shared.lock().mux.output().is_empty(), "it is more than the socket takes");
    // With one thread for all tasks: a link that is at work without end would let this one never come back.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for number in 1..=most {
        assert!(matches!(guest.hear().await, HostMessage::Spawn { number: heard, .. } if heard == number));
    }
    drop(waiting);
}

#[tokio::test]
async fn what_does_not_fit_into_a_message_is_told() {
    let (link, _guest) = greeted().await;
    let long = link.spawn(vec!["x".repeat(70_000)], Vec::new(), "/".into());
    assert!(matches!(long, Err(LinkError::TooLong(_))));
    assert!(link.shared.lock().processes.is_empty());
}
