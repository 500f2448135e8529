//! Which call a path is.

use http::Method;

use crate::telemetry::Api;

/// A call of these APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Next,
    Response(&'a str),
    InvocationError(&'a str),
    InitError,
    RestoreNext,
    RestoreError,
    Register,
    EventNext,
    ExtensionInitError,
    ExtensionExitError,
    Subscribe(Api),
    WrongMethod,
    Unknown,
}

/// The call that `method` and `path` make.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let (route, wants) = if let Some(call) = path.strip_prefix("/2018-06-01/runtime/") {
        match call {
            "invocation/next" => (Route::Next, Method::GET),
            "init/error" => (Route::InitError, Method::POST),
            "restore/next" => (Route::RestoreNext, Method::GET),
            "restore/error" => (Route::RestoreError, Method::POST),
            other => match other.strip_prefix("invocation/").and_then(|rest| rest.split_once('/')) {
                Some((id, "response")) => (Route::Response(id), Method::POST),
                Some((id, "error")) => (Route::InvocationError(id), Method::POST),
                _ => return Route::Unknown,
            },
        }
    } else if let Some(call) = path.strip_prefix("/2020-01-01/extension/") {
        match call {
            "register" => (Route::Register, Method::POST),
            "event/next" => (Route::EventNext, Method::GET),
            "init/error" => (Route::ExtensionInitError, Method::POST),
            "exit/error" => (Route::ExtensionExitError, Method::POST),
            _ => return Route::Unknown,
        }
    } else {
        match path.strip_suffix('/').unwrap_or(path) {
            "/2022-07-01/telemetry" => (Route::Subscribe(Api::Telemetry), Method::PUT),
            "/2020-08-15/logs" => (Route::Subscribe(Api::Logs), Method::PUT),
            _ => return Route::Unknown,
        }
    };
    if *method == wants { route } else { Route::WrongMethod }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calls_of_these_apis_are_known() {
        let post = |path| find(&Method::POST, path);
        assert_eq!(find(&Method::GET, "/2018-06-01/runtime/invocation/next"), Route::Next);
        assert_eq!(post("/2018-06-01/runtime/invocation/next"), Route::WrongMethod);
        assert_eq!(post("/2018-06-01/runtime/invocation/a-b/response"), Route::Response("a-b"));
        assert_eq!(post("/2018-06-01/runtime/invocation/a-b/error"), Route::InvocationError("a-b"));
        assert_eq!(post("/2020-01-01/extension/register"), Route::Register);
        for path in ["/2022-07-01/telemetry", "/2022-07-01/telemetry/"] {
            assert_eq!(find(&Method::PUT, path), Route::Subscribe(Api::Telemetry));
        }
        assert_eq!(find(&Method::PUT, "/2020-08-15/logs"), Route::Subscribe(Api::Logs));
        assert_eq!(post("/2020-08-15/logs"), Route::WrongMethod);
        for unknown in [
            "",
            "/",
            "/2018-06-01/runtime/",
            "/2018-06-01/runtime/invocation//x/response",
            "/2018-06-01/ping",
        ] {
            assert_eq!(post(unknown), Route::Unknown, "{unknown}");
        }
    }
}
