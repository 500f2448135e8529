//! What goes wrong in a function, told as Lambda tells it; the instance is ended or kept as Lambda does.

use std::time::Duration;

use hearth_types::{EndReason, InvokeError};
use libtest_mimic::Trial;
use serde_json::json;

use crate::world::{document, invocation, python, spec, tail, trial};

/// Answers what the event asks for, in Python.
const LAB: &str = "serve(lambda event, id, headers: eval(event))";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_timeout_ends_the_instance", |mut world| async move {
            let mut spec = world.python(LAB);
            spec.timeout = Duration::from_secs(1);
            let id = world.ready(spec).await;
            assert_eq!(world.value(id, "\"1 + 1\"").await, 2);
            let request = invocation("\"time.sleep(60)\"");
            let request_id = request.request_id;
            let answer = world.worker.invoke(id, request).await.unwrap();
            let message = format!("RequestId: {request_id} Error: Task timed out after 1.00 seconds");
            assert_eq!(
                document(&answer),
                json!({ "errorType": "Sandbox.Timedout", "errorMessage": message })
            );
            assert!(!answer.reusable);
            let log = tail(&answer);
            assert!(log.contains(&format!("{request_id} Task timed out after 1.00 seconds")), "{log}");
            assert!(log.trim_end().ends_with("Status: timeout"), "{log}");
            assert_eq!(world.gone(id).await, EndReason::Failed);
            world
        }),
        trial("a_runtime_that_exits_in_mid_request_is_told_as_lambda_tells_it", |mut world| async move {
            for (code, reason) in [
                ("os._exit(3)", "Runtime exited with error: exit status 3"),
                ("os._exit(127)", "Runtime exited with error: exit status 127"),
                ("os._exit(0)", "Runtime exited without providing a reason"),
                ("os.kill(os.getpid(), 11)", "Runtime exited with error: signal: segmentation fault"),
                ("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
                ("os.abort()", "Runtime exited with error: signal: aborted"),
            ] {
                let id = world.ready(world.python(LAB)).await;
                let request = invocation(&json!(code).to_string());
                let expected = format!("RequestId: {} Error: {reason}", request.request_id);
                let answer = world.worker.invoke(id, request).await.unwrap();
                assert_eq!(
                    document(&answer),
                    json!({ "errorType": "Runtime.ExitError", "errorMessage": expected })
                );
                assert!(!answer.reusable && answer.error.is_some());
                assert!(tail(&answer).trim_end().ends_with("Status: error\tError Type: Runtime.ExitError"));
                assert_eq!(world.gone(id).await, EndReason::Failed);
            }
            world
        }),
        trial("out_of_memory_is_a_killed_runtime_that_used_all_of_it", |mut world| async move {
            let id = world.ready(world.python(LAB)).await;
            let answer = world.invoke(id, "\"len(bytearray(b'x') * (1 << 30))\"").await.unwrap();
            let message = document(&answer)["errorMessage"].as_str().unwrap().to_owned();
            assert!(message.ends_with("Runtime exited with error: signal: killed"), "{message}");
            assert!(tail(&answer).contains("Max Memory Used: 128 MB\t"), "{}", tail(&answer));
            assert_eq!(world.gone(id).await, EndReason::Failed);
            world
        }),
        trial("a_runtime_that_exits_between_requests_fails_none", |mut world| async move {
            let id = world.ready(world.python(LAB)).await;
            world.value(id, "\"threading.Timer(0.05, lambda: os._exit(1)).start()\"").await;
            assert_eq!(world.gone(id).await, EndReason::Failed);
            assert!(matches!(world.invoke(id, "1").await, Err(InvokeError::NotDelivered { .. })));
            world
        }),
        trial("an_init_error_is_tried_again_in_the_first_invocation_and_told", |mut world| async move {
            let program = "call('POST', '/2018-06-01/runtime/init/error', json.dumps({'errorType': 'Mine', 'errorMessage': 'no'}), {'Lambda-Runtime-Function-Error-Type': 'Mine.Kind'})\nsys.exit(1)";
            let id = world.ready(world.python(program)).await;
            let answer = world.invoke(id, "1").await.unwrap();
            assert_eq!(document(&answer), json!({ "errorType": "Mine", "errorMessage": "no" }));
            assert!(!answer.reusable);
            assert_eq!(world.gone(id).await, EndReason::Failed);
            let log = world.log().await;
            assert!(log[0].starts_with("INIT_REPORT Init Duration: "), "{log:?}");
            assert!(log[0].ends_with(" ms\tPhase: init\tStatus: error\tError Type: Mine.Kind"), "{log:?}");
            assert!(log[1].starts_with("START "), "{log:?}");
            assert!(log[2].ends_with(" ms\tPhase: invoke\tStatus: error\tError Type: Mine.Kind"), "{log:?}");
            world
        }),
        trial("an_init_that_exits_is_told_to_the_first_invocation", |mut world| async move {
            let id = world.ready(world.python("os._exit(4)")).await;
            let answer = world.invoke(id, "1").await.unwrap();
            assert_eq!(document(&answer)["errorType"], "Runtime.ExitError");
            let message = document(&answer)["errorMessage"].as_str().unwrap().to_owned();
            assert!(message.ends_with("Error: Runtime exited with error: exit status 4"), "{message}");
            assert_eq!(world.gone(id).await, EndReason::Failed);
            world
        }),
        trial("an_init_that_fails_once_is_made_good_by_the_second", |mut world| async move {
            // Only the first init phase has no request, and takes its whole time.
            let mut spec = world.python(
                "time.sleep(0 if os.path.exists('/var/task/good') else 60)\nserve(lambda e, i, h: e)",
            );
            spec.timeout = Duration::from_secs(5);
            let code = std::path::PathBuf::from(&spec.environment["TEST_CODE"]);
            let id = world.ready(spec).await;
            std::fs::write(code.join("good"), "").unwrap();
            assert_eq!(world.value(id, "5").await, 5);
            assert_eq!(world.value(id, "6").await, 6);
            let log = world.log().await;
            assert!(log[0].ends_with("Phase: init\tStatus: timeout"), "{log:?}");
            let ms: f64 = log[0].split_whitespace().nth(3).unwrap().parse().unwrap();
            assert!((9_000.0..12_000.0).contains(&ms), "{ms}");
            world
        }),
        trial("an_init_that_never_ends_times_out_with_the_invocation", |mut world| async move {
            let mut spec = world.python("time.sleep(600)");
            spec.timeout = Duration::from_secs(1);
            let id = world.ready(spec).await;
            let answer = world.invoke(id, "1").await.unwrap();
            assert_eq!(document(&answer)["errorType"], "Sandbox.Timedout");
            assert_eq!(world.gone(id).await, EndReason::Failed);
            world
        }),
        trial("a_bootstrap_that_cannot_run_is_an_invalid_entrypoint", |mut world| async move {
            let missing = world.code("", 0o755);
            std::fs::remove_file(missing.join("bootstrap")).unwrap();
            for (code, reason) in [
                (missing, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
                (world.code(&python(LAB), 0o644), "fork/exec /var/task/bootstrap: permission denied"),
                (world.code("\u{7f}ELF nonsense", 0o755), "fork/exec /var/task/bootstrap: exec format error"),
            ] {
                let id = world.ready(spec(&code)).await;
                let request = invocation("1");
                let message = format!("RequestId: {} Error: {reason}", request.request_id);
                let answer = world.worker.invoke(id, request).await.unwrap();
                let expected = json!({ "errorType": "Runtime.InvalidEntrypoint", "errorMessage": message });
                assert_eq!(document(&answer), expected);
                assert_eq!(world.gone(id).await, EndReason::Failed);
            }
            world
        }),
        trial("an_answer_that_is_too_large_is_refused_and_the_instance_kept", |mut world| async move {
            let id = world.ready(world.python(LAB)).await;
            let limit = hearth_types::limits::RESPONSE_BYTES;
            let whole = world.invoke(id, &format!("\"'x' * ({limit} - 2)\"")).await.unwrap();
            assert_eq!((whole.payload.len(), whole.error), (limit, None));
            let answer = world.invoke(id, &format!("\"'x' * ({limit} - 1)\"")).await.unwrap();
            let text =
                format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
            let expected = json!({ "errorType": "Function.ResponseSizeTooLarge", "errorMessage": text });
            assert_eq!(document(&answer), expected);
            assert!(answer.reusable);
            assert_eq!(world.value(id, "\"7\"").await, 7);
            world
        }),
    ]
}
