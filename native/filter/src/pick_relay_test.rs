use std::sync::mpsc::{channel, Receiver};
use std::sync::Arc;
use std::time::Duration;

use inferway_wire::protocol::{Done, Frame, Pick, Queued, Reject};
use inferway_wire::request::RequestFields;

use super::*;
use crate::config::{PickConfig, PoolConfig};
use crate::envoy::BodyStatus;
use crate::fake_stream::{FakeStream, SendWake};
use crate::handoff::{self, Handoff};
use crate::link::Link;
use crate::pick::DESTINATION_HEADER;
use crate::scripted_picker::{endpoints, Connection, ScriptedPicker, SocketPath};

const WAIT: Duration = Duration::from_secs(10);
const BODY: &[u8] = br#"{"model":"llm","stream":true}"#;

/// The client's stream and the one behind the relay, on one link.
struct Bench {
    outer: PickShared<SendWake>,
    inner: PickShared<SendWake>,
    connection: Connection,
    stream: FakeStream,
    woken: Receiver<u64>,
    filter: PickFilter,
    _picker: ScriptedPicker,
    _path: SocketPath,
}

impl Bench {
    fn new() -> Self {
        let path = SocketPath::new();
        let picker = ScriptedPicker::listen(path.path());
        let link = Arc::new(Link::start(path.path(), 60_000, |_, _| {}).expect("start"));
        let connection = picker.accept_and_welcome();
        while !link.is_up() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let shared = |more: &str| {
            let json = format!(r#"{{"socket": {:?}, {more}}}"#, path.path());
            PickShared {
                config: PickConfig::decode(json.as_bytes()).expect("valid"),
                link: Arc::clone(&link),
            }
        };
        let (outer, inner) = (
            shared(r#""relay": "relay/x""#),
            shared(r#""relayed": true"#),
        );
        let (wakes, woken) = channel();
        let headers = [
            (":path", "/v1/chat/completions"),
            ("content-length", "29"),
            ("x-forwarded-for", "1.2.3.4"),
        ];
        Self {
            outer,
            inner,
            connection,
            stream: FakeStream::new(&headers, wakes),
            woken,
            filter: PickFilter::default(),
            _picker: picker,
            _path: path,
        }
    }

    fn ask(&mut self, streamed: bool) -> Pick {
        let pool = PoolConfig::decode(
            br#"{"pool": "ns/p", "relay": true, "include_usage": true, "session_cookie": "s"}"#,
        );
        let fields = RequestFields {
            model: Some("llm".to_owned()),
            model_range: Some(9..14),
            stream: streamed,
            ..RequestFields::default()
        };
        let ticket = handoff::put(Handoff {
            fields,
            kind: Kind::Chat,
            body_bytes: BODY.len() as u32,
            received_ns: monotonic_ns(),
        });
        self.stream.state.borrow_mut().insert(
            handoff::STATE_KEY.to_owned(),
            ticket.number().to_ne_bytes().to_vec(),
        );
        self.stream.buffered.borrow_mut().push(BODY.to_vec());
        let pool = pool.expect("valid");
        let status = self
            .filter
            .request_headers(&self.stream, &self.outer, Some(&pool));
        assert_eq!(status, HeadersStatus::StopAllAndWatermark);
        self.turn();
        match self.connection.next() {
            Frame::Pick(pick) => *pick,
            other => panic!("{other:?}"),
        }
    }

    /// The client's stream is woken, and has its turn.
    fn turn(&mut self) {
        self.woken.recv_timeout(WAIT).expect("woken");
        self.filter.scheduled(&self.stream, &self.outer);
    }

    fn queue(&mut self, stream: u64) {
        let keepalive_ms = 5;
        self.connection.send(&Frame::Queued(Queued {
            stream,
            keepalive_ms,
        }));
        self.turn();
    }

    /// Until the request went to the relay.
    fn hand_over(&mut self, stream: u64) {
        self.queue(stream);
        while self.stream.callouts.borrow().is_empty() {
            self.turn();
        }
    }

    /// The request comes in behind the relay.
    fn adopt(&self) -> (PickFilter, FakeStream, Receiver<u64>) {
        let callouts = self.stream.callouts.borrow();
        let headers: Vec<(&str, &str)> = callouts[0]
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (wakes, woken) = channel();
        let stream = FakeStream::new(&headers, wakes);
        stream.set_request_header(FORWARDED_FOR, Some(b"1.2.3.4,127.0.0.1"));
        let filter = PickFilter::default();
        let status = filter.request_headers(&stream, &self.inner, None);
        assert_eq!(status, HeadersStatus::StopAllAndWatermark);
        (filter, stream, woken)
    }

    fn done(&mut self) -> Done {
        loop {
            match self.connection.next() {
                Frame::Done(done) => return done,
                Frame::First(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn sent(&self) -> String {
        String::from_utf8(self.stream.sent.borrow().clone()).expect("text")
    }
}

#[test]
fn only_streams_can_be_kept() {
    assert_eq!(Bench::new().ask(false).flags & Pick::KEEPS_ALIVE, 0);
    assert_ne!(Bench::new().ask(true).flags & Pick::KEEPS_ALIVE, 0);
}

#[test]
fn an_answer_before_the_first_comment_takes_the_ordinary_way() {
    let mut bench = Bench::new();
    let pick = bench.ask(true);
    let keepalive_ms = 60_000;
    bench.connection.send(&Frame::Queued(Queued {
        stream: pick.stream,
        keepalive_ms,
    }));
    bench.turn();
    bench.connection.send(&endpoints(pick.stream));
    bench.turn();
    assert_eq!(bench.stream.resumed.get(), 1);
    assert_eq!(
        bench.stream.header(DESTINATION_HEADER).as_deref(),
        Some("1.2.3.4:5")
    );
    assert!(bench.stream.callouts.borrow().is_empty());
    assert!(bench.sent().is_empty());
}

#[test]
fn the_request_goes_on_behind_the_relay_with_all_that_is_known_of_it() {
    let mut bench = Bench::new();
    let pick = bench.ask(true);
    bench.hand_over(pick.stream);
    {
        let begun = bench.stream.begun_headers.borrow();
        let names: Vec<&str> = begun.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [":status", "content-type", "cache-control", "set-cookie"]
        );
        let callouts = bench.stream.callouts.borrow();
        assert_eq!(
            (callouts[0].cluster.as_str(), &callouts[0].body[..]),
            ("relay/x", BODY)
        );
    }
    let (filter, stream, woken) = bench.adopt();
    assert_eq!(stream.header(RELAY_HEADER), None);
    assert_eq!(stream.header(FORWARDED_FOR).as_deref(), Some("1.2.3.4"));
    while bench.sent().matches(": ping\n\n").count() < 3 {
        bench.turn();
    }

    let answer = match endpoints(pick.stream) {
        Frame::Endpoints(mut endpoints) => {
            endpoints.model = "other".to_owned();
            Frame::Endpoints(endpoints)
        }
        other => panic!("{other:?}"),
    };
    bench.connection.send(&answer);
    woken.recv_timeout(WAIT).expect("woken");
    filter.scheduled(&stream, &bench.inner);
    assert_eq!(stream.resumed.get(), 1);
    assert_eq!(
        stream.header(DESTINATION_HEADER).as_deref(),
        Some("1.2.3.4:5")
    );
    assert_eq!(stream.header("content-length").as_deref(), Some("31"));
    stream.receive(&[BODY]);
    filter.request_body(&stream);
    assert_eq!(
        stream.received.borrow().concat(),
        br#"{"model":"other","stream":true}"#
    );

    let headers = [(":status", "200"), ("content-type", "text/event-stream")];
    stream.set_response(&headers);
    filter.response_headers(&stream, &bench.inner, false);
    assert!(stream.added_headers.borrow().is_empty());
    bench.filter.relayed_headers(&[
        (b":status", b"200"),
        (b"content-type", b"text/event-stream"),
    ]);
    stream.receive(&[b"data: [DONE]\n\n"]);
    let status = filter.response_body(&stream, &bench.inner, true);
    assert_eq!(status, BodyStatus::Continue);
    bench
        .filter
        .relayed_data(&bench.stream, &[b"data: [DONE]\n\n"]);
    bench.filter.relayed_end(&bench.stream, Ending::Complete);
    while !bench.stream.ended.get() {
        bench.turn();
    }
    assert!(bench.sent().ends_with(": ping\n\ndata: [DONE]\n\n"));
    let done = bench.done();
    assert_eq!((done.end, done.finish), (Done::COMPLETE, Done::FINISHED));
    assert_eq!(done.stream, pick.stream);
    filter.over(&bench.inner, || None);
    bench.filter.over(&bench.outer, || None);
}

#[test]
fn an_answer_that_came_while_nobody_had_the_request_is_not_lost() {
    let mut bench = Bench::new();
    let pick = bench.ask(true);
    bench.hand_over(pick.stream);
    let reject = Reject {
        stream: pick.stream,
        status: 429,
        message: "full".to_owned(),
        ..Reject::default()
    };
    bench.connection.send(&Frame::Reject(reject));
    // Comments tell that the link's thread has read it.
    let before = bench.sent().len();
    while bench.sent().len() < before + 5 * PING.len() {
        bench.turn();
    }
    let (filter, stream, woken) = bench.adopt();
    woken.recv_timeout(WAIT).expect("woken");
    filter.scheduled(&stream, &bench.inner);
    assert_eq!(stream.replies.borrow()[0].status, 429);
    assert_eq!(bench.done().end, Done::LOCAL);
}

#[test]
fn a_client_that_leaves_before_the_relay_took_over_is_reported() {
    let mut bench = Bench::new();
    let pick = bench.ask(true);
    bench.hand_over(pick.stream);
    bench.filter.over(&bench.outer, || None);
    let done = bench.done();
    assert_eq!((done.stream, done.end), (pick.stream, Done::CLIENT_LEFT));
    assert!(handover::take(pick.stream).is_none());
}

#[test]
fn a_relay_that_cannot_be_reached_is_an_error_event() {
    let mut bench = Bench::new();
    bench.stream.can_call_out.set(false);
    let pick = bench.ask(true);
    bench.hand_over(pick.stream);
    while !bench.stream.ended.get() {
        bench.turn();
    }
    assert!(bench.sent().contains("data: {\"error\":"));
    let done = bench.done();
    assert_eq!((done.end, done.status), (Done::LOCAL, 503));
}

#[test]
fn a_broken_server_is_told_by_the_inner_stream_alone() {
    let mut bench = Bench::new();
    let pick = bench.ask(true);
    bench.hand_over(pick.stream);
    let (filter, stream, woken) = bench.adopt();
    bench.connection.send(&endpoints(pick.stream));
    woken.recv_timeout(WAIT).expect("woken");
    filter.scheduled(&stream, &bench.inner);
    let headers = [(":status", "200"), ("content-type", "text/event-stream")];
    stream.set_response(&headers);
    filter.response_headers(&stream, &bench.inner, false);
    bench.filter.relayed_headers(&[
        (b":status", b"200"),
        (b"content-type", b"text/event-stream"),
    ]);
    filter.local_reply(&stream, "upstream_reset_after_response_started");
    let event = stream.sent.borrow().clone();
    bench.filter.relayed_data(&bench.stream, &[&event]);
    bench.filter.relayed_end(&bench.stream, Ending::Broken);
    while !bench.stream.ended.get() {
        bench.turn();
    }
    assert_eq!(bench.sent().matches("stream_interrupted").count(), 1);
    let details = || Some("upstream_reset_after_response_started".to_owned());
    filter.over(&bench.inner, details);
    assert_eq!(bench.done().end, Done::SERVER_FAILED);
}

#[test]
fn nobody_else_comes_in_behind_the_relay() {
    let bench = Bench::new();
    let (wakes, _woken) = channel();
    for headers in [&[][..], &[(RELAY_HEADER, "77")]] {
        let stream = FakeStream::new(headers, wakes.clone());
        let status = PickFilter::default().request_headers(&stream, &bench.inner, None);
        assert_eq!(status, HeadersStatus::StopIteration);
        assert_eq!(stream.replies.borrow()[0].status, 500);
    }
}
