//! Functions that mean harm: to the worker, to their next request, to their log.

use std::time::{Duration, Instant};

use hearth_types::EndReason;
use libtest_mimic::Trial;
use serde_json::json;

use crate::world::{document, tail, trial};

/// The next request must be as good as any.
async fn is_well(world: &crate::world::World, id: hearth_types::InstanceId) {
    let answer = world.invoke(id, "\"well\"").await.unwrap();
    assert_eq!(document(&answer), "well");
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("wrong_ids_double_answers_and_calls_out_of_turn_are_refused", |mut world| async move {
            let program = r"
seen = {}
own = lambda: http.client.HTTPConnection(API)
post = lambda id, body='1': call('POST', f'/2018-06-01/runtime/invocation/{id}/response', body, {}, own())
none = '00000000-0000-4000-8000-000000000000'
seen['before next'] = post(none)[0]
def handler(event, id, headers):
    if event == 'well': return event
    seen['wrong id'] = [post(none)[0], json.loads(post(none)[2])['errorType']]
    seen['no id'] = post('nonsense')[0]
    seen['next in mid-request'] = call('GET', '/2018-06-01/runtime/invocation/next')[0]
    seen['late init error'] = call('POST', '/2018-06-01/runtime/init/error', '{}')[0]
    seen['unknown path'] = call('GET', '/2018-06-01/runtime/nowhere')[0]
    seen['wrong method'] = call('DELETE', '/2018-06-01/runtime/invocation/next')[0]
    seen['answer'] = list(post(id, json.dumps(seen))[::2])
    seen['twice'] = [post(id)[0], json.loads(post(id)[2])['errorType']]
while True:
    id, headers, event = next_event()
    if event == 'tell': respond(id, seen)
    else:
        value = handler(event, id, headers)
        if value: respond(id, value)
";
            let id = world.ready(world.python(program)).await;
            let first = world.value(id, "\"go\"").await;
            assert_eq!(first["before next"], 400);
            assert_eq!(first["wrong id"], json!([400, "InvalidRequestID"]));
            assert_eq!(first["no id"], 400);
            assert_eq!(first["next in mid-request"], 403);
            assert_eq!(first["late init error"], 403);
            assert_eq!((&first["unknown path"], &first["wrong method"]), (&json!(404), &json!(405)));
            let then = world.value(id, "\"tell\"").await;
            assert_eq!(then["answer"], json!([202, "{\"status\":\"OK\"}\n"]));
            assert_eq!(then["twice"], json!([403, "InvalidStateTransition"]));
            is_well(&world, id).await;
            world
        }),
        trial("posts_that_break_off_and_huge_headers_harm_no_request", |mut world| async move {
            let program = r"
def raw(text, close=True):
    s = socket.create_connection(API.split(':'))
    try: s.sendall(text)
    except OSError: pass
    if close: s.close(); return b''
    try: return s.recv(100)
    except OSError: return b'closed'
def handler(event, id, headers):
    if event == 'well': return event
    path = f'/2018-06-01/runtime/invocation/{id}/response'.encode()
    raw(b'POST ' + path + b' HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{half')
    raw(b'POST ' + path + b' HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{half\r\nzz')
    raw(b'\x16\x03\x01 no http')
    huge = raw(b'GET / HTTP/1.1\r\nX: ' + b'x' * 4000000 + b'\r\n\r\n', close=False)
    time.sleep(0.1)
    return str(huge[:12])
serve(handler)
";
            let id = world.ready(world.python(program)).await;
            let huge = world.value(id, "\"go\"").await;
            assert!(
                huge.as_str()
                    .is_some_and(|text| text.contains("431") || text.contains("closed") || text == "b''"),
                "{huge}"
            );
            is_well(&world, id).await;
            world
        }),
        trial("floods_of_calls_and_connections_leave_others_alone", |mut world| async move {
            let program = r"
def flood():
    while True:
        try: call('GET', '/2018-06-01/runtime/invocation/next')
        except Exception: pass
def handler(event, id, headers):
    if event == 'well': return event
    for _ in range(8): threading.Thread(target=flood, daemon=True).start()
    global held
    held = []
    return 'begun'
serve(handler)
";
            let bad = world.ready(world.python(program)).await;
            let good = world.ready(world.python("serve(lambda event, id, headers: event)")).await;
            // While its own thread answers, the flood may well take its next request: that is its own loss.
            assert_eq!(document(&world.invoke(bad, "1").await.unwrap()), "begun");
            for _ in 0..20 {
                is_well(&world, good).await;
            }
            world.worker.end(bad, EndReason::Idle);
            // The flood may have ended the flooder's own runtime before.
            assert!(matches!(world.gone(bad).await, EndReason::Idle | EndReason::Failed));
            is_well(&world, good).await;
            world
        }),
        trial("a_process_that_ignores_every_signal_is_ended_all_the_same", |mut world| async move {
            let program = "import signal\nsignal.signal(15, signal.SIG_IGN)\nsignal.signal(2, signal.SIG_IGN)\nserve(lambda event, id, headers: event)";
            let id = world.ready(world.python(program)).await;
            is_well(&world, id).await;
            let began = Instant::now();
            world.worker.end(id, EndReason::Idle);
            assert_eq!(world.gone(id).await, EndReason::Idle);
            assert!(began.elapsed() < Duration::from_secs(30));
            world
        }),
        trial("a_log_flood_without_line_ends_is_held_back_and_its_end_is_kept", |mut world| async move {
            let program = r"
def handler(event, id, headers):
    if event == 'well': return event
    block = b'x' * (1 << 20)
    written = 0
    end = time.monotonic() + 5
    while time.monotonic() < end:
        written += os.write(1, block)
    os.write(1, b'\nlast words')
    return written
serve(handler)
";
            let id = world.ready(world.python(program)).await;
            let answer = world.invoke(id, "1").await.unwrap();
            let written = document(&answer).as_u64().unwrap();
            // The burst, five seconds of the rate, and as much again for a machine that counts slowly.
            assert!(written < (2 * (32 + 5 * 8)) << 20, "{written}");
            let log = tail(&answer);
            assert!(log.len() <= 4096 && log.contains("\nlast words\nEND RequestId: "), "{log}");
            is_well(&world, id).await;
            assert!(world.worker.metrics().log_bytes > 0);
            world
        }),
    ]
}
