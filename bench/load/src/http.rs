//! As much of HTTP/1.1 as the benchmark needs: post, and read an answer with a length or in chunks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer that takes longer means that the benchmark has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request has no good answer.
#[derive(Debug)]
pub(crate) enum HttpError {
    /// The connection failed.
    Io(io::Error),
    /// Not HTTP, or not as much of it as is known here.
    Malformed(String),
    /// Not the status that is good, or the function failed.
    Refused(String),
    /// The answer is not the request.
    WrongBody(String),
}

impl std::fmt::Display for HttpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection failed: {error}"),
            Self::Malformed(what) => write!(f, "not understood: {what:?}"),
            Self::Refused(what) => write!(f, "refused: {what}"),
            Self::WrongBody(body) => write!(f, "the answer is not the request: {body:?}"),
        }
    }
}

impl std::error::Error for HttpError {}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a response's head says.
#[derive(Default)]
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    function_error: bool,
}

/// A kept connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
    good: u16,
    /// Lines of the head besides the usual ones.
    more: String,
    request: Vec<u8>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Result<Self, HttpError> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream: BufReader::with_capacity(64 * 1024, stream),
            host: address.to_owned(),
            good: 200,
            more: String::new(),
            request: Vec::new(),
            line: String::new(),
            body: Vec::new(),
        })
    }

    /// The same, for which another status is good.
    pub(crate) fn expecting(self, good: u16) -> Self {
        Self { good, ..self }
    }

    /// The status that is good.
    pub(crate) const fn good(&self) -> u16 {
        self.good
    }

    /// The same, whose requests have these lines in their heads; each ends with CRLF.
    pub(crate) fn saying(self, more: &str) -> Self {
        Self { more: more.to_owned(), ..self }
    }

    /// Posts `body` and gives the body of the answer, if that is a success.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Result<&[u8], HttpError> {
        self.request.clear();
        write!(
            self.request,
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n",
            self.host,
            body.len(),
            self.more
        )?;
        self.request.extend_from_slice(body);
        self.stream.get_mut().write_all(&self.request)?;
        let head = self.read_head()?;
        self.read_body(&head)?;
        if head.status == self.good && !head.function_error {
            return Ok(&self.body);
        }
        let body: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
        Err(HttpError::Refused(format!("{} {path}: {body}", head.status)))
    }

    fn read_line(&mut self) -> Result<&str, HttpError> {
        self.line.clear();
        self.stream.read_line(&mut self.line)?;
        match self.line.strip_suffix("\r\n") {
            Some(line) => Ok(line),
            None => Err(HttpError::Malformed(self.line.clone())),
        }
    }

    fn read_head(&mut self) -> Result<Head, HttpError> {
        let status = self.read_line()?;
        let mut head = Head::default();
        head.status = match status.split(' ').nth(1).and_then(|code| code.parse().ok()) {
            Some(code) => code,
            None => return Err(HttpError::Malformed(status.to_owned())),
        };
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(head);
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(HttpError::Malformed(line.to_owned()));
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("x-amz-function-error") {
                head.function_error = true;
            }
        }
    }

    fn read_body(&mut self, head: &Head) -> Result<(), HttpError> {
        self.body.clear();
        if !head.chunked {
            let length =
                head.length.ok_or_else(|| HttpError::Malformed("an answer without length".to_owned()))?;
            return self.read_more(length);
        }
        loop {
            let line = self.read_line()?.to_owned();
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| HttpError::Malformed(line))?;
            self.read_more(size)?;
            if !self.read_line()?.is_empty() {
                return Err(HttpError::Malformed("a chunk without end".to_owned()));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn read_more(&mut self, length: usize) -> Result<(), HttpError> {
        let start = self.body.len();
        self.body.resize(start + length, 0);
        Ok(self.stream.read_exact(&mut self.body[start..])?)
    }
}
