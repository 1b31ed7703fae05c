use std::sync::mpsc::channel;

use super::*;
use crate::fake_stream::FakeStream;
use crate::rename::ROOM_BYTES;

const MAX: u64 = 100;

struct Bench {
    stream: FakeStream,
    filter: RouteFilter,
    config: RouteConfig,
}

impl Bench {
    fn new(headers: &[(&str, &str)]) -> Self {
        let json = format!(r#"{{"body_bytes_max": {MAX}}}"#);
        let config = RouteConfig::decode(json.as_bytes()).expect("valid");
        let stream = FakeStream::new(headers, channel().0);
        Self {
            stream,
            filter: RouteFilter::default(),
            config,
        }
    }

    fn post(path: &str) -> Self {
        let method = (":method", "POST");
        Self::new(&[
            method,
            (":path", path),
            ("content-type", "application/json"),
        ])
    }

    fn headers(&self, end: bool) -> HeadersStatus {
        self.filter.request_headers(&self.stream, &self.config, end)
    }

    fn body(&self, pieces: &[&[u8]], end: bool) -> BodyStatus {
        self.stream.receive(pieces);
        self.filter.request_body(&self.stream, &self.config, end)
    }

    fn status(&self) -> Option<u16> {
        let replies = self.stream.replies.borrow();
        assert!(replies.len() <= 1, "one answer at most");
        replies.first().map(|reply| reply.status)
    }

    fn handed_on(&self) -> Option<Handoff> {
        let number = self.stream.state.borrow().get(handoff::STATE_KEY)?.clone();
        handoff::take(u64::from_ne_bytes(number.try_into().ok()?))
    }
}

#[test]
fn the_model_is_set_and_the_rest_handed_on() {
    let bench = Bench::post("/v1/completions");
    assert_eq!(bench.headers(false), HeadersStatus::StopIteration);
    assert_eq!(bench.stream.buffer_limit.get(), MAX + ROOM_BYTES);
    assert_eq!(
        bench.body(&[b"{\"model\": ", b"\"m\","], false),
        BodyStatus::StopAndBuffer
    );
    assert_eq!(
        bench.body(&[b" \"max_tokens\": 3}"], true),
        BodyStatus::Continue
    );
    assert_eq!(bench.stream.header(MODEL_HEADER).as_deref(), Some("m"));
    assert_eq!(bench.stream.rerouted.get(), 1);
    let handoff = bench.handed_on().expect("handed on");
    assert_eq!((handoff.kind, handoff.body_bytes), (Kind::Completions, 31));
    assert_eq!(
        (handoff.fields.max_tokens, handoff.received_ns > 0),
        (3, true)
    );
}

#[test]
fn what_was_handed_on_goes_with_the_stream() {
    let bench = Bench::post("/v1/completions");
    bench.headers(false);
    bench.body(&[b"{\"model\": \"m\"}"], true);
    let number = bench.stream.state.borrow()[handoff::STATE_KEY].clone();
    drop(bench);
    assert!(handoff::take(u64::from_ne_bytes(number.try_into().expect("8 bytes"))).is_none());
}

#[test]
fn a_body_that_an_earlier_filter_held_back_is_read_once() {
    let bench = Bench::post("/v1/completions");
    bench.headers(false);
    bench.stream.received_is_buffered.set(true);
    assert_eq!(
        bench.body(&[b"{\"model\"", b": \"m\"}"], true),
        BodyStatus::Continue
    );
    assert_eq!(
        bench.handed_on().map(|handoff| handoff.body_bytes),
        Some(14)
    );
}

#[test]
fn trailers_end_the_body() {
    let bench = Bench::post("/v1/completions");
    bench.headers(false);
    bench.body(&[b"{\"model\": \"m\"}"], false);
    bench.stream.receive(&[]);
    let status = bench.filter.request_trailers(&bench.stream, &bench.config);
    assert_eq!(status, TrailersStatus::Continue);
    assert_eq!(bench.stream.header(MODEL_HEADER).as_deref(), Some("m"));

    let bench = Bench::post("/v1/completions");
    bench.headers(false);
    assert_eq!(bench.body(&[b"nonsense"], false), BodyStatus::StopNoBuffer);
    assert_eq!(bench.status(), None, "the client is still sending");
    let status = bench.filter.request_trailers(&bench.stream, &bench.config);
    assert_eq!(
        (status, bench.status()),
        (TrailersStatus::StopIteration, Some(400))
    );
}

#[test]
fn headers_alone_can_be_enough_to_refuse() {
    let large = MAX + 1;
    for (name, value, end, status) in [
        ("content-type", "text/plain", false, 400),
        ("content-length", large.to_string().as_str(), false, 413),
        ("x", "y", true, 400),
    ] {
        let bench = Bench::new(&[
            (":method", "POST"),
            (":path", "/v1/completions"),
            (name, value),
        ]);
        assert_eq!(bench.headers(end), HeadersStatus::StopIteration);
        assert_eq!(bench.status(), Some(status), "{name}");
        assert_eq!(bench.body(&[b"late"], true), BodyStatus::StopNoBuffer);
        assert_eq!(bench.status(), Some(status), "answered once");
    }
}

#[test]
fn the_limit_holds_while_streaming() {
    let bench = Bench::post("/v1/completions");
    bench.headers(false);
    let piece = [b' '; 60];
    assert_eq!(bench.body(&[&piece], false), BodyStatus::StopAndBuffer);
    assert_eq!(bench.body(&[&piece], false), BodyStatus::StopNoBuffer);
    assert_eq!(bench.status(), Some(413));
    assert_eq!(
        bench.stream.counted.borrow()[..],
        [(Counter::TooLargeRequests, 1)]
    );

    // Bytes of a body that is known to be bad count as well.
    let bench = Bench::post("/v1/completions");
    bench.headers(false);
    assert_eq!(bench.body(&[b"nonsense"], false), BodyStatus::StopNoBuffer);
    assert_eq!(
        bench.body(&[&piece, &piece], false),
        BodyStatus::StopNoBuffer
    );
    assert_eq!(bench.status(), Some(413));
}

#[test]
fn the_limit_itself_is_allowed() {
    let bench = Bench::post("/v1/completions");
    bench.headers(false);
    let body = format!("{{\"model\": \"m\"{}}}", " ".repeat(MAX as usize - 14));
    assert_eq!(body.len() as u64, MAX);
    assert_eq!(bench.body(&[body.as_bytes()], true), BodyStatus::Continue);
}

#[test]
fn other_paths_are_never_refused() {
    for (pieces, released_at) in [
        (vec!["nonsense"], 1),
        (vec!["{", "nonsense"], 2),
        (vec![&" ".repeat(101)], 1),
    ] {
        let bench = Bench::post("/v1/other");
        assert_eq!(bench.headers(false), HeadersStatus::StopIteration);
        let statuses: Vec<BodyStatus> = pieces
            .iter()
            .map(|piece| bench.body(&[piece.as_bytes()], false))
            .collect();
        assert_eq!(statuses[released_at - 1], BodyStatus::Continue);
        assert_eq!(bench.body(&[b"more"], true), BodyStatus::Continue);
        assert_eq!(
            (bench.status(), bench.stream.header(MODEL_HEADER)),
            (None, None)
        );
    }
    for (name, value, end) in [
        ("content-type", "multipart/form-data", false),
        ("content-length", "101", false),
        ("x", "y", true),
    ] {
        let bench = Bench::new(&[(":method", "POST"), (":path", "/v1/other"), (name, value)]);
        assert_eq!(bench.headers(end), HeadersStatus::Continue, "{name}");
    }
}

#[test]
fn trust_headers_go_whatever_the_request() {
    let spoofed = ("x-gateway-destination-endpoint", "6.6.6.6:6");
    let bench = Bench::new(&[(":method", "GET"), (":path", "/"), spoofed, spoofed]);
    assert_eq!(bench.headers(true), HeadersStatus::Continue);
    assert_eq!(bench.stream.header(spoofed.0), None);
    assert_eq!(bench.stream.rerouted.get(), 1);
    let bench = Bench::new(&[(":method", "GET"), (":path", "/")]);
    bench.headers(true);
    assert_eq!(bench.stream.rerouted.get(), 0);
}

#[test]
fn model_names_that_cannot_be_headers_are_refused() {
    let long = "m".repeat(MODEL_BYTES_MAX + 1);
    for (model, usable) in [
        ("m\u{e9}", true),
        ("", false),
        ("a\nb", false),
        (&long, false),
    ] {
        let fields = RequestFields {
            model: Some(model.to_owned()),
            ..RequestFields::default()
        };
        assert_eq!(
            usable_model(Kind::Chat, &fields).is_ok(),
            usable,
            "{model:?}"
        );
    }
}

#[test]
fn the_base_model_is_set_for_names_that_have_one() {
    for (model, base) in [("bot", Some("llama")), ("other", None)] {
        let mut bench = Bench::post("/v1/completions");
        let bases = [("bot".to_owned(), "llama".to_owned())];
        bench.config.base_models = bases.into_iter().collect();
        bench.headers(false);
        let body = format!(r#"{{"model": "{model}"}}"#);
        assert_eq!(bench.body(&[body.as_bytes()], true), BodyStatus::Continue);
        assert_eq!(bench.stream.header(BASE_MODEL_HEADER).as_deref(), base);
    }
}
