//! A Runtime API small enough to be on a test's side: it gives out events, keeps what is posted, and watches the process.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hearth_runtimes::Program;

/// Long enough for a slow machine to start an interpreter.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a client posted.
pub(crate) struct Post {
    /// After `/2018-06-01/runtime/`.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Post {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What a process did until all its events were answered or it ended by itself.
pub(crate) struct Outcome {
    pub(crate) posts: Vec<Post>,
    pub(crate) stdout: String,
    /// None when it was waiting for more events.
    pub(crate) status: Option<ExitStatus>,
}

/// Runs a runtime's program outside a sandbox, on these events; the requests are `r0`, `r1`, and so on.
pub(crate) fn run(program: &Program, task: &Path, handler: &str, events: &[&str]) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let events: VecDeque<(usize, String)> =
        events.iter().map(|&event| event.to_owned()).enumerate().collect();
    let events = Arc::new(Mutex::new(events));
    let (sender, posts) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (events, sender) = (Arc::clone(&events), sender.clone());
            thread::spawn(move || serve(&stream, &events, &sender));
        }
    });

    let mut child = command(program, task, handler, &address).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let _ = output.read_to_string(&mut text);
        text
    });
    let began = Instant::now();
    let mut outcome = Outcome { posts: Vec::new(), stdout: String::new(), status: None };
    loop {
        assert!(began.elapsed() < DEADLINE, "the client neither answered all nor ended");
        match posts.recv_timeout(Duration::from_millis(20)) {
            Ok(Some(post)) => outcome.posts.push(post),
            Ok(None) => break,
            Err(_) => outcome.status = child.try_wait().unwrap(),
        }
        if outcome.status.is_some() {
            outcome.posts.extend(posts.try_iter().flatten());
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    outcome.stdout = reader.join().unwrap();
    outcome
}

/// The program with the places of an instance put back to where they are on this machine.
fn command(program: &Program, task: &Path, handler: &str, address: &str) -> Command {
    let outside = |text: &str| {
        let mut text = text.replace("/var/task", &task.to_string_lossy());
        for (source, target) in &program.mounts {
            text = text.replace(&*target.to_string_lossy(), &source.to_string_lossy());
        }
        text
    };
    let words: Vec<String> = program.command(handler, 256, false).iter().map(|word| outside(word)).collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().current_dir(task).stdin(Stdio::null()).stdout(Stdio::piped());
    command.envs(program.environment.iter().map(|(name, value)| (name, outside(value))));
    command.envs([
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("AWS_LAMBDA_RUNTIME_API", address),
        ("AWS_LAMBDA_FUNCTION_NAME", "hello"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/hello"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "stream"),
        ("AWS_EXECUTION_ENV", program.execution_environment.as_str()),
        ("_HANDLER", handler),
    ]);
    command.env("LAMBDA_TASK_ROOT", task);
    command
}

fn serve(
    stream: &TcpStream,
    events: &Mutex<VecDeque<(usize, String)>>,
    posts: &mpsc::Sender<Option<Post>>,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (method, path, headers) = head(&mut reader)?;
        let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let path = path.strip_prefix("/2018-06-01/runtime/").unwrap_or(&path).to_owned();
        let mut writer = stream;
        if method == "POST" {
            posts.send(Some(Post { path, headers, body })).ok()?;
            writer
                .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{\"status\":\"OK\"}\n")
                .ok()?;
            continue;
        }
        assert_eq!(path, "invocation/next");
        let Some((number, event)) = events.lock().unwrap().pop_front() else {
            posts.send(None).ok()?;
            // As the real one: no answer while there is no event.
            return reader.read(&mut [0]).ok().map(drop);
        };
        // AWS's client for Python breaks down without Content-Type.
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: r{number}\r\nLambda-Runtime-Deadline-Ms: 4102444800000\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:hello\r\nLambda-Runtime-Trace-Id: Root=1-{number}\r\n\
             Lambda-Runtime-Client-Context: {{\"custom\":{{\"a\":\"b\"}}}}\r\nContent-Length: {}\r\n\r\n",
            event.len()
        );
        writer.write_all(head.as_bytes()).ok()?;
        writer.write_all(event.as_bytes()).ok()?;
    }
}

fn head(reader: &mut BufReader<&TcpStream>) -> Option<(String, String, BTreeMap<String, String>)> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&length| length > 0).map(|_| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut headers = BTreeMap::new();
    loop {
        let next = line()?;
        let Some((name, value)) = next.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some((words.next()?, words.next()?, headers))
}
