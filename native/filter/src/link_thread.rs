//! The link's thread: connects and reconnects, reads answers, watches whether the picker is alive.
//!
//! It also ends holds and writes what workers left to it. It never blocks but in `poll`, so dropping
//! the link joins it at once. It does not decide anything about requests: that is `streams.rs`, and
//! docs/pick-protocol.md under Conduct.

use std::io;
use std::sync::atomic::Ordering;

use inferway_wire::protocol::{
    Frame, FrameBuffer, Hello, ProtocolError, Welcome, VERSION_MAJOR, VERSION_MINOR,
};

use crate::clock::monotonic_ns;
use crate::envoy::Wake;
use crate::link::{Inner, Level, QUEUE_BYTES_MAX, REPORT_DELAY_NS};
use crate::socket::{self, Socket};

const MS: u64 = 1_000_000;
const BACKOFF_MS_MIN: u64 = 10;
const BACKOFF_MS_MAX: u64 = 1_000;
/// A connection whose picker is silent for so long is given up: a new picker may listen by now.
const SILENT_MS_MAX: u64 = 5_000;
const READ_BYTES: usize = 64 << 10;

/// Why a connection was given up.
enum Lost {
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

pub struct LinkThread<'a, W> {
    inner: &'a Inner<W>,
    frames: FrameBuffer,
    read: Vec<u8>,
    welcome: Option<Welcome>,
    /// When the last frame arrived, or the connection was made.
    heard_ns: u64,
    retry_ns: u64,
    backoff_ms: u64,
    /// There is something to read, or the connection is over.
    readable: bool,
}

impl<'a, W: Wake> LinkThread<'a, W> {
    pub fn new(inner: &'a Inner<W>) -> Self {
        Self {
            inner,
            frames: FrameBuffer::new(),
            read: vec![0; READ_BYTES],
            welcome: None,
            heard_ns: 0,
            retry_ns: 0,
            backoff_ms: BACKOFF_MS_MIN,
            readable: false,
        }
    }

    pub fn run(&mut self) {
        while !self.inner.stop.load(Ordering::Relaxed) {
            let now_ns = monotonic_ns();
            if self.retry_ns <= now_ns {
                self.connect(now_ns);
            }
            if let Err(lost) = self.exchange() {
                self.disconnect(&lost);
            }
            let next_ns = self.watch(monotonic_ns());
            self.wait(next_ns);
        }
        let mut shared = self.inner.lock();
        shared.socket = None;
        shared.streams.disconnected(monotonic_ns());
    }

    fn connected(&self) -> bool {
        self.retry_ns == u64::MAX
    }

    fn connect(&mut self, now_ns: u64) {
        match Socket::connect(&self.inner.path) {
            Ok(socket) => {
                let mut shared = self.inner.lock();
                shared.socket = Some(socket);
                shared.blocked = false;
                shared.broken = false;
                shared.out.clear();
                shared.streams.connected();
                let (major, minor) = (VERSION_MAJOR, VERSION_MINOR);
                let filter_id = self.inner.filter_id;
                Hello {
                    major,
                    minor,
                    filter_id,
                }
                .encode(&mut shared.out);
                shared.flush(monotonic_ns());
                self.frames = FrameBuffer::new();
                self.welcome = None;
                self.heard_ns = now_ns;
                self.retry_ns = u64::MAX;
            }
            Err(_) => self.back_off(now_ns),
        }
    }

    fn back_off(&mut self, now_ns: u64) {
        self.retry_ns = now_ns + self.backoff_ms * MS;
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MS_MAX);
    }

    fn disconnect(&mut self, lost: &Lost) {
        let now_ns = monotonic_ns();
        let was_welcome = self.welcome.take().is_some();
        if was_welcome || matches!(lost, Lost::Version(_) | Lost::Protocol(_)) {
            let message = format!(
                "picker {}: connection lost: {lost}",
                self.inner.path.display()
            );
            (self.inner.log)(Level::Warn, &message);
        }
        let mut shared = self.inner.lock();
        shared.socket = None;
        shared.out.clear();
        shared.streams.disconnected(now_ns);
        drop(shared);
        self.back_off(now_ns);
    }

    /// Reads everything that has arrived and writes what was queued.
    fn exchange(&mut self) -> Result<(), Lost> {
        if !self.connected() {
            return Ok(());
        }
        loop {
            let received = {
                let mut shared = self.inner.lock();
                if shared.broken {
                    return Err(Lost::QueueFull);
                }
                let now_ns = monotonic_ns();
                if shared.blocked || shared.flush_by_ns <= now_ns {
                    shared.blocked = false;
                    shared.flush(now_ns);
                }
                match &shared.socket {
                    Some(socket) => socket.raw(),
                    None => return Err(Lost::Closed),
                }
            };
            if !self.readable {
                return Ok(());
            }
            // Only this thread closes the socket, so it stays open while it is read without the lock.
            match socket::receive(received, &mut self.read) {
                Ok(0) => return Err(Lost::Closed),
                Ok(bytes) => {
                    self.frames.feed(&self.read[..bytes]);
                    self.handle_frames()?;
                    if bytes < self.read.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Lost::Io(error)),
            }
        }
    }

    fn handle_frames(&mut self) -> Result<(), Lost> {
        while let Some(frame) = self.frames.next().map_err(Lost::Protocol)? {
            self.heard_ns = monotonic_ns();
            if let Frame::Welcome(welcome) = frame {
                self.welcomed(welcome)?;
                continue;
            }
            if self.welcome.is_none() {
                continue;
            }
            // The lock is taken per frame: a stream that was woken needs it next.
            let mut guard = self.inner.lock();
            let shared = &mut *guard;
            if !shared.streams.is_up() {
                shared.streams.revived(&mut shared.out);
                shared.flush(monotonic_ns());
            }
            let in_time = match frame {
                Frame::Endpoints(endpoints) => shared.streams.endpoints(endpoints),
                Frame::Reject(reject) => shared.streams.reject(reject),
                Frame::Queued(queued) => shared.streams.queued(queued),
                _ => true,
            };
            if !in_time {
                self.inner.late_answers.add();
            }
        }
        Ok(())
    }

    fn welcomed(&mut self, welcome: Welcome) -> Result<(), Lost> {
        if welcome.major != VERSION_MAJOR {
            self.backoff_ms = BACKOFF_MS_MAX;
            return Err(Lost::Version(welcome));
        }
        self.backoff_ms = BACKOFF_MS_MIN;
        let message = format!("picker {}: connected", self.inner.path.display());
        (self.inner.log)(Level::Info, &message);
        self.welcome = Some(welcome);
        let mut guard = self.inner.lock();
        let shared = &mut *guard;
        shared.streams.revived(&mut shared.out);
        shared.flush(monotonic_ns());
        Ok(())
    }

    fn alive_ns(&self) -> u64 {
        let heartbeat_ms = self
            .welcome
            .as_ref()
            .map_or(0, |welcome| welcome.heartbeat_ms);
        (3 * u64::from(heartbeat_ms)).max(self.inner.alive_ms_min.load(Ordering::Relaxed)) * MS
    }

    /// Acts on what time alone brings about; gives the next instant to look again.
    fn watch(&mut self, now_ns: u64) -> u64 {
        let mut next_ns = self.retry_ns;
        if self.connected() {
            let silent_ns = now_ns.saturating_sub(self.heard_ns);
            let lost_ns = (SILENT_MS_MAX * MS).max(2 * self.alive_ns());
            if silent_ns >= lost_ns {
                self.disconnect(&Lost::Silent);
                next_ns = self.retry_ns;
            } else {
                let alive_ns = self.alive_ns();
                let mut shared = self.inner.lock();
                if shared.streams.is_up() && silent_ns > alive_ns {
                    shared.streams.silent(now_ns);
                    drop(shared);
                    let path = self.inner.path.display();
                    let message = format!("picker {path}: silent for {} ms", silent_ns / MS);
                    (self.inner.log)(Level::Warn, &message);
                    next_ns = self.heard_ns + lost_ns;
                } else if shared.streams.is_up() {
                    next_ns = self.heard_ns + alive_ns + MS;
                } else {
                    next_ns = self.heard_ns + lost_ns;
                }
            }
        }
        let mut shared = self.inner.lock();
        shared.held_until_ns = shared.streams.expire(now_ns).unwrap_or(u64::MAX);
        let rung = shared.streams.ring(now_ns);
        let alarm_ns = shared.streams.next_alarm_ns();
        next_ns = next_ns.min(shared.held_until_ns).min(shared.flush_by_ns);
        next_ns = next_ns.min(alarm_ns);
        if shared.is_busy(now_ns) {
            next_ns = next_ns.min(now_ns + REPORT_DELAY_NS);
        }
        shared.wakes_ns = next_ns;
        drop(shared);
        drop(rung);
        next_ns
    }

    fn wait(&mut self, next_ns: u64) {
        let (raw, blocked) = {
            let shared = self.inner.lock();
            (shared.socket.as_ref().map(Socket::raw), shared.blocked)
        };
        let wait_ns = next_ns.saturating_sub(monotonic_ns());
        self.readable = socket::wait(&self.inner.signal, raw, blocked, wait_ns);
    }
}
