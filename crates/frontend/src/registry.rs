//! The registry inside: images come in and go out at `/v2/` of the same listener, by the OCI distribution specification 1.1.
//!
//! An account sees its own repositories only. Who says no account is the default one, as in the rest of the API, or the one whose twelve
//! digits the repository's name begins with, since Docker's client gives its name only where it is asked for it. Content is kept once,
//! whoever has it; which repository may read which blob is noted beside it. Where keys are asked for, a key's id and secret are name and password.
//!
//! | file | what it answers |
//! |---|---|
//! | `path` | which of the operations a path means |
//! | `blobs` | reading, mounting, deleting content |
//! | `uploads` | content on its way in |
//! | `manifests` | manifests, tags, referrers |
//! | `answer` | answers and errors in the specification's words |

mod answer;
mod blobs;
mod manifests;
mod path;
mod uploads;

use std::sync::Arc;

use hearth_oci::{Images, OciError, Repository};
use hearth_types::AccountId;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::Backend;
use crate::body::Body;
use crate::core::Core;
use crate::names::query_value;
use crate::services::Client;

use answer::{Refusal, json};
use path::{Target, parse};
pub(crate) use uploads::Uploads;

/// Where the registry is.
const ROOT: &str = "/v2";
/// Names on one page, unless fewer are asked for.
const PAGE: usize = 1_000;

type Answer = Result<Response<Body>, Refusal>;

/// A request to the registry.
struct Call {
    images: Arc<Images>,
    account: AccountId,
    /// The repository's name as the caller says it, for addresses.
    said: String,
    /// Without the account that it may begin with.
    name: String,
    method: Method,
    query: String,
    head: Parts,
}

/// Whether a path is the registry's.
pub(crate) fn is_mine(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The account whose repository a name means, and the name there.
///
/// A name that begins with another account's digits is nobody's for who has said who they are.
pub(crate) fn owner(account: &AccountId, is_told: bool, name: &str) -> Option<(AccountId, String)> {
    let first = name.split_once('/').and_then(|(first, rest)| Some((first.parse::<AccountId>().ok()?, rest)));
    match first {
        None => Some((account.clone(), name.to_owned())),
        Some((owner, rest)) => (!is_told || owner == *account).then(|| (owner, rest.to_owned())),
    }
}

impl<B: Backend> Core<B> {
    /// Answers a request to the registry.
    pub(crate) async fn registry(&self, head: Parts, body: Incoming, client: Client) -> Response<Body> {
        let answered = self.route_registry(head, body, client).await;
        let mut response = answered.unwrap_or_else(Refusal::response);
        let version = hyper::header::HeaderValue::from_static("registry/2.0");
        response.headers_mut().insert("docker-distribution-api-version", version);
        response
    }

    async fn route_registry(&self, head: Parts, body: Incoming, client: Client) -> Answer {
        let caller = self.admit_basic(&head, client.ip).map_err(|error| match error.status {
            StatusCode::FORBIDDEN => Refusal::unauthorized(error.message),
            status => Refusal::new(status, "TOOMANYREQUESTS", error.message),
        })?;
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        let action = if is_read { "registry:Pull" } else { "registry:Push" };
        let checked = caller.check(action);
        checked.map_err(|error| Refusal::new(StatusCode::FORBIDDEN, "DENIED", error.message))?;
        let account = caller.account;
        let path = head.uri.path().strip_prefix(ROOT).unwrap_or_default().to_owned();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let is_told = self.gate.asks() || head.headers.contains_key(AUTHORIZATION);
        if matches!(&*path, "" | "/") {
            return Ok(json(StatusCode::OK, &serde_json::json!({})));
        }
        let images = Arc::clone(self.puller.images());
        if path == "/_catalog" {
            return catalog(images, account, &query).await;
        }
        let Some((said, target)) = parse(&path) else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is nothing at this path"));
        };
        let denied = || Refusal::new(StatusCode::FORBIDDEN, "DENIED", "the repository is of another account");
        let (account, name) = owner(&account, is_told, &said).ok_or_else(denied)?;
        let call = Call { images, account, said, name, method: head.method.clone(), query, head };
        match target {
            Target::Tags => call.tags().await,
            Target::Referrers(digest) => call.referrers(&digest).await,
            Target::Manifest(wanted) => call.manifest(wanted, body).await,
            Target::Blob(digest) => call.blob(&digest).await,
            Target::Uploads => self.uploads_of(&call).begin(body).await,
            Target::Upload(id) => self.uploads_of(&call).go_on(&id, body).await,
        }
    }

    fn uploads_of<'a>(&'a self, call: &'a Call) -> uploads::Uploading<'a> {
        uploads::Uploading { call, uploads: &self.registry_uploads }
    }
}

async fn catalog(images: Arc<Images>, account: AccountId, query: &str) -> Answer {
    let names = blocking(move || {
        images
            .repositories()
            .names(&account)
            .map_err(|source| OciError::Io { step: "list repositories".into(), source })
    });
    let (page, more) = page(names.await?, query);
    let mut response = json(StatusCode::OK, &serde_json::json!({"repositories": page}));
    answer::link_next(&mut response, "/v2/_catalog", more.then(|| page.last()).flatten(), page.len());
    Ok(response)
}

/// Those names that a query asks for, and whether there are more.
fn page(names: Vec<String>, query: &str) -> (Vec<String>, bool) {
    let most =
        query_value(query, "n").and_then(|text| text.parse().ok()).map_or(PAGE, |n: usize| n.min(PAGE));
    let last = query_value(query, "last").unwrap_or_default();
    let mut rest = names.into_iter().filter(|name| *name > last).take(most + 1).collect::<Vec<_>>();
    let more = rest.len() > most;
    rest.truncate(most);
    (rest, more)
}

impl Call {
    /// The repository, whether it exists or not.
    fn repository(&self) -> Result<Repository, Refusal> {
        self.images.repositories().get(&self.account, &self.name).ok_or_else(|| {
            let text = "a repository's name is lower-case letters and digits, parts of it joined by ., _, - or /, \
                        and has at most 200 characters";
            Refusal::new(StatusCode::BAD_REQUEST, "NAME_INVALID", text)
        })
    }

    fn wrong_method(&self) -> Refusal {
        let text = format!("{} is not possible here", self.method);
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", text)
    }
}

/// Does what asks the disk, off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OciError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Refusal::of(&error)),
        Err(error) => {
            tracing::error!(%error, "a request to the registry broke down");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "Hearth failed; its log says why"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_begins_with_an_account_is_that_accounts() {
        let [mine, other]: [AccountId; 2] =
            ["111111111111", "222222222222"].map(|account| account.parse().unwrap());
        assert_eq!(owner(&mine, true, "a/b"), Some((mine.clone(), "a/b".to_owned())));
        assert_eq!(owner(&mine, true, "111111111111/b"), Some((mine.clone(), "b".to_owned())));
        assert_eq!(owner(&mine, true, "222222222222/b"), None);
        assert_eq!(owner(&mine, false, "222222222222/b"), Some((other, "b".to_owned())));
    }

    #[test]
    fn pages_begin_after_the_last_name_of_the_one_before() {
        let names = || ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(page(names(), "n=2"), (vec!["a".to_owned(), "b".to_owned()], true));
        assert_eq!(page(names(), "n=2&last=b"), (vec!["c".to_owned()], false));
        assert_eq!(page(names(), "n=0"), (vec![], true));
        assert_eq!(page(names(), "n=x").0.len(), 3);
    }
}
