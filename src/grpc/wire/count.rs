//! How much a message asks, before anything else is done with it.

use prost::Message;

use super::reader::{Fields, Value};
use crate::domain::refusal::{Problem, Violation};
use crate::service::decide::MAX_BATCH;

/// A message whose questions are one repeated field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::grpc) enum Asking {
    /// The items of a `BatchCheckRequest` or a `CheckStreamRequest`.
    Items,
    /// The candidates of a `FilterResourcesRequest`.
    Resources,
}

impl Asking {
    /// How much these bytes ask for: one question at least, and no more than a message may have. What
    /// is no such message is refused whatever it counts as.
    pub(in crate::grpc) fn count(self, message: &[u8]) -> usize {
        self.found(message).clamp(1, MAX_BATCH)
    }

    /// What is wrong with a message that asks more than one may. It is not taken apart for that: what
    /// takes two bytes in a message takes a hundred times that then.
    pub(in crate::grpc) fn too_many(self, message: &[u8]) -> Option<Violation> {
        if message.len() <= 2 * MAX_BATCH {
            return None;
        }
        let field = match self {
            Asking::Items => "items",
            Asking::Resources => "resources",
        };
        let count = self.found(message);
        let problem = Problem::TooManyItems { count, limit: MAX_BATCH };
        (count > MAX_BATCH).then(|| Violation::new(field, problem))
    }

    /// How many questions there are in these bytes; none in what is no such message.
    fn found(self, message: &[u8]) -> usize {
        let number = match self {
            Asking::Items => 2,
            Asking::Resources => 4,
        };
        let plainly = Fields::of(message).try_fold(0, |count, field| {
            let (of, value) = field?;
            Some(count + usize::from(of == number && matches!(value, Value::Bytes(_))))
        });
        // What is merely unusual, such as an unknown field, is read as they read it who answer.
        plainly.unwrap_or_else(|| match self {
            Asking::Items => Items::decode(message).map_or(0, |all| all.items.len()),
            Asking::Resources => Resources::decode(message).map_or(0, |all| all.resources.len()),
        })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Items {
    #[prost(message, repeated, tag = "2")]
    items: Vec<()>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resources {
    #[prost(message, repeated, tag = "4")]
    resources: Vec<()>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::pb;

    fn batch(count: usize) -> Vec<u8> {
        let item = pb::CheckItem { member_id: "kim".into(), ..Default::default() };
        pb::BatchCheckRequest { tenant_id: "a".into(), items: vec![item; count], consistency: None }
            .encode_to_vec()
    }

    #[test]
    fn questions_are_counted_as_they_are_answered() {
        // An unknown field in front: a fixed number of 4 bytes, and one whose number takes two.
        let fixed = [0x7d, 1, 2, 3, 4].to_vec();
        let far = [0xa2, 0x06, 1, 0].to_vec();
        let filter = pb::FilterResourcesRequest {
            resources: vec![pb::Resource { id: "r".into(), ..Default::default() }; 7],
            ..Default::default()
        };
        for (asking, message, expected) in [
            (Asking::Items, batch(0), 1),
            (Asking::Items, batch(1), 1),
            (Asking::Items, batch(250), 250),
            (Asking::Items, batch(MAX_BATCH + 1), MAX_BATCH),
            (Asking::Items, [fixed.clone(), batch(30)].concat(), 30),
            (Asking::Items, [batch(30), far.clone()].concat(), 30),
            // Broken off in the middle: it will be refused.
            (Asking::Items, batch(30)[..40].to_vec(), 1),
            (Asking::Resources, filter.encode_to_vec(), 7),
            (Asking::Resources, [far, filter.encode_to_vec(), fixed].concat(), 7),
            (Asking::Resources, batch(3), 1),
        ] {
            assert_eq!(asking.count(&message), expected, "{asking:?} {message:?}");
        }
    }

    #[test]
    fn too_many_are_found_without_being_taken_apart() {
        for (asking, key, field) in
            [(Asking::Items, 0x12, "items"), (Asking::Resources, 0x22, "resources")]
        {
            let wrong = |count: usize| asking.too_many(&[key, 0].repeat(count));
            assert_eq!(wrong(MAX_BATCH), None);
            for count in [MAX_BATCH + 1, 1 << 22] {
                let problem = Problem::TooManyItems { count, limit: MAX_BATCH };
                assert_eq!(wrong(count), Some(Violation::new(field, problem)));
            }
        }
    }
}
