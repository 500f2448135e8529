//! What commands say: to a terminal that may have been closed, a reader that may have gone, a disk that may be full. The
//! standard macros panic then, and a server that panics when it says that it stops leaves its instances behind.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Why a command's answer was not printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrintError {
    /// Whoever read along has enough, as `head` does: no failure.
    #[error("whoever read what this printed has gone")]
    ReaderGone,
    /// A full disk, for one.
    #[error("cannot print the answer")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::ReaderGone } else { Self::Failed(error) }
    }
}

/// Prints a line of a command's answer.
pub(crate) fn line(text: impl Display) -> Result<(), PrintError> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints a command's answer, or a piece of it, as it is.
pub(crate) fn bytes(answer: &[u8]) -> Result<(), PrintError> {
    write(&mut io::stdout().lock(), answer)
}

fn write(out: &mut dyn Write, answer: &[u8]) -> Result<(), PrintError> {
    out.write_all(answer)?;
    Ok(out.flush()?)
}

/// Tells on stderr how it goes, a line. What nobody can be told is lost.
pub(crate) fn tell(text: impl Display) {
    show(format_args!("{text}\n"));
}

/// Shows on stderr a piece of a line, such as progress that is drawn over.
pub(crate) fn show(text: impl Display) {
    let _ = write(&mut io::stderr().lock(), text.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Breaks(ErrorKind);

    impl Write for Breaks {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_enough_is_no_failure_and_a_full_disk_is_one() {
        let told = |kind| write(&mut Breaks(kind), b"answer");
        assert!(matches!(told(ErrorKind::BrokenPipe), Err(PrintError::ReaderGone)));
        assert!(matches!(told(ErrorKind::StorageFull), Err(PrintError::Failed(_))));
    }
}
