//! The calls of a connection, each to where it is answered: on this thread what is decided from what
//! is at hand, elsewhere what begins with the database.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use http::header::HeaderMap;
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status};
use tower::Service as _;

use super::message::Message;
use super::minder::{Activity, OpenCall, ProbeAnswer};
use super::probe::{Probe, WatchBody, is_probe};
use super::refusal::Gate;
use super::{Api, Everything};
use crate::grpc::access::is_change;
use crate::grpc::api::{ApiBody, is_decided_at_hand};
use crate::grpc::client::Client;
use crate::grpc::edge::deadline;
use crate::grpc::health::Health;
use crate::grpc::hot::{CHECK, HotBody, HotChecks};
use crate::grpc::meter::CallUnderWay;
use crate::grpc::not_grpc::NotGrpc;
use crate::grpc::status::internal;
use crate::grpc::unread::{self, Answer as Counted, CALL_BYTES, Holding, Unread};
use crate::server::limits::Place;
use crate::server::strangers::{Probes, Probing, Why};
use crate::service::authentication::Peer;
use crate::service::under_way::UnderWay;
use crate::store::Cached;

type Answer = Result<Response<ApiBody>, Infallible>;

/// How long the message of a check is waited for where it could be answered at once.
const PATIENCE: Duration = Duration::from_millis(10);

/// Answers that may find no room in a row, with nothing taken in between, until a connection ends: its
/// client reads nothing, and even refusals pile up.
const MAX_UNREAD: u32 = 64;
/// Calls that a connection may have at once on which nobody known has called: twice the probes that
/// may wait on it.
const MAX_OF_STRANGER: usize = 64;

/// Answers the calls of one connection.
pub(super) struct Calls(Arc<Answers>);

/// What they are answered with.
struct Answers {
    hot: HotChecks<Cached>,
    api: Mutex<Api>,
    elsewhere: Handle,
    client: Arc<Client>,
    gate: Gate,
    health: Health,
    probes: Arc<Probes>,
    /// How long a call may take.
    time: Duration,
    activity: Arc<Activity>,
}

impl Calls {
    /// Of a client that is this peer, and has this place.
    pub(super) fn new(
        everything: &Everything,
        elsewhere: Handle,
        peer: Option<Arc<Peer>>,
        place: &Arc<Place>,
        activity: Arc<Activity>,
    ) -> Self {
        let Everything { api, decisions, health, shared } = everything;
        let client = Arc::new(Client::new(peer));
        Calls(Arc::new(Answers {
            hot: HotChecks::new(decisions.clone(), shared, Arc::clone(&client)),
            api: Mutex::new(api.clone()),
            elsewhere,
            gate: Gate::new(Arc::clone(&shared.authenticator), Arc::clone(&client), place),
            client,
            health: health.clone(),
            probes: Arc::clone(&place.probes),
            time: shared.limits.time,
            activity,
        }))
    }
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = Call;

    fn call(&self, request: Request<Incoming>) -> Call {
        self.0.activity.begin();
        let answers = Arc::clone(&self.0);
        if let Some(why) = NotGrpc::of(&request) {
            let asked = Some(answers.point_out(why, &request));
            return Call { check: None, asked, answers };
        }
        let request = request.map(Message::of);
        let path = request.uri().path();
        if path == CHECK && answers.gate.is_known() {
            let (head, message) = request.into_parts();
            let check = Some(Check { head, message, begun: Instant::now(), waiting: None });
            return Call { check, asked: None, answers };
        }
        let asked =
            if is_probe(path) { answers.probe(request) } else { answers.ask(request, None) };
        Call { check: None, asked: Some(asked), answers }
    }
}

impl Answers {
    fn probe(&self, request: Request<Message>) -> Asked {
        let call = self.begin(request.uri().path());
        let health = (&self.health, &self.probes);
        let probe = Probe::new(request, health, self.time, call, &self.activity);
        let asked = self.asked(Answering::Probe(Box::new(probe)), None);
        self.end_if_crowded();
        asked
    }

    /// Ends a connection on which nobody known has called, and that has more calls than probes need:
    /// what the transport keeps for each is in no room. Those that are refused are bounded by
    /// [`crate::server::strangers::MAX_REFUSED`].
    fn end_if_crowded(&self) {
        if !self.gate.is_known() && self.activity.streams() > MAX_OF_STRANGER {
            self.gate.end(Why::Crowded);
        }
    }

    /// What is said to a request that is no call, whoever makes it.
    fn point_out(&self, why: NotGrpc, request: &Request<Incoming>) -> Asked {
        let uri = request.uri();
        self.begin(uri.path()).refused(Code::Unknown);
        self.gate.count();
        let is_encrypted = uri.scheme() == Some(&Scheme::HTTPS);
        let response = why.response(uri.authority().map(Authority::as_str), is_encrypted);
        let response = response.map(|text| CallBody::Text(Some(text)));
        self.asked(Answering::Refused(Some(Box::new(response))), None)
    }

    fn asked(&self, answer: Answering, waiting: Option<Probing>) -> Asked {
        Asked { answer, open: self.activity.open(), held: None, _waiting: waiting }
    }

    /// A call that counts from now on.
    fn begin(&self, path: &str) -> CallUnderWay {
        self.api.lock().unwrap_or_else(PoisonError::into_inner).begin(path)
    }

    /// A call of any other method, which counts already if it is under way.
    fn ask(&self, mut request: Request<Message>, call: Option<CallUnderWay>) -> Asked {
        let (mut waiting, mut held) = (None, None);
        match self.gate.recognize(request.headers()) {
            Ok(recognized) => {
                let of_caller = recognized.caller.under_way.clone();
                match self.hold(of_caller, is_change(request.uri().path())) {
                    Ok(holding) => held = Some(holding),
                    Err(status) => {
                        let call = call.unwrap_or_else(|| self.begin(request.uri().path()));
                        call.refused(status.code());
                        let refused = Some(Box::new(status.into_http()));
                        return self.asked(Answering::Refused(refused), None);
                    }
                }
                request.extensions_mut().insert(recognized);
            }
            Err(why) => {
                // Where its issuer may be asked for more, it waits among the probes for that.
                waiting = if why.is_certain() { None } else { self.probes.enter().ok() };
                if waiting.is_none() {
                    let path = request.uri().path();
                    let call = call.unwrap_or_else(|| self.begin(path));
                    let method = if call.is_of_a_method() { path } else { "unknown" };
                    let refused = self.gate.refuse(&why, method, call);
                    return self.asked(Answering::Refused(Some(Box::new(refused))), None);
                }
            }
        }
        let decided_here = is_decided_at_hand(request.uri().path());
        request.extensions_mut().insert(Arc::clone(&self.client));
        let mut api = self.api.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match call {
            Some(call) => Answering::Here(api.go_on(call, request)),
            None if decided_here => Answering::Here(api.call(request)),
            None => {
                // It counts from now on, even if its turn never comes there.
                let call = api.begin(request.uri().path());
                let mut api = api.clone();
                let answer = self.elsewhere.spawn(async move { api.go_on(call, request).await });
                Answering::Elsewhere(answer)
            }
        };
        let mut asked = self.asked(answer, waiting);
        asked.held = held;
        asked
    }

    /// What the answer of a call will be counted by.
    fn hold(&self, of_caller: Option<UnderWay>, is_change: bool) -> Result<Held, Status> {
        let unread = self.hot.unread();
        match unread.hold(CALL_BYTES, of_caller.as_ref()) {
            Ok(holding) => {
                let unread = Arc::clone(unread);
                Ok(Held { unread, of_caller, is_change, _call: holding })
            }
            Err(status) => {
                if unread.failed_in_a_row() >= MAX_UNREAD {
                    self.gate.end(Why::Unread);
                }
                Err(status)
            }
        }
    }
}

/// What a call holds from its beginning until its answer was taken.
pub(super) struct Held {
    unread: Arc<Unread>,
    of_caller: Option<UnderWay>,
    is_change: bool,
    _call: Holding,
}

impl Held {
    /// A frame that is counted until it was sent; without room, the end of the answer. What was
    /// changed is told in any case.
    fn count(&self, data: Bytes) -> Result<Counted, Status> {
        let bytes = unread::of_frame(data.remaining());
        let holding = if self.is_change {
            self.unread.hold_anyway(bytes, self.of_caller.as_ref())
        } else {
            self.unread.hold(bytes, self.of_caller.as_ref())?
        };
        Ok(Counted::new(data, holding))
    }
}

/// A check whose message may not be there yet.
struct Check {
    head: Parts,
    message: Message,
    begun: Instant,
    /// Most never are.
    waiting: Option<Box<Waiting>>,
}

/// For how much longer a message is waited for, and the call, which counts meanwhile.
struct Waiting {
    patience: Pin<Box<Sleep>>,
    call: CallUnderWay,
}

impl Check {
    /// The answer, if it can be had at once when the message is there. Many clients send a call's
    /// message right after its beginning, but not with it, so it is waited for a moment. All that has
    /// to be looked at while a client takes its time is looked at elsewhere.
    fn poll_hot(
        &mut self,
        hot: &HotChecks<Cached>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Response<HotBody>>> {
        let Check { head, message, begun, waiting } = self;
        match message.poll_whole(context) {
            Poll::Ready(whole) => {
                let answer = whole.and_then(|whole| hot.answer(&head.headers, whole));
                Poll::Ready(answer.map(|answer| {
                    match waiting.take() {
                        None => hot.answered(begun.elapsed()),
                        Some(waiting) => waiting.call.succeeded(),
                    }
                    HotBody::of(answer)
                }))
            }
            Poll::Pending => {
                let waiting = waiting.get_or_insert_with(|| {
                    Box::new(Waiting {
                        patience: Box::pin(sleep(patience(&head.headers))),
                        call: hot.under_way(*begun),
                    })
                });
                waiting.patience.as_mut().poll(context).map(|()| None)
            }
        }
    }
}

/// No longer than the call may take.
fn patience(headers: &HeaderMap) -> Duration {
    deadline(headers).map_or(PATIENCE, |deadline| deadline.min(PATIENCE))
}

/// A call until its answer begins. Dropping it ends it.
pub(super) struct Call {
    /// A check that may still be answered at once.
    check: Option<Check>,
    /// Any other, and a check that could not.
    asked: Option<Asked>,
    answers: Arc<Answers>,
}

/// A call that takes its time. Its connection is not idle meanwhile.
struct Asked {
    answer: Answering,
    open: OpenCall,
    /// Of a caller.
    held: Option<Held>,
    /// The place of a call that nobody known has made so far.
    _waiting: Option<Probing>,
}

/// Where the answer comes from.
enum Answering {
    Here(<Api as tower::Service<Request<Message>>>::Future),
    Elsewhere(JoinHandle<Answer>),
    /// From the head, already.
    Refused(Option<Box<Response<CallBody>>>),
    Probe(Box<Probe>),
}

impl Future for Call {
    type Output = Result<Response<CallBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Call { check, asked, answers } = self.get_mut();
        if let Some(waiting) = check {
            let hot = ready!(waiting.poll_hot(&answers.hot, context));
            let waited = check.take();
            match (hot, waited) {
                (Some(hot), _) => return Poll::Ready(Ok(hot.map(CallBody::Hot))),
                (None, Some(Check { head, message, waiting, .. })) => {
                    let call = waiting.map(|waiting| waiting.call);
                    *asked = Some(answers.ask(Request::from_parts(head, message), call));
                }
                (None, None) => {}
            }
        }
        // None: a check that was answered already.
        let Some(Asked { answer, open, held, .. }) = asked else { return Poll::Pending };
        let answered = match answer {
            Answering::Here(answer) => ready!(Pin::new(answer).poll(context)),
            Answering::Elsewhere(answer) => match ready!(Pin::new(answer).poll(context)) {
                Ok(answer) => answer,
                // Nobody aborts it but ourselves, when nobody is left to be answered.
                Err(error) => Ok(internal(&format!("a call ended by itself: {error}")).into_http()),
            },
            Answering::Refused(answer) => {
                return answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(*answer)));
            }
            Answering::Probe(probe) => return probe.poll(context).map(Ok),
        };
        let held = held.take();
        let body = |body| CallBody::Other { body, held, ended: false, _open: open.clone() };
        Poll::Ready(answered.map(|answer| answer.map(body)))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Answering::Elsewhere(answer) = &self.answer {
            answer.abort();
        }
    }
}

/// A frame that counts until it was sent. Where there is no room for it the answer ends instead.
fn counted(frame: Frame<Bytes>, held: Option<&Held>, ended: &mut bool) -> Frame<Counted> {
    let data = match frame.into_data() {
        Ok(data) => data,
        Err(frame) => match frame.into_trailers() {
            Ok(trailers) => return Frame::trailers(trailers),
            // There are no other kinds.
            Err(_) => Bytes::new(),
        },
    };
    // Without a place from its beginning on, it is one of the few that waited for an issuer's keys.
    let Some(held) = held else { return Frame::data(Counted::uncounted(data)) };
    match held.count(data) {
        Ok(counted) => Frame::data(counted),
        Err(status) => {
            *ended = true;
            let mut trailers = HeaderMap::new();
            // Our own texts are valid header values.
            status.add_header(&mut trailers).ok();
            Frame::trailers(trailers)
        }
    }
}

/// The body of an answer.
#[derive(Default)]
pub(super) enum CallBody {
    /// Nothing: the head says it all.
    #[default]
    Empty,
    /// Of a check that was answered at once.
    Hot(HotBody),
    /// Of any other call. Its connection is not idle while there is one.
    Other {
        body: ApiBody,
        held: Option<Held>,
        /// For want of room.
        ended: bool,
        _open: OpenCall,
    },
    /// Answer to a question about health.
    Probe { body: HotBody, _sent: ProbeAnswer },
    /// Of a watch of health.
    Watch(WatchBody),
    /// Of a request that is no call.
    Text(Option<Bytes>),
}

impl Body for CallBody {
    type Data = Counted;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Counted>, Status>>> {
        match self.get_mut() {
            CallBody::Empty => Poll::Ready(None),
            CallBody::Hot(body) | CallBody::Probe { body, .. } => {
                Pin::new(body).poll_frame(context)
            }
            CallBody::Other { ended: true, .. } => Poll::Ready(None),
            CallBody::Other { body, held, ended, .. } => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(
                    frame.map(|frame| frame.map(|frame| counted(frame, held.as_ref(), ended))),
                )
            }
            CallBody::Watch(body) => body.poll_frame(context),
            CallBody::Text(text) => {
                let frame = |text| Ok(Frame::data(Counted::uncounted(text)));
                Poll::Ready(text.take().map(frame))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            CallBody::Empty => true,
            CallBody::Hot(body) | CallBody::Probe { body, .. } => body.is_end_stream(),
            CallBody::Other { body, ended, .. } => *ended || body.is_end_stream(),
            CallBody::Watch(_) => false,
            CallBody::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            CallBody::Empty => SizeHint::with_exact(0),
            CallBody::Hot(body) | CallBody::Probe { body, .. } => body.size_hint(),
            CallBody::Other { body, .. } => body.size_hint(),
            CallBody::Watch(_) => SizeHint::default(),
            CallBody::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_waited_for_no_longer_than_its_call_may_take() {
        for (deadline, expected) in [
            (None, PATIENCE),
            (Some("1S"), PATIENCE),
            (Some("3m"), Duration::from_millis(3)),
            (Some("9u"), Duration::from_micros(9)),
            (Some("soon"), PATIENCE),
        ] {
            let header =
                deadline.map(|text| ("grpc-timeout".parse().unwrap(), text.parse().unwrap()));
            assert_eq!(patience(&header.into_iter().collect()), expected, "{deadline:?}");
        }
    }
}
