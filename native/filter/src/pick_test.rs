use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use inferway_wire::protocol::{Done, Endpoints, Frame, Reject};
use inferway_wire::request::RequestFields;

use super::*;
use crate::fake_stream::{FakeStream, SendWake};
use crate::fallback::Fallback;
use crate::handoff::Handoff;
use crate::scripted_picker::{endpoints, Connection, ScriptedPicker, SocketPath};

const WAIT: Duration = Duration::from_secs(10);

struct Bench {
    shared: PickShared<SendWake>,
    connection: Connection,
    stream: FakeStream,
    woken: Receiver<u64>,
    filter: PickFilter,
    tells: bool,
    _picker: ScriptedPicker,
    _path: SocketPath,
}

impl Bench {
    fn new(headers: &[(&str, &str)]) -> Self {
        let path = SocketPath::new();
        let picker = ScriptedPicker::listen(path.path());
        let json = format!(r#"{{"socket": {:?}}}"#, path.path());
        let config = PickConfig::decode(json.as_bytes()).expect("valid");
        let link = Link::start(path.path(), 60_000, |_, _| {}).expect("start");
        let connection = picker.accept_and_welcome();
        while !link.is_up() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (wakes, woken) = channel();
        Self {
            shared: PickShared {
                config,
                link: Arc::new(link),
            },
            connection,
            stream: FakeStream::new(headers, wakes),
            woken,
            filter: PickFilter::default(),
            tells: false,
            _picker: picker,
            _path: path,
        }
    }

    fn start(&mut self) -> Pick {
        let pool = PoolConfig {
            pool: "ns/p".to_owned(),
            fail_open: true,
            rewrites: Fallback::default(),
            headers: vec!["x-tenant".to_owned()],
            response_headers: self.tells,
            include_usage: true,
            session_cookie: Some("s".to_owned()),
            relay: true,
        };
        let status = self
            .filter
            .request_headers(&self.stream, &self.shared, Some(&pool));
        assert_eq!(status, HeadersStatus::StopAllAndWatermark);
        // The end of the event loop's turn.
        self.woken.recv_timeout(WAIT).expect("woken");
        self.filter.scheduled(&self.stream, &self.shared);
        match self.connection.next() {
            Frame::Pick(pick) => *pick,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, frame: &Frame) {
        self.connection.send(frame);
        self.woken.recv_timeout(WAIT).expect("woken");
        self.filter.scheduled(&self.stream, &self.shared);
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

    /// Asks for something new, to show that nothing else was sent before.
    fn nothing_more(&mut self) {
        self.filter.over(&self.shared, || None);
        self.filter = PickFilter::default();
        let pick = self.start();
        assert_eq!(pick.pool, "ns/p");
    }
}

#[test]
fn does_nothing_without_a_pool() {
    let bench = Bench::new(&[("x-gateway-inference-objective", "o")]);
    let status = bench
        .filter
        .request_headers(&bench.stream, &bench.shared, None);
    assert_eq!(status, HeadersStatus::Continue);
    assert!(bench
        .stream
        .header("x-gateway-inference-objective")
        .is_some());
    bench.filter.over(&bench.shared, || None);
    assert_eq!(bench.stream.counted.borrow()[..], []);
}

#[test]
fn asks_with_what_the_headers_say_and_removes_what_nobody_else_may_see() {
    let mut bench = Bench::new(&[
        (":path", "/v1/chat/completions"),
        ("x-gateway-inference-objective", "o"),
        ("x-llm-d-inference-objective", "second"),
        ("x-llm-d-inference-fairness-id", "f"),
        ("x-session-id", "s"),
        ("x-llm-d-slo-ttft-ms", "0"),
        ("x-slo-ttft-ms", "250.5"),
        ("x-slo-tpot-ms", "20"),
        ("x-slo-tpot-ms", "30"),
        ("x-llm-d-inference-ttl", "1.5s"),
        ("x-tenant", "t"),
        ("x-request-id", "r"),
        ("x-gateway-destination-endpoint", "6.6.6.6:6"),
        ("content-length", "12"),
    ]);
    let pick = bench.start();
    assert_eq!(
        (pick.objective.as_str(), pick.fairness.as_str()),
        ("o", "f")
    );
    assert_eq!(
        (pick.session.as_str(), pick.request_id.as_str()),
        ("s", "r")
    );
    assert_eq!((pick.kind, pick.body_bytes, pick.hashes.len()), (0, 12, 0));
    assert_eq!(
        (pick.slo_ttft_ms, pick.slo_tpot_ms, pick.ttl_ms),
        (251, 20, 1_500)
    );
    let asked = ("x-tenant".to_owned(), "t".to_owned());
    assert_eq!(pick.headers, [asked]);
    let left: Vec<String> = bench
        .stream
        .request
        .borrow()
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    let gone = ["objective", "fairness", "destination"];
    assert_eq!(left.len(), 10);
    assert!(!left
        .iter()
        .any(|name| gone.iter().any(|word| name.contains(word))));
}

#[test]
fn asks_with_what_was_handed_on() {
    let mut bench = Bench::new(&[("x-request-id", "r")]);
    let fields = RequestFields {
        model: Some("m".to_owned()),
        model_range: None,
        model_not_string: false,
        stream: true,
        max_tokens: 9,
        priority: Some(-1),
        cache_salt: None,
        user: Some("u".to_owned()),
        server_tools: true,
        usage_edit: None,
        prompt_bytes: 600,
        hashes: vec![1, 2],
    };
    let handed = handoff::put(Handoff {
        fields,
        kind: Kind::Chat,
        body_bytes: 700,
        received_ns: 5,
    });
    bench
        .stream
        .set_state(handoff::STATE_KEY, &handed.number().to_ne_bytes());
    let pick = bench.start();
    assert_eq!(
        (pick.model.as_str(), pick.kind, pick.flags),
        ("m", 1, Pick::STREAM | Pick::TOOLS)
    );
    assert_eq!(
        (pick.max_tokens, pick.priority, pick.hashes),
        (9, Some(-1), vec![1, 2])
    );
    assert_eq!(
        (pick.prompt_bytes, pick.body_bytes, pick.received_ns),
        (600, 700, 5)
    );
    assert_eq!(pick.user, "u");
}

#[test]
fn goes_on_with_the_answer_and_reports_the_response_once() {
    let mut bench = Bench::new(&[]);
    let stream = bench.start().stream;
    bench.answer(&endpoints(stream));
    assert_eq!(
        bench.stream.header(DESTINATION_HEADER).as_deref(),
        Some("1.2.3.4:5")
    );
    assert_eq!(bench.stream.resumed.get(), 1);
    bench.stream.set_response(&[(":status", "204")]);
    *bench.stream.upstream.borrow_mut() = Some("1.2.3.4:5".to_owned());
    bench
        .filter
        .response_headers(&bench.stream, &bench.shared, true);
    let done = bench.done();
    assert_eq!(
        (done.stream, done.end, done.status),
        (stream, Done::COMPLETE, 204)
    );
    assert_eq!(done.endpoint, "1.2.3.4:5");
    // Whatever Envoy calls afterwards, DONE was said.
    bench
        .filter
        .response_body(&bench.stream, &bench.shared, true);
    bench.filter.over(&bench.shared, || {
        Some("downstream_remote_disconnect".to_owned())
    });
    bench.filter.scheduled(&bench.stream, &bench.shared);
    bench.nothing_more();
}

#[test]
fn refuses_with_the_picker_s_words() {
    let mut bench = Bench::new(&[]);
    let stream = bench.start().stream;
    bench.answer(&Frame::Reject(Reject {
        stream,
        status: 429,
        retry_after_ms: 1,
        kind: "rate_limit_error".to_owned(),
        code: "c".to_owned(),
        message: "m".to_owned(),
        reason: "r".to_owned(),
        retry: Reject::RETRY,
    }));
    assert_eq!(bench.stream.replies.borrow()[0].status, 429);
    assert_eq!(bench.stream.resumed.get(), 0);
    let done = bench.done();
    assert_eq!((done.end, done.status), (Done::LOCAL, 429));
    // The reply passes the filter itself on its way out.
    bench.filter.local_reply(&bench.stream, "inferway_rejected");
    bench
        .filter
        .response_headers(&bench.stream, &bench.shared, false);
    bench.nothing_more();
}

#[test]
fn a_stream_that_dies_while_waiting_says_so_and_its_answer_finds_nobody() {
    let mut bench = Bench::new(&[]);
    let stream = bench.start().stream;
    bench.filter.over(&bench.shared, || None);
    let done = bench.done();
    assert_eq!((done.end, done.status), (Done::CLIENT_LEFT, 0));
    bench.connection.send(&endpoints(stream));
    bench.filter.scheduled(&bench.stream, &bench.shared);
    assert_eq!(bench.stream.resumed.get(), 0);
    bench.nothing_more();
}

#[test]
fn an_answer_that_comes_after_envoy_s_own_reply_is_not_used() {
    let mut bench = Bench::new(&[]);
    let stream = bench.start().stream;
    bench.connection.send(&endpoints(stream));
    bench.woken.recv_timeout(WAIT).expect("woken");
    bench
        .filter
        .local_reply(&bench.stream, "request_overall_timeout");
    bench.filter.scheduled(&bench.stream, &bench.shared);
    assert_eq!(bench.stream.resumed.get(), 0);
    bench.stream.set_response(&[(":status", "408")]);
    bench
        .filter
        .response_headers(&bench.stream, &bench.shared, true);
    let done = bench.done();
    assert_eq!((done.end, done.status, done.flags), (Done::LOCAL, 408, 0));
}

const STREAM: &[(&str, &str)] = &[(":status", "200"), ("content-type", "text/event-stream")];

/// A chat whose event stream has begun, as far as the server.
fn streaming() -> Bench {
    let mut bench = Bench::new(&[(":path", "/v1/chat/completions")]);
    let stream = bench.start().stream;
    bench.answer(&endpoints(stream));
    bench.stream.set_response(STREAM);
    bench.stream.attempts.set(2);
    bench
        .filter
        .response_headers(&bench.stream, &bench.shared, false);
    bench
        .stream
        .receive(&[b"data: {\"finish_reason\":null}\n\n"]);
    bench
        .filter
        .response_body(&bench.stream, &bench.shared, false);
    bench
}

#[test]
fn a_stream_that_just_ends_gets_an_error_and_is_no_success() {
    let mut bench = streaming();
    bench.stream.receive(&[]);
    bench
        .filter
        .response_body(&bench.stream, &bench.shared, true);
    let added = String::from_utf8(bench.stream.added.take()).expect("text");
    assert!(added.contains("stream_truncated"), "{added}");
    let done = bench.done();
    assert_eq!(
        (done.end, done.fault),
        (Done::SERVER_FAILED, Done::TRUNCATED)
    );
    assert_eq!((done.finish, done.attempts), (0, 2));
}

#[test]
fn a_stream_that_is_finished_is_left_alone() {
    let mut bench = streaming();
    bench.stream.receive(&[b"data: [DONE]\n\n"]);
    bench
        .filter
        .response_body(&bench.stream, &bench.shared, true);
    assert_eq!(bench.stream.added.borrow().len(), 0);
    let done = bench.done();
    assert_eq!((done.end, done.fault), (Done::COMPLETE, 0));
    assert_eq!(done.finish, Done::FINISHED);
}

#[test]
fn the_last_that_a_client_hears_of_a_broken_stream_is_why() {
    for (details, code, fault) in [
        (
            "upstream_reset_after_response_started{x}",
            "stream_interrupted",
            Done::RESET,
        ),
        (
            "upstream_per_try_idle_timeout",
            "stream_timeout",
            Done::IDLE,
        ),
    ] {
        let mut bench = streaming();
        bench.filter.local_reply(&bench.stream, details);
        let sent = String::from_utf8(bench.stream.sent.take()).expect("text");
        assert!(sent.contains(code), "{sent}");
        bench
            .filter
            .over(&bench.shared, || Some(details.to_owned()));
        let done = bench.done();
        assert_eq!((done.end, done.fault), (Done::SERVER_FAILED, fault));
    }
}

#[test]
fn what_ends_a_stream_besides_its_server_is_not_the_server_s_fault() {
    let mut bench = streaming();
    bench.filter.local_reply(&bench.stream, "ext_proc_error");
    assert_eq!(bench.stream.sent.borrow().len(), 0);
    bench.filter.over(&bench.shared, || {
        Some("downstream_remote_disconnect".to_owned())
    });
    assert_eq!(bench.done().fault, 0);
}

#[test]
fn a_session_is_that_of_a_header_or_a_cookie_or_new() {
    let mut bench = Bench::new(&[("cookie", "a=1; s=mine"), ("x-session-id", "first")]);
    assert_eq!(bench.start().session, "first");
    let mut bench = Bench::new(&[("cookie", "a=1; s=mine")]);
    assert_eq!(bench.start().session, "mine");
    let mut bench = Bench::new(&[("cookie", "a=1")]);
    let pick = bench.start();
    assert_eq!(pick.session.len(), 32);
    bench.answer(&endpoints(pick.stream));
    bench.stream.set_response(&[(":status", "204")]);
    bench
        .filter
        .response_headers(&bench.stream, &bench.shared, true);
    let added = bench.stream.added_headers.borrow();
    assert_eq!(added[0].0, "set-cookie");
    assert!(added[0].1.starts_with(&format!("s={};", pick.session)));
}

#[test]
fn a_subset_hint_is_passed_on() {
    let mut bench = Bench::new(&[]);
    *bench.stream.subset.borrow_mut() = Some(String::new());
    let pick = bench.start();
    assert_eq!(
        (pick.flags & Pick::SUBSET, pick.subset.as_str()),
        (Pick::SUBSET, "")
    );
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.start().flags & Pick::SUBSET, 0);
}

#[test]
fn a_response_tells_how_it_came_about_where_it_may() {
    let mut bench = Bench::new(&[("cookie", "s=1")]);
    bench.tells = true;
    let stream = bench.start().stream;
    bench.answer(&Frame::Endpoints(Endpoints {
        stream,
        endpoints: "1.2.3.4:5".to_owned(),
        queued_us: 2_000,
        reason: "prefix".to_owned(),
        ..Endpoints::default()
    }));
    bench.stream.set_response(&[(":status", "204")]);
    *bench.stream.upstream.borrow_mut() = Some("1.2.3.4:5".to_owned());
    bench.stream.attempts.set(1);
    bench
        .filter
        .response_headers(&bench.stream, &bench.shared, true);
    let added = bench.stream.added_headers.borrow();
    let told = |name: &str| {
        let found = added.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.clone()).expect("told")
    };
    assert_eq!(told("x-inferway-endpoint"), "1.2.3.4:5");
    assert_eq!(told("x-inferway-queue-ms"), "2.000");
    assert_eq!(told("x-inferway-attempts"), "1");
    assert_eq!(told("x-inferway-reason"), "prefix");
}
