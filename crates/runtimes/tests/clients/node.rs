//! Node.js: Hearth's client keeps the contract of AWS's, on every Node.js of this machine.

use hearth_runtimes::{Catalog, Program};
use hearth_types::RuntimeFamily;
use serde_json::{Value, json};

use crate::api::{self, Outcome};
use crate::{found, task};

/// Does the same with each Node.js here; the number is its major version.
fn each(check: impl Fn(&Program, u32)) {
    let home = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(home.path().to_owned());
    for runtime in found(home.path(), RuntimeFamily::Node) {
        let major: u32 = runtime.language_version().unwrap().parse().unwrap();
        if major >= 18 {
            println!("with {runtime}");
            check(&catalog.resolve(&runtime).unwrap(), major);
        }
    }
}

fn run(program: &Program, files: &[(&str, &str)], handler: &str, events: &[&str]) -> Outcome {
    api::run(program, task(files).path(), handler, events)
}

fn answers(outcome: &Outcome) -> Vec<Value> {
    outcome
        .posts
        .iter()
        .map(|post| {
            assert!(
                post.path.ends_with("/response"),
                "{}: {}",
                post.path,
                String::from_utf8_lossy(&post.body)
            );
            post.json()
        })
        .collect()
}

#[test]
fn a_handler_is_found_wherever_lambda_finds_it() {
    let esm = "export const handler = async (event) => event.n + 1;";
    let cjs =
        "exports.handler = async (event) => event.n + 1; exports.api = { v1: { get: exports.handler } };";
    let only = "module.exports = async (event) => event.n + 1; module.exports.handler = module.exports;";
    let package = ("package.json", r#"{"type":"module"}"#);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("index.mjs", esm)], "index.handler"),
        (&[("index.js", cjs)], "index.handler"),
        (&[("index.cjs", cjs)], "index.handler"),
        (&[("index.js", only)], "index.handler"),
        (&[("index.js", esm), package], "index.handler"),
        (&[("src/index.js", esm), package], "src/index.handler"),
        (&[("index.cjs", cjs), package], "index.handler"),
        (&[("lib/api.js", cjs)], "lib/api.api.v1.get"),
        // A folder of the same name does not hide the file; one with an index.js does for itself.
        (&[("app.js", cjs), ("app/other.js", "")], "app.handler"),
        (&[("app/index.js", cjs)], "app.handler"),
        (&[("node_modules/pkg/index.js", cjs)], "pkg.handler"),
        (
            &[("index.mjs", "export const handler = await Promise.resolve(async (e) => e.n + 1);")],
            "index.handler",
        ),
    ];
    each(|program, _| {
        for (files, handler) in cases {
            let outcome = run(program, files, handler, &[r#"{"n":1}"#]);
            assert_eq!(answers(&outcome), [json!(2)], "{files:?} {handler}");
        }
    });
}

#[test]
fn the_context_says_all_that_lambda_s_does() {
    let code = "exports.handler = async (event, context) => ({ ...context, left: context.getRemainingTimeInMillis() > 1000,
        trace: process.env._X_AMZN_TRACE_ID, limit: process.execArgv.join(' ') });";
    each(|program, _| {
        let outcome = run(program, &[("index.js", code)], "index.handler", &["{}", "{}"]);
        let said = &answers(&outcome)[1];
        let expected = json!({
            "functionName": "hello", "functionVersion": "$LATEST", "memoryLimitInMB": "256",
            "logGroupName": "/aws/lambda/hello", "logStreamName": "stream", "invokedFunctionArn": "arn:hello",
            "awsRequestId": "r1", "clientContext": {"custom": {"a": "b"}}, "left": true, "trace": "Root=1-1",
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&said[name], value, "{name}");
        }
        assert!(said["limit"].as_str().unwrap().contains("--max-old-space-size=225"), "{said}");
    });
}

#[test]
fn callbacks_wait_for_the_event_loop_unless_told_not_to() {
    let code = "let late = 0;
        exports.handler = (event, context, callback) => {
            if (event.now) context.callbackWaitsForEmptyEventLoop = false;
            if (event.done) return void context.done(null, 'done');
            if (event.succeed) return void setTimeout(() => context.succeed('succeeded'), 5);
            if (event.fail) return void context.fail(new TypeError('failed'));
            if (event.error) return void callback('text');
            const before = late;
            setTimeout(() => { late += 1; }, 20);
            callback(null, { get late() { return late - before; } });
            callback(null, 'twice');
        };";
    let events =
        ["{}", r#"{"now":1}"#, r#"{"done":1}"#, r#"{"succeed":1}"#, r#"{"fail":1}"#, r#"{"error":1}"#, "{}"];
    each(|program, major| {
        let outcome = run(program, &[("index.js", code)], "index.handler", &events);
        if major >= 24 {
            assert_eq!(outcome.posts[0].path, "init/error");
            assert_eq!(outcome.posts[0].json()["errorType"], "Runtime.CallbackHandlerDeprecated");
            return;
        }
        let said: Vec<Value> = outcome.posts.iter().map(api::Post::json).collect();
        assert_eq!(said[0], json!({"late": 1}));
        assert_eq!(said[1], json!({"late": 0}));
        assert_eq!(said[2..4], [json!("done"), json!("succeeded")]);
        assert_eq!(
            (&said[4]["errorType"], &said[4]["errorMessage"]),
            (&json!("TypeError"), &json!("failed"))
        );
        assert_eq!(said[5], json!({"errorType": "string", "errorMessage": "text", "trace": []}));
        assert_eq!(said.len(), 7, "one answer each");
    });
}

#[test]
fn a_handler_that_leaves_nothing_to_wait_for_answers_null_until_node_24_and_fails_from_there() {
    each(|program, major| {
        let code = "exports.handler = () => new Promise(() => {});";
        let outcome = run(program, &[("index.js", code)], "index.handler", &["{}", "{}"]);
        assert_eq!(outcome.posts.len(), 2);
        for post in &outcome.posts {
            if major >= 24 {
                assert_eq!(post.json()["errorType"], "Runtime.NodeJsExit");
            } else {
                assert_eq!(post.json(), Value::Null);
            }
        }
    });
}

#[test]
fn a_failed_invocation_is_told_with_type_message_and_trace_and_the_next_is_unharmed() {
    let code = "class NoSuchUser extends Error { constructor(m) { super(m); this.name = 'NoSuchUser'; } }
        exports.handler = async (event) => {
            if (event.own) throw new NoSuchUser('Ada');
            if (event.plain) throw 'a word';
            if (event.nothing) return Promise.reject();
            if (event.circle) { const a = {}; a.a = a; return a; }
            if (event.hostile) throw new Proxy(new Error(), { get() { throw 1; } });
            return undefined;
        };";
    let events = [
        r#"{"own":1}"#,
        r#"{"plain":1}"#,
        r#"{"nothing":1}"#,
        r#"{"circle":1}"#,
        r#"{"hostile":1}"#,
        "not json",
        "{}",
    ];
    each(|program, _| {
        let outcome = run(program, &[("index.js", code)], "index.handler", &events);
        let types = outcome.posts[..6].iter().map(|post| {
            assert!(post.path.ends_with("/error"), "{}", post.path);
            post.json()["errorType"].as_str().unwrap().to_owned()
        });
        let types: Vec<String> = types.collect();
        assert_eq!(types, ["NoSuchUser", "string", "Error", "Error", "handled", "SyntaxError"]);
        let first = outcome.posts[0].json();
        assert_eq!(first["errorMessage"], "Ada");
        assert!(first["trace"][1].as_str().unwrap().contains("index.js:"), "{first}");
        assert_eq!(outcome.posts[0].headers["lambda-runtime-function-error-type"], "NoSuchUser");
        assert_eq!(outcome.posts[6].json(), Value::Null);
        assert!(outcome.stdout.contains("\tr0\tERROR\tInvoke Error"), "{}", outcome.stdout);
    });
}

#[test]
fn code_that_cannot_be_loaded_is_an_init_error_of_lambda_s_type() {
    let cases = [
        ("", "nothing.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'nothing'"),
        (
            "require('not-there')",
            "index.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'not-there'",
        ),
        (
            "exports.other = 1",
            "index.handler",
            "Runtime.HandlerNotFound",
            "index.handler is undefined or not exported",
        ),
        (
            "exports.handler = 1",
            "index.handler",
            "Runtime.HandlerNotFound",
            "index.handler is not a function",
        ),
        ("const = 1", "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
        ("", "index", "Runtime.MalformedHandlerName", "Bad handler"),
        (
            "",
            "../index.handler",
            "Runtime.MalformedHandlerName",
            "'../index.handler' is not a valid handler name",
        ),
        ("throw new RangeError('at load')", "index.handler", "RangeError", "at load"),
    ];
    each(|program, _| {
        for (code, handler, kind, message) in cases {
            let outcome = run(program, &[("index.js", code)], handler, &["{}"]);
            let post = &outcome.posts[0];
            assert_eq!(post.path, "init/error", "{code}");
            assert_eq!(post.json()["errorType"], kind, "{code}");
            assert!(post.json()["errorMessage"].as_str().unwrap().starts_with(message), "{}", post.json());
            assert_eq!(outcome.status.and_then(|status| status.code()), Some(1));
        }
    });
}

#[test]
fn a_failure_that_nobody_caught_is_told_and_ends_the_process() {
    let cases = [
        ("Promise.reject(new Error('lost')); await new Promise(() => setTimeout(() => 0, 9999))", 128),
        (
            "setTimeout(() => { throw new TypeError('lost') }, 1); await new Promise(() => setTimeout(() => 0, 9999))",
            129,
        ),
    ];
    each(|program, _| {
        for (body, status) in cases {
            let code = format!("exports.handler = async () => {{ {body} }};");
            let outcome = run(program, &[("index.js", &code)], "index.handler", &["{}"]);
            let post = &outcome.posts[0];
            assert_eq!(post.path, "invocation/r0/error");
            let (kind, message) = match status {
                128 => ("Runtime.UnhandledPromiseRejection", "Error: lost"),
                _ => ("TypeError", "lost"),
            };
            assert_eq!(
                (&post.json()["errorType"], &post.json()["errorMessage"]),
                (&json!(kind), &json!(message))
            );
            assert_eq!(outcome.status.and_then(|ended| ended.code()), Some(status));
        }
    });
}

#[test]
fn a_console_call_is_one_line_with_time_request_and_level() {
    let code = "console.log('at init'); exports.handler = async () => { console.warn('a %s\\nb', 'c', {d: 1}); console.error('e'); };";
    each(|program, _| {
        let outcome = run(program, &[("index.js", code)], "index.handler", &["{}"]);
        let lines: Vec<&str> = outcome.stdout.split('\n').collect();
        assert!(lines[0].ends_with("Z\tundefined\tINFO\tat init"), "{lines:?}");
        assert!(lines[1].ends_with("Z\tr0\tWARN\ta c\rb { d: 1 }"), "{lines:?}");
        assert!(lines[2].ends_with("Z\tr0\tERROR\te"), "{lines:?}");
    });
}

#[test]
fn six_megabytes_go_in_and_out() {
    let code = "export const handler = async (event) => event;";
    let event = json!("é".repeat(3_000_000)).to_string();
    each(|program, _| {
        let outcome = run(program, &[("index.mjs", code)], "index.handler", &[&event, "1"]);
        assert!(outcome.posts[0].body == event.as_bytes());
        assert_eq!(outcome.posts[1].json(), json!(1));
    });
}
