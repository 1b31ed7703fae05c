//! The filter `route`: reads the model out of the body, so that Envoy can choose the route by it.
//!
//! Trust headers that a client sent are removed always. A POST with a JSON body is held back and
//! scanned piece by piece as it arrives, without a copy; at its end the model becomes
//! `x-gateway-model-name`, the route is chosen again, and what a pick needs is handed on
//! (`handoff.rs`). On the paths of the OpenAI API a body without a usable model is answered here; on
//! all other paths it passes untouched.

use std::cell::RefCell;

use inferway_wire::request::{Kind, Malformed, RequestFields, RequestScanner};

use crate::clock::monotonic_ns;
use crate::config::RouteConfig;
use crate::envoy::{BodyStatus, HeaderRef, HeadersStatus, LocalReply, Stream, TrailersStatus};
use crate::handoff::{self, Handoff, Ticket};
use crate::kind;
use crate::metrics::{Counter, PANICS};
use crate::rename::ROOM_BYTES;
use crate::reply;

pub const MODEL_HEADER: &str = "x-gateway-model-name";
pub const BASE_MODEL_HEADER: &str = "x-gateway-base-model-name";
/// A model name becomes a header, so it stays far below header limits.
pub const MODEL_BYTES_MAX: usize = 1024;

enum Phase {
    /// Not a body that is read here, or done with it.
    Passing,
    Scanning(Box<Scan>),
    /// The body is known to be bad. Its end is awaited, because many clients read no answer before.
    Refusing(LocalReply, Scanned),
    Answered,
}

/// How much of which body was seen.
#[derive(Clone, Copy)]
struct Scanned {
    kind: Kind,
    received_ns: u64,
    bytes: u64,
}

struct Scan {
    scanner: RequestScanner,
    seen: Scanned,
}

/// What a piece of the body leads to.
enum Step {
    Pass,
    Hold,
    Drop,
    Finish,
    Reply(LocalReply),
}

struct RouteState {
    phase: Phase,
    /// Keeps what was handed on until the stream ends.
    ticket: Option<Ticket>,
}

pub struct RouteFilter {
    state: RefCell<RouteState>,
}

/// What decides about a request before its body.
struct Head {
    /// Places in `strip_headers`.
    strip: Vec<usize>,
    post: bool,
    kind: Kind,
    json: Option<bool>,
    length: Option<u64>,
}

impl Head {
    fn read(headers: &[HeaderRef<'_>], strip_headers: &[String]) -> Self {
        let mut head = Self {
            strip: Vec::new(),
            post: false,
            kind: Kind::Other,
            json: None,
            length: None,
        };
        for (name, value) in headers {
            match *name {
                b":method" => head.post = *value == b"POST",
                b":path" => head.kind = kind::of_path(value),
                b"content-type" => head.json = Some(kind::is_json(value)),
                b"content-length" => head.length = parse_length(value),
                _ => {
                    let place = strip_headers
                        .iter()
                        .position(|strip| strip.as_bytes() == *name);
                    head.strip.extend(place);
                }
            }
        }
        head
    }

    /// Whether the body is read; or the answer to a request that will not do, whatever its body.
    fn judge(&self, end: bool, bytes_max: u64) -> Result<bool, LocalReply> {
        let too_large = self.length.is_some_and(|length| length > bytes_max);
        if !self.post {
            return Ok(false);
        }
        if self.kind == Kind::Other {
            return Ok(!end && !too_large && self.json != Some(false));
        }
        if self.json == Some(false) {
            return Err(reply::wrong_content_type(self.kind));
        }
        if too_large {
            return Err(reply::too_large(self.kind, bytes_max));
        }
        if end {
            let empty = Malformed {
                offset: 0,
                reason: "the body is empty",
            };
            return Err(reply::malformed(self.kind, empty));
        }
        Ok(true)
    }
}

/// The number in a content-length header.
pub fn parse_length(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

impl Default for RouteFilter {
    fn default() -> Self {
        Self {
            state: RefCell::new(RouteState {
                phase: Phase::Passing,
                ticket: None,
            }),
        }
    }
}

impl RouteFilter {
    pub fn request_headers<S: Stream>(
        &self,
        stream: &S,
        config: &RouteConfig,
        end: bool,
    ) -> HeadersStatus {
        let panics = PANICS.take();
        if panics > 0 {
            stream.count(Counter::Panics, panics);
        }
        let head = stream.request_headers(|headers| Head::read(headers, &config.strip_headers));
        for place in &head.strip {
            stream.set_request_header(&config.strip_headers[*place], None);
        }
        match head.judge(end, config.body_bytes_max) {
            Ok(true) => {
                stream.raise_buffer_limit(config.body_bytes_max + ROOM_BYTES);
                let seen = Scanned {
                    kind: head.kind,
                    received_ns: monotonic_ns(),
                    bytes: 0,
                };
                let scan = Scan {
                    scanner: RequestScanner::new(head.kind),
                    seen,
                };
                self.state.borrow_mut().phase = Phase::Scanning(Box::new(scan));
                HeadersStatus::StopIteration
            }
            Ok(false) => {
                if !head.strip.is_empty() {
                    stream.clear_route_cache();
                }
                HeadersStatus::Continue
            }
            Err(reply) => {
                self.answer(stream, &reply);
                HeadersStatus::StopIteration
            }
        }
    }

    pub fn request_body<S: Stream>(
        &self,
        stream: &S,
        config: &RouteConfig,
        end: bool,
    ) -> BodyStatus {
        let step = self
            .state
            .borrow_mut()
            .piece(stream, config.body_bytes_max, end);
        let step = match step {
            Step::Finish => self.finish(stream, config),
            step => step,
        };
        match step {
            Step::Pass => BodyStatus::Continue,
            Step::Hold => BodyStatus::StopAndBuffer,
            Step::Drop | Step::Finish => BodyStatus::StopNoBuffer,
            Step::Reply(reply) => {
                self.answer(stream, &reply);
                BodyStatus::StopNoBuffer
            }
        }
    }

    /// Trailers end a body as well.
    pub fn request_trailers<S: Stream>(&self, stream: &S, config: &RouteConfig) -> TrailersStatus {
        let step = match &self.state.borrow().phase {
            Phase::Passing => Step::Pass,
            Phase::Scanning(_) => Step::Finish,
            Phase::Refusing(reply, _) => Step::Reply(reply.clone()),
            Phase::Answered => Step::Drop,
        };
        let step = match step {
            Step::Finish => self.finish(stream, config),
            step => step,
        };
        match step {
            Step::Pass => TrailersStatus::Continue,
            Step::Hold | Step::Drop | Step::Finish => TrailersStatus::StopIteration,
            Step::Reply(reply) => {
                self.answer(stream, &reply);
                TrailersStatus::StopIteration
            }
        }
    }

    /// The whole body is there.
    fn finish<S: Stream>(&self, stream: &S, config: &RouteConfig) -> Step {
        let phase = std::mem::replace(&mut self.state.borrow_mut().phase, Phase::Passing);
        let Phase::Scanning(scan) = phase else {
            return Step::Pass;
        };
        let Scan { scanner, seen } = *scan;
        if seen.bytes > config.body_bytes_max {
            return too_large(seen.kind, config.body_bytes_max);
        }
        let fields = match stream.whole_request_body(|pieces| scanner.finish(pieces)) {
            Ok(fields) => fields,
            Err(malformed) if seen.kind == Kind::Other => {
                // Not ours to judge, but what a pick can use without the body is kept.
                let _ = malformed;
                return Step::Pass;
            }
            Err(malformed) => return Step::Reply(reply::malformed(seen.kind, malformed)),
        };
        match usable_model(seen.kind, &fields) {
            Ok(model) => {
                stream.set_request_header(MODEL_HEADER, Some(model.as_bytes()));
                if let Some(base) = config.base_models.get(model) {
                    stream.set_request_header(BASE_MODEL_HEADER, Some(base.as_bytes()));
                }
            }
            Err(_) if seen.kind == Kind::Other => {}
            Err(reply) => return Step::Reply(reply),
        }
        stream.clear_route_cache();
        let ticket = handoff::put(Handoff {
            fields,
            kind: seen.kind,
            body_bytes: u32::try_from(seen.bytes).unwrap_or(u32::MAX),
            received_ns: seen.received_ns,
        });
        if stream.set_state(handoff::STATE_KEY, &ticket.number().to_ne_bytes()) {
            self.state.borrow_mut().ticket = Some(ticket);
        }
        Step::Pass
    }

    fn answer<S: Stream>(&self, stream: &S, reply: &LocalReply) {
        self.state.borrow_mut().phase = Phase::Answered;
        let counter = match reply.status {
            413 => Counter::TooLargeRequests,
            _ => Counter::MalformedRequests,
        };
        stream.count(counter, 1);
        stream.send_response(reply);
    }
}

fn too_large(kind: Kind, bytes_max: u64) -> Step {
    match kind {
        Kind::Other => Step::Pass,
        kind => Step::Reply(reply::too_large(kind, bytes_max)),
    }
}

fn usable_model(kind: Kind, fields: &RequestFields) -> Result<&str, LocalReply> {
    match &fields.model {
        None if fields.model_not_string => Err(reply::model_not_string(kind)),
        None => Err(reply::missing_model(kind)),
        Some(model)
            if model.len() <= MODEL_BYTES_MAX && reply::is_header_value(model.as_bytes()) =>
        {
            Ok(model)
        }
        Some(_) => Err(reply::model_not_usable(kind, MODEL_BYTES_MAX)),
    }
}

impl RouteState {
    fn piece<S: Stream>(&mut self, stream: &S, bytes_max: u64, end: bool) -> Step {
        match &mut self.phase {
            Phase::Passing => Step::Pass,
            Phase::Answered => Step::Drop,
            Phase::Refusing(reply, seen) => {
                seen.bytes += stream.received_request_body(total_bytes);
                if seen.bytes > bytes_max {
                    return too_large(seen.kind, bytes_max);
                }
                if end {
                    return Step::Reply(reply.clone());
                }
                Step::Drop
            }
            Phase::Scanning(scan) => {
                let scanned = scan.feed(stream, bytes_max);
                let seen = scan.seen;
                let over = seen.bytes > bytes_max;
                match scanned {
                    Ok(()) if over && seen.kind != Kind::Other => too_large(seen.kind, bytes_max),
                    Ok(()) if !over && end => Step::Finish,
                    Ok(()) if !over => Step::Hold,
                    // A body that is not ours to judge goes on, with what was held of it.
                    Ok(()) => self.pass(),
                    Err(_) if seen.kind == Kind::Other => self.pass(),
                    Err(malformed) => {
                        let reply = reply::malformed(seen.kind, malformed);
                        if end {
                            return Step::Reply(reply);
                        }
                        self.phase = Phase::Refusing(reply, seen);
                        Step::Drop
                    }
                }
            }
        }
    }

    fn pass(&mut self) -> Step {
        self.phase = Phase::Passing;
        Step::Pass
    }
}

fn total_bytes(pieces: &[&[u8]]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

impl Scan {
    /// Reads the pieces of one event. When they repeat what an earlier filter held back, only news count.
    fn feed<S: Stream>(&mut self, stream: &S, bytes_max: u64) -> Result<(), Malformed> {
        let mut known = if self.seen.bytes > 0 && stream.received_is_buffered() {
            self.seen.bytes
        } else {
            0
        };
        let Self { scanner, seen } = self;
        stream.received_request_body(|pieces| {
            for piece in pieces {
                let skip = known.min(piece.len() as u64);
                known -= skip;
                let piece = &piece[skip as usize..];
                seen.bytes += piece.len() as u64;
                if seen.bytes > bytes_max {
                    return Ok(());
                }
                scanner.feed(piece)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
#[path = "route_test.rs"]
mod tests;
