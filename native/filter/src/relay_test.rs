use std::rc::Rc;

use super::*;

const SSE: &[HeaderRef<'static>] = &[
    (b":status", b"200"),
    (b"content-type", b"text/event-stream"),
];

fn relay() -> Relay {
    Relay::new(7, Kind::Chat, 100, 0, Rc::default())
}

fn end(relay: &mut Relay) -> (String, Ending) {
    match relay.turn(0) {
        Turn::End(bytes, ending) => (String::from_utf8(bytes).expect("text"), ending),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pings_at_its_pace_until_something_is_answered() {
    let mut relay = relay();
    assert_eq!(relay.turn(99), Turn::Nothing);
    assert_eq!(relay.turn(100), Turn::Send(PING.to_vec()));
    assert_eq!(relay.next_ping_ns(), 200);
    assert!(!relay.set_blocked(true));
    assert_eq!(relay.turn(200), Turn::Nothing);
    assert_eq!(relay.next_ping_ns(), 300);
    assert!(!relay.set_blocked(false));
    relay.headers(SSE);
    assert!(!relay.is_waiting());
    assert_eq!(relay.turn(300), Turn::Nothing);
}

#[test]
fn passes_an_event_stream_and_ends_with_it() {
    let mut relay = relay();
    relay.headers(SSE);
    assert_eq!(
        relay.data(&[b"data: a", b"\n\n"]),
        (b"data: a\n\n".to_vec(), false)
    );
    relay.answered(Ending::Complete);
    assert_eq!(end(&mut relay), (String::new(), Ending::Complete));
    assert_eq!(relay.turn(1_000), Turn::Nothing);
}

#[test]
fn keeps_what_a_slow_client_does_not_take_up_to_a_limit() {
    let mut relay = relay();
    relay.headers(SSE);
    assert!(!relay.set_blocked(true));
    assert_eq!(relay.data(&[b"a"]), (Vec::new(), false));
    assert_eq!(relay.turn(0), Turn::Nothing);
    assert!(relay.set_blocked(false));
    assert_eq!(relay.data(&[b"b"]), (Vec::new(), false));
    assert_eq!(relay.turn(0), Turn::Send(b"ab".to_vec()));
    relay.set_blocked(true);
    let piece = vec![b'x'; UNSENT_BYTES_MAX];
    assert_eq!(relay.data(&[&piece]), (Vec::new(), false));
    assert_eq!(relay.data(&[b"c"]), (Vec::new(), true));
    assert_eq!(relay.data(&[b"d"]), (Vec::new(), false));
    let (words, ending) = end(&mut relay);
    assert_eq!(ending, Ending::Overflow);
    assert!(words.starts_with("\n\ndata: {\"error\":"), "{words}");
    assert!(words.contains("client_too_slow"), "{words}");
}

#[test]
fn the_last_bytes_are_sent_even_to_a_slow_client() {
    let mut relay = relay();
    relay.headers(SSE);
    relay.set_blocked(true);
    relay.data(&[b"data: a\n\n"]);
    relay.answered(Ending::Complete);
    assert_eq!(end(&mut relay).0, "data: a\n\n");
}

#[test]
fn an_answer_that_is_no_stream_becomes_an_error_event() {
    for (status, body, words) in [
        (
            "429",
            r#"{"error":{"message":"full","type":"rate_limit_error","param":null,"code":"q"}}"#,
            r#"data: {"error":{"message":"full","type":"rate_limit_error","param":null,"code":"q"}}"#,
        ),
        (
            "500",
            "oops",
            "data: {\"error\":{\"message\":\"The model server answered 500 instead of a stream.\",\
             \"type\":\"server_error\",\"param\":null,\"code\":null}}",
        ),
        (
            "200",
            "{}",
            "data: {\"error\":{\"message\":\"The model server answered 200 instead of a stream.\",\
             \"type\":\"server_error\",\"param\":null,\"code\":\"not_a_stream\"}}",
        ),
    ] {
        let mut relay = relay();
        relay.headers(&[
            (b":status", status.as_bytes()),
            (b"content-type", b"application/json"),
        ]);
        let (first, rest) = body.as_bytes().split_at(2);
        assert_eq!(relay.data(&[first, rest]), (Vec::new(), false));
        relay.answered(Ending::Complete);
        assert_eq!(end(&mut relay).0, format!("{words}\n\n"));
    }
}

#[test]
fn a_long_error_is_cut() {
    let mut relay = relay();
    relay.headers(&[(b":status", b"500")]);
    let piece = vec![b'x'; ERROR_BYTES_MAX - 1];
    for _ in 0..3 {
        relay.data(&[&piece]);
    }
    relay.answered(Ending::Complete);
    assert!(end(&mut relay).0.contains("answered 500"));
}

#[test]
fn a_break_is_told_once() {
    for (told, begun, words) in [
        (false, true, "\n\ndata: {"),
        (false, false, "data: {"),
        (true, true, ""),
    ] {
        let flag = Told::default();
        let mut relay = Relay::new(7, Kind::Chat, 100, 0, Rc::clone(&flag));
        if begun {
            relay.headers(SSE);
            relay.data(&[b"data: half"]);
        }
        flag.set(told);
        relay.answered(Ending::Broken);
        // Envoy says both when a stream is complete and is then reset.
        relay.answered(Ending::Complete);
        let (last, ending) = end(&mut relay);
        assert_eq!(ending, Ending::Broken);
        assert!(last.starts_with(words) && last.is_empty() == told, "{last}");
    }
}
