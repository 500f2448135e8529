//! A small HTTP server that knows nothing of Lambda, of nothing but the standard library: what an image FROM scratch holds.
//!
//! It can behave badly, as its one argument says: `late` listens after two seconds, `never` not at all, `exit` ends at once, `deaf` ignores SIGTERM.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn getuid() -> u32;
}

const SIGTERM: i32 = 15;
const SIG_IGN: usize = 1;

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    match std::env::args().nth(1).as_deref() {
        Some("late") => std::thread::sleep(Duration::from_secs(2)),
        Some("never") => loop {
            std::thread::park();
        },
        Some("exit") => std::process::exit(3),
        // SAFETY: ignoring a signal runs no code.
        Some("deaf") => drop(unsafe { signal(SIGTERM, SIG_IGN) }),
        _ => {}
    }
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || serve(stream));
    }
    Ok(())
}

/// Answers requests without bodies, one after the other, until the connection ends.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or("/");
        // SAFETY: asks the kernel who this is.
        let body = format!("{path} by {}\n", unsafe { getuid() });
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
}
