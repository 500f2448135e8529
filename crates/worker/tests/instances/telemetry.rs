//! Telemetry: what extensions that subscribe are sent, and what it costs others when they do not take it.

use std::time::Duration;

use hearth_types::EndReason;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::extensions::with_extension;
use crate::world::{World, document, python, trial, write};

/// Registers, listens, subscribes, and says what it is sent; `answer` is what its server does with a request.
const SUBSCRIBER: &str = r"
import http.server, os
# In one piece: two threads say things.
def say(word, document): os.write(1, f'{word} {json.dumps(document)}\n'.encode())
class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        # Before the answer: after it the end may come.
        for event in json.loads(body):
            say('got', event)
        ANSWER
    def log_message(self, *rest): pass
server = http.server.ThreadingHTTPServer(('0.0.0.0', 8080), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
status, headers, body = call('POST', '/2020-01-01/extension/register', json.dumps({'events': ['INVOKE', 'SHUTDOWN']}), {'Lambda-Extension-Name': 'watcher'})
own = {'Lambda-Extension-Identifier': headers['lambda-extension-identifier']}
wanted = {'schemaVersion': '2022-12-13', 'types': ['platform', 'function'], 'buffering': {'timeoutMs': 25}, 'destination': {'protocol': 'HTTP', 'URI': 'http://sandbox.localdomain:8080'}}
def subscribe(path, document, headers=own):
    status, _, body = call('PUT', path, json.dumps(document), headers)
    return [status, json.loads(body)]
said = [subscribe('/2022-07-01/telemetry', wanted, {}), subscribe('/2022-07-01/telemetry', {**wanted, 'types': []}), subscribe('/2020-08-15/logs', {})]
said += [subscribe('/2022-07-01/telemetry', wanted), subscribe('/2022-07-01/telemetry', wanted), subscribe('/2020-08-15/logs', {'types': ['function'], 'destination': wanted['destination']})]
say('said', said)
open('/tmp/subscribed', 'w').close()
connection = http.client.HTTPConnection(API)
late = False
while True:
    status, headers, body = call('GET', '/2020-01-01/extension/event/next', None, own, connection)
    if not late: say('late', subscribe('/2022-07-01/telemetry', wanted))
    late = True
    if json.loads(body)['eventType'] == 'SHUTDOWN': break
";
const TAKES: &str = "self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()";
const HANDLER: &str = "serve(lambda event, id, headers: (print('hello from', id, flush=True), [print('x' * 1000, flush=True) for _ in range(event)], id)[2])";

fn subscribed(world: &World, answer: &str) -> hearth_types::FunctionSpec {
    let spec = with_extension(world, &SUBSCRIBER.replace("ANSWER", answer));
    let code = std::path::PathBuf::from(&spec.environment["TEST_CODE"]);
    write(&code.join("bootstrap"), &python(HANDLER), 0o755);
    spec
}

/// What the extension said after `word`.
fn after(log: &[String], word: &str) -> Vec<Value> {
    let prefix = format!("{word} ");
    log.iter()
        .filter_map(|line| line.strip_prefix(&prefix))
        .filter_map(|rest| serde_json::from_str(rest).ok())
        .collect()
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_subscriber_is_sent_every_event_of_an_instances_life_in_its_order", |mut world| async move {
            let spec = subscribed(&world, TAKES);
            let id = world.ready(spec).await;
            let mut requests = Vec::new();
            for _ in 0..3 {
                requests.push(world.value(id, "0").await);
            }
            world.worker.end(id, EndReason::Idle);
            assert_eq!(world.gone(id).await, EndReason::Idle);
            let log = world.log().await;
            let events = after(&log, "got");
            let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
            let of = |kind: &str| -> Vec<&Value> {
                events.iter().filter(|event| event["type"] == kind).map(|event| &event["record"]).collect()
            };
            assert_eq!(types[..2], ["platform.initStart", "platform.telemetrySubscription"], "{log:#?}");
            let start = of("platform.initStart")[0];
            assert_eq!(
                (&start["initializationType"], &start["phase"]),
                (&json!("on-demand"), &json!("init"))
            );
            assert_eq!(
                (&start["functionName"], &start["instanceMaxMemory"]),
                (&json!("probe"), &json!(128 << 20))
            );
            assert_eq!(
                of("platform.telemetrySubscription")[0],
                &json!({"name": "watcher", "state": "Subscribed", "types": ["platform", "function"]})
            );
            let both = json!({"name": "watcher", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]});
            assert_eq!(of("platform.extension")[0], &both);
            assert_eq!(of("platform.initRuntimeDone")[0]["status"], "success");
            assert!(of("platform.initReport")[0]["metrics"]["durationMs"].as_f64().unwrap() > 0.0);
            let cycle = ["platform.start", "function", "platform.runtimeDone", "platform.report"];
            let cycles: Vec<&str> = types.iter().filter(|kind| cycle.contains(kind)).copied().collect();
            assert_eq!(cycles, cycle.repeat(3), "{types:?}");
            for kind in ["platform.start", "platform.runtimeDone", "platform.report"] {
                let ids: Vec<&Value> = of(kind).into_iter().map(|record| &record["requestId"]).collect();
                assert_eq!(ids, requests.iter().collect::<Vec<_>>());
            }
            let done = of("platform.runtimeDone")[0];
            assert_eq!((&done["status"], &done["metrics"]["producedBytes"]), (&json!("success"), &json!(38)));
            assert_eq!(done["spans"][0]["name"], "responseLatency");
            let hello = format!("hello from {}", requests[0].as_str().unwrap());
            assert_eq!(of("function")[0], &json!(hello));
            assert!(of("platform.report")[0]["metrics"]["initDurationMs"].as_f64().is_some());
            let said = &after(&log, "said")[0];
            let kinds: Vec<&Value> = (0..3).map(|place| &said[place][1]["errorType"]).collect();
            assert_eq!(
                kinds,
                ["Extension.MissingExtensionIdentifier", "ValidationError", "Logs.ValidationError"]
            );
            assert_eq!(said[1][1]["errorMessage"], "types should not be empty");
            assert_eq!((&said[3], &said[4]), (&json!([200, "OK"]), &json!([200, "OK"])));
            assert_eq!(
                (&said[5][0], &said[5][1]["errorType"]),
                (&json!(400), &json!("Logs.ValidationError"))
            );
            let late = json!([403, {"errorMessage": "Telemetry API subscription is closed already", "errorType": "Telemetry.SubscriptionClosed"}]);
            assert_eq!(after(&log, "late")[0], late);
            world
        }),
        trial(
            "a_subscriber_that_takes_nothing_holds_no_invocation_up_and_its_loss_is_counted",
            |mut world| async move {
                let spec = subscribed(&world, "time.sleep(60)");
                let id = world.ready(spec).await;
                for _ in 0..3 {
                    world.value(id, "1000").await;
                }
                // Three times a megabyte, and room for half of one.
                assert!(world.worker.metrics().telemetry_dropped > 1_000);
                world.worker.end(id, EndReason::Idle);
                assert_eq!(world.gone(id).await, EndReason::Idle);
                world
            },
        ),
        trial("a_subscriber_is_sent_what_made_the_init_phase_fail", |mut world| async move {
            let spec = subscribed(&world, TAKES);
            let code = std::path::PathBuf::from(&spec.environment["TEST_CODE"]);
            let exits = "while not os.path.exists('/tmp/subscribed'): time.sleep(0.005)\nos._exit(4)";
            write(&code.join("bootstrap"), &python(exits), 0o755);
            let id = world.ready(spec).await;
            let told = |log: Vec<String>, phase: &str| {
                after(&log, "got").iter().any(|event| {
                    event["type"] == "platform.initReport"
                        && event["record"]["phase"] == phase
                        && event["record"]["errorType"] == "Runtime.ExitError"
                })
            };
            let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
            while !told(world.log().await, "init") {
                assert!(tokio::time::Instant::now() < deadline, "{:#?}", world.log().await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let answer = world.invoke(id, "1").await.unwrap();
            assert_eq!(document(&answer)["errorType"], "Runtime.ExitError");
            assert_eq!(world.gone(id).await, EndReason::Failed);
            let log = world.log().await;
            assert!(told(log.clone(), "invoke"), "{log:#?}");
            world
        }),
        trial("a_subscriber_that_answers_without_end_or_with_errors_is_harmless", |mut world| async move {
            for answer in [
                "self.send_response(500); self.send_header('Content-Length', '0'); self.end_headers()",
                "self.send_response(200); self.end_headers(); [self.wfile.write(b'x' * 65536) for _ in iter(int, 1)]",
                "self.connection.close(); return",
            ] {
                let spec = subscribed(&world, answer);
                let id = world.ready(spec).await;
                world.value(id, "10").await;
                world.value(id, "10").await;
                world.worker.end(id, EndReason::Idle);
                assert_eq!(world.gone(id).await, EndReason::Idle);
            }
            world
        }),
    ]
}
