//! What a function that behaves gets.

use std::time::Duration;

use hearth_types::{Concurrency, EndReason, InvokeError};
use hearth_worker::WorkerEvent;
use libtest_mimic::Trial;

use crate::world::{document, function, invocation, tail, trial};

const ECHO: &str = "serve(lambda event, id, headers: event)";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_instance_answers_many_times_and_ends_when_told", |mut world| async move {
            let id = world.ready(world.python(ECHO)).await;
            for n in 0..20 {
                assert_eq!(world.value(id, &n.to_string()).await, n);
            }
            let report = world.worker.instances().pop().unwrap();
            assert_eq!((report.state, report.invocations), ("idle", 20));
            assert!(report.memory_bytes > 0 && report.memory_peak_bytes >= report.memory_bytes);
            world.worker.end(id, EndReason::Idle);
            assert_eq!(world.gone(id).await, EndReason::Idle);
            let refused = world.invoke(id, "1").await;
            assert!(matches!(refused, Err(InvokeError::NotDelivered { .. })), "{refused:?}");
            world
        }),
        trial(
            "the_log_has_what_was_written_before_the_answer_between_start_and_end",
            |mut world| async move {
                let program =
                    "serve(lambda event, id, headers: (print('hello'), sys.stderr.write('no end'), 1)[2])";
                let id = world.ready(world.python(program)).await;
                let request = invocation("1");
                let request_id = request.request_id;
                let answer = world.worker.invoke(id, request).await.unwrap();
                let text = tail(&answer);
                let lines: Vec<&str> = text.lines().collect();
                assert_eq!(lines[0], format!("START RequestId: {request_id} Version: $LATEST"));
                assert_eq!(lines[1..4], ["hello", "no end", &format!("END RequestId: {request_id}")]);
                assert!(
                    lines[4].starts_with(&format!("REPORT RequestId: {request_id}\tDuration: ")),
                    "{text}"
                );
                assert!(
                    lines[4].contains("\tMemory Size: 128 MB\tMax Memory Used: ")
                        && lines[4].contains("\tInit Duration: ")
                );
                assert_eq!(world.log().await, lines);
                let second = tail(&world.invoke(id, "1").await.unwrap());
                assert!(!second.contains("Init Duration"), "{second}");
                world
            },
        ),
        trial("followers_miss_no_line", |mut world| async move {
            let id =
                world.ready(world.python("serve(lambda event, id, headers: print('line', event))")).await;
            world.value(id, "0").await;
            let logs = world.worker.logs().clone();
            let (before, mut follow) =
                tokio::task::spawn_blocking(move || logs.follow(&function(), 1_000, 0))
                    .await
                    .unwrap()
                    .unwrap();
            assert_eq!(before.iter().filter(|line| line.text == "line 0").count(), 1);
            for n in 1..5 {
                world.value(id, &n.to_string()).await;
            }
            let mut seen = Vec::new();
            while seen.len() < 4 {
                let line = follow.next().await.unwrap();
                seen.extend(line.text.strip_prefix("line ").map(str::to_owned));
            }
            assert_eq!(seen, ["1", "2", "3", "4"]);
            world
        }),
        trial("the_environment_and_the_headers_are_lambdas", |mut world| async move {
            let program = "serve(lambda event, id, headers: [dict(os.environ), headers])";
            let mut spec = world.python(program);
            spec.environment.insert("MINE".into(), "ü =x".into());
            spec.environment.insert("AWS_LAMBDA_FUNCTION_NAME".into(), "forged".into());
            let id = world.ready(spec).await;
            let mut request = invocation("{}");
            request.trace =
                Some("Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1".to_owned());
            request.client_context = Some("{\"custom\":1}".to_owned());
            let answer = document(&world.worker.invoke(id, request).await.unwrap());
            let (env, headers) = (&answer[0], &answer[1]);
            for (name, value) in [
                ("AWS_LAMBDA_FUNCTION_NAME", "probe"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
                ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/probe"),
                ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
                ("LAMBDA_TASK_ROOT", "/var/task"),
                ("_HANDLER", "app.handler"),
                ("TZ", ":UTC"),
                ("MINE", "ü =x"),
            ] {
                assert_eq!(env[name], value, "{name}");
            }
            assert!(env.get("AWS_EXECUTION_ENV").is_none(), "there is no runtime but the function's own");
            assert!(
                env["AWS_LAMBDA_LOG_STREAM_NAME"].as_str().unwrap().ends_with(&format!("/[$LATEST]{id}"))
            );
            assert!(env.get("AWS_LAMBDA_MAX_CONCURRENCY").is_none());
            assert_eq!(
                headers["lambda-runtime-trace-id"],
                "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
            );
            assert_eq!(headers["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            assert_eq!(headers["lambda-runtime-client-context"], "{\"custom\":1}");
            assert!(headers.get("lambda-runtime-cognito-identity").is_none());
            world
        }),
        trial("an_error_of_the_function_keeps_the_instance", |mut world| async move {
            let program = "while True:\n    id, _, event = next_event()\n    fail(id, {'errorType': 'Mine', 'errorMessage': event})";
            let id = world.ready(world.python(program)).await;
            for _ in 0..3 {
                let answer = world.invoke(id, "\"sorry\"").await.unwrap();
                assert!(answer.error.is_some() && answer.reusable);
                assert_eq!(document(&answer)["errorMessage"], "sorry");
            }
            world
        }),
        trial("an_invocation_runs_to_its_end_when_its_caller_goes_away", |mut world| async move {
            let id = world
                .ready(world.python("serve(lambda event, id, headers: time.sleep(0.3) or print('done'))"))
                .await;
            let left = tokio::time::timeout(Duration::from_millis(50), world.invoke(id, "1")).await;
            assert!(left.is_err());
            while world.worker.instances().iter().any(|instance| instance.state == "busy") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(world.log().await.contains(&"done".to_owned()));
            assert_eq!(world.value(id, "2").await, serde_json::Value::Null);
            world
        }),
        trial("an_instance_with_slots_runs_as_many_at_once", |mut world| async move {
            let program = "barrier = threading.Barrier(3)\ndef work():\n    own = http.client.HTTPConnection(API)\n    while True:\n        id, _, event = next_event(own)\n        barrier.wait()\n        call('POST', f'/2018-06-01/runtime/invocation/{id}/response', json.dumps(event), {}, own)\nfor _ in range(3): threading.Thread(target=work).start()";
            let mut spec = world.python(program);
            spec.concurrency = Concurrency::new(3, 3);
            let id = world.ready(spec).await;
            for _ in 0..5 {
                let (a, b, c) =
                    tokio::join!(world.value(id, "1"), world.value(id, "2"), world.value(id, "3"));
                assert_eq!((a, b, c), (1.into(), 2.into(), 3.into()));
            }
            world
        }),
        trial("an_idle_instance_hibernates_and_an_invocation_or_its_end_wakes_it", |mut world| async move {
            let program = "count = [0]\ndef work():\n    while True: count[0] += 1; time.sleep(0.001)\nthreading.Thread(target=work, daemon=True).start()\nserve(lambda event, id, headers: count[0])";
            let id = world.ready(world.python(program)).await;
            for round in 0..3 {
                let before = world.value(id, "1").await.as_u64().unwrap();
                world.worker.hibernate(id);
                world.until_state(id, "hibernating").await;
                world.until(|worker| worker.metrics().hibernated == round + 1).await;
                tokio::time::sleep(Duration::from_millis(400)).await;
                let after = world.value(id, "2").await.as_u64().unwrap();
                assert!(after - before < 300, "it ran on for {} ms", after - before);
                assert_eq!(world.worker.instances()[0].state, "idle");
            }
            // Whoever comes while it falls asleep is not forgotten.
            for _ in 0..20 {
                world.worker.hibernate(id);
                world.value(id, "3").await;
            }
            world.worker.hibernate(id);
            world.until_state(id, "hibernating").await;
            world.worker.end(id, EndReason::Idle);
            assert!(matches!(world.event_of(id).await, WorkerEvent::InstanceGone { .. }));
            world
        }),
        trial("a_launcher_without_code_makes_no_instance", |mut world| async move {
            let mut spec = world.python(ECHO);
            spec.environment.clear();
            let id = world.create(spec);
            let event = world.event_of(id).await;
            assert!(
                matches!(&event, WorkerEvent::InstanceFailed { reason, .. } if reason.contains("no code"))
            );
            world
        }),
        trial("an_instance_ended_while_it_starts_never_becomes_ready", |mut world| async move {
            let id = world.create(world.python("time.sleep(60)"));
            world.worker.end(id, EndReason::FunctionDeleted);
            assert!(matches!(world.event_of(id).await, WorkerEvent::InstanceFailed { .. }));
            world
        }),
    ]
}
