//! Counters that Envoy exports with its own statistics (`dynamicmodulescustom.inferway_…`).
//!
//! A counter is defined once per filter configuration and incremented through a stream. What happens
//! without a stream at hand (late answers on the link thread, panics) is kept in atomics and carried
//! over by the next stream that counts something.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Counter {
    Picks,
    Endpoints,
    Rejects,
    FailOpen,
    FailClose,
    LateAnswers,
    MalformedRequests,
    TooLargeRequests,
    TruncatedStreams,
    BrokenStreams,
    LateTokens,
    KeptAlive,
    Panics,
}

pub const COUNTERS: [(Counter, &str); 13] = [
    (Counter::Picks, "inferway_picks_total"),
    (Counter::Endpoints, "inferway_pick_endpoints_total"),
    (Counter::Rejects, "inferway_pick_rejects_total"),
    (Counter::FailOpen, "inferway_pick_fail_open_total"),
    (Counter::FailClose, "inferway_pick_fail_close_total"),
    (Counter::LateAnswers, "inferway_pick_late_answers_total"),
    (
        Counter::MalformedRequests,
        "inferway_malformed_requests_total",
    ),
    (
        Counter::TooLargeRequests,
        "inferway_too_large_requests_total",
    ),
    (
        Counter::TruncatedStreams,
        "inferway_truncated_streams_total",
    ),
    (Counter::BrokenStreams, "inferway_broken_streams_total"),
    (Counter::LateTokens, "inferway_late_first_tokens_total"),
    (Counter::KeptAlive, "inferway_kept_alive_streams_total"),
    (Counter::Panics, "inferway_filter_panics_total"),
];

/// Envoy's ids of the counters of one filter configuration; `None` where Envoy refused one.
#[derive(Clone, Copy, Default)]
pub struct CounterIds([Option<usize>; COUNTERS.len()]);

impl CounterIds {
    pub fn define(mut define: impl FnMut(&str) -> Option<usize>) -> Self {
        let mut ids = Self::default();
        for (counter, name) in COUNTERS {
            ids.0[counter as usize] = define(name);
        }
        ids
    }

    pub fn get(&self, counter: Counter) -> Option<usize> {
        self.0[counter as usize]
    }
}

/// A count waiting for a stream to carry it.
#[derive(Default)]
pub struct Waiting(AtomicU64);

impl Waiting {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// What has gathered since the last call; cheap when that is nothing.
    pub fn take(&self) -> u64 {
        if self.0.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Panics caught at the border to Envoy, process-wide.
pub static PANICS: Waiting = Waiting::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_place_and_name() {
        let mut next = 0;
        let ids = CounterIds::define(|_| {
            next += 1;
            Some(next)
        });
        let mut names: Vec<_> = COUNTERS.iter().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COUNTERS.len());
        for (place, (counter, _)) in COUNTERS.iter().enumerate() {
            assert_eq!(*counter as usize, place);
            assert_eq!(ids.get(*counter), Some(place + 1));
        }
    }

    #[test]
    fn waiting_counts_are_taken_once() {
        let waiting = Waiting::new();
        waiting.add();
        waiting.add();
        assert_eq!(waiting.take(), 2);
        assert_eq!(waiting.take(), 0);
    }
}
