//! Bytes → frames.

use super::{
    frame_type, Done, Endpoints, Fault, First, Frame, Hello, Open, Pick, ProtocolError, Queued,
    Reject, Welcome, FRAME_BYTES_MAX, MAGIC, NO_PRIORITY, SIZE_BYTES,
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
    pub slo_ttft_ms: u32,
    pub slo_tpot_ms: u32,
    pub ttl_ms: u32,
    pub user: &'a str,
    pub subset: &'a str,
    pub exclude: &'a str,
    pub headers: HeadersRef<'a>,
}

/// Headers of a PICK, whose bytes were checked.
#[derive(Clone, Copy, Default, Debug)]
pub struct HeadersRef<'a>(&'a [u8]);

impl<'a> HeadersRef<'a> {
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut fields = Fields(self.0);
        std::iter::from_fn(move || Some((fields.str().ok()?, fields.str().ok()?)))
    }
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
            slo_ttft_ms: self.slo_ttft_ms,
            slo_tpot_ms: self.slo_tpot_ms,
            ttl_ms: self.ttl_ms,
            user: self.user.to_owned(),
            subset: self.subset.to_owned(),
            exclude: self.exclude.to_owned(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
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
        let pick = PickRef {
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
            slo_ttft_ms: 0,
            slo_tpot_ms: 0,
            ttl_ms: 0,
            user: "",
            subset: "",
            exclude: "",
            headers: HeadersRef::default(),
        };
        if self.is_older() {
            return Ok(pick);
        }
        Ok(PickRef {
            slo_ttft_ms: self.u32()?,
            slo_tpot_ms: self.u32()?,
            ttl_ms: self.u32()?,
            user: self.str()?,
            subset: self.str()?,
            exclude: self.str()?,
            headers: self.headers()?,
            ..pick
        })
    }

    /// Whether version 1.0 wrote the frame, which ends here.
    fn is_older(&self) -> bool {
        self.0.is_empty()
    }

    fn headers(&mut self) -> Result<HeadersRef<'a>, &'static str> {
        let count = self.u16()?;
        let start = self.0;
        for _ in 0..count {
            self.str()?;
            self.str()?;
        }
        Ok(HeadersRef(&start[..start.len() - self.0.len()]))
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
        let done = Done {
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
            ..Done::default()
        };
        if self.is_older() {
            return Ok(done);
        }
        Ok(Done {
            attempts: self.u8()?,
            retry_after_ms: self.u32()?,
            fault: self.u8()?,
            finish: self.u8()?,
            ..done
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
        let endpoints = Endpoints {
            stream: self.u64()?,
            charged_uncached: self.u32()?,
            charged_context: self.u32()?,
            endpoints: self.string()?,
            model: self.string()?,
            queued_us: 0,
            ttft_deadline_ms: 0,
            reason: String::new(),
        };
        if self.is_older() {
            return Ok(endpoints);
        }
        Ok(Endpoints {
            queued_us: self.u32()?,
            ttft_deadline_ms: self.u32()?,
            reason: self.string()?,
            ..endpoints
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
            retry: if self.is_older() { 0 } else { self.u8()? },
        })
    }

    fn fault(&mut self) -> Result<Fault, &'static str> {
        Ok(Fault {
            pool: self.string()?,
            endpoint: self.string()?,
            cause: self.u8()?,
            status: self.u16()?,
            retry_after_ms: self.u32()?,
        })
    }

    fn queued(&mut self) -> Result<Queued, &'static str> {
        Ok(Queued {
            stream: self.u64()?,
            keepalive_ms: self.u32()?,
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
        frame_type::FAULT => Frame::Fault(fields.fault()?),
        frame_type::WELCOME => Frame::Welcome(fields.welcome()?),
        frame_type::ENDPOINTS => Frame::Endpoints(fields.endpoints()?),
        frame_type::REJECT => Frame::Reject(fields.reject()?),
        frame_type::HEARTBEAT => Frame::Heartbeat,
        frame_type::QUEUED => Frame::Queued(fields.queued()?),
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
            FrameRef::Pick(pick) => Frame::Pick(Box::new(pick.to_owned())),
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
        frame_type::HELLO..=frame_type::FAULT | frame_type::WELCOME..=frame_type::QUEUED
    )
}
