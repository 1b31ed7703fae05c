//! The connection to the picker: one per socket path and process, with one thread of its own.
//!
//! Workers append frames and write them at once to the non-blocking socket, under the lock that also
//! guards the stream table; what the socket does not take is queued (8 MiB at most) and written by the
//! link thread. The thread connects and reconnects, reads answers, watches whether the picker is alive
//! and ends holds. It never blocks but in `poll`, so dropping the link joins it at once. It does not
//! decide anything about requests: that is `streams.rs`, and docs/pick-protocol.md under Conduct.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use inferway_wire::protocol::{
    Done, First, Frame, FrameBuffer, Hello, Pick, ProtocolError, Welcome, VERSION_MAJOR,
    VERSION_MINOR,
};

use crate::clock::monotonic_ns;
use crate::envoy::Wake;
use crate::metrics::Waiting;
use crate::socket::{self, Signal, Socket};
use crate::streams::{Answer, Begun, Streams};

const MS: u64 = 1_000_000;
/// Unsent bytes beyond which the link counts as down.
const QUEUE_BYTES_MAX: usize = 8 << 20;
const BACKOFF_MS_MIN: u64 = 10;
const BACKOFF_MS_MAX: u64 = 1_000;
/// A connection whose picker is silent for so long is given up: a new picker may listen by now.
const SILENT_MS_MAX: u64 = 5_000;
const READ_BYTES: usize = 64 << 10;

/// What the lock guards.
struct Shared<W> {
    streams: Streams<W>,
    socket: Option<Socket>,
    /// Frames not yet accepted by the socket.
    out: Vec<u8>,
    /// The socket was full: the link thread writes the rest.
    blocked: bool,
    /// The connection cannot go on; the link thread closes it.
    broken: bool,
    /// When the link thread looks at held streams next.
    armed_ns: u64,
}

struct Inner<W> {
    path: PathBuf,
    filter_id: u64,
    alive_ms_min: AtomicU64,
    next_stream: AtomicU64,
    stop: AtomicBool,
    signal: Signal,
    shared: Mutex<Shared<W>>,
    late_answers: Waiting,
    log: fn(Level, &str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    Info,
    Warn,
}

/// The workers' side of the link.
pub struct Link<W: Wake + 'static> {
    inner: Arc<Inner<W>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Wake> Inner<W> {
    fn lock(&self) -> MutexGuard<'_, Shared<W>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Wake> Shared<W> {
    /// Writes what the socket takes. True: the link thread has to be told.
    fn flush(&mut self) -> bool {
        if self.out.is_empty() || self.blocked || self.broken {
            return self.overfull();
        }
        let Some(socket) = &self.socket else {
            self.out.clear();
            return false;
        };
        match socket.send(&self.out) {
            Ok(sent) if sent == self.out.len() => self.out.clear(),
            Ok(sent) => {
                self.out.drain(..sent);
                self.blocked = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
            Err(_) => self.broken = true,
        }
        self.blocked || self.broken || self.overfull()
    }

    fn overfull(&mut self) -> bool {
        if self.out.len() <= QUEUE_BYTES_MAX || self.broken {
            return false;
        }
        self.broken = true;
        true
    }
}

impl<W: Wake + 'static> Link<W> {
    pub fn start(path: &Path, alive_ms_min: u64, log: fn(Level, &str)) -> io::Result<Self> {
        let shared = Shared {
            streams: Streams::default(),
            socket: None,
            out: Vec::new(),
            blocked: false,
            broken: false,
            armed_ns: u64::MAX,
        };
        let inner = Arc::new(Inner {
            path: path.to_owned(),
            filter_id: socket::random_u64(),
            alive_ms_min: AtomicU64::new(alive_ms_min),
            next_stream: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            signal: Signal::new()?,
            shared: Mutex::new(shared),
            late_answers: Waiting::new(),
            log,
        });
        let of_thread = Arc::clone(&inner);
        let thread = std::thread::Builder::new()
            .name("inferway-pick".to_owned())
            .spawn(move || {
                socket::block_signals();
                LinkThread::new(&of_thread).run();
            })?;
        Ok(Self {
            inner,
            thread: Some(thread),
        })
    }

    /// The newest configuration of a socket path wins.
    pub fn set_alive_ms_min(&self, alive_ms_min: u64) {
        self.inner
            .alive_ms_min
            .store(alive_ms_min, Ordering::Relaxed);
    }

    pub fn next_stream(&self) -> u64 {
        self.inner.next_stream.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks for endpoints. `wake` is called, under the lock, only when the stream has to wait.
    pub fn begin(
        &self,
        pick: Pick,
        fail_open: bool,
        hold_ns: u64,
        now_ns: u64,
        wake: impl FnOnce() -> W,
    ) -> Begun {
        let mut guard = self.inner.lock();
        let shared = &mut *guard;
        let begun = shared
            .streams
            .begin(pick, fail_open, hold_ns, now_ns, wake, &mut shared.out);
        let tell = match begun {
            Begun::Asked => shared.flush(),
            Begun::Held { until_ns } => until_ns < shared.armed_ns,
            Begun::FailedOpen => false,
        };
        drop(guard);
        if tell {
            self.inner.signal.raise();
        }
        begun
    }

    /// The answer for a stream that was woken.
    pub fn take(&self, stream: u64) -> Option<Answer> {
        // The waker is dropped after the lock is released.
        let taken = self.inner.lock().streams.take(stream);
        taken.map(|(answer, _wake)| answer)
    }

    pub fn first(&self, first: First, endpoint: &str) {
        let mut guard = self.inner.lock();
        let shared = &mut *guard;
        shared.streams.first(first, endpoint, &mut shared.out);
        let tell = shared.flush();
        drop(guard);
        if tell {
            self.inner.signal.raise();
        }
    }

    pub fn end(&self, first: Option<First>, done: &Done) {
        let mut guard = self.inner.lock();
        let shared = &mut *guard;
        let wake = shared.streams.end(first, done, &mut shared.out);
        let tell = shared.flush();
        drop(guard);
        drop(wake);
        if tell {
            self.inner.signal.raise();
        }
    }

    /// Answers that nobody waited for since the last call.
    pub fn take_late_answers(&self) -> u64 {
        self.inner.late_answers.take()
    }

    #[cfg(test)]
    pub fn is_up(&self) -> bool {
        self.inner.lock().streams.is_up()
    }
}

impl<W: Wake + 'static> Drop for Link<W> {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        self.inner.signal.raise();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

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

struct LinkThread<'a, W> {
    inner: &'a Inner<W>,
    frames: FrameBuffer,
    read: Vec<u8>,
    welcome: Option<Welcome>,
    /// When the last frame arrived, or the connection was made.
    heard_ns: u64,
    retry_ns: u64,
    backoff_ms: u64,
}

impl<'a, W: Wake> LinkThread<'a, W> {
    fn new(inner: &'a Inner<W>) -> Self {
        Self {
            inner,
            frames: FrameBuffer::new(),
            read: vec![0; READ_BYTES],
            welcome: None,
            heard_ns: 0,
            retry_ns: 0,
            backoff_ms: BACKOFF_MS_MIN,
        }
    }

    fn run(&mut self) {
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
                shared.flush();
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
                shared.blocked = false;
                shared.flush();
                match &shared.socket {
                    Some(socket) => socket.raw(),
                    None => return Err(Lost::Closed),
                }
            };
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
                shared.flush();
            }
            let in_time = match frame {
                Frame::Endpoints(endpoints) => shared.streams.endpoints(endpoints),
                Frame::Reject(reject) => shared.streams.reject(reject),
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
        shared.flush();
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
        shared.armed_ns = shared.streams.expire(now_ns).unwrap_or(u64::MAX);
        next_ns.min(shared.armed_ns)
    }

    fn wait(&self, next_ns: u64) {
        let (raw, blocked) = {
            let shared = self.inner.lock();
            (shared.socket.as_ref().map(Socket::raw), shared.blocked)
        };
        let wait_ns = next_ns.saturating_sub(monotonic_ns());
        socket::wait(&self.inner.signal, raw, blocked, wait_ns.div_ceil(MS));
    }
}

#[cfg(test)]
#[path = "link_test.rs"]
mod tests;
