//! What Hearth asks of services that speak S3's and SQS's language: code that lies in a bucket, messages of a queue.
//!
//! Which services those are is for the operator to say, each by its endpoint. Whoever answers there is not trusted: no redirect
//! is followed, every answer has a bound, and every wait a deadline.

mod caller;
mod error;
mod s3;
mod sqs;

pub use caller::{Account, Endpoint};
pub use error::CallError;
pub use s3::{Object, Patience, S3};
pub use sqs::{BATCH, Message, Queue, QueueArn, Sqs};
