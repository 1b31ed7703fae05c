//! The pick protocol against the vectors that the Python side reads too.

use inferway_wire::protocol::{Frame, FrameBuffer};
use serde_json::{json, Value};

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/pick_protocol.json"
    );
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

fn bytes(vector: &Value) -> Vec<u8> {
    let hex = vector["hex"].as_str().expect("a vector has hex");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hexadecimal digits"))
        .collect()
}

fn read_all(data: &[u8]) -> Vec<Frame> {
    let mut buffer = FrameBuffer::new();
    buffer.feed(data);
    let mut frames = Vec::new();
    while let Some(frame) = buffer.next().expect("not broken") {
        frames.push(frame);
    }
    frames
}

const MAGIC: u32 = 0x5957_4649;

/// Type and fields under the document's names.
fn described(frame: &Frame) -> (&'static str, Value) {
    match frame {
        Frame::Hello(hello) => (
            "HELLO",
            json!({"magic": MAGIC, "major": hello.major, "minor": hello.minor,
                "filter_id": hello.filter_id}),
        ),
        Frame::Pick(pick) => (
            "PICK",
            json!({"stream": pick.stream, "received_ns": pick.received_ns,
                "body_bytes": pick.body_bytes, "prompt_bytes": pick.prompt_bytes,
                "max_tokens": pick.max_tokens, "priority": pick.priority.unwrap_or(i32::MIN),
                "kind": pick.kind, "flags": pick.flags, "blocks": pick.hashes.len(),
                "pool": pick.pool, "model": pick.model, "objective": pick.objective,
                "fairness": pick.fairness, "session": pick.session,
                "request_id": pick.request_id, "hashes": pick.hashes,
                "slo_ttft_ms": pick.slo_ttft_ms, "slo_tpot_ms": pick.slo_tpot_ms,
                "ttl_ms": pick.ttl_ms, "user": pick.user, "subset": pick.subset,
                "exclude": pick.exclude, "headers": pick.headers}),
        ),
        Frame::First(first) => (
            "FIRST",
            json!({"stream": first.stream, "ttft_us": first.ttft_us, "status": first.status}),
        ),
        Frame::Done(done) => (
            "DONE",
            json!({"stream": done.stream, "end": done.end, "flags": done.flags,
                "status": done.status, "ttft_us": done.ttft_us, "duration_us": done.duration_us,
                "prompt_tokens": done.prompt_tokens, "cached_tokens": done.cached_tokens,
                "completion_tokens": done.completion_tokens, "endpoint": done.endpoint,
                "attempts": done.attempts, "retry_after_ms": done.retry_after_ms,
                "fault": done.fault, "finish": done.finish}),
        ),
        Frame::Open(open) => (
            "OPEN",
            json!({"stream": open.stream, "charged_uncached": open.charged_uncached,
                "charged_context": open.charged_context, "phase": open.phase, "pool": open.pool,
                "model": open.model, "endpoint": open.endpoint}),
        ),
        Frame::Welcome(welcome) => (
            "WELCOME",
            json!({"magic": MAGIC, "major": welcome.major, "minor": welcome.minor,
                "epoch": welcome.epoch, "heartbeat_ms": welcome.heartbeat_ms}),
        ),
        Frame::Endpoints(answer) => (
            "ENDPOINTS",
            json!({"stream": answer.stream, "charged_uncached": answer.charged_uncached,
                "charged_context": answer.charged_context, "endpoints": answer.endpoints,
                "model": answer.model, "queued_us": answer.queued_us,
                "ttft_deadline_ms": answer.ttft_deadline_ms, "reason": answer.reason}),
        ),
        Frame::Reject(reject) => (
            "REJECT",
            json!({"stream": reject.stream, "status": reject.status,
                "retry_after_ms": reject.retry_after_ms, "type": reject.kind,
                "code": reject.code, "message": reject.message, "reason": reject.reason,
                "retry": reject.retry}),
        ),
        Frame::Fault(fault) => (
            "FAULT",
            json!({"pool": fault.pool, "endpoint": fault.endpoint, "cause": fault.cause,
                "status": fault.status, "retry_after_ms": fault.retry_after_ms}),
        ),
        Frame::Queued(queued) => (
            "QUEUED",
            json!({"stream": queued.stream, "keepalive_ms": queued.keepalive_ms}),
        ),
        Frame::Heartbeat => ("HEARTBEAT", json!({})),
    }
}

#[test]
fn every_vector_is_read_and_written() {
    let vectors = vectors();
    let frames = vectors["frames"].as_array().expect("a list");
    assert!(frames.len() >= 9);
    for vector in frames {
        let data = bytes(vector);
        let [frame] = &read_all(&data)[..] else {
            panic!("not one frame: {}", vector["name"]);
        };
        let (name, fields) = described(frame);
        assert_eq!(vector["type"], name);
        assert_eq!(vector["fields"], fields, "{}", vector["name"]);
        let mut out = Vec::new();
        frame.encode(&mut out);
        assert_eq!(out, data, "{}", vector["name"]);
    }
}

#[test]
fn newer_and_older_minor_versions_are_understood() {
    let vectors = vectors();
    let by_name = |name: &Value| {
        let frames = vectors["frames"].as_array().expect("a list");
        let vector = frames.iter().find(|vector| vector["name"] == *name);
        read_all(&bytes(vector.expect("a known name")))
    };
    let lists = ["extended", "older"].map(|list| vectors[list].as_array().expect("a list"));
    for vector in lists.into_iter().flatten() {
        let names = vector["reads_as"].as_array().expect("a list");
        let expected: Vec<Frame> = names.iter().flat_map(by_name).collect();
        assert_eq!(read_all(&bytes(vector)), expected, "{}", vector["name"]);
    }
}

#[test]
fn broken_frames_are_errors() {
    for vector in vectors()["broken"].as_array().expect("a list") {
        let mut buffer = FrameBuffer::new();
        buffer.feed(&bytes(vector));
        assert!(buffer.next().is_err(), "{}", vector["name"]);
    }
}

#[test]
fn any_cut_gives_the_same_frames() {
    let vectors = vectors();
    let data: Vec<u8> = vectors["frames"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(bytes)
        .collect();
    let expected = read_all(&data);
    for size in [1, 2, 3, 5, 11, 64] {
        let mut buffer = FrameBuffer::new();
        let mut frames = Vec::new();
        for piece in data.chunks(size) {
            buffer.feed(piece);
            while let Some(frame) = buffer.next().expect("not broken") {
                frames.push(frame);
            }
        }
        assert_eq!(frames, expected, "{size}");
    }
}
