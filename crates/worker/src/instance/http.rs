//! Requests to an instance that is an HTTP service, over connections that are kept and used again.
//!
//! A request goes to the instance once. It is given back only while not one byte of it has been written; whoever has it then may try
//! elsewhere. Dropping what is returned here, at any moment, ends the request: its connection is closed, and the service sees that.

mod body;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};

use self::body::Passed;
use super::session::Session;
use super::{Instance, Phase, Stop, lock};
use crate::metrics::count;
use hearth_sandbox::Sandbox;
use hearth_types::{EndReason, HttpService};

/// The body of a request or a response.
pub type HttpBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Most bytes of a response's head, and of what is read of a body at once.
const MAX_BUFFER: usize = 64 << 10;
/// A service's port is tried this often at first, and then ever less often: see [`pause`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// See [`SHORTEST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A service is found ready late by no more than this part of what it took.
const LATENESS: u32 = 16;
/// A connection that takes longer to be made, to a service that listens, is not made.
const CONNECT: Duration = Duration::from_secs(5);
/// An answer to a health check that takes longer is none.
const HEALTH: Duration = Duration::from_secs(2);
/// Connections tried when kept ones turn out to be closed.
const ATTEMPTS: usize = 4;

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The service certainly got nothing of the request; here it is.
    #[error("the instance did not get the request: {reason}")]
    NotDelivered {
        /// What happened.
        reason: String,
        /// What was to be sent.
        request: Box<Request<HttpBody>>,
    },
    /// The service failed to start, or broke off.
    #[error("the service gave no response: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
    /// No response began within the function's timeout.
    #[error("the service did not respond in time")]
    TimedOut,
}

/// A connection that can take a request, and the generation of the sandbox that it leads to.
#[derive(Debug)]
struct Kept {
    sender: SendRequest<HttpBody>,
    generation: u32,
}

/// The connections of an instance that are not in use.
#[derive(Debug, Default)]
pub(super) struct Connections(std::sync::Mutex<Vec<Kept>>);

/// A request that is in the instance; the instance is busy for as long as it lives.
struct Visit(Arc<Instance>);

impl Drop for Visit {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.visits = state.visits.saturating_sub(1);
        state.invocations += 1;
        state.last_used = Instant::now();
    }
}

// === impl Connections ===

impl Connections {
    /// One that is still open, the last used first.
    fn take(&self, generation: u32) -> Option<SendRequest<HttpBody>> {
        let mut kept = lock(&self.0);
        while let Some(one) = kept.pop() {
            if one.generation == generation && one.sender.is_ready() {
                return Some(one.sender);
            }
        }
        None
    }

    fn keep(&self, sender: SendRequest<HttpBody>, generation: u32, most: u32) {
        let mut kept = lock(&self.0);
        kept.retain(|one| !one.sender.is_closed());
        if kept.len() < usize::try_from(most).unwrap_or(usize::MAX) {
            kept.push(Kept { sender, generation });
        }
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

// === impl Instance ===

impl Instance {
    /// Has the service respond to a request.
    pub(crate) async fn forward(
        self: &Arc<Self>,
        request: Request<HttpBody>,
    ) -> Result<Response<HttpBody>, HttpError> {
        let Some(service) = &self.spec.http else {
            let reason = "it is no HTTP service".to_owned();
            return Err(HttpError::NotDelivered { reason, request: Box::new(request) });
        };
        let (visit, generation) = match self.visit() {
            Ok(visit) => visit,
            Err(Some(reason)) => return Err(HttpError::NotDelivered { reason, request: Box::new(request) }),
            Err(None) => {
                self.end(EndReason::Failed);
                return Err(HttpError::Failed { reason: "it failed to start".to_owned() });
            }
        };
        let woken = self.wake();
        let sent = async {
            if let Some(woken) = woken {
                let _ = woken.await;
            }
            self.send(service, generation, request).await
        };
        match timeout(self.spec.timeout, sent).await {
            Err(_late) => {
                count(&self.counters.timeouts);
                Err(HttpError::TimedOut)
            }
            Ok(Err(error)) => Err(error),
            Ok(Ok((response, sender))) => {
                count(&self.counters.succeeded);
                Ok(self.passed(response, sender, (visit, generation)))
            }
        }
    }

    /// A place for a request; nothing, if the service failed to start, or why it cannot have one now.
    fn visit(self: &Arc<Self>) -> Result<(Visit, u32), Option<String>> {
        let mut state = lock(&self.state);
        match state.phase {
            Phase::Making | Phase::Initializing => return Err(Some("it is still starting".to_owned())),
            Phase::Ending => return Err(Some("it is ending".to_owned())),
            Phase::Waiting => return Err(None),
            Phase::Serving => {}
        }
        if state.failure.is_some() || state.end.is_some() {
            return Err(Some("it is ending".to_owned()));
        }
        if state.visits >= self.spec.concurrency.hard.max(1) {
            return Err(Some("all of its slots are taken".to_owned()));
        }
        state.visits += 1;
        state.last_used = Instant::now();
        Ok((Visit(Arc::clone(self)), state.generation))
    }

    /// Sends it over a kept connection, or a new one where those turn out to be closed.
    async fn send(
        self: &Arc<Self>,
        service: &HttpService,
        generation: u32,
        mut request: Request<HttpBody>,
    ) -> Result<(Response<Incoming>, SendRequest<HttpBody>), HttpError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let kept = self.connections.take(generation).filter(|_| attempt < ATTEMPTS);
            let mut sender = match kept {
                Some(sender) => sender,
                None => match self.connect(service.port).await {
                    Ok(sender) => sender,
                    Err(error) => {
                        let reason = error.to_string();
                        return Err(HttpError::NotDelivered { reason, request: Box::new(request) });
                    }
                },
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if attempt < ATTEMPTS => request = unsent,
                    Some(unsent) => {
                        let reason = error.into_error().to_string();
                        return Err(HttpError::NotDelivered { reason, request: Box::new(unsent) });
                    }
                    None => {
                        count(&self.counters.crashes);
                        return Err(HttpError::Failed { reason: error.into_error().to_string() });
                    }
                },
            }
        }
    }

    async fn connect(&self, port: u16) -> std::io::Result<SendRequest<HttpBody>> {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        let sandbox = lock(&self.sandbox).clone().ok_or_else(gone)?;
        let made = timeout(CONNECT, sandbox.connect(port)).await;
        let io = made.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let handshake = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(io));
        let (sender, connection) = handshake.await.map_err(std::io::Error::other)?;
        let id = self.id;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, instance = %id, "a connection to a service broke off");
            }
        });
        Ok(sender)
    }

    /// The response as its taker gets it: its end, or its drop, ends the visit.
    fn passed(
        self: &Arc<Self>,
        response: Response<Incoming>,
        sender: SendRequest<HttpBody>,
        (visit, generation): (Visit, u32),
    ) -> Response<HttpBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (mut head, _) = response.into_parts();
            // For as long as whoever takes the connection over keeps it.
            head.extensions.insert(Arc::new(visit) as Arc<dyn std::any::Any + Send + Sync>);
            let none = Empty::new().map_err(|never| match never {});
            return Response::from_parts(head, none.boxed_unsync());
        }
        let instance = Arc::clone(self);
        let most = self.spec.concurrency.hard;
        let give_back = move || {
            if sender.is_ready() {
                instance.connections.keep(sender, generation, most);
                return;
            }
            // Its task has something left to do.
            let mut sender = sender;
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(HEALTH, sender.ready()).await {
                    instance.connections.keep(sender, generation, most);
                }
            });
        };
        let idle = self.spec.timeout;
        response.map(|body| Passed::new(body, give_back, visit, idle).boxed_unsync())
    }

    /// Waits until the service is ready, or something says that it will not be.
    pub(super) async fn until_ready(&self, session: &Session, service: &HttpService) -> Result<(), Stop> {
        let ready = async {
            let began = Instant::now();
            while !self.is_ready(&*session.sandbox, service).await {
                sleep(pause(began.elapsed())).await;
            }
        };
        tokio::select! {
            stopped = self.until(|_| false) => stopped,
            () = ready => Ok(()),
        }
    }

    async fn is_ready(&self, sandbox: &dyn Sandbox, service: &HttpService) -> bool {
        let Ok(Ok(io)) = timeout(CONNECT, sandbox.connect(service.port)).await else { return false };
        let Some(path) = &service.health else { return true };
        let asked = async {
            let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(io)).await?;
            let _connection = tokio::task::JoinSet::from_iter([connection]);
            let request = Request::builder()
                .method(Method::GET)
                .uri(path.as_str())
                .header(header::HOST, "localhost")
                .body(Empty::new());
            match request {
                Ok(request) => sender.send_request(request).await.map(|response| response.status()),
                Err(_) => Ok(StatusCode::NOT_FOUND),
            }
        };
        matches!(timeout(HEALTH, asked).await, Ok(Ok(status)) if status.is_success() || status.is_redirection())
    }
}

/// How long to wait until a service is asked again that was not ready after `waited`. Who starts quickly is asked often, who starts slowly
/// rarely, and neither waits much longer than it has to.
fn pause(waited: Duration) -> Duration {
    (waited / LATENESS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_ready_soon_and_one_that_never_is_is_asked_a_few_hundred_times() {
        let (mut waited, mut asked) = (Duration::ZERO, 0);
        while waited < Duration::from_secs(10) {
            let pause = pause(waited);
            assert!(pause <= SHORTEST_PAUSE.max(waited / LATENESS) && pause <= LONGEST_PAUSE);
            waited += pause;
            asked += 1;
        }
        assert!((200..300).contains(&asked), "{asked} times within its ten seconds");
    }
}
