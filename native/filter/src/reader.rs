//! The reading end of the connection: bytes of the picker → answers for streams.
//!
//! Usually the link's thread reads; a worker that waits for an answer in place (`inline_wait.rs`) reads as
//! well. Whoever reads dispatches every frame it finds, its own or not. One lock guards all of it, and is
//! taken before the lock of the stream table, never after. The descriptor is closed only by the link's
//! thread, and only while it holds this lock.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use inferway_wire::protocol::{
    Frame, FrameBuffer, ProtocolError, Welcome, VERSION_MAJOR, VERSION_MINOR,
};

use crate::clock::monotonic_ns;
use crate::envoy::Wake;
use crate::link::{Inner, Level, QUEUE_BYTES_MAX};
use crate::socket;

const MS: u64 = 1_000_000;
/// A connection whose picker is silent for so long is given up: a new picker may listen by now.
pub const SILENT_MS_MAX: u64 = 5_000;
const READ_BYTES: usize = 64 << 10;

/// Why a connection was given up.
pub enum Lost {
    Closed,
    Silent,
    QueueFull,
    Io(io::Error),
    Protocol(ProtocolError),
    Version(Welcome),
}

impl std::fmt::Display for Lost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Lost::Closed => write!(out, "closed by the picker"),
            Lost::Silent => write!(out, "silent for {SILENT_MS_MAX} ms"),
            Lost::QueueFull => write!(out, "broken, or more than {QUEUE_BYTES_MAX} bytes unsent"),
            Lost::Io(error) => write!(out, "{error}"),
            Lost::Protocol(error) => write!(out, "{error}"),
            Lost::Version(welcome) => write!(
                out,
                "the picker speaks version {}.{} of the pick protocol, not {VERSION_MAJOR}.{VERSION_MINOR}",
                welcome.major, welcome.minor
            ),
        }
    }
}

pub struct Reader {
    raw: Option<RawFd>,
    frames: FrameBuffer,
    read: Vec<u8>,
    pub welcome: Option<Welcome>,
    /// When the last frame arrived, or the connection was made.
    pub heard_ns: u64,
    /// Frames dispatched so far: tells a worker that waits whether to look for its answer.
    pub dispatched: u64,
    /// Why a worker found that the connection cannot go on; the link's thread acts on it.
    pub lost: Option<Lost>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            raw: None,
            frames: FrameBuffer::new(),
            read: vec![0; READ_BYTES],
            welcome: None,
            heard_ns: 0,
            dispatched: 0,
            lost: None,
        }
    }
}

impl Reader {
    pub fn connected(&mut self, raw: RawFd, now_ns: u64) {
        self.raw = Some(raw);
        self.frames = FrameBuffer::new();
        self.welcome = None;
        self.heard_ns = now_ns;
        self.lost = None;
    }

    pub fn raw(&self) -> Option<RawFd> {
        self.raw
    }

    /// Gives what the picker had said at its welcome, if it did.
    pub fn disconnected(&mut self) -> Option<Welcome> {
        self.raw = None;
        self.welcome.take()
    }

    /// After this much silence the picker counts as gone.
    pub fn alive_ns<W: Wake>(&self, inner: &Inner<W>) -> u64 {
        let heartbeat_ms = self
            .welcome
            .as_ref()
            .map_or(0, |welcome| welcome.heartbeat_ms);
        (3 * u64::from(heartbeat_ms)).max(inner.alive_ms_min.load(Ordering::Relaxed)) * MS
    }

    /// Reads once without waiting and dispatches what that completes. True: there may be more.
    pub fn receive<W: Wake>(&mut self, inner: &Inner<W>) -> Result<bool, Lost> {
        let Some(raw) = self.raw else {
            return Ok(false);
        };
        match socket::receive(raw, &mut self.read) {
            Ok(0) => Err(Lost::Closed),
            Ok(bytes) => {
                self.frames.feed(&self.read[..bytes]);
                self.dispatch(inner)?;
                Ok(bytes == self.read.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(Lost::Io(error)),
        }
    }

    fn dispatch<W: Wake>(&mut self, inner: &Inner<W>) -> Result<(), Lost> {
        while let Some(frame) = self.frames.next().map_err(Lost::Protocol)? {
            self.heard_ns = monotonic_ns();
            self.dispatched += 1;
            if let Frame::Welcome(welcome) = frame {
                self.welcomed(welcome, inner)?;
                continue;
            }
            if self.welcome.is_none() {
                continue;
            }
            // The lock is taken per frame: a stream that was woken needs it next.
            let mut guard = inner.lock();
            let shared = &mut *guard;
            if !shared.streams.is_up() {
                shared.revive(self.heard_ns);
            }
            let in_time = match frame {
                Frame::Endpoints(endpoints) => shared.streams.endpoints(endpoints),
                Frame::Reject(reject) => shared.streams.reject(reject),
                _ => true,
            };
            if !in_time {
                inner.late_answers.add();
            }
        }
        Ok(())
    }

    fn welcomed<W: Wake>(&mut self, welcome: Welcome, inner: &Inner<W>) -> Result<(), Lost> {
        if welcome.major != VERSION_MAJOR {
            return Err(Lost::Version(welcome));
        }
        let message = format!("picker {}: connected", inner.path.display());
        (inner.log)(Level::Info, &message);
        self.welcome = Some(welcome);
        inner.lock().revive(self.heard_ns);
        Ok(())
    }
}
