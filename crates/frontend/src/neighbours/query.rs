//! AWS's query protocol: a form comes in, XML goes out.

use std::collections::HashMap;
use std::fmt::Write;

use bytes::Bytes;
use hearth_types::RequestId;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use crate::Backend;
use crate::access::Caller;
use crate::body::{Body, full};
use crate::core::Core;
use crate::error::ApiError;
use crate::names::form_decode;

/// Parameters that a form may have; tags of a role are a hundred.
const PARAMETERS: usize = 1_000;

/// A service that speaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Iam,
    Sts,
}

impl Service {
    /// The one whose API has this version.
    fn of(version: &str) -> Option<Self> {
        match version {
            "2010-05-08" => Some(Self::Iam),
            "2011-06-15" => Some(Self::Sts),
            _ => None,
        }
    }

    const fn namespace(self) -> &'static str {
        match self {
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Iam => "IAM",
            Self::Sts => "STS",
        }
    }
}

/// What a caller of either service is told went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
    }

    /// Why a caller is not let in, in the words of these two services.
    fn of(error: &ApiError) -> Self {
        let code = match error.code {
            "MissingAuthenticationTokenException" => "MissingAuthenticationToken",
            "IncompleteSignatureException" => "IncompleteSignature",
            "InvalidSignatureException" => "SignatureDoesNotMatch",
            "UnrecognizedClientException" => "InvalidClientTokenId",
            "ExpiredTokenException" => "ExpiredToken",
            "AccessDeniedException" => "AccessDenied",
            other => other,
        };
        Self::new(error.status, code, error.message.as_str())
    }

    fn unknown(service: Service, action: &str) -> Self {
        let text = format!("Hearth does not have the action {action:?} of {}", service.name());
        Self::new(StatusCode::BAD_REQUEST, "InvalidAction", text)
    }
}

/// What an action answers: the members of its result, or nothing for one that has none.
pub(super) type Outcome = Result<Option<Value>, Fault>;

/// The parameters of a request, each decoded once: a form may be a mebibyte, and is asked for a hundred names.
#[derive(Debug)]
struct Parameters(HashMap<String, String>);

impl Parameters {
    /// Reads a form. Of a parameter that comes twice the first counts, and what cannot be decoded is not there.
    fn read(form: &str) -> Result<Self, Fault> {
        if form.split('&').count() > PARAMETERS {
            return Err(Fault::invalid(format!("A request may have at most {PARAMETERS} parameters")));
        }
        let mut parameters = HashMap::new();
        for pair in form.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(name), Some(value)) = (form_decode(name), form_decode(value)) {
                parameters.entry(name).or_insert(value);
            }
        }
        Ok(Self(parameters))
    }

    const fn form(&self) -> Form<'_> {
        Form(&self.0)
    }
}

/// What actions see of the parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a>(&'a HashMap<String, String>);

impl Form<'_> {
    /// A parameter, if it is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A parameter that must be there, of at most `most` characters.
    pub(super) fn need(&self, name: &str, most: usize) -> Result<String, Fault> {
        let value = self.get(name).ok_or_else(|| Fault::invalid(format!("{name} must not be empty")))?;
        if value.chars().count() > most {
            return Err(Fault::invalid(format!("{name} must have at most {most} characters")));
        }
        Ok(value)
    }

    /// The entries of a list: `name.member.1`, `name.member.2`, ... with what follows the number.
    pub(super) fn list(&self, name: &str, most: usize, suffix: &str) -> Vec<String> {
        let entry = |number| self.0.get(&format!("{name}.member.{number}{suffix}")).cloned();
        (1..=most).map_while(entry).collect()
    }
}

impl<B: Backend> Core<B> {
    /// Answers a form, and says for which service it is.
    pub(super) async fn query(
        &self,
        body: &Bytes,
        caller: &Caller,
        request_id: RequestId,
    ) -> (&'static str, Response<Body>) {
        let text = String::from_utf8_lossy(body);
        let parameters = match Parameters::read(&text) {
            Ok(parameters) => parameters,
            Err(fault) => return ("Unknown", failure(Service::Sts, &fault, request_id)),
        };
        let form = parameters.form();
        let version = form.get("Version").unwrap_or_default();
        let action = form.get("Action").unwrap_or_default();
        let Some(service) = Service::of(&version) else {
            let text =
                "POST / is for IAM, STS and CloudWatch Logs; the Version of this form is of none of them";
            let fault = Fault::new(StatusCode::BAD_REQUEST, "InvalidAction", text);
            return ("Unknown", failure(Service::Sts, &fault, request_id));
        };
        let right = format!("{}:{action}", service.name().to_ascii_lowercase());
        // Whoever has a key may know whose it is.
        if action != "GetCallerIdentity"
            && let Err(error) = caller.check(&right)
        {
            return (service.name(), failure(service, &Fault::of(&error), request_id));
        }
        let outcome = match service {
            Service::Iam => self.iam(&action, form, &caller.account).await,
            Service::Sts => self.sts(&action, form, caller),
        };
        let response = match outcome {
            Some(Ok(result)) => success(service, &action, result.as_ref(), request_id),
            Some(Err(fault)) => failure(service, &fault, request_id),
            None => failure(service, &Fault::unknown(service, &action), request_id),
        };
        (service.name(), response)
    }
}

fn success(service: Service, action: &str, result: Option<&Value>, request_id: RequestId) -> Response<Body> {
    let mut text = format!("<{action}Response xmlns=\"{}\">", service.namespace());
    if let Some(result) = result {
        element(&mut text, &format!("{action}Result"), result);
    }
    let _ = write!(
        text,
        "<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    );
    xml(StatusCode::OK, text)
}

fn failure(service: Service, fault: &Fault, request_id: RequestId) -> Response<Body> {
    let kind = if fault.status.is_server_error() { "Receiver" } else { "Sender" };
    let mut text = format!("<ErrorResponse xmlns=\"{}\"><Error><Type>{kind}</Type>", service.namespace());
    element(&mut text, "Code", &fault.code.into());
    element(&mut text, "Message", &fault.message.as_str().into());
    let _ = write!(text, "</Error><RequestId>{request_id}</RequestId></ErrorResponse>");
    xml(fault.status, text)
}

/// What one is told who may not call.
pub(super) fn refused(error: &ApiError, request_id: RequestId) -> Response<Body> {
    failure(Service::Sts, &Fault::of(error), request_id)
}

fn xml(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}

/// Writes a value as an element; lists have an element `member` for each entry, and null is not written.
fn element(text: &mut String, name: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    let _ = write!(text, "<{name}>");
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(text, "{value}");
        }
        Value::String(string) => escape(text, string),
        Value::Array(entries) => entries.iter().for_each(|entry| element(text, "member", entry)),
        Value::Object(members) => members.iter().for_each(|(name, value)| element(text, name, value)),
    }
    let _ = write!(text, "</{name}>");
}

fn escape(text: &mut String, string: &str) {
    for c in string.chars() {
        match c {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '"' => text.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(text, "&#{};", u32::from(c));
            }
            // XML has no way to write these.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_become_elements_and_what_xml_forbids_is_replaced() {
        let mut text = String::new();
        let value = json!({"A": "<&\"\n\u{1}é", "B": [1, {"C": true}], "D": null, "E": []});
        element(&mut text, "R", &value);
        assert_eq!(
            text,
            "<R><A>&lt;&amp;&quot;&#10;\u{fffd}é</A><B><member>1</member><member><C>true</C></member></B>\
             <E></E></R>"
        );
    }

    #[test]
    fn forms_have_lists_and_bounds() {
        let text =
            "Action=X&Tags.member.1.Key=a+b&Tags.member.2.Key=%C3%A9&Tags.member.4.Key=d&Empty=&Action=Y&B=%";
        let parameters = Parameters::read(text).unwrap();
        let form = parameters.form();
        assert_eq!(form.list("Tags", 50, ".Key"), ["a b", "é"]);
        assert_eq!(form.list("Tags", 1, ".Key"), ["a b"]);
        assert_eq!((form.get("Empty"), form.get("Action").as_deref()), (None, Some("X")));
        assert!(form.need("Action", 1).is_ok() && form.need("Action", 0).is_err());
        assert_eq!(form.need("None", 9).unwrap_err().code, "ValidationError");
        assert_eq!(form.get("B"), None);
    }

    #[test]
    fn a_form_of_a_mebibyte_of_names_is_refused_before_any_is_decoded() {
        assert_eq!(Parameters::read(&"a&".repeat(1 << 19)).unwrap_err().code, "ValidationError");
        assert_eq!(
            Parameters::read(&vec!["a=1"; PARAMETERS].join("&")).unwrap().form().need("a", 1).unwrap(),
            "1"
        );
    }
}
