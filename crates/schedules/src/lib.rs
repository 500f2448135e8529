//! When a schedule is due: EventBridge Scheduler's expressions, with time zones; pure, for the time comes in.
//!
//! Written here because no kept crate has AWS's syntax whole: six fields without seconds, `?`, `L`, `W`, `LW` and `#`,
//! Sunday as day 1. Time zones are jiff's, with its own copy of the database.

mod cron;
mod due;
mod expression;
mod fields;

pub use cron::CronError;
pub use due::Due;
pub use expression::{CronExpression, Expression, Schedule, ScheduleError};
pub use fields::FieldError;
