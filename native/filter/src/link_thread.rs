//! The link's thread: connects and reconnects, reads answers, watches whether the picker is alive.
//!
//! It also ends holds and writes what workers left to it. It never blocks but in `poll`, so dropping
//! the link joins it at once. It does not decide anything about requests: that is `streams.rs`, and
//! docs/pick-protocol.md under Conduct.

use std::sync::atomic::Ordering;

use inferway_wire::protocol::{Hello, VERSION_MAJOR, VERSION_MINOR};

use crate::clock::monotonic_ns;
use crate::envoy::Wake;
use crate::link::{Inner, Level, REPORT_DELAY_NS};
use crate::reader::{Lost, SILENT_MS_MAX};
use crate::socket::{self, Socket};

const MS: u64 = 1_000_000;
const BACKOFF_MS_MIN: u64 = 10;
const BACKOFF_MS_MAX: u64 = 1_000;

pub struct LinkThread<'a, W> {
    inner: &'a Inner<W>,
    retry_ns: u64,
    backoff_ms: u64,
    /// There may be something to read, or the connection is over.
    readable: bool,
}

impl<'a, W: Wake> LinkThread<'a, W> {
    pub fn new(inner: &'a Inner<W>) -> Self {
        Self {
            inner,
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
        let mut reader = self.inner.reader();
        reader.disconnected();
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
                let mut reader = self.inner.reader();
                reader.connected(socket.raw(), now_ns);
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
        let mut reader = self.inner.reader();
        let was_welcome = reader.disconnected().is_some();
        if matches!(lost, Lost::Version(_)) {
            self.backoff_ms = BACKOFF_MS_MAX;
        } else if was_welcome {
            self.backoff_ms = BACKOFF_MS_MIN;
        }
        if was_welcome || matches!(lost, Lost::Version(_) | Lost::Protocol(_)) {
            let message = format!(
                "picker {}: connection lost: {lost}",
                self.inner.path.display()
            );
            (self.inner.log)(Level::Warn, &message);
        }
        let mut shared = self.inner.lock();
        shared.socket = None;
        // Whoever waited in place finds nothing to read; one that panicked must not keep its claim.
        shared.in_place = false;
        shared.out.clear();
        shared.streams.disconnected(now_ns);
        drop(shared);
        drop(reader);
        self.back_off(now_ns);
    }

    /// Reads everything that has arrived and writes what was queued.
    fn exchange(&mut self) -> Result<(), Lost> {
        if !self.connected() {
            return Ok(());
        }
        loop {
            {
                let mut shared = self.inner.lock();
                if shared.broken {
                    return Err(Lost::QueueFull);
                }
                let now_ns = monotonic_ns();
                if shared.blocked || shared.flush_by_ns <= now_ns {
                    shared.blocked = false;
                    shared.flush(now_ns);
                }
            }
            let mut reader = self.inner.reader();
            if let Some(lost) = reader.lost.take() {
                return Err(lost);
            }
            // A worker that waits in place is sure that nobody reads behind its back.
            let readable = self.readable && !self.inner.lock().in_place;
            if !readable || !reader.receive(self.inner)? {
                return Ok(());
            }
        }
    }

    /// Acts on what time alone brings about; gives the next instant to look again.
    fn watch(&mut self, now_ns: u64) -> u64 {
        let mut next_ns = self.retry_ns;
        if self.connected() {
            let reader = self.inner.reader();
            let heard_ns = reader.heard_ns;
            let alive_ns = reader.alive_ns(self.inner);
            let silent_ns = now_ns.saturating_sub(heard_ns);
            let lost_ns = (SILENT_MS_MAX * MS).max(2 * alive_ns);
            if silent_ns >= lost_ns {
                drop(reader);
                self.disconnect(&Lost::Silent);
                next_ns = self.retry_ns;
            } else {
                let mut shared = self.inner.lock();
                if shared.streams.is_up() && silent_ns > alive_ns {
                    shared.streams.silent(now_ns);
                    drop(shared);
                    let path = self.inner.path.display();
                    let message = format!("picker {path}: silent for {} ms", silent_ns / MS);
                    (self.inner.log)(Level::Warn, &message);
                    next_ns = heard_ns + lost_ns;
                } else if shared.streams.is_up() {
                    next_ns = heard_ns + alive_ns + MS;
                } else {
                    next_ns = heard_ns + lost_ns;
                }
            }
        }
        let mut shared = self.inner.lock();
        shared.held_until_ns = shared.streams.expire(now_ns).unwrap_or(u64::MAX);
        next_ns = next_ns.min(shared.held_until_ns).min(shared.flush_by_ns);
        if shared.is_busy(now_ns) {
            next_ns = next_ns.min(now_ns + REPORT_DELAY_NS);
        }
        shared.wakes_ns = next_ns;
        next_ns
    }

    fn wait(&mut self, next_ns: u64) {
        let now_ns = monotonic_ns();
        let (raw, blocked, listening) = {
            let mut shared = self.inner.lock();
            shared.listening = shared.blocked || !shared.may_sleep_through(now_ns);
            let raw = shared.socket.as_ref().map(Socket::raw);
            (raw, shared.blocked, shared.listening)
        };
        let wait_ns = next_ns.saturating_sub(now_ns);
        let raw = raw.filter(|_| listening);
        // What arrived in the meantime is read even where no worker found it: liveness hangs on it.
        self.readable = socket::wait(&self.inner.signal, raw, blocked, wait_ns) || !listening;
    }
}
