//! Verifying a chain: pure, one event after the other, whether they come from a database or a file.

use std::collections::BTreeMap;

use super::code::{self, Code, Digests, GENESIS, Rewrite, Running, from_hex, to_hex};
use super::finding::{Finding, Verified};
use super::key::Keyring;
use super::open::{RESTORED, REVISIONS_LOST};
use super::record::{Checkpoint, Head, Record, SignedHead};

/// Verifies one chain.
#[derive(Debug)]
pub struct Verifier<'k> {
    keys: &'k Keyring,
    report: Verified,
    /// What the next link must follow; `None` where that cannot be known, after a gap.
    previous: Option<Code>,
    /// The revision of the event before; `None` after a gap.
    revision: Option<i64>,
    /// The age of the newest key so far.
    age: Option<usize>,
    /// The age of the key that the chain ends with.
    end_age: Option<usize>,
    /// The key that the last link was made with.
    end_key: Option<String>,
    /// The erasures to come that rewrote what was seen.
    pending: BTreeMap<i64, Running>,
    /// The age of the checkpoint's key.
    checkpoint_age: Option<usize>,
    /// Whether the trail is seen from its beginning, or a checkpoint.
    knows_earlier: bool,
    /// Heads that were exported, by number.
    exported: BTreeMap<i64, Vec<SignedHead>>,
}

impl<'k> Verifier<'k> {
    /// Begins with a chain's checkpoint, if it has one, and with heads of it that were exported.
    #[must_use]
    pub fn new(
        keys: &'k Keyring,
        tenant: &str,
        checkpoint: Option<&Checkpoint>,
        exported: &[SignedHead],
    ) -> Self {
        let mut verifier = Verifier {
            keys,
            report: Verified::new(tenant),
            previous: Some(GENESIS),
            revision: Some(0),
            age: None,
            end_age: None,
            end_key: None,
            pending: BTreeMap::new(),
            checkpoint_age: None,
            knows_earlier: true,
            exported: BTreeMap::new(),
        };
        for head in exported {
            if verifier.is_signed(head) {
                verifier.exported.entry(head.number).or_default().push(head.clone());
            }
        }
        if let Some(checkpoint) = checkpoint {
            verifier.starts_at(checkpoint);
        }
        verifier
    }

    /// Begins behind the event `number`, which had this link. Nothing is known of what was before,
    /// erasures of it included.
    pub(super) fn from(keys: &'k Keyring, tenant: &str, number: i64, link: Code) -> Self {
        let mut verifier = Verifier::new(keys, tenant, None, &[]);
        verifier.report.last = number;
        (verifier.previous, verifier.revision) = (Some(link), None);
        verifier.knows_earlier = false;
        verifier
    }

    /// What was found first so far.
    pub(super) fn first_finding(&self) -> Option<&Finding> {
        self.report.findings.first()
    }

    /// The erasures to come, if what was seen so far is sound and can be deleted.
    pub(super) fn cut(mut self) -> Result<Vec<Running>, Finding> {
        let last = self.report.last;
        if self.checkpoint_age.is_some_and(|age| age > 0) {
            self.finds(None, "old_key", "the checkpoint is under an older key".to_owned());
        }
        if let Some((by, _)) = self.pending.first_key_value().filter(|(by, _)| **by <= last) {
            let detail = format!("an erasure in event {by} is named that is not there");
            self.finds(Some(*by), "erasure", detail);
        }
        match self.report.findings.into_iter().next() {
            Some(finding) => Err(finding),
            None => Ok(self.pending.into_values().collect()),
        }
    }

    fn finds(&mut self, event: Option<i64>, problem: &'static str, detail: String) {
        self.report.finds(event, problem, detail);
    }

    fn is_signed(&mut self, head: &SignedHead) -> bool {
        let key = self.keys.find(&head.key_id);
        let signed = head.tenant == self.report.tenant
            && key.is_some_and(|(_, key)| from_hex(&head.mac) == Some(code::head(key, head)));
        if !signed {
            let detail = "an exported head is not signed by any of the keys that were given";
            self.finds(Some(head.number), "head_forged", detail.to_owned());
        }
        signed
    }

    /// The head that an export ends with.
    pub fn signed_end(&mut self, head: &SignedHead) {
        self.is_signed(head);
    }

    fn starts_at(&mut self, checkpoint: &Checkpoint) {
        let number = checkpoint.number;
        self.report.last = number;
        self.report.deleted_until = number;
        self.revision = Some(checkpoint.revision);
        self.previous = from_hex(&checkpoint.link);
        let broken = match self.keys.find(&checkpoint.key_id) {
            _ if checkpoint.tenant != self.report.tenant => {
                Some("it is another tenant's".to_owned())
            }
            None => Some(format!("it is under key {}, which was not given", checkpoint.key_id)),
            Some((_, key)) if !checkpoint.is_by(key) => {
                Some("its code does not fit: it was edited, or made up".to_owned())
            }
            // It cannot be followed, so that anything could come after it.
            Some(_) if self.previous.is_none() => Some("its link is unreadable".to_owned()),
            Some(_) => None,
        };
        if let Some(broken) = broken {
            self.finds(
                None,
                "checkpoint",
                format!("the checkpoint at event {number} cannot be relied on: {broken}"),
            );
        }
        self.end_key = Some(checkpoint.link_key_id.clone());
        self.age = self.keys.find(&checkpoint.link_key_id).map(|(age, _)| age);
        self.checkpoint_age = self.keys.find(&checkpoint.key_id).map(|(age, _)| age);
        self.end_age = self.checkpoint_age;
        let pending: Option<Vec<Running>> = serde_json::from_str(&checkpoint.pending).ok();
        let pending = pending.unwrap_or_default().into_iter();
        self.pending.extend(pending.map(|running| (running.by, running)));
        // Older ones cannot be compared any more.
        self.exported = self.exported.split_off(&number);
        self.compare_exported(number, &checkpoint.link);
    }

    fn compare_exported(&mut self, number: i64, link: &str) {
        for head in self.exported.remove(&number).unwrap_or_default() {
            if head.link != link {
                self.finds(
                    Some(number),
                    "not_as_exported",
                    format!("event {number} had another link when the head was exported"),
                );
            }
        }
    }

    /// The next event.
    pub fn event(&mut self, event: &Record) {
        let (number, last) = (event.number, self.report.last);
        self.report.events += 1;
        if event.tenant != self.report.tenant {
            let detail = format!("event {number} belongs to tenant {}", event.tenant);
            self.finds(Some(number), "other_tenant", detail);
        }
        if number <= last {
            let detail = format!("event {number} comes after event {last}");
            self.finds(Some(number), "order", detail);
            (self.previous, self.revision) = (None, None);
        } else if number > last + 1 {
            let missing = match number - last {
                2 => format!("event {} is missing", last + 1),
                _ => format!("events {} to {} are missing", last + 1, number - 1),
            };
            let why =
                if last == 0 { ", and no checkpoint says that they were deleted" } else { "" };
            self.finds(Some(number), "gap", format!("before event {number}: {missing}{why}"));
            (self.previous, self.revision) = (None, None);
        }
        self.report.last = number.max(last);

        let covered = Digests::read(&event.covered);
        match &covered {
            Some(covered) => {
                self.link(event, covered);
                self.values(event, covered);
            }
            None => self.unreadable(number, "the digests that its link covers"),
        }
        self.end_key = Some(event.key_id.clone());
        self.revision(event);
        self.erasure(event);
        self.previous = from_hex(&event.link);
        self.compare_exported(number, &event.link);
    }

    fn unreadable(&mut self, number: i64, what: &str) {
        let detail = format!("event {number}: {what} are not what this program writes");
        self.finds(Some(number), "unreadable", detail);
    }

    fn link(&mut self, event: &Record, covered: &Digests) {
        let number = event.number;
        let Some((age, key)) = self.keys.find(&event.key_id) else {
            let detail =
                format!("event {number} is under key {}, which was not given", event.key_id);
            self.finds(Some(number), "unknown_key", detail);
            self.end_age = None;
            return;
        };
        if self.age.is_some_and(|newest| age > newest) {
            let detail = format!("event {number} is under an older key than an event before it");
            self.finds(Some(number), "key_order", detail);
        }
        self.age = Some(self.age.map_or(age, |newest| newest.min(age)));
        self.end_age = Some(age);
        if let Some(previous) = self.previous
            && code::link(key, &previous, event, covered)
                != from_hex(&event.link).unwrap_or_default()
        {
            self.finds(
                Some(number),
                "link",
                format!(
                    "the link of event {number} does not follow: its place, time, revision, caller, \
                     method, refusal, digests, key or link was edited, or the event before it was \
                     replaced"
                ),
            );
        }
    }

    /// Whether all changes up to this event are in the trail. Each has a revision of its own, so
    /// that a chain whose end was cut off does not look whole again once it went on.
    fn revision(&mut self, event: &Record) {
        let Some(earlier) = self.revision.replace(event.revision) else { return };
        let grown = event.revision.saturating_sub(earlier);
        let fits = match &event.refusal {
            Some(_) => grown == 0,
            None if event.method == RESTORED => grown == REVISIONS_LOST,
            // A large change has several events, and that of a new key has no revision.
            None => [0, 1].contains(&grown),
        };
        if !fits {
            let detail = format!(
                "event {} is at revision {}, and the one before it at {earlier}, which does not \
                 follow: events between them are missing, or the tenant's revision was edited",
                event.number, event.revision
            );
            self.finds(Some(event.number), "revision", detail);
        }
    }

    fn values(&mut self, event: &Record, covered: &Digests) {
        let number = event.number;
        let Some(salt) = from_hex(&event.salt) else {
            return self.unreadable(number, "the bytes of its salt");
        };
        let actual = Digests::of(event, &salt);
        let current = match (&event.rewrites, &event.digests) {
            (None, None) => Some(covered.clone()),
            (Some(rewrites), Some(digests)) => self.rewritten(event, rewrites, digests),
            _ => None,
        };
        let Some(current) = current else {
            return self.unreadable(number, "the traces of an erasure");
        };
        let differing = actual.differing(&current);
        if !differing.is_empty() {
            let fields = differing.join(", ");
            let detail = format!("event {number} was edited: {fields} (or the salt)");
            self.finds(Some(number), "value", detail);
        }
    }

    /// The digests that erasures left. Each must go on from those before it, the first from those
    /// that the link covers.
    fn rewritten(&mut self, event: &Record, rewrites: &str, digests: &str) -> Option<Digests> {
        let number = event.number;
        let current = Digests::read(digests)?;
        let written = rewrites;
        let rewrites: Vec<Rewrite> = serde_json::from_str(written).ok()?;
        // In one spelling only: another one, or a field more, would be an edit that nobody finds.
        if serde_json::to_string(&rewrites).ok().as_deref() != Some(written) {
            return None;
        }
        if rewrites.first()?.before != event.covered {
            let detail = format!(
                "event {number} is said to have been rewritten by an erasure, but from other values \
                 than its link covers: it was edited"
            );
            self.finds(Some(number), "false_erasure", detail);
        }
        let next = rewrites.iter().skip(1).map(|rewrite| rewrite.before.as_str());
        for (rewrite, after) in rewrites.iter().zip(next.chain([digests])) {
            let Rewrite { by, key_id, before, mac } = rewrite;
            let key = self.keys.find(key_id).map(|(_, key)| key);
            let proof = key.map(|key| {
                to_hex(&code::rewrite(key, &self.report.tenant, number, *by, before, after))
            });
            if proof.is_none() {
                let detail =
                    format!("event {number} was rewritten under key {key_id}, which was not given");
                self.finds(Some(number), "unknown_key", detail);
            } else if proof.as_ref() != Some(mac) {
                let detail = format!(
                    "event {number} is said to have been rewritten by the erasure in event {by}, but \
                     that is not proven: it was edited"
                );
                self.finds(Some(number), "false_erasure", detail);
            }
            self.pending.entry(*by).or_insert_with(|| Running::new(*by)).add(number, mac);
        }
        Some(current)
    }

    /// Whether what the event erased is what was found to be erased.
    fn erasure(&mut self, event: &Record) {
        let found = self.pending.remove(&event.number).map(|running| running.total());
        if self.knows_earlier && found != event.erased {
            let count = |total: &Option<String>| {
                let count = total.as_ref().and_then(|total| total.split(':').next());
                count.unwrap_or("0").to_owned()
            };
            self.finds(
                Some(event.number),
                "erasure",
                format!(
                    "the erasure in event {} rewrote {} events before it, and {} say so: one of them \
                     was edited, deleted, put back, or made to look erased",
                    event.number,
                    count(&event.erased),
                    count(&found)
                ),
            );
        }
    }

    /// What a database says the last link was made with; to be compared before the end. A head that
    /// was exported names the key that it is signed with instead.
    pub(super) fn head_key(&mut self, head: &Head) {
        let last = self.report.last;
        if let Some(key) = &self.end_key
            && head.number == last
            && head.key_id != *key
        {
            let detail = format!(
                "the head says that event {last} is under the key {}, and it is under {key}",
                head.key_id
            );
            self.finds(Some(last), "head", detail);
        }
    }

    /// Ends with what is known of the chain's end. `unchained` events have no place in it.
    #[must_use]
    pub fn finish(
        mut self,
        head: Option<&Head>,
        revision: Option<i64>,
        unchained: u64,
    ) -> Verified {
        let last = self.report.last;
        if unchained > 0 {
            let detail = format!("{unchained} events have no place in the chain: they were put in");
            self.finds(None, "unchained", detail);
        }
        match head {
            None => {
                let detail = "the head is missing: where the chain ends is not known".to_owned();
                self.finds(None, "head", detail);
            }
            Some(head) if head.number > last => {
                let detail = format!(
                    "events {} to {} are missing: the head says that there were more",
                    last + 1,
                    head.number
                );
                self.finds(Some(last + 1), "gap", detail);
            }
            Some(head) if head.number < last => {
                let detail = format!("the head says that event {} is the last", head.number);
                self.finds(Some(head.number + 1), "head", detail);
            }
            Some(head) => {
                if self.previous.is_some() && self.previous != from_hex(&head.link) {
                    let detail = format!("the head has another link than event {last}");
                    self.finds(Some(last), "head", detail);
                }
            }
        }
        for (by, running) in std::mem::take(&mut self.pending) {
            let detail = format!(
                "{} events say that they were rewritten by the erasure in event {by}, which does not \
                 exist",
                running.count
            );
            self.finds(Some(by), "erasure", detail);
        }
        if let Some(revision) = revision
            && self.revision != Some(revision)
        {
            let detail = format!(
                "the tenant is at revision {revision}, and the last event at {}: the end is missing",
                self.revision.map_or_else(|| "none".to_owned(), |revision| revision.to_string())
            );
            self.finds(None, "revision", detail);
        }
        if let (Some(age), Some(newest)) = (self.checkpoint_age, self.age)
            && newest < age
        {
            // `rotate` signs it again, and no newer key goes on before.
            let detail = "the checkpoint is under an older key than what comes after it: it is \
                          forged, unless the keys were never rotated";
            self.finds(None, "checkpoint", detail.to_owned());
        }
        if self.end_age.is_some_and(|age| age > 0) {
            self.finds(
                Some(last),
                "old_key",
                "the chain ends under an older key, which may be known to others: after a change of \
                 the key, run `rolegate audit rotate`"
                    .to_owned(),
            );
        }
        for (number, _) in std::mem::take(&mut self.exported) {
            let detail = format!("an exported head names event {number}, and {last} is the last");
            self.finds(Some(number), "cut", detail);
        }
        self.report
    }
}
