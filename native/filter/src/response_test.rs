use super::*;

const RECEIVED_NS: u64 = 1_000_000;
const OK_JSON: &[HeaderRef<'_>] = &[
    (b":status", b"200"),
    (b"content-type", b"application/json"),
    (b"content-length", b"40"),
];
const OK_STREAM: &[HeaderRef<'_>] = &[
    (b":status", b"200"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
];
const USAGE: &[u8] = br#"{"usage":{"prompt_tokens":5,"x":[1,2,3]}}"#;

fn watch() -> Watch {
    let mut watch = Watch::new(9, RECEIVED_NS, Kind::Chat);
    watch.endpoint = "1.2.3.4:5".to_owned();
    watch
}

fn at(us: u64) -> u64 {
    RECEIVED_NS + us * 1000
}

fn done(report: Report) -> Done {
    match report {
        Report::Done(done) => *done,
        other => panic!("not over: {other:?}"),
    }
}

#[test]
fn a_short_json_response_is_reported_in_one_go() {
    let mut watch = watch();
    assert_eq!(watch.headers(OK_JSON, false, at(1)), Report::Nothing);
    let (head, tail) = USAGE.split_at(17);
    assert_eq!(watch.body(&[head, tail], false, || at(30)), Report::Nothing);
    let done = done(watch.body(&[], true, || at(40)));
    assert_eq!(
        (done.end, done.flags),
        (Done::COMPLETE, Done::USAGE | Done::FIRST)
    );
    assert_eq!(
        (done.ttft_us, done.duration_us, done.prompt_tokens),
        (30, 40, 5)
    );
    assert_eq!(
        (done.stream, done.status, done.endpoint.as_str()),
        (9, 200, "1.2.3.4:5")
    );
}

#[test]
fn a_long_json_response_reports_its_first_byte_when_more_is_to_come() {
    let mut watch = watch();
    watch.headers(OK_JSON, false, at(1));
    let first = First {
        stream: 9,
        ttft_us: 3,
        status: 200,
    };
    assert_eq!(watch.body(&[b"{"], false, || at(3)), Report::First(first));
    assert_eq!(
        watch.body(&[b" "], false, || panic!("no time needed")),
        Report::Nothing
    );
    assert_eq!(done(watch.body(&[b"}"], true, || at(9))).ttft_us, 3);
}

#[test]
fn an_event_stream_reports_its_first_byte_at_once() {
    let mut watch = watch();
    watch.headers(OK_STREAM, false, at(1));
    assert_eq!(watch.body(&[], false, || at(2)), Report::Nothing);
    let first = First {
        stream: 9,
        ttft_us: 7,
        status: 200,
    };
    assert_eq!(
        watch.body(&[b"data: {}\n"], false, || at(7)),
        Report::First(first)
    );
    let usage = b"\ndata: {\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":2}}\n\n";
    assert_eq!(watch.body(&[usage], false, || at(8)), Report::Nothing);
    let done = done(watch.trailers(at(9)));
    assert_eq!(done.flags, Done::USAGE | Done::FIRST | Done::EVENT_STREAM);
    assert_eq!((done.prompt_tokens, done.completion_tokens), (8, 2));
}

#[test]
fn an_empty_response_has_a_first_byte() {
    let done = done(watch().headers(&[(b":status", b"204")], true, at(2)));
    assert_eq!(
        (done.flags, done.status, done.ttft_us),
        (Done::FIRST, 204, 2)
    );
}

#[test]
fn a_first_byte_within_a_microsecond_is_not_none() {
    assert_eq!(
        done(watch().headers(&[(b":status", b"204")], true, RECEIVED_NS)).ttft_us,
        1
    );
}

#[test]
fn usage_is_read_only_where_it_can_be() {
    for headers in [
        [
            (b":status".as_slice(), b"500".as_slice()),
            (b"content-type", b"application/json"),
        ],
        [(b":status", b"200"), (b"content-type", b"text/plain")],
    ] {
        let mut watch = watch();
        watch.headers(&headers, false, at(1));
        assert_eq!(
            done(watch.body(&[USAGE], true, || at(2))).flags,
            Done::FIRST
        );
    }
    let mut watch = watch();
    let zipped = [
        OK_JSON[0],
        OK_JSON[1],
        (b"content-encoding".as_slice(), b"gzip".as_slice()),
    ];
    watch.headers(&zipped, false, at(1));
    assert_eq!(
        done(watch.body(&[USAGE], true, || at(2))).flags,
        Done::FIRST
    );
}

#[test]
fn replies_made_inside_envoy_have_no_first_byte() {
    for (details, end) in [
        (
            "upstream_reset_before_response_started{connection_failure}",
            Done::SERVER_FAILED,
        ),
        ("response_timeout", Done::SERVER_FAILED),
        ("no_healthy_upstream", Done::LOCAL),
        ("ext_authz_denied", Done::LOCAL),
    ] {
        let mut watch = watch();
        watch.local_reply(details, false);
        assert_eq!(
            watch.headers(&[(b":status", b"503")], false, at(1)),
            Report::Nothing
        );
        let done = done(watch.body(&[b"no"], true, || at(2)));
        assert_eq!(
            (done.end, done.flags, done.status, done.ttft_us),
            (end, 0, 503, 0),
            "{details}"
        );
    }
}

#[test]
fn who_cut_a_stream() {
    for (details, end) in [
        (Some("downstream_remote_disconnect"), Done::CLIENT_LEFT),
        (Some("http2.remote_reset"), Done::CLIENT_LEFT),
        (None, Done::CLIENT_LEFT),
        (
            Some("upstream_reset_after_response_started{remote_reset}"),
            Done::SERVER_FAILED,
        ),
        (Some("stream_idle_timeout"), Done::SERVER_FAILED),
        (Some("something_new"), Done::SERVER_FAILED),
    ] {
        let mut watch = watch();
        watch.headers(OK_STREAM, false, at(1));
        watch.body(&[b"data"], false, || at(2));
        let done = done(watch.cut(details, at(3)));
        assert_eq!(
            (done.end, done.status, done.ttft_us),
            (end, 200, 2),
            "{details:?}"
        );
        assert_eq!(done.flags, Done::FIRST | Done::EVENT_STREAM);
    }
}

#[test]
fn a_first_byte_that_was_not_reported_is_not_lost_when_the_end_is_cut() {
    let mut watch = watch();
    watch.headers(OK_JSON, false, at(1));
    watch.body(&[USAGE], false, || at(2));
    let done = done(watch.cut(None, at(3)));
    assert_eq!((done.flags, done.ttft_us), (Done::USAGE | Done::FIRST, 2));
}
