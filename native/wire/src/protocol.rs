//! Frames of the pick protocol, version 1.0 (docs/pick-protocol.md), for both of its sides.
//!
//! Decoders are total: any bytes give a frame, "not enough yet", or a [`ProtocolError`], after which the connection cannot
//! go on. Bytes after the known fields and frames of unknown type are skipped, so a newer minor version can talk to us.
//! Conduct (who sends what when) is not here.

use std::fmt;

mod decode;
mod encode;

pub use decode::{FrameBuffer, FrameRef, PickRef};
pub use encode::encode_heartbeat;

pub const MAGIC: u32 = 0x5957_4649;
pub const VERSION_MAJOR: u16 = 1;
pub const VERSION_MINOR: u16 = 0;
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
    pub const WELCOME: u8 = 0x81;
    pub const ENDPOINTS: u8 = 0x82;
    pub const REJECT: u8 = 0x83;
    pub const HEARTBEAT: u8 = 0x84;
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
    /// [`Pick::STREAM`], [`Pick::REPEATED`].
    pub flags: u8,
    pub pool: String,
    pub model: String,
    pub objective: String,
    pub fairness: String,
    pub session: String,
    pub request_id: String,
    /// At most [`crate::blocks::BLOCKS_MAX`] are sent; the beginning of a chain is a chain.
    pub hashes: Vec<u64>,
}

impl Pick {
    /// Flag: the client asked for a stream.
    pub const STREAM: u8 = 1;
    /// Flag: a repetition after a reconnect.
    pub const REPEATED: u8 = 2;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoints {
    pub stream: u64,
    pub charged_uncached: u32,
    pub charged_context: u32,
    pub endpoints: String,
    pub model: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reject {
    pub stream: u64,
    pub status: u16,
    pub retry_after_ms: u32,
    /// `type` of the OpenAI error object.
    pub kind: String,
    pub code: String,
    pub message: String,
    pub reason: String,
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
    Pick(Pick),
    First(First),
    Done(Done),
    Open(Open),
    Welcome(Welcome),
    Endpoints(Endpoints),
    Reject(Reject),
    Heartbeat,
}
