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

use crate::clock::monotonic_ns;
use crate::config::{PickConfig, PoolConfig};
use crate::duration::{go_duration_ms, milliseconds};
use crate::envoy::{HeaderRef, HeadersStatus, LocalReply, Stream, Wake};
use crate::handoff::{self, Handoff};
use crate::kind;
use crate::link::Link;
use crate::metrics::Counter;
use crate::rename::Body;
use crate::reply;
use crate::response::{Broken, Report, Watch};
use crate::route::parse_length;
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
enum Phase {
    Waiting,
    Running,
    /// DONE was given to the link.
    Over,
}

/// A stream that was picked for.
struct Picked {
    phase: Phase,
    stream: u64,
    kind: Kind,
    watch: Watch,
    body: Body,
    /// The model to send when the picker does not answer; None: the one that was asked for.
    fallback: Option<String>,
}

#[derive(Default)]
pub struct PickFilter {
    /// None on routes without a pool.
    picked: RefCell<Option<Box<Picked>>>,
}

/// What the request's headers say, and which of them go no further.
struct Head {
    objective: String,
    fairness: String,
    session: String,
    request_id: String,
    kind: Kind,
    length: Option<u64>,
    slo_ttft_ms: u32,
    slo_tpot_ms: u32,
    ttl_ms: u32,
    /// Those that the route asks for.
    headers: Vec<(String, String)>,
    /// Names of headers to remove.
    remove: Vec<String>,
}

impl Head {
    fn read(headers: &[HeaderRef<'_>], config: &PickConfig, asked: &[String]) -> Self {
        let mut head = Self {
            objective: String::new(),
            fairness: String::new(),
            session: String::new(),
            request_id: String::new(),
            kind: Kind::Other,
            length: None,
            slo_ttft_ms: 0,
            slo_tpot_ms: 0,
            ttl_ms: 0,
            headers: Vec::new(),
            remove: Vec::new(),
        };
        for (name, value) in headers {
            let named = |names: &[String]| names.iter().any(|other| other.as_bytes() == *name);
            match *name {
                b":path" => head.kind = kind::of_path(value),
                b"content-length" => head.length = parse_length(value),
                b"x-request-id" => head.request_id = text(value),
                b"x-slo-ttft-ms" | b"x-llm-d-slo-ttft-ms" => {
                    set_known(&mut head.slo_ttft_ms, milliseconds(value));
                }
                b"x-slo-tpot-ms" | b"x-llm-d-slo-tpot-ms" => {
                    set_known(&mut head.slo_tpot_ms, milliseconds(value));
                }
                b"x-inference-ttl" | b"x-llm-d-inference-ttl" => {
                    set_known(&mut head.ttl_ms, go_duration_ms(value));
                }

                _ if named(&config.objective_headers) => {
                    set_once(&mut head.objective, value);
                    head.remove.push(text(name));
                }
                _ if named(&config.fairness_headers) => {
                    set_once(&mut head.fairness, value);
                    head.remove.push(text(name));
                }
                _ if named(&config.session_headers) => set_once(&mut head.session, value),
                // Never the client's word, even where the filter `route` is missing.
                _ if *name == DESTINATION_HEADER.as_bytes() => head.remove.push(text(name)),
                _ => {}
            }
            if !asked.is_empty() && named(asked) {
                head.headers.push((text(name), text(value)));
            }
        }
        head
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Of several spellings or values the first that is not empty counts.
fn set_once(field: &mut String, value: &[u8]) {
    if field.is_empty() {
        *field = text(value);
    }
}

fn set_known(field: &mut u32, value: u32) {
    if *field == 0 {
        *field = value;
    }
}

/// The question to the picker, and the API that a refusal speaks.
fn new_pick(
    stream: u64,
    pool: &str,
    head: Head,
    handoff: Option<Handoff>,
    now_ns: u64,
) -> (Pick, Kind) {
    let pick = Pick {
        stream,
        received_ns: now_ns,
        pool: pool.to_owned(),
        objective: head.objective,
        fairness: head.fairness,
        session: head.session,
        request_id: head.request_id,
        slo_ttft_ms: head.slo_ttft_ms,
        slo_tpot_ms: head.slo_tpot_ms,
        ttl_ms: head.ttl_ms,
        headers: head.headers,
        ..Pick::default()
    };
    match handoff {
        None => {
            let body_bytes = head.length.unwrap_or(0);
            let body_bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX);
            let kind = head.kind;
            // Without a body that was read there is no prompt of that API.
            (
                Pick {
                    body_bytes,
                    kind: Kind::Other as u8,
                    ..pick
                },
                kind,
            )
        }
        Some(Handoff {
            fields,
            kind,
            body_bytes,
            received_ns,
        }) => {
            let pick = Pick {
                received_ns,
                body_bytes,
                prompt_bytes: fields.prompt_bytes,
                max_tokens: fields.max_tokens,
                priority: fields.priority,
                kind: kind as u8,
                flags: (u8::from(fields.stream) * Pick::STREAM)
                    | (u8::from(fields.server_tools) * Pick::TOOLS),
                user: fields.user.unwrap_or_default(),
                model: fields.model.unwrap_or_default(),
                hashes: fields.hashes,
                ..pick
            };
            (pick, kind)
        }
    }
}

impl PickFilter {
    pub fn request_headers<S: Stream>(
        &self,
        stream: &S,
        shared: &PickShared<S::Wake>,
        pool: Option<&PoolConfig>,
    ) -> HeadersStatus {
        let Some(pool) = pool else {
            return HeadersStatus::Continue;
        };
        let now_ns = monotonic_ns();
        let head =
            stream.request_headers(|headers| Head::read(headers, &shared.config, &pool.headers));
        for name in &head.remove {
            stream.set_request_header(name, None);
        }
        let length = head.length;
        let handoff = stream.state(handoff::STATE_KEY, |number| {
            let number = number.and_then(|bytes| bytes.try_into().ok())?;
            handoff::take(u64::from_ne_bytes(number))
        });
        let model_range = handoff
            .as_ref()
            .and_then(|handoff| handoff.fields.model_range.clone());
        let mut body = Body::new(model_range, length);
        let number = shared.link.next_stream();
        let (pick, kind) = new_pick(number, &pool.pool, head, handoff, now_ns);
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
                body.rename(stream, fallback.as_deref().unwrap_or_default());
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
        let (number, kind) = match &*self.picked.borrow() {
            // A reply that Envoy made meanwhile (a timeout) ends the wait as well.
            Some(picked) if picked.phase == Phase::Waiting && !picked.watch.is_local() => {
                (picked.stream, picked.kind)
            }
            _ => return,
        };
        let Some(answer) = shared.link.take(number) else {
            return;
        };
        match answer {
            Answer::Endpoints { endpoints, model } => {
                if reply::is_header_value(endpoints.as_bytes()) {
                    stream.set_request_header(DESTINATION_HEADER, Some(endpoints.as_bytes()));
                }
                self.go_on(stream, Counter::Endpoints, Some(model));
            }
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
            picked.body.rename(stream, &model);
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
        }
    }

    /// Envoy or another filter answers instead of a server; or it is about to cut a response that has
    /// begun, and this is the last that its client hears.
    pub fn local_reply<S: Stream>(&self, stream: &S, details: &str) {
        let broken = {
            let mut picked = self.picked.borrow_mut();
            let picked = picked.as_mut().filter(|picked| picked.phase != Phase::Over);
            picked.and_then(|picked| picked.watch.local_reply(details))
        };
        if let Some(broken) = broken {
            stream.count(Counter::BrokenStreams, 1);
            stream.send_response_data(&reply::broken_stream(broken));
        }
    }

    pub fn response_headers<S: Stream>(&self, stream: &S, shared: &PickShared<S::Wake>, end: bool) {
        self.watch(shared, |watch| {
            if let Some(endpoint) = stream.upstream_address() {
                watch.endpoint = endpoint;
            }
            watch.attempts = stream.upstream_attempts();
            stream.response_headers(|headers| watch.headers(headers, end, monotonic_ns()))
        });
    }

    pub fn response_body<S: Stream>(&self, stream: &S, shared: &PickShared<S::Wake>, end: bool) {
        let truncated = self.watch(shared, |watch| {
            stream.received_response_body(|pieces| watch.body(pieces, end, monotonic_ns))
        });
        if let Some(broken) = truncated {
            stream.count(Counter::TruncatedStreams, 1);
            stream.append_response_body(&reply::broken_stream(broken));
        }
    }

    pub fn response_trailers<W: Wake>(&self, shared: &PickShared<W>) {
        self.watch(shared, |watch| watch.trailers(monotonic_ns()));
    }

    /// The stream is over. `details` gives Envoy's reason, when it is still known.
    pub fn over<W: Wake>(&self, shared: &PickShared<W>, details: impl FnOnce() -> Option<String>) {
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
