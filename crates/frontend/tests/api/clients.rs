//! boto3, AWS's own client, reads every answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::server::Server;

/// A Python that has boto3: the one of the end-to-end tests, or what `HEARTH_TEST_PYTHON` names.
async fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/venv/bin/python");
    let python = std::env::var_os("HEARTH_TEST_PYTHON").map_or(own, PathBuf::from);
    let mut probe = Command::new(&python);
    probe.args(["-c", "import boto3"]).stderr(Stdio::null());
    probe.status().await.is_ok_and(|status| status.success()).then_some(python)
}

#[tokio::test]
async fn boto3_understands_every_answer() {
    let Some(python) = python().await else {
        eprintln!(
            "skipped: no Python with boto3; `make test` installs one, HEARTH_TEST_PYTHON names another"
        );
        return;
    };
    let server = Server::start().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/boto3_check.py");
    let mut check = Command::new(python);
    check.arg(script).arg(format!("http://{}", server.address)).kill_on_drop(true);
    let output =
        tokio::time::timeout(std::time::Duration::from_secs(120), check.output()).await.unwrap().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{wrong}");
    server.stop().await;
}
