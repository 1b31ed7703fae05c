//! When a worker may wait for the picker's answer in place, and for how long.
//!
//! Problem: the way from the picker over the link's thread and Envoy's scheduler back to the worker
//! costs two wake-ups of sleeping threads, far more than the decision itself. A worker that has nothing
//! else to do spends that time better by looking for the answer. Model: it may do so while its only
//! stream is the one that asks; the wait is bounded; and after `MISSES_MAX` waits in a row that were in
//! vain the next `SKIPS` are not tried, so that a slow picker costs next to nothing.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

const MISSES_MAX: u32 = 4;
const SKIPS: u32 = 64;

thread_local! {
    static LIVE: Cell<u32> = const { Cell::new(0) };
}

/// Counts one stream of this worker while it lives.
pub struct LiveStream(());

impl Default for LiveStream {
    fn default() -> Self {
        LIVE.set(LIVE.get() + 1);
        Self(())
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
    }
}

/// Whether the stream that asks is the only one of its worker.
pub fn is_only_stream() -> bool {
    LIVE.get() == 1
}

/// Whether waiting has been worth it lately. Workers share it without agreement: it is a hint.
#[derive(Default)]
pub struct Patience {
    misses: AtomicU32,
    skips: AtomicU32,
}

impl Patience {
    pub fn is_left(&self) -> bool {
        let skips = self.skips.load(Ordering::Relaxed);
        if skips > 0 {
            self.skips.store(skips - 1, Ordering::Relaxed);
        }
        skips == 0
    }

    /// The answer came in time, or not.
    pub fn learn(&self, in_time: bool) {
        if in_time {
            self.misses.store(0, Ordering::Relaxed);
            return;
        }
        let misses = self.misses.load(Ordering::Relaxed) + 1;
        self.misses.store(misses.min(MISSES_MAX), Ordering::Relaxed);
        if misses >= MISSES_MAX {
            self.skips.store(SKIPS, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_streams_of_this_thread() {
        let first = LiveStream::default();
        assert!(is_only_stream());
        let second = LiveStream::default();
        assert!(!is_only_stream());
        assert!(std::thread::spawn(|| {
            let _third = LiveStream::default();
            is_only_stream()
        })
        .join()
        .expect("thread"));
        drop(second);
        assert!(is_only_stream());
        drop(first);
        assert!(!is_only_stream());
    }

    #[test]
    fn patience_ends_after_misses_in_a_row_and_comes_back() {
        let patience = Patience::default();
        for in_time in [false, false, false, true, false, false, false] {
            assert!(patience.is_left());
            patience.learn(in_time);
        }
        assert!(patience.is_left());
        patience.learn(false);
        for _ in 0..SKIPS {
            assert!(!patience.is_left());
        }
        // One try; in vain again, it pauses at once.
        assert!(patience.is_left());
        patience.learn(false);
        assert!(!patience.is_left());
        for _ in 1..SKIPS {
            assert!(!patience.is_left());
        }
        assert!(patience.is_left());
        patience.learn(true);
        patience.learn(false);
        assert!(patience.is_left());
    }
}
