//! One message of questions, answered.

use std::sync::Arc;

use prost::encoding::message::merge;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Message};
use tonic::{Code, Status};

use crate::domain::decision::Decision;
use crate::domain::ids::TenantId;
use crate::domain::refusal::Violation;
use crate::grpc::admission::InHand;
use crate::grpc::edge::malformed;
use crate::grpc::fields::Fields;
use crate::grpc::framing::{begin, end, framed};
use crate::grpc::wire::{self, Asking, Told};
use crate::grpc::{authz, item_error, pb, show, values};
use crate::service::at_hand::Made;
use crate::service::caller::Caller;
use crate::service::counts::Tally;
use crate::service::decide::{Answer, Decisions, MAX_BATCH, Question};
use crate::service::decision_log::Asker;
use crate::service::token::Consistency;
use crate::store::{DecisionSource, MemberView};

/// From how many bytes on a response is followed by another: clients take 4 MiB, and begin sooner
/// with less.
const RESPONSE_BYTES: usize = 64 << 10;
/// The same in results, where they have not been written yet.
const RESPONSE_RESULTS: usize = 500;

/// Whoever answers.
#[derive(Debug)]
pub(super) struct Desk<S> {
    decisions: Decisions<S>,
    /// Who asks, with the rights that it has by now.
    pub(super) caller: Arc<Caller>,
    /// What the call has of the room for messages.
    pub(super) room: Option<InHand>,
}

impl<S: DecisionSource> Desk<S> {
    pub(super) fn new(decisions: Decisions<S>, caller: Arc<Caller>, room: Option<InHand>) -> Self {
        Desk { decisions, caller, room }
    }

    /// Answers what is at hand, or refused; gives the rest.
    ///
    /// # Errors
    /// It is no message, which ends the stream.
    pub(super) fn answer(
        &self,
        message: &[u8],
        to: &mut Vec<u8>,
    ) -> Result<Option<Later<S>>, Status> {
        if let Err(exceeded) = self.caller.spend(|| Asking::Items.count(message)) {
            refuse(to, numbers(message).map_err(no_message)?, item_error::of_rate(&exceeded));
            return Ok(None);
        }
        if let Some(violation) = Asking::Items.too_many(message) {
            refuse(to, numbers(message).map_err(no_message)?, item_error::of_violation(&violation));
            return Ok(None);
        }
        let written = to.len();
        match self.at_once(message, to) {
            Some(rest) => Ok(rest),
            None => {
                to.truncate(written);
                self.generally(message, to)
            }
        }
    }

    /// Straight from the bytes, as far as they are understood there: see [`wire`].
    fn at_once(&self, message: &[u8], to: &mut Vec<u8>) -> Option<Option<Later<S>>> {
        let wire::Batch { tenant, items, consistency } = wire::Batch::read(message)?;
        if !self.caller.sees_named(tenant) {
            return None;
        }
        let (consistency, freshness) = match consistency {
            wire::Consistency::MinimizeLatency => Default::default(),
            other => {
                let wanted = other.kept();
                let freshness = self.decisions.freshness(&TenantId::trusted(tenant), &wanted);
                (wanted, freshness.ok()?)
            }
        };
        let mut responses = Responses { desk: self, tenant, open: None };
        let (mut tally, mut rest) = (Tally::default(), Vec::new());
        // Logged when all of the message was understood: else it is answered another way.
        let mut logged = Vec::new();
        let at_hand = self.decisions.at_hand(tenant, freshness);
        for (number, item) in items.iter().enumerate() {
            let (id, question) = wire::Question::read_streamed(item)?;
            let wire::Question { member, permission, resource } = &question;
            let answer = at_hand.as_ref();
            match answer.and_then(|tenant| tenant.check(member, permission, resource.as_ref())) {
                Some(answer) => {
                    tally.add(answer.ruling.reason);
                    responses.put(to, id, &answer);
                    if self.decisions.is_logged() {
                        logged.push((number, question, answer));
                    }
                }
                None => rest.push(asked(number, pb::CheckStreamItem::decode(item).ok()?)),
            }
        }
        responses.close(to);
        self.decisions.count(&tally);
        let mut recorded = 0;
        for (number, wire::Question { member, permission, resource }, answer) in &logged {
            let resource = resource.as_ref().map_or(&[][..], |resource| resource.id);
            let what = (tenant, *member, *permission, resource);
            let item = (Some(*number), &mut recorded);
            self.decisions.log_at_hand(asker(&self.caller), item, what, answer);
        }
        Some(self.later(TenantId::trusted(tenant), (rest, message.len()), consistency))
    }

    /// With all that can be said of what is wrong.
    fn generally(&self, message: &[u8], to: &mut Vec<u8>) -> Result<Option<Later<S>>, Status> {
        let decoded = match wire::measure("CheckStreamRequest", message) {
            Ok(decoded) => decoded,
            Err(violation) => {
                let ids = numbers(message).map_err(no_message)?;
                refuse(to, ids, item_error::of_violation(&violation));
                return Ok(None);
            }
        };
        // For as long as it takes to look at it.
        let _decoding = self.room.as_ref().map(|room| room.hold_for_now(decoded)).transpose()?;
        let pb::CheckStreamRequest { tenant_id, items, consistency } = decode(message)?;
        let mut fields = Fields::of_message(Arc::clone(&self.caller));
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let consistency = values::consistency(&mut fields, consistency);
        match fields.all((tenant, consistency)) {
            Ok((tenant, consistency)) => {
                let asked = items.into_iter().enumerate().map(|(at, item)| asked(at, item));
                Ok(self.later(tenant, (asked.collect(), decoded), consistency))
            }
            Err(refusal) => {
                let ids = items.iter().map(|item| item.correlation_id).collect();
                refuse(to, ids, item_error::of_refusal(&refusal));
                Ok(None)
            }
        }
    }

    fn later(
        &self,
        tenant: TenantId,
        (asked, decoded): (Vec<Asked>, usize),
        consistency: Consistency,
    ) -> Option<Later<S>> {
        let (decisions, caller) = (self.decisions.clone(), Arc::clone(&self.caller));
        let later = Later { decisions, caller, tenant, asked, decoded, consistency };
        (!later.asked.is_empty()).then_some(later)
    }
}

fn asker(caller: &Caller) -> Asker<'_> {
    Asker { caller: &caller.name, method: "AuthzService/CheckStream" }
}

/// The correlation ids of a `CheckStreamRequest`, of as many items as it may have.
fn numbers(mut message: &[u8]) -> Result<Vec<u64>, DecodeError> {
    const ITEMS: u32 = 2;
    let mut ids = Vec::new();
    while !message.is_empty() && ids.len() < MAX_BATCH {
        let (field, kind) = decode_key(&mut message)?;
        let context = DecodeContext::default();
        if field == ITEMS {
            let mut number = Number::default();
            merge(kind, &mut number, &mut message, context)?;
            ids.push(number.correlation_id);
        } else {
            skip_field(kind, field, &mut message, context)?;
        }
    }
    Ok(ids)
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Number {
    #[prost(uint64, tag = "4")]
    correlation_id: u64,
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message).map_err(no_message)
}

fn no_message(error: DecodeError) -> Status {
    malformed(Code::InvalidArgument, &error.to_string())
}

/// A question that is not answered yet.
struct Asked {
    id: u64,
    /// Its place in its message.
    number: usize,
    question: Result<Question, Violation>,
}

fn asked(number: usize, item: pb::CheckStreamItem) -> Asked {
    let pb::CheckStreamItem { correlation_id, member_id, permission, resource } = item;
    let item = pb::CheckItem { member_id, permission, resource };
    Asked { id: correlation_id, number, question: authz::check_item(number, item) }
}

/// Questions of one message that are answered when the database has been asked.
pub(super) struct Later<S> {
    decisions: Decisions<S>,
    caller: Arc<Caller>,
    tenant: TenantId,
    asked: Vec<Asked>,
    /// What their message takes where it was decoded.
    decoded: usize,
    consistency: Consistency,
}

impl<S: DecisionSource> Later<S> {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// What they take until they are answered, in bytes: as they are asked and as they are answered.
    pub(super) fn bytes(&self) -> usize {
        /// Of one question with an answer, besides what is in the message.
        const EACH: usize = 1 << 10;
        self.asked.len() * EACH + 2 * self.decoded
    }

    /// All the answers.
    pub(super) async fn answer(self) -> Vec<u8> {
        let Later { decisions, caller, tenant, asked, consistency, .. } = self;
        let ids: Vec<u64> = asked.iter().map(|asked| asked.id).collect();
        let questions = asked.into_iter().map(|asked| (asked.number, asked.question)).collect();
        let mut written = Vec::new();
        let asker = asker(&caller);
        match decisions.check_numbered(asker, &tenant, questions, &consistency).await {
            Ok(answer) => results(&mut written, &ids, answer),
            Err(error) => refuse(&mut written, ids, item_error::of_error(error)),
        }
        written
    }
}

fn results(to: &mut Vec<u8>, ids: &[u64], answer: Answer<Vec<Result<Decision, Violation>>>) {
    use pb::check_stream_result::Result as ItemResult;
    let Answer { value, catalog, token, stale_since } = answer;
    let token = token.unwrap_or_default();
    let result = |(id, item): (&u64, _)| {
        let result = match item {
            Ok(decision) => ItemResult::Decision(show::decision(catalog.as_deref(), decision)),
            Err(violation) => ItemResult::Error(item_error::of_violation(&violation)),
        };
        pb::CheckStreamResult { correlation_id: *id, result: Some(result) }
    };
    let mut results = ids.iter().zip(value).map(result).peekable();
    while results.peek().is_some() {
        write(
            to,
            &pb::CheckStreamResponse {
                results: results.by_ref().take(RESPONSE_RESULTS).collect(),
                consistency_token: token.clone(),
                stale_since: stale_since.map(show::time),
                refusal: None,
            },
        );
    }
}

/// None of these is answered, for this reason. They are of one message, so they fit into one.
fn refuse(to: &mut Vec<u8>, correlation_ids: Vec<u64>, error: pb::ItemError) {
    if correlation_ids.is_empty() {
        return;
    }
    let refusal = Some(pb::CheckStreamRefusal { correlation_ids, error: Some(error) });
    write(to, &pb::CheckStreamResponse { refusal, ..Default::default() });
}

fn write(to: &mut Vec<u8>, response: &pb::CheckStreamResponse) {
    framed(to, |to| response.encode_raw(to));
}

/// Responses as they are written, one for each state.
struct Responses<'a, S> {
    desk: &'a Desk<S>,
    tenant: &'a str,
    open: Option<Open>,
}

struct Open {
    start: usize,
    view: Arc<MemberView>,
}

impl<S: DecisionSource> Responses<'_, S> {
    fn put(&mut self, to: &mut Vec<u8>, id: u64, answer: &Made) {
        let fits = |open: &Open| {
            Arc::ptr_eq(&open.view.state, &answer.view.state)
                && to.len() - open.start < RESPONSE_BYTES
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.close(to);
            self.open = Some(Open { start: begin(to), view: Arc::clone(&answer.view) });
        }
        wire::check_stream_result(to, Told::of(answer), id);
    }

    fn close(&mut self, to: &mut Vec<u8>) {
        if let Some(Open { start, view }) = self.open.take() {
            let token = self.desk.decisions.token(self.tenant, &view);
            wire::state_of_answer(to, 2, token, view.stale_since);
            end(to, start);
        }
    }
}
