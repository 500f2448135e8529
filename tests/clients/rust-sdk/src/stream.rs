//! Streamed answers: pieces as they are made, how they end, and a large one.

use std::time::{Duration, Instant};

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::{
    InvokeWithResponseStreamCompleteEvent, InvokeWithResponseStreamResponseEvent as Event, LogType,
};
use serde_json::{Value, json};

use crate::{Wrong, json as payload, log, same};

/// A streamed answer: its pieces with their times, and its end.
struct Streamed {
    pieces: Vec<(Instant, Vec<u8>)>,
    end: InvokeWithResponseStreamCompleteEvent,
}

impl Streamed {
    fn text(&self) -> Result<String, Wrong> {
        let bytes: Vec<u8> = self.pieces.iter().flat_map(|(_, piece)| piece).copied().collect();
        Ok(String::from_utf8(bytes)?)
    }
}

pub(crate) async fn read(client: &Client, name: &str) -> Result<(), Wrong> {
    let good = call(client, name, &json!({"pieces": ["one ", "two ", "three"], "pause": 300})).await?;
    same("what was streamed", good.text()?, "one two three")?;
    let (first, last) = (good.pieces.first().ok_or("no piece")?.0, good.pieces.last().ok_or("no piece")?.0);
    same("the first piece came long before the last", last - first > Duration::from_millis(400), true)?;
    same("a good stream's error", good.end.error_code(), None)?;
    same("the log has a report", log(good.end.log_result())?.contains("REPORT RequestId: "), true)?;

    let bad = call(client, name, &json!({"pieces": ["some"], "fail": "as told"})).await?;
    same("what came before the error", bad.text()?, "some")?;
    same("the error", bad.end.error_code(), Some("TypeError"))?;
    let details: Value = serde_json::from_str(bad.end.error_details().ok_or("no details")?)?;
    same("the error's message", &details["errorMessage"], "as told")?;

    let large = call(client, name, &json!({"megabytes": 20})).await?;
    same(
        "the large answer's length",
        large.pieces.iter().map(|(_, piece)| piece.len()).sum::<usize>(),
        20 << 20,
    )
}

async fn call(client: &Client, name: &str, event: &Value) -> Result<Streamed, Wrong> {
    let asked = client.invoke_with_response_stream().function_name(name).log_type(LogType::Tail);
    let mut answer = asked.payload(payload(event)).send().await?;
    same("a stream's status", answer.status_code(), 200)?;
    same("a stream's version", answer.executed_version(), Some("$LATEST"))?;
    let (mut pieces, mut end) = (Vec::new(), None);
    while let Some(event) = answer.event_stream.recv().await? {
        same("whether anything comes after the end", end.is_some(), false)?;
        match event {
            Event::PayloadChunk(chunk) => {
                let piece = chunk.payload.ok_or("a piece without a payload")?.into_inner();
                pieces.push((Instant::now(), piece));
            }
            Event::InvokeComplete(complete) => end = Some(complete),
            other => return Err(format!("an unknown event: {other:?}").into()),
        }
    }
    Ok(Streamed { pieces, end: end.ok_or("the stream has no end")? })
}
