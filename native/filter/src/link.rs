//! The connection to the picker: one per socket path and process, with one thread of its own.
//!
//! This is the workers' side; the thread is `link_thread.rs`, and what is said when is `streams.rs`.
//! Workers append frames under the lock that also guards the stream table, and write them to the
//! non-blocking socket in as few calls as the protocol's promptness allows: picks at the end of the
//! worker's turn of its event loop, reports with the next write or within `REPORT_DELAY_NS`. What the
//! socket does not take is queued (8 MiB at most) and written by the thread.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use inferway_wire::protocol::{Done, Fault, First, Pick};

use crate::clock::monotonic_ns;
use crate::envoy::Wake;
use crate::link_thread::LinkThread;
use crate::metrics::Waiting;
use crate::socket::{self, Signal, Socket};
use crate::streams::{Answer, Begun, Streams};

/// Unsent bytes beyond which the link counts as down.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;
/// How long a report (FIRST, DONE) may wait for company while the link is busy.
pub const REPORT_DELAY_NS: u64 = 1_000_000;

/// What the lock guards.
pub struct Shared<W> {
    pub streams: Streams<W>,
    pub socket: Option<Socket>,
    /// Frames not yet accepted by the socket.
    pub out: Vec<u8>,
    /// The socket was full: the link thread writes the rest.
    pub blocked: bool,
    /// The connection cannot go on; the link thread closes it.
    pub broken: bool,
    /// When the link thread looks at held streams next.
    pub held_until_ns: u64,
    /// When the link thread writes what still waits.
    pub flush_by_ns: u64,
    /// When the link thread wakes by itself.
    pub wakes_ns: u64,
    flushed_ns: u64,
}

pub struct Inner<W> {
    pub path: PathBuf,
    pub filter_id: u64,
    pub alive_ms_min: AtomicU64,
    pub stop: AtomicBool,
    pub signal: Signal,
    pub late_answers: Waiting,
    pub log: fn(Level, &str),
    next_stream: AtomicU64,
    shared: Mutex<Shared<W>>,
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
    pub fn lock(&self) -> MutexGuard<'_, Shared<W>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Wake> Shared<W> {
    /// Writes what the socket takes. True: the link thread has to be told.
    pub fn flush(&mut self, now_ns: u64) -> bool {
        self.flush_by_ns = u64::MAX;
        if self.out.is_empty() || self.blocked || self.broken {
            return self.overfull();
        }
        let Some(socket) = &self.socket else {
            self.out.clear();
            return false;
        };
        self.flushed_ns = now_ns;
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

    /// Writes now when the link was quiet; otherwise soon, with what else there is by then. True: the
    /// link thread has to be told.
    fn flush_soon(&mut self, now_ns: u64) -> bool {
        if self.out.is_empty() || self.flush_by_ns != u64::MAX {
            return self.overfull();
        }
        if !self.is_busy(now_ns) {
            return self.flush(now_ns);
        }
        self.flush_by_ns = now_ns + REPORT_DELAY_NS;
        self.wakes_ns > self.flush_by_ns
    }

    /// While there is traffic the link thread wakes by itself often enough for every report.
    pub fn is_busy(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.flushed_ns) <= REPORT_DELAY_NS
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
            held_until_ns: u64::MAX,
            flush_by_ns: u64::MAX,
            wakes_ns: 0,
            flushed_ns: 0,
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

    /// Asks for endpoints. `wake` is called, under the lock, only when the stream has to wait. The
    /// caller sees to it that `flush` is called soon after `Begun::Asked`.
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
            Begun::Asked => shared.overfull(),
            Begun::Held { until_ns } => until_ns < shared.held_until_ns,
            Begun::FailedOpen => false,
        };
        drop(guard);
        self.tell(tell);
        begun
    }

    /// Writes everything that waits to be written.
    pub fn flush(&self) {
        let tell = self.inner.lock().flush(monotonic_ns());
        self.tell(tell);
    }

    fn tell(&self, tell: bool) {
        if tell {
            self.inner.signal.raise();
        }
    }

    /// The answer for a stream that was woken.
    pub fn take(&self, stream: u64) -> Option<Answer> {
        // The waker is dropped after the lock is released.
        let taken = self.inner.lock().streams.take(stream);
        taken.map(|(answer, _wake)| answer)
    }

    /// The answer for a stream that waits is from now on another one's.
    pub fn adopt(&self, stream: u64, wake: W) {
        // The waker is dropped after the lock is released.
        let _unused = self.inner.lock().streams.adopt(stream, wake);
    }

    /// Wakes a stream at an instant, unless it ends before; one wish at a time.
    pub fn set_alarm(&self, stream: u64, at_ns: u64, wake: W) {
        let mut guard = self.inner.lock();
        let unused = guard.streams.set_alarm(stream, at_ns, wake);
        let tell = at_ns < guard.wakes_ns;
        drop(guard);
        drop(unused);
        self.tell(tell);
    }

    pub fn first(&self, first: First, endpoint: &str) {
        let mut guard = self.inner.lock();
        let shared = &mut *guard;
        shared.streams.first(first, endpoint, &mut shared.out);
        let tell = shared.flush_soon(monotonic_ns());
        drop(guard);
        self.tell(tell);
    }

    pub fn end(&self, done: &Done) {
        let mut guard = self.inner.lock();
        let shared = &mut *guard;
        let wake = shared.streams.end(done, &mut shared.out);
        let tell = shared.flush_soon(monotonic_ns());
        drop(guard);
        drop(wake);
        self.tell(tell);
    }

    /// An attempt failed.
    pub fn fault(&self, fault: &Fault) {
        let mut guard = self.inner.lock();
        let shared = &mut *guard;
        shared.streams.fault(fault, &mut shared.out);
        let tell = shared.flush_soon(monotonic_ns());
        drop(guard);
        self.tell(tell);
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

#[cfg(test)]
#[path = "link_test.rs"]
mod tests;
