//! The filter `pick`: asks the picker where a request shall go and reports how it went.
//!
//! Active only on routes that name a pool. The request waits, without blocking the worker, until the
//! link has an answer; the chosen endpoints go into a header that Envoy's `override_host` policy reads.
//! Afterwards the response is watched. Every stream that was picked for ends with exactly one DONE,
//! whatever ends it: `Phase::Over` is entered together with it.

use std::cell::RefCell;
use std::sync::Arc;

use inferway_wire::protocol::{Done, Pick};
use inferway_wire::request::Kind;
use inferway_wire::withhold::Withhold;

use crate::again::{self, Again};
use crate::clock::monotonic_ns;
use crate::config::{PickConfig, PoolConfig};
use crate::envoy::{BodyStatus, HeadersStatus, LocalReply, Stream, Wake};
use crate::facts::{self, Placement};
use crate::handoff;
use crate::handover::Told;
use crate::head::{new_pick, Head};
use crate::link::Link;
use crate::metrics::Counter;
use crate::relay::Relay;
use crate::rename::Body;
use crate::reply;
use crate::response::{Broken, Report, Watch};
use crate::streams::{Answer, Begun};
use crate::writer::{self, Duty};

pub const DESTINATION_HEADER: &str = "x-gateway-destination-endpoint";
const MS: u64 = 1_000_000;

/// One configuration of the filter, shared by its streams.
pub struct PickShared<W: Wake + 'static> {
    pub config: PickConfig,
    pub link: Arc<Link<W>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    Running,
    /// DONE was given to the link.
    Over,
}

/// A stream that was picked for.
pub struct Picked {
    pub(crate) phase: Phase,
    pub(crate) stream: u64,
    pub(crate) kind: Kind,
    pub(crate) watch: Watch,
    body: Body,
    /// The model to send when the picker does not answer; None: the one that was asked for.
    fallback: Option<String>,
    /// The server was asked for usage that the client did not ask for.
    added_usage: bool,
    /// Keeps that usage from the client, from where it may come.
    withhold: Option<Withhold>,
    /// For the response.
    pub(crate) new_cookie: Option<String>,
    /// Whether the response tells how it came about.
    tells: bool,
    placement: Placement,
    sent_ns: u64,
    /// Whether the request may be sent twice: a stream, and no tools of the server.
    pub(crate) may_repeat: bool,
    /// By when the first byte of the body is to be there; 0: whenever.
    deadline_ns: u64,
    /// The headers of the response wait for that byte.
    holding: bool,
    /// Bytes of the request that went on; counted only with a deadline.
    sent_bytes: u64,
    again: Again,
    /// How often the client of a waiting stream is to hear something, and when next; 0: never.
    pub(crate) keepalive_ns: u64,
    pub(crate) silent_until_ns: u64,
    /// The client hears of it through another stream.
    pub(crate) told: Option<Told>,
}

#[derive(Default)]
pub struct PickFilter {
    /// None on routes without a pool.
    pub(crate) picked: RefCell<Option<Box<Picked>>>,
    /// The request went on in another stream, and this one keeps the client.
    pub(crate) relay: RefCell<Option<Box<Relay>>>,
}

impl Picked {
    /// A response begins: who gave it, and what its client is to know of that.
    fn served<S: Stream>(&mut self, stream: &S) {
        if self.phase == Phase::Over {
            return;
        }
        let watch = &mut self.watch;
        watch.endpoint = stream.upstream_address().unwrap_or_default();
        watch.attempts = stream.upstream_attempts();
        if let Some(cookie) = &self.new_cookie {
            stream.add_response_header("set-cookie", cookie.as_bytes());
        }
        if !self.tells {
            return;
        }
        let times = (self.again.received_ns, self.sent_ns);
        let headers = facts::headers(&self.placement, &watch.endpoint, watch.attempts, times);
        for (name, value) in headers {
            if reply::is_header_value(value.as_bytes()) {
                stream.add_response_header(name, value.as_bytes());
            }
        }
    }

    /// Lets a piece of the response pass without the usage that only we asked for. It comes after the
    /// end of what was generated, so until then nothing is looked at.
    fn withhold_usage<S: Stream>(&mut self, stream: &S, end: bool) {
        if !self.added_usage || !self.watch.is_event_stream() {
            return;
        }
        if self.withhold.is_none() {
            if !self.watch.is_told() {
                return;
            }
            self.withhold = Some(Withhold::new(self.watch.was_between_events()));
        }
        let Some(withhold) = &mut self.withhold else {
            return;
        };
        stream.remake_response_body(|pieces, put| {
            for piece in pieces {
                withhold.feed(piece, &mut *put);
            }
            if end {
                withhold.finish(put);
            }
        });
    }
}

impl PickFilter {
    pub fn request_headers<S: Stream>(
        &self,
        stream: &S,
        shared: &PickShared<S::Wake>,
        pool: Option<&PoolConfig>,
    ) -> HeadersStatus {
        if shared.config.relayed {
            return self.adopt(stream, shared);
        }
        let Some(pool) = pool else {
            return HeadersStatus::Continue;
        };
        let now_ns = monotonic_ns();
        let mut head = stream.request_headers(|headers| Head::read(headers, &shared.config, pool));
        for name in &head.remove {
            stream.set_request_header(name, None);
        }
        let length = head.length;
        let mut handoff = stream.state(handoff::STATE_KEY, |number| {
            let number = number.and_then(|bytes| bytes.try_into().ok())?;
            handoff::take(u64::from_ne_bytes(number))
        });
        let model_range = handoff
            .as_ref()
            .and_then(|handoff| handoff.fields.model_range.clone());
        let usage = handoff
            .as_mut()
            .filter(|_| pool.include_usage)
            .and_then(|handoff| handoff.fields.usage_edit.take());
        let mut added_usage = usage.is_some();
        let mut body = Body::new(model_range, usage, length);
        let number = shared.link.next_stream();
        let mut new_cookie = head.new_cookie.take();
        let (mut pick, kind) = new_pick(number, &pool.pool, head, handoff, now_ns);
        if let Some(subset) = stream.subset_hint() {
            pick.flags |= Pick::SUBSET;
            pick.subset = subset;
        }
        // Of a known API, so that an error can be told in its words.
        let keeps_alive = pool.relay && shared.config.relay.is_some() && kind != Kind::Other;
        if keeps_alive && pick.flags & Pick::STREAM != 0 {
            pick.flags |= Pick::KEEPS_ALIVE;
        }
        let anew = again::take(&pick.request_id);
        if let Some(anew) = &anew {
            anew.apply(&mut pick);
            new_cookie.clone_from(&anew.new_cookie);
            added_usage |= anew.added_usage;
        }
        let again = anew.unwrap_or_else(|| Again {
            received_ns: pick.received_ns,
            objective: pick.objective.clone(),
            fairness: pick.fairness.clone(),
            session: pick.session.clone(),
            ..Again::default()
        });
        let may_repeat = pick.flags & (Pick::STREAM | Pick::TOOLS) == Pick::STREAM;
        let watch = Watch::new(number, pick.received_ns, kind);
        let fallback = pool.rewrites.target(&pick.model, number).map(str::to_owned);
        let hold_ns = shared.config.hold_ms * MS;
        let duty = writer::take(&*shared.link, number);
        let wake = || {
            let wake = stream.waker();
            if duty == Duty::Mine {
                wake.wake();
            }
            wake
        };
        let begun = shared
            .link
            .begin(pick, pool.fail_open, hold_ns, now_ns, wake);
        let phase = match begun {
            Begun::Asked | Begun::Held { .. } => Phase::Waiting,
            Begun::FailedOpen => {
                writer::release(&*shared.link, number);
                body.settle(stream, fallback.as_deref().unwrap_or_default());
                Phase::Running
            }
        };
        if duty == Duty::Elsewhere {
            shared.link.flush();
        }
        *self.picked.borrow_mut() = Some(Box::new(Picked {
            phase,
            stream: number,
            kind,
            watch,
            body,
            fallback,
            added_usage,
            withhold: None,
            new_cookie,
            tells: pool.response_headers,
            placement: Placement::default(),
            sent_ns: now_ns,
            may_repeat,
            deadline_ns: 0,
            holding: false,
            sent_bytes: 0,
            again,
            keepalive_ns: 0,
            silent_until_ns: 0,
            told: None,
        }));

        stream.count(Counter::Picks, 1);
        let late = shared.link.take_late_answers();
        if late > 0 {
            stream.count(Counter::LateAnswers, late);
        }
        if phase == Phase::Waiting {
            return HeadersStatus::StopAllAndWatermark;
        }
        stream.count(Counter::FailOpen, 1);
        HeadersStatus::Continue
    }

    /// The link has an answer, or the turn in which this stream asked is over.
    pub fn scheduled<S: Stream>(&self, stream: &S, shared: &PickShared<S::Wake>) {
        self.write_out(shared);
        if self.relay_turn(stream, shared) {
            return;
        }
        if self.is_late() {
            return self.start_anew(stream, shared);
        }
        let (number, kind) = match &*self.picked.borrow() {
            // A reply that Envoy made meanwhile (a timeout) ends the wait as well.
            Some(picked) if picked.phase == Phase::Waiting && !picked.watch.is_local() => {
                (picked.stream, picked.kind)
            }
            _ => return,
        };
        let Some(answer) = shared.link.take(number) else {
            return self.keep_alive(stream, shared);
        };
        match answer {
            Answer::Endpoints {
                endpoints,
                model,
                placement,
            } => {
                if let Some(picked) = &mut *self.picked.borrow_mut() {
                    let deadline_ms = u64::from(placement.ttft_deadline_ms);
                    if deadline_ms > 0 && picked.may_repeat && picked.again.times < again::TIMES_MAX
                    {
                        picked.deadline_ns = monotonic_ns() + deadline_ms * MS;
                        shared
                            .link
                            .set_alarm(number, picked.deadline_ns, stream.waker());
                    }
                    picked.placement = placement;
                }
                if reply::is_header_value(endpoints.as_bytes()) {
                    stream.set_request_header(DESTINATION_HEADER, Some(endpoints.as_bytes()));
                }
                self.go_on(stream, Counter::Endpoints, Some(model));
            }
            Answer::Queued { keepalive_ms } => self.queued(stream, shared, keepalive_ms),
            Answer::FailOpen => self.go_on(stream, Counter::FailOpen, None),
            Answer::Reject(reject) => {
                self.refuse(
                    stream,
                    shared,
                    &reply::rejected(kind, &reject),
                    Counter::Rejects,
                );
            }
            Answer::FailClose => {
                self.refuse(
                    stream,
                    shared,
                    &reply::picker_unavailable(kind),
                    Counter::FailClose,
                );
            }
        }
    }

    /// Whether the first byte of a response should be there, and is not.
    fn is_late(&self) -> bool {
        self.picked.borrow().as_ref().is_some_and(|picked| {
            picked.phase == Phase::Running
                && picked.deadline_ns != 0
                && picked.deadline_ns <= monotonic_ns()
                && !picked.watch.is_local()
        })
    }

    /// Asks for another server, which gets the request anew. When Envoy no longer has all of it, the one
    /// that has it may take its time.
    fn start_anew<S: Stream>(&self, stream: &S, shared: &PickShared<S::Wake>) {
        let again = {
            let mut picked = self.picked.borrow_mut();
            let Some(picked) = picked.as_mut() else {
                return;
            };
            picked.deadline_ns = 0;
            if stream.kept_request_bytes() != picked.sent_bytes || picked.sent_bytes == 0 {
                return;
            }
            let endpoint = stream.upstream_address().unwrap_or_default();
            picked.watch.endpoint.clone_from(&endpoint);
            picked.watch.attempts = stream.upstream_attempts();
            let mut again = std::mem::take(&mut picked.again).after(&endpoint);
            again.new_cookie = picked.new_cookie.take();
            again.added_usage = picked.added_usage;
            again
        };
        stream.count(Counter::LateTokens, 1);
        self.watch(shared, |watch| watch.late(monotonic_ns()));
        let request_id = stream.request_headers(|headers| {
            let found = headers.iter().find(|(name, _)| *name == b"x-request-id");
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        });
        let request_id = request_id.unwrap_or_default();
        again::put(&request_id, again);
        stream.recreate();
        again::take(&request_id);
    }

    /// Writes out the link's queue when this stream has that duty.
    fn write_out<W: Wake>(&self, shared: &PickShared<W>) {
        let stream = self.picked.borrow().as_ref().map(|picked| picked.stream);
        if stream.is_some_and(|stream| writer::release(&*shared.link, stream)) {
            shared.link.flush();
        }
    }

    /// `model` is the picker's word; None: it has not spoken.
    fn go_on<S: Stream>(&self, stream: &S, counter: Counter, model: Option<String>) {
        stream.count(counter, 1);
        if let Some(picked) = &mut *self.picked.borrow_mut() {
            picked.phase = Phase::Running;
            let model = model.or_else(|| picked.fallback.take()).unwrap_or_default();
            picked.body.settle(stream, &model);
            picked.sent_ns = monotonic_ns();
        }
        stream.continue_decoding();
    }

    fn refuse<S: Stream>(
        &self,
        stream: &S,
        shared: &PickShared<S::Wake>,
        reply: &LocalReply,
        counter: Counter,
    ) {
        stream.count(counter, 1);
        self.watch(shared, |watch| watch.refused(reply.status, monotonic_ns()));
        stream.send_response(reply);
    }

    /// A piece of the body goes on to the server.
    pub fn request_body<S: Stream>(&self, stream: &S) {
        if let Some(picked) = &mut *self.picked.borrow_mut() {
            picked.body.pass(stream);
            if picked.deadline_ns != 0 {
                picked.sent_bytes += stream.received_request_body(|pieces| {
                    pieces.iter().map(|piece| piece.len() as u64).sum::<u64>()
                });
            }
        }
    }

    /// Envoy or another filter answers instead of a server; or it is about to cut a response that has
    /// begun, and this is the last that its client hears.
    pub fn local_reply<S: Stream>(&self, stream: &S, details: &str) {
        self.relay_cut(stream);
        let broken = {
            let mut picked = self.picked.borrow_mut();
            let picked = picked.as_mut().filter(|picked| picked.phase != Phase::Over);
            picked.and_then(|picked| picked.watch.local_reply(details, picked.holding))
        };
        if let Some(broken) = broken {
            self.set_told();
            stream.count(Counter::BrokenStreams, 1);
            stream.send_response_data(&reply::broken_stream(broken));
        }
    }

    /// With a deadline for the first token the headers wait for it: servers send them before.
    pub fn response_headers<S: Stream>(
        &self,
        stream: &S,
        shared: &PickShared<S::Wake>,
        end: bool,
    ) -> HeadersStatus {
        if let Some(picked) = &mut *self.picked.borrow_mut() {
            picked.served(stream);
        }
        self.watch(shared, |watch| {
            stream.response_headers(|headers| watch.headers(headers, end, monotonic_ns()))
        });
        match &mut *self.picked.borrow_mut() {
            Some(picked) if picked.deadline_ns != 0 && !end && !picked.watch.is_local() => {
                picked.holding = true;
                HeadersStatus::StopIteration
            }
            _ => HeadersStatus::Continue,
        }
    }

    pub fn response_body<S: Stream>(
        &self,
        stream: &S,
        shared: &PickShared<S::Wake>,
        end: bool,
    ) -> BodyStatus {
        let held = self.is_held(stream, end);
        let truncated = self.watch(shared, |watch| {
            stream.received_response_body(|pieces| watch.body(pieces, end, monotonic_ns))
        });
        if let Some(picked) = &mut *self.picked.borrow_mut() {
            picked.withhold_usage(stream, end);
        }
        if let Some(broken) = truncated {
            stream.count(Counter::TruncatedStreams, 1);
            stream.append_response_body(&reply::broken_stream(broken));
        }
        if held {
            BodyStatus::StopNoBuffer
        } else {
            BodyStatus::Continue
        }
    }

    /// Whether the headers go on waiting: the body's first byte ends the deadline.
    fn is_held<S: Stream>(&self, stream: &S, end: bool) -> bool {
        let mut picked = self.picked.borrow_mut();
        let Some(picked) = picked.as_mut().filter(|picked| picked.holding) else {
            return false;
        };
        let has_bytes =
            stream.received_response_body(|pieces| pieces.iter().any(|piece| !piece.is_empty()));
        picked.holding = !has_bytes && !end && picked.deadline_ns != 0;
        if !picked.holding {
            picked.deadline_ns = 0;
        }
        picked.holding
    }

    pub fn response_trailers<W: Wake>(&self, shared: &PickShared<W>) {
        self.watch(shared, |watch| watch.trailers(monotonic_ns()));
    }

    /// The stream is over. `details` gives Envoy's reason, when it is still known.
    pub fn over<W: Wake>(&self, shared: &PickShared<W>, details: impl FnOnce() -> Option<String>) {
        self.relay_over(shared);
        self.watch(shared, |watch| {
            watch.cut(details().as_deref(), monotonic_ns())
        });
        self.write_out(shared);
    }

    /// Lets the watch see an event of a stream that is not over, and passes on what it reports. Says
    /// when an event stream ended without saying how.
    fn watch<W: Wake>(
        &self,
        shared: &PickShared<W>,
        see: impl FnOnce(&mut Watch) -> Report,
    ) -> Option<Broken> {
        let mut picked = self.picked.borrow_mut();
        let picked = picked
            .as_mut()
            .filter(|picked| picked.phase != Phase::Over)?;
        match see(&mut picked.watch) {
            Report::Nothing => {}
            Report::First(first) => shared.link.first(first, &picked.watch.endpoint),
            Report::Done(done) => {
                picked.phase = Phase::Over;
                shared.link.end(&done);
                if done.fault == Done::TRUNCATED {
                    return picked.watch.truncated();
                }
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "pick_test.rs"]
mod tests;
