//! The messages of the hot path without a String: read where they lie, written straight into the
//! bytes that are sent.
//!
//! **Reading is one-sided.** What is understood here is understood exactly as prost and the parsers
//! of [`fields`](super::fields) and [`values`](super::values) understand it, checks included. What
//! is wrong or merely unusual (an unknown field, a field that comes twice, an id that is none) is
//! not judged here: the answer is `None`, and the message goes the general way, which has all the
//! rules and all the texts. So there is one place that refuses, and this one may be short.
//!
//! Before a message is decoded the general way, `bounds` finds in its bytes what that will take.
//!
//! **Writing is exact**: byte for byte what prost would write.

mod bounds;
mod count;
mod read;
mod reader;
mod write;

pub(super) use bounds::measure;
pub(super) use count::Asking;
pub(super) use read::{Batch, Check, Consistency, Filter, Question, Resource};
pub(super) use write::{
    Told, check_item_result, check_response, check_stream_result, denied_reason, state_of_answer,
    text,
};
