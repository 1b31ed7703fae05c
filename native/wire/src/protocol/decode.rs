//! Bytes → frames.

use super::{
    frame_type, Done, Endpoints, First, Frame, Hello, Open, Pick, ProtocolError, Reject, Welcome,
    FRAME_BYTES_MAX, MAGIC, NO_PRIORITY, SIZE_BYTES,
};

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
