//! Frames of the pick protocol, version 1.0 (docs/pick-protocol.md), for both of its sides.
//!
//! Decoders are total: any bytes give a frame, "not enough yet", or a [`ProtocolError`], after which the connection cannot
//! go on. Bytes after the known fields and frames of unknown type are skipped, so a newer minor version can talk to us.
//! Conduct (who sends what when) is not here.

use crate::blocks::BLOCKS_MAX;
use std::fmt;

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
    /// At most [`BLOCKS_MAX`] are sent; the beginning of a chain is a chain.
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
    /// Flag: FIRST was sent.
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

/// PICK as it lies in the buffer, for a reader that makes its own objects of it.
#[derive(Clone, Copy, Debug)]
pub struct PickRef<'a> {
    pub stream: u64,
    pub received_ns: u64,
    pub body_bytes: u32,
    pub prompt_bytes: u32,
    pub max_tokens: u32,
    pub priority: Option<i32>,
    pub kind: u8,
    pub flags: u8,
    pub pool: &'a str,
    pub model: &'a str,
    pub objective: &'a str,
    pub fairness: &'a str,
    pub session: &'a str,
    pub request_id: &'a str,
    /// Little-endian, 8 bytes each.
    hashes: &'a [u8],
}

impl PickRef<'_> {
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.hashes.chunks_exact(8).map(|bytes| {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            u64::from_le_bytes(word)
        })
    }

    fn to_owned(self) -> Pick {
        Pick {
            stream: self.stream,
            received_ns: self.received_ns,
            body_bytes: self.body_bytes,
            prompt_bytes: self.prompt_bytes,
            max_tokens: self.max_tokens,
            priority: self.priority,
            kind: self.kind,
            flags: self.flags,
            pool: self.pool.to_owned(),
            model: self.model.to_owned(),
            objective: self.objective.to_owned(),
            fairness: self.fairness.to_owned(),
            session: self.session.to_owned(),
            request_id: self.request_id.to_owned(),
            hashes: self.hashes().collect(),
        }
    }
}

/// What [`FrameBuffer::next_ref`] gives: PICK uncopied, everything else as in [`Frame`].
#[derive(Clone, Debug)]
pub enum FrameRef<'a> {
    Pick(PickRef<'a>),
    Other(Frame),
}

/// Appends one frame; the closure writes type and payload.
fn frame(out: &mut Vec<u8>, frame_type: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; SIZE_BYTES]);
    out.push(frame_type);
    payload(out);
    let size = (out.len() - start - SIZE_BYTES) as u32;
    out[start..start + SIZE_BYTES].copy_from_slice(&size.to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(&(end as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

impl Hello {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::HELLO, |out| {
            out.extend_from_slice(&MAGIC.to_le_bytes());
            out.extend_from_slice(&self.major.to_le_bytes());
            out.extend_from_slice(&self.minor.to_le_bytes());
            out.extend_from_slice(&self.filter_id.to_le_bytes());
        });
    }
}

impl Welcome {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::WELCOME, |out| {
            out.extend_from_slice(&MAGIC.to_le_bytes());
            out.extend_from_slice(&self.major.to_le_bytes());
            out.extend_from_slice(&self.minor.to_le_bytes());
            out.extend_from_slice(&self.epoch.to_le_bytes());
            out.extend_from_slice(&self.heartbeat_ms.to_le_bytes());
        });
    }
}

impl Pick {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let hashes = &self.hashes[..self.hashes.len().min(BLOCKS_MAX)];
        let priority = match self.priority {
            None => NO_PRIORITY,
            Some(value) => value.max(NO_PRIORITY + 1),
        };
        out.reserve(128 + hashes.len() * 8);
        frame(out, frame_type::PICK, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.received_ns.to_le_bytes());
            out.extend_from_slice(&self.body_bytes.to_le_bytes());
            out.extend_from_slice(&self.prompt_bytes.to_le_bytes());
            out.extend_from_slice(&self.max_tokens.to_le_bytes());
            out.extend_from_slice(&priority.to_le_bytes());
            out.extend_from_slice(&[self.kind, self.flags]);
            out.extend_from_slice(&(hashes.len() as u32).to_le_bytes());
            for text in [
                &self.pool,
                &self.model,
                &self.objective,
                &self.fairness,
                &self.session,
                &self.request_id,
            ] {
                put_str(out, text);
            }
            for hash in hashes {
                out.extend_from_slice(&hash.to_le_bytes());
            }
        });
    }
}

impl Endpoints {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::ENDPOINTS, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.charged_uncached.to_le_bytes());
            out.extend_from_slice(&self.charged_context.to_le_bytes());
            put_str(out, &self.endpoints);
            put_str(out, &self.model);
        });
    }
}

impl Reject {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::REJECT, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.status.to_le_bytes());
            out.extend_from_slice(&self.retry_after_ms.to_le_bytes());
            for text in [&self.kind, &self.code, &self.message, &self.reason] {
                put_str(out, text);
            }
        });
    }
}

impl First {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::FIRST, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.ttft_us.to_le_bytes());
            out.extend_from_slice(&self.status.to_le_bytes());
        });
    }
}

impl Done {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::DONE, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&[self.end, self.flags]);
            out.extend_from_slice(&self.status.to_le_bytes());
            for number in [
                self.ttft_us,
                self.duration_us,
                self.prompt_tokens,
                self.cached_tokens,
                self.completion_tokens,
            ] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            put_str(out, &self.endpoint);
        });
    }
}

impl Open {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::OPEN, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.charged_uncached.to_le_bytes());
            out.extend_from_slice(&self.charged_context.to_le_bytes());
            out.push(self.phase);
            for text in [&self.pool, &self.model, &self.endpoint] {
                put_str(out, text);
            }
        });
    }
}

pub fn encode_heartbeat(out: &mut Vec<u8>) {
    frame(out, frame_type::HEARTBEAT, |_| {});
}

impl Frame {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Hello(frame) => frame.encode(out),
            Frame::Pick(frame) => frame.encode(out),
            Frame::First(frame) => frame.encode(out),
            Frame::Done(frame) => frame.encode(out),
            Frame::Open(frame) => frame.encode(out),
            Frame::Welcome(frame) => frame.encode(out),
            Frame::Endpoints(frame) => frame.encode(out),
            Frame::Reject(frame) => frame.encode(out),
            Frame::Heartbeat => encode_heartbeat(out),
        }
    }
}

const SHORT: &str = "ends before its last field";

/// Reads fields off the front of a payload.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], &'static str> {
        if self.0.len() < bytes {
            return Err(SHORT);
        }
        let (head, rest) = self.0.split_at(bytes);
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn str(&mut self) -> Result<&'a str, &'static str> {
        let bytes = self.u16()?;
        std::str::from_utf8(self.take(usize::from(bytes))?).map_err(|_| "a text is not UTF-8")
    }

    fn string(&mut self) -> Result<String, &'static str> {
        self.str().map(str::to_owned)
    }

    fn magic(&mut self) -> Result<(), &'static str> {
        match self.u32()? {
            MAGIC => Ok(()),
            _ => Err("wrong magic: the other side does not speak the pick protocol"),
        }
    }

    fn pick(&mut self) -> Result<PickRef<'a>, &'static str> {
        let stream = self.u64()?;
        let received_ns = self.u64()?;
        let body_bytes = self.u32()?;
        let prompt_bytes = self.u32()?;
        let max_tokens = self.u32()?;
        let priority = i32::from_le_bytes(self.array()?);
        let kind = self.u8()?;
        let flags = self.u8()?;
        let blocks = self.u32()? as usize;
        Ok(PickRef {
            stream,
            received_ns,
            body_bytes,
            prompt_bytes,
            max_tokens,
            priority: (priority != NO_PRIORITY).then_some(priority),
            kind,
            flags,
            pool: self.str()?,
            model: self.str()?,
            objective: self.str()?,
            fairness: self.str()?,
            session: self.str()?,
            request_id: self.str()?,
            hashes: self.take(blocks.checked_mul(8).ok_or(SHORT)?)?,
        })
    }

    fn hello(&mut self) -> Result<Hello, &'static str> {
        self.magic()?;
        Ok(Hello {
            major: self.u16()?,
            minor: self.u16()?,
            filter_id: self.u64()?,
        })
    }

    fn welcome(&mut self) -> Result<Welcome, &'static str> {
        self.magic()?;
        Ok(Welcome {
            major: self.u16()?,
            minor: self.u16()?,
            epoch: self.u64()?,
            heartbeat_ms: self.u32()?,
        })
    }

    fn first(&mut self) -> Result<First, &'static str> {
        Ok(First {
            stream: self.u64()?,
            ttft_us: self.u32()?,
            status: self.u16()?,
        })
    }

    fn done(&mut self) -> Result<Done, &'static str> {
        Ok(Done {
            stream: self.u64()?,
            end: self.u8()?,
            flags: self.u8()?,
            status: self.u16()?,
            ttft_us: self.u32()?,
            duration_us: self.u32()?,
            prompt_tokens: self.u32()?,
            cached_tokens: self.u32()?,
            completion_tokens: self.u32()?,
            endpoint: self.string()?,
        })
    }

    fn open(&mut self) -> Result<Open, &'static str> {
        Ok(Open {
            stream: self.u64()?,
            charged_uncached: self.u32()?,
            charged_context: self.u32()?,
            phase: self.u8()?,
            pool: self.string()?,
            model: self.string()?,
            endpoint: self.string()?,
        })
    }

    fn endpoints(&mut self) -> Result<Endpoints, &'static str> {
        Ok(Endpoints {
            stream: self.u64()?,
            charged_uncached: self.u32()?,
            charged_context: self.u32()?,
            endpoints: self.string()?,
            model: self.string()?,
        })
    }

    fn reject(&mut self) -> Result<Reject, &'static str> {
        Ok(Reject {
            stream: self.u64()?,
            status: self.u16()?,
            retry_after_ms: self.u32()?,
            kind: self.string()?,
            code: self.string()?,
            message: self.string()?,
            reason: self.string()?,
        })
    }
}

/// None: a type that this version does not know.
fn decode(frame_type: u8, payload: &[u8]) -> Result<Option<FrameRef<'_>>, &'static str> {
    let mut fields = Fields(payload);
    let frame = match frame_type {
        frame_type::PICK => return Ok(Some(FrameRef::Pick(fields.pick()?))),
        frame_type::HELLO => Frame::Hello(fields.hello()?),
        frame_type::FIRST => Frame::First(fields.first()?),
        frame_type::DONE => Frame::Done(fields.done()?),
        frame_type::OPEN => Frame::Open(fields.open()?),
        frame_type::WELCOME => Frame::Welcome(fields.welcome()?),
        frame_type::ENDPOINTS => Frame::Endpoints(fields.endpoints()?),
        frame_type::REJECT => Frame::Reject(fields.reject()?),
        frame_type::HEARTBEAT => Frame::Heartbeat,
        _ => return Ok(None),
    };
    Ok(Some(FrameRef::Other(frame)))
}

/// Cuts a byte stream into frames. Holds at most one unfinished frame plus what was fed since `next` last said None.
#[derive(Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// Everything before it has been given out.
    read: usize,
}

impl FrameBuffer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame. After an error the stream cannot go on.
    #[allow(clippy::should_implement_trait)] // fallible, and the view below borrows: not an iterator
    pub fn next(&mut self) -> Result<Option<Frame>, ProtocolError> {
        Ok(self.next_ref()?.map(|frame| match frame {
            FrameRef::Pick(pick) => Frame::Pick(pick.to_owned()),
            FrameRef::Other(frame) => frame,
        }))
    }

    /// As `next`, but a PICK is not copied.
    pub fn next_ref(&mut self) -> Result<Option<FrameRef<'_>>, ProtocolError> {
        loop {
            let Some((size, rest)) = self.bytes[self.read..].split_first_chunk::<SIZE_BYTES>()
            else {
                return Ok(None);
            };
            let size = u32::from_le_bytes(*size) as usize;
            let error = |frame_type, reason| ProtocolError { frame_type, reason };
            if size > FRAME_BYTES_MAX {
                return Err(error(0, "larger than 4 MiB"));
            }
            if size == 0 {
                return Err(error(0, "has no type"));
            }
            if rest.len() < size {
                return Ok(None);
            }
            let start = self.read + SIZE_BYTES;
            let frame_type = self.bytes[start];
            self.read = start + size;
            // Known types only are decoded here: a borrow that may be returned cannot stand in a loop.
            if is_known(frame_type) {
                return decode(frame_type, &self.bytes[start + 1..start + size])
                    .map_err(|reason| error(frame_type, reason));
            }
        }
    }
}

fn is_known(frame_type: u8) -> bool {
    matches!(
        frame_type,
        frame_type::HELLO..=frame_type::OPEN | frame_type::WELCOME..=frame_type::HEARTBEAT
    )
}
