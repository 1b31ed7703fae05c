//! What the headers of a request tell the picker.

use inferway_wire::protocol::Pick;
use inferway_wire::request::Kind;

use crate::config::{PickConfig, PoolConfig};
use crate::duration::{go_duration_ms, milliseconds};
use crate::envoy::HeaderRef;
use crate::handoff::Handoff;
use crate::kind;
use crate::pick::DESTINATION_HEADER;
use crate::route::parse_length;
use crate::session;

/// What the request's headers say, and which of them go no further.
pub struct Head {
    objective: String,
    fairness: String,
    session: String,
    request_id: String,
    kind: Kind,
    pub length: Option<u64>,
    slo_ttft_ms: u32,
    slo_tpot_ms: u32,
    ttl_ms: u32,
    /// Those that the route asks for.
    headers: Vec<(String, String)>,
    /// Names of headers to remove.
    pub remove: Vec<String>,
    /// The session that this reply is to begin, as `set-cookie` says it.
    pub new_cookie: Option<String>,
}

impl Head {
    pub fn read(headers: &[HeaderRef<'_>], config: &PickConfig, pool: &PoolConfig) -> Self {
        let mut cookie = None;
        let mut head = Self {
            objective: String::new(),
            fairness: String::new(),
            session: String::new(),
            request_id: String::new(),
            kind: Kind::Other,
            length: None,
            slo_ttft_ms: 0,
            slo_tpot_ms: 0,
            ttl_ms: 0,
            headers: Vec::new(),
            remove: Vec::new(),
            new_cookie: None,
        };
        for (name, value) in headers {
            let named = |names: &[String]| names.iter().any(|other| other.as_bytes() == *name);
            match *name {
                b":path" => head.kind = kind::of_path(value),
                b"content-length" => head.length = parse_length(value),
                b"x-request-id" => head.request_id = text(value),
                b"x-slo-ttft-ms" | b"x-llm-d-slo-ttft-ms" => {
                    set_known(&mut head.slo_ttft_ms, milliseconds(value));
                }
                b"x-slo-tpot-ms" | b"x-llm-d-slo-tpot-ms" => {
                    set_known(&mut head.slo_tpot_ms, milliseconds(value));
                }
                b"x-inference-ttl" | b"x-llm-d-inference-ttl" => {
                    set_known(&mut head.ttl_ms, go_duration_ms(value));
                }

                _ if named(&config.objective_headers) => {
                    set_once(&mut head.objective, value);
                    head.remove.push(text(name));
                }
                _ if named(&config.fairness_headers) => {
                    set_once(&mut head.fairness, value);
                    head.remove.push(text(name));
                }
                b"cookie" if pool.session_cookie.is_some() => cookie = cookie.or(Some(*value)),
                _ if named(&config.session_headers) => set_once(&mut head.session, value),
                // Never the client's word, even where the filter `route` is missing.
                _ if *name == DESTINATION_HEADER.as_bytes() => head.remove.push(text(name)),
                _ => {}
            }
            if !pool.headers.is_empty() && named(&pool.headers) {
                head.headers.push((text(name), text(value)));
            }
        }
        if let (Some(name), true) = (&pool.session_cookie, head.session.is_empty()) {
            match cookie.and_then(|cookie| session::in_cookie(cookie, name)) {
                Some(session) => head.session = session,
                None => {
                    head.session = session::new_id();
                    head.new_cookie = Some(session::set_cookie(name, &head.session));
                }
            }
        }
        head
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Of several spellings or values the first that is not empty counts.
fn set_once(field: &mut String, value: &[u8]) {
    if field.is_empty() {
        *field = text(value);
    }
}

fn set_known(field: &mut u32, value: u32) {
    if *field == 0 {
        *field = value;
    }
}

/// The question to the picker, and the API that a refusal speaks.
pub fn new_pick(
    stream: u64,
    pool: &str,
    head: Head,
    handoff: Option<Handoff>,
    now_ns: u64,
) -> (Pick, Kind) {
    let pick = Pick {
        stream,
        received_ns: now_ns,
        pool: pool.to_owned(),
        objective: head.objective,
        fairness: head.fairness,
        session: head.session,
        request_id: head.request_id,
        slo_ttft_ms: head.slo_ttft_ms,
        slo_tpot_ms: head.slo_tpot_ms,
        ttl_ms: head.ttl_ms,
        headers: head.headers,
        ..Pick::default()
    };
    match handoff {
        None => {
            let body_bytes = head.length.unwrap_or(0);
            let body_bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX);
            let kind = head.kind;
            // Without a body that was read there is no prompt of that API.
            (
                Pick {
                    body_bytes,
                    kind: Kind::Other as u8,
                    ..pick
                },
                kind,
            )
        }
        Some(Handoff {
            fields,
            kind,
            body_bytes,
            received_ns,
        }) => {
            let pick = Pick {
                received_ns,
                body_bytes,
                prompt_bytes: fields.prompt_bytes,
                max_tokens: fields.max_tokens,
                priority: fields.priority,
                kind: kind as u8,
                flags: (u8::from(fields.stream) * Pick::STREAM)
                    | (u8::from(fields.server_tools) * Pick::TOOLS),
                user: fields.user.unwrap_or_default(),
                model: fields.model.unwrap_or_default(),
                hashes: fields.hashes,
                ..pick
            };
            (pick, kind)
        }
    }
}
