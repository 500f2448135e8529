use super::*;

fn done(request: RequestId, is_error: bool, failure: Option<&Failure>) -> Said<'_> {
    Said::Done { request, duration: Duration::ZERO, is_error, failure, answered: None, trace: None }
}

const INFO: JsonLog = JsonLog { application: LogLevel::Info, system: LogLevel::Info };

fn read(said: &Said<'_>, log: JsonLog) -> Option<Value> {
    said.json(0, log).map(|text| serde_json::from_str(&text).unwrap())
}

#[test]
fn a_report_is_lambdas_document() {
    let request: RequestId = "3f8a1c52-0d5e-4c1b-9a34-1b2c3d4e5f60".parse().unwrap();
    let said = Said::Report(Report {
        request,
        duration: Duration::from_nanos(1_234_567),
        cold: Some(Cold::Init(Duration::from_micros(12_340))),
        memory_mb: 128,
        used_bytes: 34 << 20,
        status: Some(("error", Some("Runtime.ExitError"))),
        trace: None,
    });
    let document = json!({
        "time": "1970-01-01T00:00:00.000Z",
        "type": "platform.report",
        "record": {
            "requestId": request.to_string(),
            "status": "error",
            "errorType": "Runtime.ExitError",
            "metrics": {
                "durationMs": 1.235, "billedDurationMs": 14, "memorySizeMB": 128, "maxMemoryUsedMB": 34,
                "initDurationMs": 12.34,
            },
        },
    });
    assert_eq!(read(&said, INFO), Some(document));
}

#[test]
fn what_matters_less_than_the_log_is_for_is_not_said() {
    let request = RequestId::random();
    let failure = Failure::TimedOut(Duration::from_secs(3));
    let well = |failure| done(request, false, failure);
    let start = Said::Start { request, version: Version::Latest, trace: None };
    assert!(read(&well(None), INFO).is_none() && read(&start, INFO).is_some());
    let debug = JsonLog { system: LogLevel::Debug, ..INFO };
    assert_eq!(read(&well(None), debug).unwrap()["record"]["status"], "success");
    let warn = JsonLog { system: LogLevel::Warn, ..INFO };
    assert!(read(&start, warn).is_none());
    let failed = done(request, true, Some(&failure));
    let record = &read(&failed, warn).unwrap()["record"];
    assert_eq!((&record["status"], &record["errorType"]), (&json!("timeout"), &json!("Sandbox.Timedout")));
    assert_eq!(record["errorMessage"], "Task timed out after 3.00 seconds");
}

#[test]
fn text_says_of_success_what_lambda_says_nothing() {
    let request = RequestId::random();
    let said = done(request, true, None);
    assert_eq!(said.text(0), None);
    let failure = Failure::TimedOut(Duration::from_secs(3));
    let said = done(request, true, Some(&failure));
    let text = format!("1970-01-01T00:00:00.000Z {request} Task timed out after 3.00 seconds\n");
    assert_eq!(said.text(0), Some(text));
}
