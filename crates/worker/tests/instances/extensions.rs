//! Extensions: external ones from /opt/extensions, internal ones from the runtime's own process.

use std::time::Duration;

use hearth_types::EndReason;
use libtest_mimic::Trial;
use serde_json::json;

use crate::world::{World, document, python, spec, trial, write};

/// An external extension that says what it hears.
const WATCHER: &str = r"
status, headers, body = call('POST', '/2020-01-01/extension/register', json.dumps({'events': ['INVOKE', 'SHUTDOWN']}), {'Lambda-Extension-Name': 'watcher', 'Lambda-Extension-Accept-Feature': 'accountId'})
print('registered', status, body, flush=True)
print('handler' if '_HANDLER' in os.environ else 'no handler', os.environ['AWS_LAMBDA_FUNCTION_NAME'], flush=True)
own = {'Lambda-Extension-Identifier': headers['lambda-extension-identifier']}
connection = http.client.HTTPConnection(API)
while True:
    status, headers, body = call('GET', '/2020-01-01/extension/event/next', None, own, connection)
    event = json.loads(body)
    print('heard', event['eventType'], event.get('shutdownReason'), flush=True)
    if event['eventType'] == 'SHUTDOWN':
        break
    time.sleep(0.3)
    print('done with', event['requestId'], flush=True)
";

pub(crate) fn with_extension(world: &World, extension: &str) -> hearth_types::FunctionSpec {
    let code = world.code(&python("serve(lambda event, id, headers: id)"), 0o755);
    std::fs::create_dir_all(code.join("opt/extensions")).unwrap();
    write(&code.join("opt/extensions/watcher"), &python(extension), 0o755);
    spec(&code)
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_external_extension_hears_of_invocations_and_of_the_end", |mut world| async move {
            let spec = with_extension(&world, WATCHER);
            let id = world.ready(spec).await;
            let first = world.value(id, "1").await;
            let second = world.value(id, "1").await;
            assert_ne!(first, second);
            world.worker.end(id, EndReason::Idle);
            assert_eq!(world.gone(id).await, EndReason::Idle);
            let log = world.log().await;
            let line = |text: &str| {
                log.iter()
                    .position(|line| line.contains(text))
                    .unwrap_or_else(|| panic!("no {text:?} in {log:#?}"))
            };
            assert!(line("registered 200") < line("START"));
            assert!(log[line("registered 200")].contains("\"accountId\":\"123456789012\""));
            line("no handler probe");
            // What it does after the first answer is done before the second invocation begins.
            let done = line(&format!("done with {}", first.as_str().unwrap()));
            assert!(done < line(&format!("START RequestId: {}", second.as_str().unwrap())));
            line("heard SHUTDOWN spindown");
            world
        }),
        trial("an_extension_that_exits_fails_the_init", |mut world| async move {
            let spec = with_extension(&world, "sys.exit(3)");
            let id = world.ready(spec).await;
            let answer = world.invoke(id, "1").await.unwrap();
            assert_eq!(document(&answer)["errorType"], "Extension.Crash");
            assert_eq!(world.gone(id).await, EndReason::Failed);
            world
        }),
        trial("an_extension_that_says_it_failed_fails_the_init", |mut world| async move {
            let extension = "status, headers, body = call('POST', '/2020-01-01/extension/register', json.dumps({'events': []}), {'Lambda-Extension-Name': 'watcher'})\nprint(call('POST', '/2020-01-01/extension/init/error', '{}', {'Lambda-Extension-Identifier': headers['lambda-extension-identifier'], 'Lambda-Extension-Function-Error-Type': 'Extension.Mine'})[0])\ntime.sleep(60)";
            let spec = with_extension(&world, extension);
            let id = world.ready(spec).await;
            let answer = world.invoke(id, "1").await.unwrap();
            assert_eq!(document(&answer)["errorType"], "Extension.Mine");
            assert_eq!(world.gone(id).await, EndReason::Failed);
            world
        }),
        trial("an_extension_hears_that_a_timeout_is_the_end", |mut world| async move {
            let mut spec = with_extension(&world, WATCHER);
            let code = std::path::PathBuf::from(&spec.environment["TEST_CODE"]);
            write(
                &code.join("bootstrap"),
                &python("serve(lambda event, id, headers: time.sleep(60))"),
                0o755,
            );
            spec.timeout = Duration::from_secs(1);
            let id = world.ready(spec).await;
            let answer = world.invoke(id, "1").await.unwrap();
            assert_eq!(document(&answer)["errorType"], "Sandbox.Timedout");
            assert_eq!(world.gone(id).await, EndReason::Failed);
            let log = world.log().await;
            assert!(log.contains(&"heard SHUTDOWN timeout".to_owned()), "{log:#?}");
            world
        }),
        trial(
            "an_internal_extension_registers_before_the_first_next_and_not_for_shutdown",
            |mut world| async move {
                let program = r"
register = lambda name, events: call('POST', '/2020-01-01/extension/register', events, {'Lambda-Extension-Name': name} if name else {})
next_ = lambda headers: call('GET', '/2020-01-01/extension/event/next', None, headers)
said = [register('', '{}')[0], register('a', 'nonsense')[0], register('a', json.dumps({'events': ['SHUTDOWN']}))[0], next_({})[0], next_({'Lambda-Extension-Identifier': 'x'})[0]]
status, headers, body = register('inner', json.dumps({'events': ['INVOKE']}))
said += [status, json.loads(body)]
own = {'Lambda-Extension-Identifier': headers['lambda-extension-identifier']}
heard = []
def watch():
    while True: heard.append(json.loads(next_(own)[2]))
threading.Thread(target=watch, daemon=True).start()
serve(lambda event, id, headers: [said, heard, id, register('late', json.dumps({'events': []}))[0]])
";
                let id = world.ready(world.python(program)).await;
                let first = world.value(id, "1").await;
                let names = json!({ "functionName": "probe", "functionVersion": "$LATEST", "handler": "app.handler" });
                assert_eq!(first[0], json!([403, 400, 403, 403, 403, 200, names]));
                assert_eq!(first[3], 403);
                let second = world.value(id, "1").await;
                let event = &second[1][0];
                assert_eq!((&event["eventType"], &event["requestId"]), (&json!("INVOKE"), &first[2]));
                assert!(
                    event["deadlineMs"].as_u64().is_some() && event["invokedFunctionArn"].as_str().is_some()
                );
                world
            },
        ),
    ]
}
