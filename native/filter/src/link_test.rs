use std::sync::mpsc::{channel, Receiver, Sender};
use std::time::{Duration, Instant};

use inferway_wire::protocol::{Frame, VERSION_MAJOR};

use super::*;
use crate::fake_stream::SendWake;
use crate::scripted_picker::{endpoints, welcome, Connection, ScriptedPicker, SocketPath};

const WAIT: Duration = Duration::from_secs(10);
const ALIVE_MS: u64 = 10_000;
const MS: u64 = 1_000_000;
const HOLD_NS: u64 = 50 * MS;

fn quiet(_: Level, _: &str) {}

struct Bench {
    link: Link<SendWake>,
    woken: Receiver<u64>,
    wakes: Sender<u64>,
    // Removed after the link is gone.
    path: SocketPath,
}

impl Bench {
    fn new(alive_ms_min: u64) -> Self {
        let path = SocketPath::new();
        let (wakes, woken) = channel();
        let link = Link::start(path.path(), alive_ms_min, quiet).expect("start");
        Self {
            link,
            woken,
            wakes,
            path,
        }
    }

    fn with_picker(alive_ms_min: u64) -> (Self, ScriptedPicker, Connection) {
        let bench = Self::new(alive_ms_min);
        let picker = ScriptedPicker::listen(bench.path.path());
        let connection = picker.accept_and_welcome();
        bench.until_up(true);
        (bench, picker, connection)
    }

    fn until_up(&self, up: bool) {
        let start = Instant::now();
        while self.link.is_up() != up {
            assert!(
                start.elapsed() < WAIT,
                "the link is not {}",
                if up { "up" } else { "down" }
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn begin(&self, stream: u64, fail_open: bool) -> Begun {
        let wakes = self.wakes.clone();
        let pick = Pick {
            stream,
            ..Pick::default()
        };
        let wake = move || SendWake(wakes, stream);
        let begun = self
            .link
            .begin(pick, fail_open, HOLD_NS, monotonic_ns(), wake);
        self.link.flush();
        begun
    }

    fn woken(&self) -> u64 {
        self.woken
            .recv_timeout(WAIT)
            .expect("a stream is woken in time")
    }
}

fn done(stream: u64) -> Done {
    Done {
        stream,
        ..Done::default()
    }
}

fn pick_of(frame: Frame) -> (u64, bool) {
    match frame {
        Frame::Pick(pick) => (pick.stream, pick.flags & Pick::REPEATED != 0),
        other => panic!("not a pick: {other:?}"),
    }
}

#[test]
fn asks_wakes_and_reports() {
    let (bench, _picker, mut connection) = Bench::with_picker(ALIVE_MS);
    assert_eq!(bench.begin(1, true), Begun::Asked);
    assert_eq!(pick_of(connection.next()), (1, false));
    connection.send(&endpoints(1));
    assert_eq!(bench.woken(), 1);
    assert!(matches!(bench.link.take(1), Some(Answer::Endpoints { .. })));
    let first = First {
        stream: 1,
        ttft_us: 5,
        status: 200,
    };
    bench.link.first(first, "1.2.3.4:5");
    bench.link.end(&done(1));
    assert_eq!(connection.next(), Frame::First(first));
    assert_eq!(connection.next(), Frame::Done(done(1)));
}

#[test]
fn failed_attempts_are_told_to_a_picker_that_is_there() {
    let fault = |status| Fault {
        pool: "ns/pool".to_owned(),
        endpoint: "1.2.3.4:5".to_owned(),
        cause: 4,
        status,
        retry_after_ms: 7_000,
    };
    let bench = Bench::new(ALIVE_MS);
    bench.link.fault(&fault(500));
    let picker = ScriptedPicker::listen(bench.path.path());
    let mut connection = picker.accept();
    bench.link.fault(&fault(501));
    connection.send(&welcome(VERSION_MAJOR));
    bench.until_up(true);
    bench.link.fault(&fault(503));
    assert_eq!(connection.next(), Frame::Fault(fault(503)));
}

#[test]
fn reports_wait_for_company_but_not_for_long() {
    let (bench, _picker, mut connection) = Bench::with_picker(ALIVE_MS);
    for stream in 1..=3 {
        bench.begin(stream, true);
        connection.next();
    }
    // The link was just written to: these go out together with the next pick, or by themselves.
    bench.link.end(&done(1));
    bench.link.end(&done(2));
    assert_eq!(connection.next(), Frame::Done(done(1)));
    assert_eq!(connection.next(), Frame::Done(done(2)));
    bench.link.end(&done(3));
    bench.begin(4, true);
    assert_eq!(connection.next(), Frame::Done(done(3)));
    assert_eq!(pick_of(connection.next()), (4, false));
}

#[test]
fn comes_back_and_replays() {
    let (bench, picker, mut connection) = Bench::with_picker(ALIVE_MS);
    bench.begin(1, true);
    bench.begin(2, true);
    connection.next();
    connection.next();
    connection.send(&endpoints(1));
    assert_eq!(bench.woken(), 1);
    drop(connection);
    assert_eq!(bench.woken(), 2);
    assert_eq!(bench.link.take(2), Some(Answer::FailOpen));
    bench.until_up(false);
    let held = bench.link.begin(
        Pick {
            stream: 3,
            ..Pick::default()
        },
        false,
        60_000 * MS,
        monotonic_ns(),
        || SendWake(bench.wakes.clone(), 3),
    );
    assert!(matches!(held, Begun::Held { .. }));
    let mut connection = picker.accept_and_welcome();
    let mut opened: Vec<u64> = (0..2)
        .map(|_| match connection.next() {
            Frame::Open(open) => open.stream,
            other => panic!("{other:?}"),
        })
        .collect();
    opened.sort_unstable();
    assert_eq!(opened, [1, 2]);
    assert_eq!(pick_of(connection.next()), (3, true));
}

#[test]
fn a_held_stream_is_refused_in_time() {
    let bench = Bench::new(ALIVE_MS);
    assert!(matches!(bench.begin(1, false), Begun::Held { .. }));
    let start = Instant::now();
    assert_eq!(bench.woken(), 1);
    assert!(start.elapsed() >= Duration::from_nanos(HOLD_NS) - Duration::from_millis(2));
    assert_eq!(bench.link.take(1), Some(Answer::FailClose));
    assert_eq!(bench.begin(2, true), Begun::FailedOpen);
}

#[test]
fn silence_is_noticed_and_forgiven() {
    let (bench, _picker, mut connection) = Bench::with_picker(30);
    bench.begin(1, true);
    assert_eq!(bench.woken(), 1);
    assert_eq!(bench.link.take(1), Some(Answer::FailOpen));
    connection.next();
    connection.send(&Frame::Heartbeat);
    bench.until_up(true);
    // The late answer finds nobody, and the stream goes on.
    connection.send(&endpoints(1));
    bench.link.end(&done(1));
    assert_eq!(connection.next(), Frame::Done(done(1)));
    let start = Instant::now();
    while bench.link.take_late_answers() == 0 {
        assert!(start.elapsed() < WAIT);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn another_major_version_is_no_picker() {
    let bench = Bench::new(ALIVE_MS);
    let picker = ScriptedPicker::listen(bench.path.path());
    let mut connection = picker.accept();
    connection.send(&welcome(VERSION_MAJOR + 1));
    assert!(connection.try_next().is_none());
    assert!(!bench.link.is_up());
}

#[test]
fn a_broken_frame_ends_the_connection() {
    let (bench, picker, mut connection) = Bench::with_picker(ALIVE_MS);
    bench.begin(1, true);
    connection.next();
    connection.send_bytes(&[0xff; 16]);
    assert!(connection.try_next().is_none());
    assert_eq!(bench.woken(), 1);
    let mut connection = picker.accept_and_welcome();
    assert!(matches!(connection.next(), Frame::Open(_)));
}

#[test]
fn what_the_socket_does_not_take_is_queued_and_the_queue_is_bounded() {
    let (bench, picker, mut connection) = Bench::with_picker(ALIVE_MS);
    let hashes = vec![7u64; 1000];
    let ask = |stream| {
        let pick = Pick {
            stream,
            hashes: hashes.clone(),
            ..Pick::default()
        };
        let wake = || SendWake(bench.wakes.clone(), stream);
        let begun = bench.link.begin(pick, true, HOLD_NS, monotonic_ns(), wake);
        bench.link.flush();
        begun
    };
    // 4 MB: more than a socket takes, less than the queue; all of it arrives, in order.
    for stream in 1..=500 {
        assert_eq!(ask(stream), Begun::Asked);
    }
    for stream in 1..=500 {
        assert_eq!(pick_of(connection.next()), (stream, false));
    }
    // Nobody reads any more: past the limit the connection is given up.
    let mut stream = 501;
    while ask(stream) == Begun::Asked {
        stream += 1;
        assert!(stream < 5_000, "the queue is not bounded");
    }
    assert!(stream > 501 + (QUEUE_BYTES_MAX / 8_100) as u64);
    picker.accept_and_welcome();
}

#[test]
fn dropping_the_link_ends_its_thread_at_once() {
    let (bench, _picker, mut connection) = Bench::with_picker(ALIVE_MS);
    bench.begin(1, true);
    connection.next();
    let start = Instant::now();
    drop(bench);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(connection.try_next().is_none());
}

#[test]
fn one_link_per_path() {
    let registry = crate::registry::Registry::<SendWake>::new();
    let (path, other_path) = (SocketPath::new(), SocketPath::new());
    let link = |path: &SocketPath| {
        registry
            .link(path.path(), Some(ALIVE_MS), quiet)
            .expect("link")
    };
    let first = link(&path);
    let second = link(&path);
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &link(&other_path)));
    let stream = first.next_stream();
    assert_eq!(second.next_stream(), stream + 1);
}
