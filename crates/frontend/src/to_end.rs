//! Work that is done to its end, whether or not somebody waits for it.
//!
//! It runs within the task that waits, so the warm path wakes no other; only when that task gives it up, because its client
//! has gone, it goes on in a task of its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tracing::Instrument;

/// What a panic was raised with.
pub(crate) type Panicked = Box<dyn Any + Send>;

/// A future that goes on when it is dropped.
pub(crate) struct ToEnd<T: Send + 'static> {
    /// Until it is done.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
}

impl<T: Send + 'static> ToEnd<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)) }
    }
}

impl<T: Send + 'static> Future for ToEnd<T> {
    /// A panic ends the work, not the task that waits for it: other requests share that.
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        // Nobody looks at the work after it has panicked.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        let done = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(done)) => Ok(done),
            Err(panicked) => Err(panicked),
        };
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for ToEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the work with it.
        if let Some(work) = self.work.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work.in_current_span());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_is_waited_for_gives_its_result() {
        assert_eq!(ToEnd::new(async { 7 }).await.ok(), Some(7));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_goes_on() {
        let (go, told) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let mut work = ToEnd::new(async move {
            let _ = told.await;
            let _ = done.send(7);
        });
        assert!(
            std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut work).poll(context).is_pending())).await
        );
        drop(work);
        go.send(()).unwrap();
        assert_eq!(is_done.await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_was_never_begun_is_done_too() {
        let (done, is_done) = oneshot::channel();
        drop(ToEnd::new(async move { done.send(7) }));
        assert_eq!(is_done.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_ends_the_work_and_nothing_else() {
        let (held, is_dropped) = oneshot::channel::<()>();
        let work = ToEnd::new(async move {
            let _held = held;
            "no number".parse::<u8>().unwrap()
        });
        assert!(work.await.is_err());
        assert!(is_dropped.await.is_err());
    }
}
