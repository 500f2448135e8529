//! Python: AWS's own client, installed from the registry into a home of its own.

use std::fs;

use hearth_runtimes::{Catalog, RuntimeState};
use hearth_types::RuntimeFamily;
use serde_json::json;

use crate::{api, found, task};

#[test]
fn python_s_client_is_installed_once_whole_and_answers() {
    let home = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(home.path().to_owned());
    let Some(runtime) = found(home.path(), RuntimeFamily::Python).pop() else { return };
    let before = catalog.resolve(&runtime).unwrap_err();
    assert!(before.to_string().contains(&format!("hearth runtime add {runtime}")), "{before}");

    catalog.add(&runtime, &mut |_| ()).unwrap();
    assert!(matches!(catalog.state(&runtime), RuntimeState::Ready { .. }));
    let program = catalog.resolve(&runtime).unwrap();
    let client = program.mounts.iter().find(|(_, target)| target.ends_with("var/runtime")).unwrap().0.clone();
    let made = fs::metadata(&client).unwrap().modified().unwrap();
    catalog.add(&runtime, &mut |_| ()).unwrap();
    assert_eq!(fs::metadata(&client).unwrap().modified().unwrap(), made, "a second add changes nothing");
    let half_made = fs::read_dir(home.path()).unwrap().flatten();
    assert!(
        !half_made.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().contains("half-made"))
    );
    assert!(client.join("awslambdaric/__pycache__").is_dir(), "compiled at install");

    let code = "import sys, boto3\n\
        def handler(event, context):\n    \
            quit\n    \
            if event == 'fail': raise ValueError('no')\n    \
            return [event, context.aws_request_id, 'site-packages' in ' '.join(sys.path[3:])]\n";
    let task = task(&[("app.py", code)]);
    let outcome = api::run(&program, task.path(), "app.handler", &[r#"{"a":1}"#, r#""fail""#]);
    assert_eq!(outcome.posts.len(), 2, "ended with {:?}: {}", outcome.status, outcome.stdout);
    assert_eq!(outcome.posts[0].path, "invocation/r0/response");
    assert_eq!(outcome.posts[0].json(), json!([{"a": 1}, "r0", false]));
    assert_eq!(outcome.posts[1].path, "invocation/r1/error");
    assert_eq!(outcome.posts[1].json()["errorType"], "ValueError");
    assert!(outcome.status.is_none());
}
