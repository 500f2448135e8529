//! QEMU's monitor: one command after another over a connected socket (QEMU: interop/qmp-spec).

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixStream;

/// A longer answer is none that QEMU gives to what is asked here, bytes.
const MAX_LINE: usize = 64 << 10;
/// Events that are kept.
const MAX_EVENTS: usize = 64;
/// A QEMU that does not answer for so long hangs, whatever else it says.
const PATIENCE: Duration = Duration::from_secs(10);
/// What it takes to write a large machine's memory.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// Why QEMU did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// The connection broke, or QEMU was silent.
    #[error("cannot speak with QEMU's monitor")]
    Connection(#[from] io::Error),
    /// QEMU said no.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// What it was told.
        command: &'static str,
        /// What it said.
        reason: String,
    },
    /// The state could not be saved.
    #[error("QEMU could not save the machine: {0}")]
    Save(String),
}

/// A monitor.
#[derive(Debug)]
pub(super) struct Qmp {
    socket: UnixStream,
    buffer: Vec<u8>,
    /// Events that came while an answer was waited for.
    events: VecDeque<(String, Value)>,
    negotiated: bool,
    patience: Duration,
}

/// What QEMU sends: a greeting, an answer or an event.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<Complaint>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Complaint {
    #[serde(rename = "desc")]
    text: String,
}

// === impl Qmp ===

impl Qmp {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, buffer: Vec::new(), events: VecDeque::new(), negotiated: false, patience: PATIENCE }
    }

    /// Has a machine that was started for it come from a saved state. Says all at once and waits for nothing: that the
    /// machine runs is seen by its agent, that it cannot by QEMU's end.
    pub(super) async fn restore(&mut self, state: i32, shares_memory: bool) -> Result<(), QmpError> {
        let mut all = command("qmp_capabilities", &Value::Null);
        all.extend(command("migrate-set-capabilities", &ignore_shared(shares_memory)));
        all.extend(command("migrate-incoming", &json!({ "uri": format!("fd:{state}") })));
        self.write(&all).await?;
        self.negotiated = true;
        Ok(())
    }

    /// Stops the machine and writes its state to a file: all, or without the memory if that is in a file already.
    pub(super) async fn save(&mut self, to: BorrowedFd<'_>, shares_memory: bool) -> Result<(), QmpError> {
        if !self.negotiated {
            self.execute("qmp_capabilities", Value::Null).await?;
            self.negotiated = true;
        }
        self.execute("stop", Value::Null).await?;
        self.execute("migrate-set-capabilities", ignore_shared(shares_memory)).await?;
        // Its own choice is what a network of other machines bears.
        self.execute("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 40 })).await?;
        self.send_file(to).await?;
        // A machine that came from a saved state has told of that in the same words.
        self.events.clear();
        self.execute("migrate", json!({ "uri": "fd:state" })).await?;
        tokio::time::timeout(LONG_PATIENCE, self.saved()).await.map_err(io::Error::from)?
    }

    async fn saved(&mut self) -> Result<(), QmpError> {
        loop {
            let event = self.event("MIGRATION").await?;
            match event.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some(status @ ("failed" | "cancelled")) => return Err(QmpError::Save(status.to_owned())),
                _ => {}
            }
        }
    }

    /// Lets a stopped machine go on.
    pub(super) async fn proceed(&mut self) -> Result<(), QmpError> {
        self.execute("cont", Value::Null).await.map(drop)
    }

    async fn send_file(&mut self, file: BorrowedFd<'_>) -> Result<(), QmpError> {
        let bytes = command("getfd", &json!({ "fdname": "state" }));
        let files = [file];
        self.socket.writable().await?;
        self.socket.try_io(tokio::io::Interest::WRITABLE, || {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&files));
            // So short that it goes whole or not at all.
            sendmsg(&self.socket, &[io::IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
                .map_err(io::Error::from)
        })?;
        self.answer("getfd").await.map(drop)
    }

    async fn execute(&mut self, name: &'static str, arguments: Value) -> Result<Value, QmpError> {
        self.write(&command(name, &arguments)).await?;
        self.answer(name).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        use tokio::io::AsyncWriteExt;
        tokio::time::timeout(self.patience, self.socket.write_all(bytes)).await?
    }

    async fn answer(&mut self, command: &'static str) -> Result<Value, QmpError> {
        let patience = self.patience;
        tokio::time::timeout(patience, self.next_answer(command)).await.map_err(io::Error::from)?
    }

    async fn next_answer(&mut self, command: &'static str) -> Result<Value, QmpError> {
        loop {
            let line = self.line().await?;
            if let Some(error) = line.error {
                return Err(QmpError::Refused { command, reason: error.text.chars().take(200).collect() });
            }
            if let Some(answer) = line.answer {
                return Ok(answer);
            }
            if let Some(event) = line.event.filter(|_| self.events.len() < MAX_EVENTS) {
                self.events.push_back((event, line.data));
            }
        }
    }

    async fn event(&mut self, name: &str) -> Result<Value, QmpError> {
        while let Some((event, data)) = self.events.pop_front() {
            if event == name {
                return Ok(data);
            }
        }
        loop {
            let line = self.line().await?;
            if line.event.as_deref() == Some(name) {
                return Ok(line.data);
            }
        }
    }

    async fn line(&mut self) -> Result<Line, QmpError> {
        let text = self.read_line().await?;
        serde_json::from_slice(&text)
            .map_err(|error| QmpError::Connection(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    async fn read_line(&mut self) -> io::Result<Vec<u8>> {
        use tokio::io::AsyncReadExt;
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Memory in a shared file is not copied into the state; that the end is told of.
fn ignore_shared(on: bool) -> Value {
    json!({ "capabilities": [
        { "capability": "x-ignore-shared", "state": on },
        { "capability": "events", "state": true },
    ] })
}

fn command(name: &str, arguments: &Value) -> Vec<u8> {
    let command = if arguments.is_null() {
        json!({ "execute": name })
    } else {
        json!({ "execute": name, "arguments": arguments })
    };
    let mut bytes = command.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What becomes of a save, and how much is kept of what a QEMU says that answers each command with the next of these, and goes
    /// on with the last.
    async fn saved(answers: &[&str]) -> (Result<(), QmpError>, Qmp) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let vmm = tokio::spawn(async move {
            let (mut heard, mut turn) = ([0; 4096], 0);
            while matches!(theirs.read(&mut heard).await, Ok(1..)) {
                let Some(answer) = answers.get(turn) else { return };
                turn += 1;
                let without_end = turn == answers.len();
                while theirs.write_all(answer.as_bytes()).await.is_ok() && without_end {}
            }
        });
        let mut monitor = Qmp { patience: Duration::from_millis(200), ..Qmp::new(ours) };
        let file = tempfile::tempfile().unwrap();
        let outcome = monitor.save(std::os::fd::AsFd::as_fd(&file), false).await;
        vmm.abort();
        (outcome, monitor)
    }

    #[tokio::test]
    async fn a_monitor_that_answers_nonsense_is_not_believed() {
        for nonsense in ["nonsense\n", "[]\n", "{\"return\": 1, \"return\": 2}\n", "\n", "\u{0}\u{1}\n"] {
            let (outcome, _) = saved(&[nonsense]).await;
            assert!(matches!(outcome, Err(QmpError::Connection(_))), "{nonsense:?}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_off_and_little_of_it_kept() {
        let (outcome, monitor) = saved(&["xxxxxxxxxxxxxxxx"]).await;
        assert!(matches!(outcome, Err(QmpError::Connection(_))), "{outcome:?}");
        assert!(monitor.buffer.capacity() <= 4 * MAX_LINE, "{}", monitor.buffer.capacity());
    }

    #[tokio::test]
    async fn events_without_end_in_place_of_an_answer_are_given_up() {
        let (outcome, monitor) = saved(&["{\"event\": \"STOP\"}\n"]).await;
        let Err(QmpError::Connection(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(monitor.events.len() <= MAX_EVENTS);
    }

    #[tokio::test]
    async fn a_monitor_that_hangs_up_or_refuses_says_so() {
        let (outcome, _) = saved(&[]).await;
        assert!(matches!(outcome, Err(QmpError::Connection(_))), "{outcome:?}");
        let refusal = format!("{{\"error\": {{\"desc\": \"{}\"}}}}\n", "no ".repeat(1_000));
        let (outcome, _) = saved(&["{\"return\": {}}\n", &refusal]).await;
        let Err(QmpError::Refused { command: "stop", reason }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason.len(), 200);
    }

    #[tokio::test]
    async fn a_state_that_could_not_be_saved_is_not_taken_for_one() {
        let well = "{\"return\": {}}\n";
        let failed = "{\"return\": {}}\n{\"event\": \"MIGRATION\", \"data\": {\"status\": \"failed\"}}\n";
        let (outcome, _) = saved(&[well, well, well, well, well, failed]).await;
        assert!(matches!(&outcome, Err(QmpError::Save(status)) if status == "failed"), "{outcome:?}");
    }
}
