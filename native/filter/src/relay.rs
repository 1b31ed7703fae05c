//! The client's side of a request that goes on in another stream: pings while it waits, then what
//! the other stream answers.
//!
//! A pure state machine: what arrives comes in, what is to be sent goes out. Its client has read `200`
//! and an event stream by then, so whatever else happens is told as an error event, and the stream ends as
//! it should. Answers of the other stream cannot be slowed down, so what a slow client has not taken
//! waits here, up to a limit. The end is sent from a turn of its own, never from inside the answer:
//! ending a stream takes the other one down with it.

use inferway_wire::protocol::Done;
use inferway_wire::request::Kind;

use crate::envoy::HeaderRef;
use crate::handover::Told;
use crate::kind;
use crate::reply;
use crate::response::Broken;
use crate::route::parse_length;

/// What a slow client may leave unread, above what Envoy's own buffers take.
pub const UNSENT_BYTES_MAX: usize = 8 << 20;
/// So much of an error's text is read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// A comment: parsers of event streams skip it.
pub const PING: &[u8] = b": ping\n\n";

enum Phase {
    /// Nothing was answered yet.
    Waiting,
    /// The answer is an event stream.
    Passing,
    /// It is something else: status and body.
    Refused(u16, Vec<u8>),
    /// The end was sent.
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Complete,
    /// The other stream broke, or never began.
    Broken,
    /// The client reads too slowly.
    Overflow,
}

pub struct Relay {
    pub number: u64,
    kind: Kind,
    every_ns: u64,
    ping_ns: u64,
    phase: Phase,
    /// The client's connection takes nothing more.
    blocked: bool,
    unsent: Vec<u8>,
    between_events: bool,
    ending: Option<Ending>,
    told: Told,
    pub callout: Option<u64>,
}

/// What a turn of the client's stream brings about.
#[derive(PartialEq, Eq, Debug)]
pub enum Turn {
    Nothing,
    Send(Vec<u8>),
    /// The last bytes.
    End(Vec<u8>, Ending),
}

impl Relay {
    /// Begins with a ping, which the caller sends.
    pub fn new(number: u64, kind: Kind, every_ns: u64, now_ns: u64, told: Told) -> Self {
        Self {
            number,
            kind,
            every_ns,
            ping_ns: now_ns + every_ns,
            phase: Phase::Waiting,
            blocked: false,
            unsent: Vec::new(),
            between_events: true,
            ending: None,
            told,
            callout: None,
        }
    }

    pub fn next_ping_ns(&self) -> u64 {
        self.ping_ns
    }

    pub fn headers(&mut self, headers: &[HeaderRef<'_>]) {
        let value = |name: &str| {
            let found = headers.iter().find(|(other, _)| *other == name.as_bytes());
            found.map_or(b"".as_slice(), |(_, value)| *value)
        };
        let status = parse_length(value(":status")).unwrap_or(0) as u16;
        self.phase = if status == 200 && kind::is_event_stream(value("content-type")) {
            Phase::Passing
        } else {
            Phase::Refused(status, Vec::new())
        };
    }

    /// Gives what is to be sent at once. True: there has to be a turn of the client's stream.
    pub fn data(&mut self, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        match &mut self.phase {
            Phase::Refused(_, body) => {
                for piece in pieces {
                    let room = ERROR_BYTES_MAX - body.len();
                    body.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                (Vec::new(), false)
            }
            Phase::Passing if self.ending.is_none() => {
                let bytes = pieces.concat();
                if !bytes.is_empty() {
                    self.between_events = bytes.ends_with(b"\n\n") || bytes.ends_with(b"\n\r\n");
                }
                if !self.blocked && self.unsent.is_empty() {
                    return (bytes, false);
                }
                self.unsent.extend_from_slice(&bytes);
                let overflow = self.unsent.len() > UNSENT_BYTES_MAX;
                if overflow {
                    self.ending = Some(Ending::Overflow);
                }
                (Vec::new(), overflow)
            }
            Phase::Waiting | Phase::Passing | Phase::Over => (Vec::new(), false),
        }
    }

    /// The other stream is over. There has to be a turn of the client's stream.
    pub fn answered(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        self.callout = None;
    }

    /// The client's connection is full, or no longer. True: there has to be a turn.
    pub fn set_blocked(&mut self, blocked: bool) -> bool {
        self.blocked = blocked;
        !blocked && !self.unsent.is_empty()
    }

    /// There has to be a turn at `next_ping_ns`.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting)
    }

    pub fn has_answer(&self) -> bool {
        self.ending.is_some()
    }

    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    pub fn turn(&mut self, now_ns: u64) -> Turn {
        if self.is_over() {
            return Turn::Nothing;
        }
        if let Some(ending) = self.ending {
            let bytes = self.last_words(ending);
            self.phase = Phase::Over;
            return Turn::End(bytes, ending);
        }
        if !self.blocked && !self.unsent.is_empty() {
            return Turn::Send(std::mem::take(&mut self.unsent));
        }
        if self.is_waiting() && self.ping_ns <= now_ns {
            self.ping_ns = now_ns + self.every_ns;
            if !self.blocked {
                return Turn::Send(PING.to_vec());
            }
        }
        Turn::Nothing
    }

    /// What Envoy's reset of the client's stream leaves to say.
    pub fn cut(&mut self) -> Vec<u8> {
        self.phase = Phase::Over;
        reply::broken_stream(self.broken())
    }

    fn broken(&self) -> Broken {
        Broken {
            kind: self.kind,
            fault: Done::RESET,
            between_events: self.between_events,
        }
    }

    fn last_words(&mut self, ending: Ending) -> Vec<u8> {
        if ending == Ending::Overflow {
            // The client has not read what it was sent: more would only make it wait longer.
            return reply::slow_client(self.kind);
        }
        let mut bytes = std::mem::take(&mut self.unsent);
        match (&self.phase, ending) {
            (Phase::Refused(status, body), Ending::Complete) => {
                bytes.extend(reply::refused_stream(self.kind, *status, body));
            }
            (Phase::Passing, Ending::Complete) => {}
            _ if self.told.get() => {}
            _ => bytes.extend(reply::broken_stream(self.broken())),
        }
        bytes
    }
}

#[cfg(test)]
#[path = "relay_test.rs"]
mod tests;
