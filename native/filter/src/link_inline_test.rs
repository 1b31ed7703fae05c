//! A worker that waits for its answer in place, against a picker on a real socket.

use super::tests::{done, pick_of, Bench, ALIVE_MS, HOLD_NS, MS, WAIT};
use super::*;
use crate::fake_stream::SendWake;
use crate::scripted_picker::{endpoints, Connection};
use std::time::{Duration, Instant};

use inferway_wire::protocol::Frame;

/// Longer than any test takes: the answer has to come by itself.
const LONG_NS: u64 = 30_000 * MS;

impl Bench {
    fn ask(&self, stream: u64, wait_ns: u64) -> (Begun, Option<Answer>) {
        let pick = Pick {
            stream,
            ..Pick::default()
        };
        let wake = || SendWake(self.wakes.clone(), stream);
        self.link
            .ask(pick, true, HOLD_NS, monotonic_ns(), wait_ns, wake)
    }

    /// Asks in place while `picker` plays the other side.
    fn ask_of(
        &self,
        stream: u64,
        connection: &mut Connection,
        picker: impl FnOnce(&mut Connection) + Send,
    ) -> (Begun, Option<Answer>) {
        std::thread::scope(|scope| {
            scope.spawn(|| picker(connection));
            self.ask(stream, LONG_NS)
        })
    }
}

fn is_endpoints(answer: &Option<Answer>) -> bool {
    matches!(answer, Some(Answer::Endpoints { .. }))
}

#[test]
fn an_answer_in_time_wakes_nobody() {
    let (bench, _picker, mut connection) = Bench::with_picker(ALIVE_MS);
    for stream in 1..=20 {
        let (begun, answer) = bench.ask_of(stream, &mut connection, |connection| {
            assert_eq!(pick_of(connection.next()), (stream, false));
            connection.send(&endpoints(stream));
        });
        assert_eq!(begun, Begun::Asked);
        assert!(is_endpoints(&answer));
        bench.link.end(None, &done(stream));
        assert_eq!(connection.next(), Frame::Done(done(stream)));
    }
    assert!(bench.woken.try_recv().is_err());
    assert_eq!(bench.link.take_late_answers(), 0);
}

#[test]
fn an_answer_after_the_bound_comes_by_waking_once() {
    let (bench, _picker, mut connection) = Bench::with_picker(ALIVE_MS);
    assert_eq!(bench.ask(1, MS), (Begun::Asked, None));
    assert_eq!(pick_of(connection.next()), (1, false));
    connection.send(&endpoints(1));
    assert_eq!(bench.woken(), 1);
    assert!(is_endpoints(&bench.link.take(1)));
    assert_eq!(bench.link.take(1), None);
    bench.link.end(None, &done(1));
    assert_eq!(connection.next(), Frame::Done(done(1)));
    assert!(bench.woken.try_recv().is_err());
}

#[test]
fn a_picker_that_dies_during_the_wait_ends_it() {
    let (bench, picker, mut connection) = Bench::with_picker(ALIVE_MS);
    let start = Instant::now();
    let (begun, answer) = std::thread::scope(|scope| {
        scope.spawn(move || {
            connection.next();
            drop(connection);
        });
        bench.ask(1, LONG_NS)
    });
    assert!(start.elapsed() < WAIT);
    assert_eq!(begun, Begun::Asked);
    // Either the link's thread was faster than this one, or it wakes the stream.
    let answer = answer.or_else(|| {
        assert_eq!(bench.woken(), 1);
        bench.link.take(1)
    });
    assert_eq!(answer, Some(Answer::FailOpen));
    let mut connection = picker.accept_and_welcome();
    assert!(matches!(connection.next(), Frame::Open(open) if open.stream == 1));
}

#[test]
fn broken_frames_that_a_worker_reads_end_the_connection() {
    let (bench, picker, mut connection) = Bench::with_picker(ALIVE_MS);
    let (_, answer) = bench.ask_of(1, &mut connection, |connection| {
        connection.next();
        connection.send_bytes(&[0xff; 16]);
    });
    let answer = answer.or_else(|| {
        assert_eq!(bench.woken(), 1);
        bench.link.take(1)
    });
    assert_eq!(answer, Some(Answer::FailOpen));
    assert!(connection.try_next().is_none());
    picker.accept_and_welcome();
}

#[test]
fn a_hung_picker_costs_the_bound_and_is_noticed() {
    let (bench, _picker, _connection) = Bench::with_picker(50);
    let start = Instant::now();
    assert_eq!(bench.ask(1, MS), (Begun::Asked, None));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(bench.woken(), 1);
    assert_eq!(bench.link.take(1), Some(Answer::FailOpen));
    assert_eq!(bench.ask(2, LONG_NS), (Begun::FailedOpen, None));
}

#[test]
fn without_a_picker_nothing_is_waited_for_in_place() {
    let bench = Bench::new(ALIVE_MS);
    assert_eq!(bench.ask(1, LONG_NS), (Begun::FailedOpen, None));
    let pick = Pick {
        stream: 2,
        ..Pick::default()
    };
    let wake = || SendWake(bench.wakes.clone(), 2);
    let (begun, answer) = bench
        .link
        .ask(pick, false, HOLD_NS, monotonic_ns(), LONG_NS, wake);
    assert!(matches!(begun, Begun::Held { .. }) && answer.is_none());
    assert_eq!(bench.woken(), 2);
    assert_eq!(bench.link.take(2), Some(Answer::FailClose));
}

#[test]
fn a_waiting_worker_reads_for_everybody() {
    let (bench, _picker, mut connection) = Bench::with_picker(ALIVE_MS);
    bench.begin(1, true);
    connection.next();
    for stream in 2..=20 {
        let (_, answer) = bench.ask_of(stream, &mut connection, |connection| {
            connection.next();
            let mut both = Vec::new();
            endpoints(stream - 1).encode(&mut both);
            endpoints(stream).encode(&mut both);
            // Cut within a frame, so that two readers may have to share it.
            let (head, tail) = both.split_at(both.len() / 2);
            connection.send_bytes(head);
            connection.send_bytes(tail);
        });
        assert!(is_endpoints(&answer));
        assert_eq!(bench.woken(), stream - 1);
        assert!(is_endpoints(&bench.link.take(stream - 1)));
        bench.link.end(None, &done(stream - 1));
        assert_eq!(connection.next(), Frame::Done(done(stream - 1)));
        // The next round's other stream.
        bench.link.end(None, &done(stream));
        assert_eq!(connection.next(), Frame::Done(done(stream)));
        bench.begin(stream, true);
        connection.next();
    }
}

#[test]
fn a_stream_that_waits_to_be_woken_is_heard_while_others_read_for_themselves() {
    let (bench, _picker, mut connection) = Bench::with_picker(ALIVE_MS);
    let mut stream = 0;
    for _ in 0..50 {
        stream += 1;
        let (_, answer) = bench.ask_of(stream, &mut connection, |connection| {
            connection.next();
            connection.send(&endpoints(stream));
        });
        assert!(is_endpoints(&answer));
        stream += 1;
        bench.begin(stream, true);
        connection.next();
        connection.send(&endpoints(stream));
        assert_eq!(bench.woken(), stream);
    }
}

#[test]
fn a_picker_that_only_beats_stays_alive_while_nobody_listens() {
    let (bench, _picker, mut connection) = Bench::with_picker(100);
    let start = Instant::now();
    let mut stream = 0;
    // Longer than the picker may be silent, with frames that no worker waits for.
    while start.elapsed() < Duration::from_millis(300) {
        stream += 1;
        let (begun, answer) = bench.ask_of(stream, &mut connection, |connection| {
            connection.next();
            connection.send(&endpoints(stream));
        });
        assert_eq!(begun, Begun::Asked);
        assert!(is_endpoints(&answer));
        connection.send(&Frame::Heartbeat);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(bench.link.is_up());
}

#[test]
fn waiting_in_vain_is_given_up_for_a_while() {
    let (bench, _picker, mut connection) = Bench::with_picker(ALIVE_MS);
    let mut stream = 0;
    while bench.link.answers_fast() {
        stream += 1;
        assert_eq!(bench.ask(stream, 0).1, None);
        connection.next();
        assert!(stream < 100, "never gives up");
    }
    assert!(stream > 1);
    let skipped = (0..1_000)
        .take_while(|_| !bench.link.answers_fast())
        .count();
    assert!((1..1_000).contains(&skipped));
}
