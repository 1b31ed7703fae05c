//! What one response tells about itself while it passes: first byte, status, usage, how it ended, and
//! whether it said so.
//!
//! Sees every piece once and copies none. It decides what is reported to the picker and when; sending
//! it is the caller's business. A reply made inside Envoy (by another filter, or because nothing
//! answered) never counts as a first byte from a server.

use inferway_wire::ending::{EndScanner, Told};
use inferway_wire::protocol::{Done, First};
use inferway_wire::request::Kind;
use inferway_wire::usage::UsageScanner;

use crate::clock::elapsed_us;
use crate::duration::milliseconds;
use crate::envoy::HeaderRef;
use crate::kind;
use crate::route::parse_length;

/// Reads one response.
pub struct Watch {
    stream: u64,
    received_ns: u64,
    status: u16,
    event_stream: bool,
    usage: Option<UsageScanner>,
    /// Looks for the end of an event stream of a known API.
    ending: Option<EndScanner>,
    /// A blank line ended what has passed of an event stream; and what had passed before this piece.
    between_events: bool,
    was_between_events: bool,
    /// Body bytes that are still to come, when the server said how many.
    left: Option<u64>,
    retry_after_ms: u32,
    ttft_us: Option<u32>,
    local: Option<Local>,
    /// A server's response has begun.
    started: bool,
    fault: u8,
    kind: Kind,
    pub endpoint: String,
    pub attempts: usize,
}

/// What the client of a broken stream is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken {
    pub kind: Kind,
    /// As in DONE.
    pub fault: u8,
    pub between_events: bool,
}

/// A reply that Envoy or another filter made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Local {
    /// In place of one that a server failed to give.
    ServerFailed,
    Other,
}

/// What is to be reported now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    Nothing,
    First(First),
    Done(Box<Done>),
}

/// Whether Envoy's reason for a reply or a reset lies with the server that was chosen.
fn is_server_failure(details: &str) -> bool {
    const CAUSES: [&str; 6] = [
        "upstream_",
        "response_timeout",
        "via_upstream",
        "stream_idle_timeout",
        "max_duration_timeout",
        "response_payload_",
    ];
    CAUSES.iter().any(|cause| details.starts_with(cause))
}

fn is_client_gone(details: &str) -> bool {
    details.is_empty()
        || details.starts_with("downstream_")
        || details.starts_with("http1.")
        || details.starts_with("http2.")
        || details.starts_with("http3.")
        || details.contains("remote_disconnect")
}

impl Watch {
    pub fn new(stream: u64, received_ns: u64, kind: Kind) -> Self {
        Self {
            stream,
            received_ns,
            status: 0,
            event_stream: false,
            usage: None,
            ending: None,
            between_events: true,
            was_between_events: true,
            left: None,
            retry_after_ms: 0,
            ttft_us: None,
            local: None,
            started: false,
            fault: 0,
            kind,
            endpoint: String::new(),
            attempts: 0,
        }
    }

    /// A reply that no server gave is on its way; or, when a response had begun, this ends it.
    /// `held`: its headers have not gone on.
    pub fn local_reply(&mut self, details: &str, held: bool) -> Option<Broken> {
        let failed = is_server_failure(details);
        if self.started && !held {
            self.fault = match (failed, details.contains("idle_timeout")) {
                (_, true) => Done::IDLE,
                (true, false) => Done::RESET,
                (false, false) => 0,
            };
            return self.untold().filter(|broken| broken.fault != 0);
        }
        self.local = Some(if failed {
            Local::ServerFailed
        } else {
            Local::Other
        });
        None
    }

    pub fn is_event_stream(&self) -> bool {
        self.event_stream
    }

    /// Whether an event stream said how it ends.
    pub fn is_told(&self) -> bool {
        let ending = self.ending.as_ref();
        ending.is_some_and(|ending| ending.told() != Told::Nothing)
    }

    pub fn was_between_events(&self) -> bool {
        self.was_between_events
    }

    /// What a client that reads an event stream cannot know: that it was not told how it ended.
    fn untold(&self) -> Option<Broken> {
        let ending = self.ending.as_ref()?;
        let done = self.usage.as_ref().is_some_and(UsageScanner::saw_done);
        (ending.told() == Told::Nothing && !done).then_some(Broken {
            kind: self.kind,
            fault: self.fault,
            between_events: self.between_events,
        })
    }

    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    pub fn headers(&mut self, headers: &[HeaderRef<'_>], end: bool, now_ns: u64) -> Report {
        let (mut json, mut encoded) = (false, false);
        for (name, value) in headers {
            match *name {
                b":status" => self.status = parse_length(value).unwrap_or(0) as u16,
                b"content-type" => {
                    json = kind::is_json(value);
                    self.event_stream = kind::is_event_stream(value);
                }
                b"content-encoding" => encoded = !value.eq_ignore_ascii_case(b"identity"),
                b"content-length" => self.left = parse_length(value),
                b"retry-after-ms" => self.retry_after_ms = milliseconds(value),
                b"retry-after" if self.retry_after_ms == 0 => {
                    self.retry_after_ms = milliseconds(value).saturating_mul(1_000);
                }
                _ => {}
            }
        }
        let readable = (json || self.event_stream) && !encoded;
        self.started = self.local.is_none();
        if self.status == 200 && readable && self.started {
            self.usage = Some(UsageScanner::new(self.event_stream));
            if self.event_stream {
                self.ending = EndScanner::new(self.kind);
            }
        }
        if !end {
            return Report::Nothing;
        }
        self.first_byte(now_ns);
        self.complete(now_ns)
    }

    /// A response that ends with its first byte reports only its end, which carries the time to it.
    /// `now_ns` is asked only when it matters: most pieces of a stream need no time.
    pub fn body(&mut self, pieces: &[&[u8]], end: bool, now_ns: impl Fn() -> u64) -> Report {
        let mut bytes = 0;
        self.was_between_events = self.between_events;
        for piece in pieces {
            bytes += piece.len() as u64;
            if let Some(usage) = &mut self.usage {
                usage.feed(piece);
            }
            if let Some(ending) = &mut self.ending {
                ending.feed(piece);
                self.between_events = piece.ends_with(b"\n\n") || piece.ends_with(b"\n\r\n");
            }
        }
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        let news = self.ttft_us.is_none() && bytes > 0;
        let first = if news || end {
            self.first_byte(now_ns())
        } else {
            None
        };
        if end {
            return self.complete(now_ns());
        }
        if self.left == Some(0) && !self.event_stream {
            return Report::Nothing;
        }
        first.map_or(Report::Nothing, Report::First)
    }

    pub fn trailers(&mut self, now_ns: u64) -> Report {
        self.first_byte(now_ns);
        self.complete(now_ns)
    }

    /// The server was given up because its first token did not come.
    pub fn late(&mut self, now_ns: u64) -> Report {
        self.fault = Done::FIRST_TOKEN;
        Report::Done(Box::new(self.done(Done::SERVER_FAILED, now_ns)))
    }

    /// The stream is gone before its response was complete.
    pub fn cut(&mut self, details: Option<&str>, now_ns: u64) -> Report {
        let end = match (self.local, details) {
            (Some(Local::ServerFailed), _) => Done::SERVER_FAILED,
            (Some(Local::Other), _) => Done::LOCAL,
            (None, Some(details)) if is_server_failure(details) => Done::SERVER_FAILED,
            (None, Some(details)) if !is_client_gone(details) => Done::SERVER_FAILED,
            (None, _) => Done::CLIENT_LEFT,
        };
        Report::Done(Box::new(self.done(end, now_ns)))
    }

    /// The gateway itself answered instead of sending the request on.
    pub fn refused(&mut self, status: u16, now_ns: u64) -> Report {
        self.status = status;
        Report::Done(Box::new(self.done(Done::LOCAL, now_ns)))
    }

    fn complete(&mut self, now_ns: u64) -> Report {
        let end = match self.local {
            None => Done::COMPLETE,
            Some(Local::ServerFailed) => Done::SERVER_FAILED,
            Some(Local::Other) => Done::LOCAL,
        };
        let mut done = self.done(end, now_ns);
        if self.is_truncated() {
            (done.end, done.fault) = (Done::SERVER_FAILED, Done::TRUNCATED);
        }
        Report::Done(Box::new(done))
    }

    /// Whether a response that ended as it should is not whole. Known once `done` was made.
    fn is_truncated(&self) -> bool {
        let judged = self.kind != Kind::Other && self.started;
        match &self.usage {
            Some(_) if self.event_stream => self.untold().is_some(),
            Some(usage) => judged && !usage.json_complete(),
            None => false,
        }
    }

    /// What the client is to be told in addition, when its event stream just ended without a word.
    pub fn truncated(&self) -> Option<Broken> {
        self.untold().map(|broken| Broken {
            fault: Done::TRUNCATED,
            ..broken
        })
    }

    fn is_finished(&self) -> bool {
        let Some(usage) = &self.usage else {
            return false;
        };
        let told = self.ending.as_ref().map(EndScanner::told);
        told == Some(Told::Finished)
            || usage.saw_done()
            || (self.kind != Kind::Other && usage.json_complete())
    }

    fn first_byte(&mut self, now_ns: u64) -> Option<First> {
        if self.local.is_some() || self.ttft_us.is_some() {
            return None;
        }
        // 0 stands for "no first byte" on the wire.
        let ttft_us = elapsed_us(self.received_ns, now_ns).max(1);
        self.ttft_us = Some(ttft_us);
        Some(First {
            stream: self.stream,
            ttft_us,
            status: self.status,
        })
    }

    fn done(&mut self, end: u8, now_ns: u64) -> Done {
        let usage = self.usage.as_mut().and_then(UsageScanner::finish);
        let mut flags = 0;
        if usage.is_some() {
            flags |= Done::USAGE;
        }
        if self.ttft_us.is_some() {
            flags |= Done::FIRST;
        }
        if self.event_stream {
            flags |= Done::EVENT_STREAM;
        }
        Done {
            stream: self.stream,
            end,
            flags,
            status: self.status,
            ttft_us: self.ttft_us.unwrap_or(0),
            duration_us: elapsed_us(self.received_ns, now_ns),
            prompt_tokens: usage.as_ref().map_or(0, |usage| usage.prompt_tokens),
            cached_tokens: usage.as_ref().map_or(0, |usage| usage.cached_tokens),
            completion_tokens: usage.as_ref().map_or(0, |usage| usage.completion_tokens),
            attempts: u8::try_from(self.attempts).unwrap_or(u8::MAX),
            endpoint: std::mem::take(&mut self.endpoint),
            retry_after_ms: self.retry_after_ms,
            fault: if end == Done::SERVER_FAILED {
                self.fault
            } else {
                0
            },
            finish: u8::from(self.is_finished()) * Done::FINISHED,
        }
    }
}

#[cfg(test)]
#[path = "response_test.rs"]
mod tests;
