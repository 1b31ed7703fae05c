use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use inferway_wire::protocol::{Frame, FrameBuffer};

use super::*;

/// Counts wake-ups, and how many wakers are alive.
#[derive(Clone, Default)]
struct Counts {
    woken: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

struct CountingWake(Counts);

impl Counts {
    fn waker(&self) -> CountingWake {
        self.alive.fetch_add(1, Ordering::Relaxed);
        CountingWake(self.clone())
    }

    fn read(&self) -> (usize, usize) {
        (
            self.woken.load(Ordering::Relaxed),
            self.alive.load(Ordering::Relaxed),
        )
    }
}

impl Wake for CountingWake {
    fn wake(&self) {
        self.0.woken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for CountingWake {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

const HOLD_NS: u64 = 1_000;

#[derive(Default)]
struct Table {
    streams: Streams<CountingWake>,
    counts: Counts,
    out: Vec<u8>,
}

impl Table {
    fn up() -> Self {
        let mut table = Self::default();
        table.streams.connected();
        table.streams.revived(&mut table.out);
        table
    }

    fn begin(&mut self, stream: u64, fail_open: bool, now_ns: u64) -> Begun {
        let pick = Pick {
            stream,
            pool: "ns/pool".to_owned(),
            model: format!("model-{stream}"),
            hashes: vec![stream],
            ..Pick::default()
        };
        let counts = self.counts.clone();
        let wake = move || counts.waker();
        self.streams
            .begin(pick, fail_open, HOLD_NS, now_ns, wake, &mut self.out)
    }

    fn end(&mut self, stream: u64) -> Option<CountingWake> {
        let done = Done {
            stream,
            ..Done::default()
        };
        let [wake, alarm] = self.streams.end(&done, &mut self.out);
        assert!(alarm.is_none());
        wake
    }

    fn reconnect(&mut self) {
        self.streams.connected();
        self.streams.revived(&mut self.out);
    }

    /// What was written since the last call.
    fn written(&mut self) -> Vec<Frame> {
        let mut buffer = FrameBuffer::new();
        buffer.feed(&std::mem::take(&mut self.out));
        std::iter::from_fn(|| buffer.next().expect("frames of our own")).collect()
    }
}

fn endpoints(stream: u64) -> Endpoints {
    Endpoints {
        stream,
        charged_uncached: 3,
        charged_context: 4,
        endpoints: "1.1.1.1:1,2.2.2.2:2".to_owned(),
        ..Endpoints::default()
    }
}

fn names(frames: &[Frame]) -> Vec<(&'static str, u64)> {
    let name = |frame: &Frame| match frame {
        Frame::Pick(pick) if pick.flags & Pick::REPEATED != 0 => ("repeated", pick.stream),
        Frame::Pick(pick) => ("pick", pick.stream),
        Frame::Open(open) => ("open", open.stream),
        Frame::First(first) => ("first", first.stream),
        Frame::Done(done) => ("done", done.stream),
        other => panic!("not a frame of the filter: {other:?}"),
    };
    frames.iter().map(name).collect()
}

#[test]
fn asked_answered_ended() {
    let mut table = Table::up();
    assert_eq!(table.begin(1, true, 0), Begun::Asked);
    assert!(table.streams.take(1).is_none());
    assert!(table.streams.endpoints(endpoints(1)));
    assert_eq!(table.counts.read(), (1, 1));
    let (answer, wake) = table.streams.take(1).expect("answered");
    let expected = Answer::Endpoints {
        placement: Placement::default(),
        endpoints: "1.1.1.1:1,2.2.2.2:2".to_owned(),
        model: String::new(),
    };
    assert_eq!(answer, expected);
    drop(wake);
    let first = First {
        stream: 1,
        ttft_us: 1,
        status: 200,
    };
    table.streams.first(first, "2.2.2.2:2", &mut table.out);
    assert!(table.end(1).is_none());
    assert_eq!(
        names(&table.written()),
        [("pick", 1), ("first", 1), ("done", 1)]
    );
    assert_eq!(table.counts.read(), (1, 0));
}

#[test]
fn answers_are_taken_once_and_late_ones_find_nobody() {
    let mut table = Table::up();
    table.begin(1, true, 0);
    assert!(table.streams.endpoints(endpoints(1)));
    assert!(!table.streams.endpoints(endpoints(1)));
    assert!(!table.streams.endpoints(endpoints(2)));
    assert!(table.streams.take(1).is_some());
    assert!(table.streams.take(1).is_none());
    drop(table.end(1));
    assert!(!table.streams.endpoints(endpoints(1)));
    assert_eq!(table.counts.read(), (1, 0));
}

#[test]
fn a_stream_that_dies_gives_its_waker_back_in_every_state() {
    let mut table = Table::up();
    table.begin(1, true, 0);
    assert!(table.end(1).is_some(), "waiting");
    table.begin(2, true, 0);
    table.streams.endpoints(endpoints(2));
    assert!(table.end(2).is_some(), "answered, not yet taken");
    table.begin(3, true, 0);
    table.streams.endpoints(endpoints(3));
    drop(table.streams.take(3));
    assert!(table.end(3).is_none(), "taken");
    assert!(table.end(3).is_none(), "gone");
    assert_eq!(table.counts.read().1, 0);
    let dones = names(&table.written())
        .into_iter()
        .filter(|(name, _)| *name == "done")
        .count();
    assert_eq!(dones, 3);
}

#[test]
fn while_down_open_pools_go_on_and_closed_ones_are_held() {
    let mut table = Table::default();
    assert_eq!(table.begin(1, true, 5), Begun::FailedOpen);
    assert_eq!(
        table.begin(2, false, 5),
        Begun::Held {
            until_ns: 5 + HOLD_NS
        }
    );
    assert_eq!(
        table.counts.read(),
        (0, 1),
        "no waker for a stream that does not wait"
    );
    assert_eq!(table.streams.expire(5), Some(5 + HOLD_NS));
    assert_eq!(table.streams.expire(5 + HOLD_NS), None);
    assert_eq!(table.counts.read(), (1, 1));
    let (answer, _) = table.streams.take(2).expect("expired");
    assert_eq!(answer, Answer::FailClose);
    table.end(1);
    table.end(2);
    assert_eq!(table.written(), []);
}

#[test]
fn losing_the_link_acts_per_pool() {
    let mut table = Table::up();
    table.begin(1, true, 0);
    table.begin(2, false, 0);
    table.streams.disconnected(10);
    assert_eq!(
        table.streams.take(1).map(|taken| taken.0),
        Some(Answer::FailOpen)
    );
    assert!(table.streams.take(2).is_none());
    assert_eq!(table.streams.expire(10), Some(10 + HOLD_NS));
    table.written();

    table.reconnect();
    assert_eq!(names(&table.written()), [("open", 1), ("repeated", 2)]);
    assert_eq!(table.streams.expire(10 + HOLD_NS), None, "no longer held");
    assert!(table.streams.endpoints(endpoints(2)));
    drop(table.end(1));
    drop(table.end(2));
    assert_eq!(names(&table.written()), [("done", 1), ("done", 2)]);
}

#[test]
fn a_silent_picker_has_seen_what_it_was_sent() {
    let mut table = Table::up();
    table.begin(1, true, 0);
    table.begin(2, false, 0);
    table.streams.silent(10);
    assert_eq!(table.begin(3, true, 11), Begun::FailedOpen);
    assert_eq!(
        table.begin(4, false, 11),
        Begun::Held {
            until_ns: 11 + HOLD_NS
        }
    );
    assert_eq!(names(&table.written()), [("pick", 1), ("pick", 2)]);
    // An end goes out on the connection that saw the beginning, in order.
    drop(table.end(1));
    assert_eq!(names(&table.written()), [("done", 1)]);
    // When it speaks again it learns only what it has not seen.
    table.streams.revived(&mut table.out);
    assert_eq!(names(&table.written()), [("open", 3), ("repeated", 4)]);
    assert!(!table.streams.endpoints(endpoints(1)), "released before");
    assert!(table.streams.endpoints(endpoints(2)));
}

#[test]
fn replay_tells_what_is_known() {
    let mut table = Table::up();
    table.begin(1, true, 0);
    table.begin(2, true, 0);
    table.begin(3, true, 0);
    table.streams.endpoints(endpoints(1));
    table.streams.endpoints(Endpoints {
        model: "adapter".to_owned(),
        ..endpoints(2)
    });
    let first = First {
        stream: 1,
        ttft_us: 1,
        status: 200,
    };
    table.streams.first(first, "2.2.2.2:2", &mut table.out);
    table.streams.disconnected(0);
    table.written();
    table.reconnect();
    let mut opens: Vec<Open> = table
        .written()
        .into_iter()
        .map(|frame| match frame {
            Frame::Open(open) => open,
            other => panic!("{other:?}"),
        })
        .collect();
    opens.sort_by_key(|open| open.stream);
    let expected = |stream, uncached, context, phase, model: &str, endpoint: &str| Open {
        stream,
        charged_uncached: uncached,
        charged_context: context,
        phase,
        pool: "ns/pool".to_owned(),
        model: model.to_owned(),
        endpoint: endpoint.to_owned(),
    };
    assert_eq!(
        opens,
        [
            expected(1, 3, 4, 1, "model-1", "2.2.2.2:2"),
            expected(2, 3, 4, 0, "adapter", "1.1.1.1:1"),
            expected(3, 0, 0, 0, "model-3", ""),
        ]
    );
}

#[test]
fn rejected_streams_are_not_replayed_but_end_where_they_were_seen() {
    let mut table = Table::up();
    let reject = |stream| Reject {
        stream,
        status: 429,
        ..Reject::default()
    };
    table.begin(1, true, 0);
    table.begin(2, true, 0);
    assert!(table.streams.reject(reject(1)));
    assert!(table.streams.reject(reject(2)));
    drop(table.end(1));
    assert_eq!(
        names(&table.written()),
        [("pick", 1), ("pick", 2), ("done", 1)]
    );
    table.streams.disconnected(0);
    table.reconnect();
    drop(table.end(2));
    assert_eq!(table.written(), []);
    assert_eq!(table.counts.read().1, 0);
}

#[test]
fn an_answer_to_an_earlier_connection_counts_for_nothing() {
    let mut table = Table::up();
    table.begin(1, false, 0);
    table.streams.disconnected(0);
    table.streams.connected();
    assert!(!table.streams.endpoints(endpoints(1)));
    table.streams.revived(&mut table.out);
    assert!(table.streams.endpoints(endpoints(1)));
}

#[test]
fn news_of_a_queue_wake_and_are_taken_once() {
    let mut table = Table::up();
    table.begin(1, false, 0);
    let queued = |stream, keepalive_ms| Queued {
        stream,
        keepalive_ms,
    };
    assert!(!table.streams.queued(queued(2, 5)));
    assert!(table.streams.queued(queued(1, 0)));
    assert!(table.streams.take(1).is_none());
    assert!(table.streams.queued(queued(1, 5)));
    assert_eq!(table.counts.read(), (1, 1));
    let (answer, wake) = table.streams.take(1).expect("news");
    assert_eq!(answer, Answer::Queued { keepalive_ms: 5 });
    assert!(wake.is_none() && table.streams.take(1).is_none());
}

#[test]
fn an_answer_wakes_who_adopted_the_stream() {
    for answered_first in [false, true] {
        let mut table = Table::up();
        table.begin(1, false, 0);
        let other = Counts::default();
        if answered_first {
            assert!(table.streams.endpoints(Endpoints {
                stream: 1,
                ..Endpoints::default()
            }));
        }
        assert!(table.streams.adopt(1, other.waker()).is_some());
        if !answered_first {
            assert_eq!(other.read(), (0, 1));
            assert!(table.streams.endpoints(Endpoints {
                stream: 1,
                ..Endpoints::default()
            }));
        }
        assert_eq!(other.read(), (1, 1));
        assert_eq!(table.counts.read(), (usize::from(answered_first), 0));
        assert!(table.streams.take(1).is_some());
        // Over, or never there: the waker is given back.
        assert!(table.streams.adopt(1, other.waker()).is_some());
        assert!(table.streams.adopt(2, other.waker()).is_some());
        assert_eq!(other.read(), (1, 0));
    }
}

#[test]
fn a_new_alarm_replaces_the_one_before() {
    let mut table = Table::up();
    table.begin(1, false, 0);
    assert!(table
        .streams
        .set_alarm(1, 10, table.counts.waker())
        .is_none());
    assert!(table
        .streams
        .set_alarm(1, 20, table.counts.waker())
        .is_some());
    assert_eq!(table.streams.next_alarm_ns(), 20);
    assert!(table.streams.ring(19).is_empty());
    assert_eq!(table.streams.ring(20).len(), 1);
}
