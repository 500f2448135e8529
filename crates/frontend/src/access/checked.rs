//! A body that is passed on as it comes, while its hash is made. One that is not what was signed breaks off instead of ending.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hearth_keys::{Hash, Payload};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use sha2::{Digest, Sha256};

/// A body that must be what a signature is over.
pub(crate) struct Checked {
    body: Incoming,
    /// What it must be, and what came so far; nothing if it may be anything.
    wanted: Option<(Hash, Sha256)>,
    has_ended: bool,
}

impl Checked {
    pub(crate) fn new(body: Incoming, payload: &Payload) -> Self {
        let wanted = match payload {
            // Nothing is what it must be, and is there already.
            Payload::Hash(hash) if body.is_end_stream() && *hash == Hash::of(b"") => None,
            Payload::Hash(hash) => Some((*hash, Sha256::new())),
            Payload::Untold | Payload::Unsigned => None,
        };
        Self { body, wanted, has_ended: false }
    }

    /// Whether what came is what was to come.
    fn finish(&mut self) -> io::Result<()> {
        self.has_ended = true;
        let Some((wanted, hash)) = self.wanted.take() else { return Ok(()) };
        if wanted == Hash::from_bytes(hash.finalize().into()) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the body is not what its sender signed"))
    }
}

impl HttpBody for Checked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => Poll::Ready(self.finish().err().map(Err)),
            Some(Err(error)) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Some(Ok(frame)) => {
                if let (Some((_, hash)), Some(data)) = (&mut self.wanted, frame.data_ref()) {
                    hash.update(data);
                }
                // The last piece must not be passed on before it is known to be right: whoever has it has all.
                if self.body.is_end_stream()
                    && let Err(error) = self.finish()
                {
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || (self.wanted.is_none() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
