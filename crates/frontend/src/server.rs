//! Connections: how many, how patient, and how they end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hearth_types::RequestId;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Backend;
use crate::core::Core;
use crate::service::HEAD_BYTES;
use crate::services::Client;
use crate::tls::Certificates;

/// Milliseconds that an answer may wait for a client that takes none of it, before the kernel ends the connection.
const DEAF_MILLIS: u32 = 60_000;
/// What a client sends first that knows HTTP/2 to be spoken here. Source: RFC 9113, 3.4.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often more of that is looked for.
const GLANCE: Duration = Duration::from_millis(5);
/// Requests at once on a connection of HTTP/2.
const STREAMS: u32 = 128;
/// Bytes of the head of a request of HTTP/2, as that counts them.
const HEAD_LIST_BYTES: u32 = 64 * 1024;
/// Pause after the kernel had no file descriptor for a connection.
const BREATH: Duration = Duration::from_millis(50);

pub(crate) async fn serve<B: Backend>(
    core: Arc<Core<B>>,
    (listener, certificates): (TcpListener, Option<Arc<Certificates>>),
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(core.config.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, client, place)) => {
                let connection =
                    connection(Arc::clone(&core), (stream, client, certificates.clone()), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could say stop, which says it.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, client) = listener.accept().await?;
    Ok((stream, client.ip().to_canonical(), place))
}

async fn connection<B: Backend>(
    core: Arc<Core<B>>,
    (stream, client, certificates): (TcpStream, IpAddr, Option<Arc<Certificates>>),
    mut stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off delays of small packets");
    }
    if let Err(error) = set_tcp_user_timeout(&stream, DEAF_MILLIS) {
        tracing::debug!(%error, "cannot bound how long a client may leave its answer unread");
    }
    let patience = core.config.client_timeout;
    let client = Client { ip: client, request_id: RequestId::random(), tls: certificates.is_some() };
    // What only some connections need is in boxes of their own: ten thousand that wait hold no room for it.
    if let Some(certificates) = certificates {
        let shaken = tokio::select! {
            shaken = Box::pin(timeout(patience, certificates.acceptor().accept(stream))) => shaken,
            () = stopped(&mut stop) => return,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                Box::pin(speak(core, (stream, client), protocol, &mut stop)).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a client and the server did not come to terms"),
            Err(_late) => {}
        }
        return;
    }
    let protocol = tokio::select! {
        protocol = timeout(patience, protocol(&stream)) => protocol.ok().flatten(),
        () = stopped(&mut stop) => None,
    };
    if let Some(protocol) = protocol {
        Box::pin(speak(core, (stream, client), protocol, &mut stop)).await;
    }
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// What a client begins to speak, without taking it from the stream; nothing if the connection fails.
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    let mut start = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut start).await.ok()?;
        let begins = start.get(..count) == PREFACE.get(..count);
        if count == 0 || !begins {
            return Some(Protocol::Http1);
        }
        if count == PREFACE.len() {
            return Some(Protocol::Http2);
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// Answers the requests of one connection.
pub(crate) async fn speak<B: Backend>(
    core: Arc<Core<B>>,
    (stream, client): (impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Client),
    protocol: Protocol,
    stop: &mut watch::Receiver<bool>,
) {
    let patience = core.config.client_timeout;
    let service = service_fn(move |request| {
        let core = Arc::clone(&core);
        // In a box of its own: a connection keeps room for the work on one request, and ten thousand that wait need none.
        async move { Ok::<_, Infallible>(Box::pin(core.answer(request, client)).await) }
    });
    // Until it ends by itself, or is asked to when the server stops.
    macro_rules! to_end {
        ($connection:expr) => {{
            let mut connection = Box::pin($connection);
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopped(stop) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }};
    }
    let ended = match protocol {
        Protocol::Http1 => to_end!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(patience)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
        ),
        Protocol::Http2 => to_end!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEAD_LIST_BYTES)
                .keep_alive_interval(patience)
                .keep_alive_timeout(patience)
                .serve_connection(TokioIo::new(stream), service)
        ),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
