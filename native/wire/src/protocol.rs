//! Frames of the pick protocol, version 1.1 (docs/pick-protocol.md), for both of its sides.
//!
//! Decoders are total: any bytes give a frame, "not enough yet", or a [`ProtocolError`], after which the connection cannot
//! go on. Bytes after the known fields and frames of unknown type are skipped, so a newer minor version can talk to us;
//! the fields that version 1.1 appended are empty when an older one leaves them out.
//! Conduct (who sends what when) is not here.

use std::fmt;

mod decode;
mod encode;

pub use decode::{FrameBuffer, FrameRef, HeadersRef, PickRef};
pub use encode::encode_heartbeat;

pub const MAGIC: u32 = 0x5957_4649;
pub const VERSION_MAJOR: u16 = 1;
pub const VERSION_MINOR: u16 = 1;
/// Largest `size` of a frame: type and payload.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

const NO_PRIORITY: i32 = i32::MIN;
const SIZE_BYTES: usize = 4;

mod frame_type {
    pub const HELLO: u8 = 0x01;
    pub const PICK: u8 = 0x02;
    pub const FIRST: u8 = 0x03;
    pub const DONE: u8 = 0x04;
    pub const OPEN: u8 = 0x05;
    pub const FAULT: u8 = 0x06;
    pub const WELCOME: u8 = 0x81;
    pub const ENDPOINTS: u8 = 0x82;
    pub const REJECT: u8 = 0x83;
    pub const HEARTBEAT: u8 = 0x84;
    pub const QUEUED: u8 = 0x85;
}

/// Why a byte stream is not the pick protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolError {
    /// 0 when the error is before a frame's type.
    pub frame_type: u8,
    pub reason: &'static str,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "frame of type {:#04x}: {}",
            self.frame_type, self.reason
        )
    }
}

impl std::error::Error for ProtocolError {}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    pub major: u16,
    pub minor: u16,
    pub filter_id: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    pub major: u16,
    pub minor: u16,
    pub epoch: u64,
    pub heartbeat_ms: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pick {
    pub stream: u64,
    pub received_ns: u64,
    pub body_bytes: u32,
    pub prompt_bytes: u32,
    pub max_tokens: u32,
    pub priority: Option<i32>,
    pub kind: u8,
    /// [`Pick::STREAM`], [`Pick::REPEATED`], [`Pick::SUBSET`], [`Pick::TOOLS`], [`Pick::KEEPS_ALIVE`].
    pub flags: u8,
    pub pool: String,
    pub model: String,
    pub objective: String,
    pub fairness: String,
    pub session: String,
    pub request_id: String,
    /// At most [`crate::blocks::BLOCKS_MAX`] are sent; the beginning of a chain is a chain.
    pub hashes: Vec<u64>,
    /// 0: none, here and in the next two.
    pub slo_ttft_ms: u32,
    pub slo_tpot_ms: u32,
    pub ttl_ms: u32,
    pub user: String,
    /// Comma-separated addresses; counts with [`Pick::SUBSET`].
    pub subset: String,
    /// Comma-separated addresses.
    pub exclude: String,
    /// Those that the route asks for; at most 65,535.
    pub headers: Vec<(String, String)>,
}

impl Pick {
    /// Flag: the client asked for a stream.
    pub const STREAM: u8 = 1;
    /// Flag: a repetition after a reconnect.
    pub const REPEATED: u8 = 2;
    /// Flag: only endpoints of `subset` may be chosen.
    pub const SUBSET: u8 = 4;
    /// Flag: the server runs tools for the request, so it must not be sent twice.
    pub const TOOLS: u8 = 8;
    /// Flag: the filter can keep the client's stream alive while it waits.
    pub const KEEPS_ALIVE: u8 = 16;
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Endpoints {
    pub stream: u64,
    pub charged_uncached: u32,
    pub charged_context: u32,
    pub endpoints: String,
    pub model: String,
    pub queued_us: u32,
    /// 0: none.
    pub ttft_deadline_ms: u32,
    /// Why these, in a few words; may be empty.
    pub reason: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reject {
    pub stream: u64,
    pub status: u16,
    pub retry_after_ms: u32,
    /// `type` of the OpenAI error object.
    pub kind: String,
    pub code: String,
    pub message: String,
    pub reason: String,
    /// [`Reject::RETRY`], [`Reject::NO_RETRY`], or 0: nothing is said.
    pub retry: u8,
}

impl Reject {
    pub const RETRY: u8 = 1;
    pub const NO_RETRY: u8 = 2;
}

/// The request waits in the picker's queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queued {
    pub stream: u64,
    pub keepalive_ms: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct First {
    pub stream: u64,
    pub ttft_us: u32,
    pub status: u16,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Done {
    pub stream: u64,
    /// [`Done::COMPLETE`], [`Done::SERVER_FAILED`], [`Done::CLIENT_LEFT`], [`Done::LOCAL`].
    pub end: u8,
    /// [`Done::USAGE`], [`Done::FIRST`], [`Done::EVENT_STREAM`].
    pub flags: u8,
    pub status: u16,
    pub ttft_us: u32,
    pub duration_us: u32,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
    pub endpoint: String,
    /// Servers that the request was sent to.
    pub attempts: u8,
    /// As the response said; 0: it did not.
    pub retry_after_ms: u32,
    /// [`Done::TRUNCATED`] and following; 0: none.
    pub fault: u8,
    /// [`Done::FINISHED`], or 0: not known.
    pub finish: u8,
}

impl Done {
    pub const COMPLETE: u8 = 0;
    pub const SERVER_FAILED: u8 = 1;
    pub const CLIENT_LEFT: u8 = 2;
    /// End: answered locally, never sent upstream.
    pub const LOCAL: u8 = 3;
    /// Flag: usage was found.
    pub const USAGE: u8 = 1;
    /// Flag: a first byte was seen.
    pub const FIRST: u8 = 2;
    /// Flag: the response was an event stream.
    pub const EVENT_STREAM: u8 = 4;
    /// Fault: a stream ended without saying that it is finished.
    pub const TRUNCATED: u8 = 1;
    /// Fault: reset after the first byte.
    pub const RESET: u8 = 2;
    /// Fault: no first token within its deadline.
    pub const FIRST_TOKEN: u8 = 3;
    /// Fault: nothing came for too long.
    pub const IDLE: u8 = 4;
    /// Finish: a finish reason, `[DONE]`, or the API's own last event was seen.
    pub const FINISHED: u8 = 1;
}

/// One attempt failed; another one or an error followed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fault {
    pub pool: String,
    pub endpoint: String,
    /// 1 connect failure, 2 reset before the response, 3 timeout, 4 status.
    pub cause: u8,
    /// 0: there was no response.
    pub status: u16,
    pub retry_after_ms: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    pub stream: u64,
    pub charged_uncached: u32,
    pub charged_context: u32,
    /// 0 no byte yet, 1 first byte seen.
    pub phase: u8,
    pub pool: String,
    pub model: String,
    pub endpoint: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    Hello(Hello),
    Pick(Box<Pick>),
    First(First),
    Done(Done),
    Open(Open),
    Fault(Fault),
    Welcome(Welcome),
    Endpoints(Endpoints),
    Reject(Reject),
    Heartbeat,
    Queued(Queued),
}
