//! Replies made by the gateway itself, in the shape that the client's SDK expects.
//!
//! OpenAI's error object everywhere, Anthropic's on `/messages`. Texts given by others (model names,
//! the picker's messages) go through a JSON encoder.

use inferway_wire::protocol::{Done, Reject};
use inferway_wire::request::{Kind, Malformed};

use crate::envoy::LocalReply;
use crate::response::Broken;

/// Why a request was dropped: our name, and those of the endpoint pickers that clients know.
const DROPPED_REASON_HEADERS: [&str; 3] = [
    "x-inferway-dropped-reason",
    "x-llm-d-request-dropped-reason",
    "x-gateway-inference-request-dropped-reason",
];

/// What went wrong, before it has a shape.
struct Problem<'a> {
    status: u16,
    kind: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

fn put_json(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail; an empty string is what is left if it ever does.
    if serde_json::to_writer(&mut *out, text).is_err() {
        out.extend_from_slice(b"\"\"");
    }
}

fn put_json_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_json(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

impl Problem<'_> {
    fn body(&self, api: Kind) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.message.len());
        if api == Kind::Messages {
            out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
            put_json(&mut out, anthropic_kind(self.status));
            out.extend_from_slice(b",\"message\":");
            put_json(&mut out, self.message);
        } else {
            out.extend_from_slice(b"{\"error\":{\"message\":");
            put_json(&mut out, self.message);
            out.extend_from_slice(b",\"type\":");
            put_json(&mut out, self.kind);
            out.extend_from_slice(b",\"param\":");
            put_json_or_null(&mut out, self.param);
            out.extend_from_slice(b",\"code\":");
            put_json_or_null(&mut out, self.code);
        }
        out.extend_from_slice(b"}}");
        out
    }

    /// As an event of the stream's own API.
    fn event(&self, api: Kind, between_events: bool) -> Vec<u8> {
        let mut event = Vec::with_capacity(256);
        if !between_events {
            event.extend_from_slice(b"\n\n");
        }
        match api {
            Kind::Messages => event.extend_from_slice(b"event: error\ndata: "),
            // What this API's own event says, and the object by which its SDK knows an error.
            Kind::Responses => {
                event.extend_from_slice(b"event: error\ndata: {\"type\":\"error\",\"code\":");
                put_json_or_null(&mut event, self.code);
                event.extend_from_slice(b",\"message\":");
                put_json(&mut event, self.message);
                event.extend_from_slice(b",\"param\":null,\"sequence_number\":0,");
                event.extend_from_slice(&self.body(api)[1..]);
                event.extend_from_slice(b"\n\n");
                return event;
            }
            _ => event.extend_from_slice(b"data: "),
        }
        event.extend_from_slice(&self.body(api));
        event.extend_from_slice(b"\n\n");
        event
    }

    fn reply(&self, api: Kind, details: &'static str) -> LocalReply {
        LocalReply {
            status: self.status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: self.body(api),
            details,
        }
    }
}

fn invalid_request(
    api: Kind,
    message: &str,
    param: Option<&str>,
    code: &str,
    details: &'static str,
) -> LocalReply {
    let kind = "invalid_request_error";
    Problem {
        status: 400,
        kind,
        message,
        param,
        code: Some(code),
    }
    .reply(api, details)
}

pub fn malformed(api: Kind, malformed: Malformed) -> LocalReply {
    let Malformed { offset, reason } = malformed;
    let message = format!("The request body is not valid JSON: {reason} at byte {offset}.");
    invalid_request(api, &message, None, "invalid_json", "inferway_invalid_json")
}

pub fn missing_model(api: Kind) -> LocalReply {
    let message = "You must provide a model parameter.";
    let code = "missing_required_parameter";
    invalid_request(api, message, Some("model"), code, "inferway_missing_model")
}

pub fn model_not_string(api: Kind) -> LocalReply {
    let message = "The model parameter must be a string.";
    let code = "missing_required_parameter";
    invalid_request(api, message, Some("model"), code, "inferway_missing_model")
}

pub fn model_not_usable(api: Kind, bytes_max: usize) -> LocalReply {
    let message = format!(
        "The model parameter must be 1 to {bytes_max} bytes long and without control characters."
    );
    invalid_request(
        api,
        &message,
        Some("model"),
        "invalid_value",
        "inferway_invalid_model",
    )
}

pub fn wrong_content_type(api: Kind) -> LocalReply {
    let message = "The content type must be application/json.";
    invalid_request(
        api,
        message,
        None,
        "invalid_content_type",
        "inferway_invalid_content_type",
    )
}

pub fn too_large(api: Kind, bytes_max: u64) -> LocalReply {
    let message = format!("The request body is larger than {bytes_max} bytes.");
    let problem = Problem {
        status: 413,
        kind: "invalid_request_error",
        message: &message,
        param: None,
        code: Some("request_too_large"),
    };
    problem.reply(api, "inferway_request_too_large")
}

pub fn picker_unavailable(api: Kind) -> LocalReply {
    let problem = Problem {
        status: 503,
        kind: "server_error",
        message: "The endpoint picker is not available. Try again shortly.",
        param: None,
        code: Some("endpoint_picker_unavailable"),
    };
    let mut reply = problem.reply(api, "inferway_picker_unavailable");
    for (name, value) in [
        ("retry-after", "1"),
        ("retry-after-ms", "1000"),
        ("x-should-retry", "true"),
    ] {
        reply.headers.push((name, value.to_owned()));
    }
    reply
}

pub fn internal_error(api: Kind) -> LocalReply {
    let problem = Problem {
        status: 500,
        kind: "server_error",
        message: "The gateway could not process the request.",
        param: None,
        code: Some("internal_error"),
    };
    problem.reply(api, "inferway_internal_error")
}

/// What ends an event stream that broke: an event of the stream's own API.
pub fn broken_stream(broken: Broken) -> Vec<u8> {
    let (code, message) = match broken.fault {
        Done::TRUNCATED => (
            "stream_truncated",
            "The model server ended the stream before it was complete.",
        ),
        Done::IDLE => (
            "stream_timeout",
            "The model server sent nothing for too long, so the stream was ended.",
        ),
        _ => (
            "stream_interrupted",
            "The connection to the model server broke before the stream was complete.",
        ),
    };
    let problem = Problem {
        status: 502,
        kind: "server_error",
        message,
        param: None,
        code: Some(code),
    };
    problem.event(broken.kind, broken.between_events)
}

/// What ends the event stream of a client that takes its bytes too slowly.
pub fn slow_client(api: Kind) -> Vec<u8> {
    let problem = Problem {
        status: 500,
        kind: "server_error",
        message: "The stream was ended because the client read it too slowly.",
        param: None,
        code: Some("client_too_slow"),
    };
    problem.event(api, false)
}

/// An answer that is no event stream, for a client that has read the beginning of one. Its error object
/// is kept as far as it is one.
pub fn refused_stream(api: Kind, status: u16, body: &[u8]) -> Vec<u8> {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let error = json.get("error").unwrap_or(&json);
    let text = |name: &str| error.get(name).and_then(serde_json::Value::as_str);
    let unknown = format!("The model server answered {status} instead of a stream.");
    let problem = Problem {
        status: if status < 400 { 502 } else { status },
        kind: text("type").unwrap_or("server_error"),
        message: text("message").unwrap_or(&unknown),
        param: text("param"),
        code: text("code").or((status < 400).then_some("not_a_stream")),
    };
    problem.event(api, true)
}

/// A rejection by the picker. A status that is not an error status is taken as 503.
pub fn rejected(api: Kind, reject: &Reject) -> LocalReply {
    let problem = Problem {
        status: if (400..600).contains(&reject.status) {
            reject.status
        } else {
            503
        },
        kind: &reject.kind,
        message: &reject.message,
        param: None,
        code: (!reject.code.is_empty()).then_some(reject.code.as_str()),
    };
    let mut reply = problem.reply(api, "inferway_rejected");
    let mut put = |name, value: &str| reply.headers.push((name, value.to_owned()));
    if reject.retry_after_ms > 0 {
        put(
            "retry-after",
            &reject.retry_after_ms.div_ceil(1000).to_string(),
        );
        put("retry-after-ms", &reject.retry_after_ms.to_string());
    }
    match reject.retry {
        Reject::RETRY => put("x-should-retry", "true"),
        Reject::NO_RETRY => put("x-should-retry", "false"),
        _ => {}
    }
    if is_header_value(reject.reason.as_bytes()) {
        for name in DROPPED_REASON_HEADERS {
            put(name, &reject.reason);
        }
    }
    reply
}

/// Whether bytes may stand in a header: not empty, no control characters.
pub fn is_header_value(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(status: u16, retry_after_ms: u32, reason: &str) -> Reject {
        Reject {
            stream: 1,
            status,
            retry_after_ms,
            kind: "rate_limit_error".to_owned(),
            code: "overloaded".to_owned(),
            message: "say \"no\"\n\u{1}\u{e9}".to_owned(),
            reason: reason.to_owned(),
            retry: 0,
        }
    }

    #[test]
    fn texts_are_escaped() {
        let reply = rejected(Kind::Chat, &reject(429, 0, ""));
        assert_eq!(
            String::from_utf8(reply.body).expect("text"),
            "{\"error\":{\"message\":\"say \\\"no\\\"\\n\\u0001\u{e9}\",\
             \"type\":\"rate_limit_error\",\"param\":null,\"code\":\"overloaded\"}}"
        );
        assert_eq!(
            reply.headers,
            [("content-type", "application/json".to_owned())]
        );
    }

    #[test]
    fn when_to_try_again_and_why_it_was_dropped_are_headers() {
        let reply = rejected(Kind::Chat, &reject(429, 1001, "saturated"));
        let headers: Vec<(&str, &str)> = reply
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert_eq!(
            headers[1..],
            [
                ("retry-after", "2"),
                ("retry-after-ms", "1001"),
                ("x-inferway-dropped-reason", "saturated"),
                ("x-llm-d-request-dropped-reason", "saturated"),
                ("x-gateway-inference-request-dropped-reason", "saturated"),
            ]
        );
        for (retry, value) in [(Reject::RETRY, "true"), (Reject::NO_RETRY, "false")] {
            let reply = rejected(
                Kind::Chat,
                &Reject {
                    retry,
                    ..reject(429, 0, "")
                },
            );
            assert_eq!(reply.headers[1], ("x-should-retry", value.to_owned()));
        }
        assert_eq!(rejected(Kind::Chat, &reject(200, 1, "a\nb")).status, 503);
        assert_eq!(
            rejected(Kind::Chat, &reject(200, 1, "a\nb")).headers.len(),
            3
        );
    }

    #[test]
    fn anthropic_clients_get_their_shape() {
        let reply = missing_model(Kind::Messages);
        assert_eq!(
            String::from_utf8(reply.body).expect("text"),
            "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\
             \"message\":\"You must provide a model parameter.\"}}"
        );
    }

    #[test]
    fn a_broken_stream_is_told_in_the_words_of_its_api() {
        let event = |kind, fault, between_events| {
            let broken = Broken {
                kind,
                fault,
                between_events,
            };
            String::from_utf8(broken_stream(broken)).expect("text")
        };
        assert_eq!(
            event(Kind::Chat, Done::TRUNCATED, true),
            "data: {\"error\":{\"message\":\"The model server ended the stream before it was \
             complete.\",\"type\":\"server_error\",\"param\":null,\"code\":\"stream_truncated\"}}\n\n"
        );
        let cut = event(Kind::Messages, Done::RESET, false);
        assert!(cut.starts_with("\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{"));
        let event = event(Kind::Responses, Done::IDLE, true);
        let json = event.trim_end().strip_prefix("event: error\ndata: ");
        let json: serde_json::Value = serde_json::from_str(json.expect("an event")).expect("JSON");
        assert_eq!(json["type"], "error");
        assert_eq!(json["code"], "stream_timeout");
        assert_eq!(json["error"]["code"], "stream_timeout");
    }

    #[test]
    fn malformed_bodies_are_told_where() {
        let reply = malformed(
            Kind::Chat,
            Malformed {
                offset: 17,
                reason: "a colon is missing",
            },
        );
        let body = String::from_utf8(reply.body).expect("text");
        assert!(body.contains("a colon is missing at byte 17."), "{body}");
        assert_eq!(reply.status, 400);
    }
}
