//! The last that came over a stream, for whoever wants to know why it ended. What writes there is taken as hostile: it is read for
//! as long as it goes on, little of it is kept, and nobody waits long for its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// What is kept, bytes.
const KEPT: usize = 4 << 10;
/// Lines that an error shows.
const LAST_LINES: usize = 3;
/// What a process that is no more has written is read within this, unless another holds the stream open.
const PATIENCE: Duration = Duration::from_millis(200);

/// The end of a stream that is read in the background.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
    /// Closed at the stream's end. Nothing is ever sent.
    open: Option<watch::Receiver<()>>,
}

// === impl Tail ===

impl Tail {
    /// Of this stream.
    pub(super) fn of(mut stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let bytes = Arc::<Mutex<VecDeque<u8>>>::default();
        let (is_open, open) = watch::channel(());
        let kept = Arc::clone(&bytes);
        tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(buffer.get(..count).unwrap_or_default());
                let surplus = kept.len().saturating_sub(KEPT);
                kept.drain(..surplus);
            }
            drop(is_open);
        });
        Self { bytes, open: Some(open) }
    }

    /// Waits for the stream's end, not long.
    pub(super) async fn settle(&self) {
        if let Some(mut open) = self.open.clone() {
            // Late or not: what is there is there.
            let _ = tokio::time::timeout(PATIENCE, open.changed()).await;
        }
    }

    /// What came last, as one line.
    pub(super) fn last_lines(&self, between: &str) -> String {
        let bytes: Vec<u8> =
            self.bytes.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let printable = |line: &str| line.chars().filter(|letter| !letter.is_control()).collect::<String>();
        let lines: Vec<String> = text.lines().map(printable).filter(|line| !line.trim().is_empty()).collect();
        lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join(between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_no_control_character() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let tail = Tail::of(ours);
        theirs.write_all("x".repeat(3 * KEPT).as_bytes()).await.unwrap();
        theirs.write_all(b"\none\ntwo\x1b[31m\n\n  \nthree\n").await.unwrap();
        drop(theirs);
        tail.settle().await;
        assert_eq!(tail.last_lines("; "), "one; two[31m; three");
        assert!(tail.bytes.lock().unwrap().len() <= KEPT);
    }

    #[tokio::test]
    async fn a_stream_that_another_holds_open_is_not_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let tail = Tail::of(ours);
        theirs.write_all(b"why\n").await.unwrap();
        tail.settle().await;
        assert_eq!(tail.last_lines("; "), "why");
        assert_eq!(Tail::default().last_lines("; "), "");
    }
}
