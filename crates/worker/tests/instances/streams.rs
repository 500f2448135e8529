//! Answers that come piece by piece.

use std::time::Duration;

use hearth_types::{Piece, Reply, StreamEnd, StreamedAnswer};
use libtest_mimic::Trial;

use crate::world::{World, document, invocation, trial};

/// All bytes of a stream, and its end.
async fn all(mut answer: StreamedAnswer) -> (Vec<u8>, StreamEnd) {
    let mut bytes = Vec::new();
    loop {
        match answer.next().await {
            Piece::Data(data) => bytes.extend_from_slice(&data),
            Piece::End(end) => return (bytes, end),
        }
    }
}

fn kind(end: &StreamEnd) -> &str {
    end.error.as_ref().map_or("", |error| error.kind.as_str())
}

async fn until_idle(world: &World) {
    world.until(|worker| worker.instances().iter().all(|instance| instance.state == "idle")).await;
}

/// Streams `event` megabytes.
const MEGABYTES: &str =
    "serve_streams(lambda id, event: print('status', stream(id, (bytes(1 << 20) for _ in range(event)))))";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = passed_on();
    trials.extend(broken());
    trials
}

fn passed_on() -> Vec<Trial> {
    vec![
        trial("the_first_piece_comes_before_the_last_is_made", |mut world| async move {
            // The function makes its second piece only when another invocation's connection says so: a file in /tmp.
            let program = "def pieces():\n    yield b'first'\n    while not os.path.exists('/tmp/go'): time.sleep(0.01)\n    yield b'last'\n\
                def slow(id, event):\n    threading.Timer(0.5, lambda: open('/tmp/go', 'w').close()).start()\n    stream(id, pieces())\n\
                serve_streams(slow)";
            let id = world.ready(world.python(program)).await;
            let mut answer = world.stream(id, "1").await;
            assert_eq!(answer.content_type.as_deref(), Some("text/plain"));
            assert!(matches!(answer.next().await, Piece::Data(data) if data == "first"));
            assert_eq!(world.worker.instances()[0].state, "busy");
            let (rest, end) = all(answer).await;
            assert_eq!((rest, end.error.as_ref(), end.reusable), (b"last".to_vec(), None, true));
            assert!(end.log_tail.is_some_and(|tail| tail.starts_with(b"START")));
            world
        }),
        trial("a_stream_is_over_when_its_function_is_whoever_has_not_taken_it", |mut world| async move {
            let program = "serve_streams(lambda id, event: stream(id, iter([b'one', b'two'])))";
            let id = world.ready(world.python(program)).await;
            let mut answer = world.stream(id, "1").await;
            let Some(over) = answer.take_over() else { unreachable!("it says when it is over") };
            assert!(over.await, "the instance can take another request");
            until_idle(&world).await;
            let (bytes, end) = all(answer).await;
            assert_eq!((bytes, end.error), (b"onetwo".to_vec(), None));
            world
        }),
        trial("a_slow_taker_holds_the_function_back", |mut world| async move {
            let program = "count = [0]\ndef pieces():\n    for _ in range(64):\n        count[0] += 1; print('piece', count[0]); yield bytes(1 << 20)\n\
                serve_streams(lambda id, event: stream(id, pieces()))";
            let id = world.ready(world.python(program)).await;
            let mut answer = world.stream(id, "1").await;
            assert!(matches!(answer.next().await, Piece::Data(_)));
            tokio::time::sleep(Duration::from_millis(500)).await;
            let made = world.log().await.iter().filter(|line| line.starts_with("piece")).count();
            assert!(made < 16, "{made} MiB were made while nobody took them");
            let (bytes, end) = all(answer).await;
            assert!(bytes.len() > 63 << 20 && end.error.is_none());
            world
        }),
        trial("a_stream_is_collected_for_who_takes_no_stream", |mut world| async move {
            let id = world.ready(world.python(MEGABYTES)).await;
            let answer = world.invoke(id, "2").await.unwrap();
            assert_eq!((answer.payload.len(), answer.error), (2 << 20, None));
            let answer = world.invoke(id, "7").await.unwrap();
            assert_eq!(document(&answer)["errorType"], "Function.ResponseSizeTooLarge");
            assert!(answer.reusable);
            world
        }),
        trial("who_takes_a_stream_may_get_a_whole_answer", |mut world| async move {
            let id = world.ready(world.python("serve(lambda event, id, headers: event)")).await;
            let reply = world.worker.invoke_streamed(id, invocation("7")).await.unwrap();
            assert!(matches!(reply, Reply::Whole(answer) if answer.payload == "7"));
            world
        }),
        trial("a_taker_who_leaves_does_not_stop_the_function", |mut world| async move {
            let id = world.ready(world.python(MEGABYTES)).await;
            drop(world.stream(id, "9").await);
            until_idle(&world).await;
            assert!(world.log().await.contains(&"status 202".to_owned()));
            let (bytes, _) = all(world.stream(id, "1").await).await;
            assert_eq!(bytes.len(), 1 << 20);
            world
        }),
    ]
}

fn broken() -> Vec<Trial> {
    vec![
        trial("an_error_in_mid_stream_comes_in_trailers", |mut world| async move {
            let program = "trailers = 'Lambda-Runtime-Function-Error-Type: My.Error\\r\\nLambda-Runtime-Function-Error-Body: eyJlcnJvclR5cGUiOiJNeS5FcnJvciJ9\\r\\n'\n\
                serve_streams(lambda id, event: stream(id, [b'some'], trailers))";
            let id = world.ready(world.python(program)).await;
            let (bytes, end) = all(world.stream(id, "1").await).await;
            assert_eq!((&bytes[..], kind(&end)), (&b"some"[..], "My.Error"));
            assert_eq!(end.error.unwrap().details, r#"{"errorType":"My.Error"}"#);
            // Who takes no stream gets the error alone.
            let answer = world.invoke(id, "1").await.unwrap();
            assert!(answer.error.is_some() && answer.reusable);
            assert_eq!(document(&answer)["errorType"], "My.Error");
            world
        }),
        trial("trailers_that_are_nonsense_are_an_error_still", |mut world| async move {
            let program = "serve_streams(lambda id, event: stream(id, [b'x'], 'Lambda-Runtime-Function-Error-Body: %%%\\r\\n'))";
            let id = world.ready(world.python(program)).await;
            let (_, end) = all(world.stream(id, "1").await).await;
            assert_eq!(kind(&end), "Runtime.Unknown");
            world
        }),
        trial("a_stream_that_breaks_off_is_said_to_be_truncated", |mut world| async move {
            let program = "serve_streams(lambda id, event: stream(id, [b'some'], end=False))";
            let id = world.ready(world.python(program)).await;
            let (bytes, end) = all(world.stream(id, "1").await).await;
            assert_eq!(
                (&bytes[..], kind(&end), end.reusable),
                (&b"some"[..], "Runtime.TruncatedResponse", false)
            );
            world
        }),
        trial("a_runtime_that_dies_in_mid_stream_is_said_to_have_exited", |mut world| async move {
            let program = "def pieces():\n    yield b'some'\n    time.sleep(0.2)\n    os._exit(3)\nserve_streams(lambda id, event: stream(id, pieces()))";
            let id = world.ready(world.python(program)).await;
            let (bytes, end) = all(world.stream(id, "1").await).await;
            assert_eq!((&bytes[..], end.reusable), (&b"some"[..], false));
            assert!(matches!(kind(&end), "Runtime.ExitError" | "Runtime.TruncatedResponse"), "{end:?}");
            world.gone(id).await;
            world
        }),
        trial("a_stream_ends_with_the_functions_timeout", |mut world| async move {
            let program = "def pieces():\n    yield b'some'\n    time.sleep(60)\nserve_streams(lambda id, event: stream(id, pieces()))";
            let mut spec = world.python(program);
            spec.timeout = Duration::from_secs(1);
            let id = world.ready(spec).await;
            let (bytes, end) = all(world.stream(id, "1").await).await;
            assert_eq!((&bytes[..], kind(&end)), (&b"some"[..], "Sandbox.Timedout"));
            world.gone(id).await;
            world
        }),
        trial("a_taker_who_takes_nothing_is_outlived_by_the_timeout", |mut world| async move {
            let mut spec = world.python(MEGABYTES);
            spec.timeout = Duration::from_secs(1);
            let id = world.ready(spec).await;
            let answer = world.stream(id, "100").await;
            world.gone(id).await;
            let (bytes, end) = all(answer).await;
            assert!(bytes.len() < 16 << 20 && kind(&end) == "Sandbox.Timedout", "{} {end:?}", bytes.len());
            world
        }),
        trial("more_than_two_hundred_megabytes_are_cut", |mut world| async move {
            let id = world.ready(world.python(MEGABYTES)).await;
            let (bytes, end) = all(world.stream(id, "201").await).await;
            assert!(bytes.len() <= 200 << 20);
            assert_eq!((kind(&end), end.reusable), ("Function.ResponseSizeTooLarge", true));
            world
        }),
    ]
}
