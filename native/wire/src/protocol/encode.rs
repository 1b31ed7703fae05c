//! Frames → bytes. Texts are cut at 65,535 bytes, between characters; a chain of hashes at the
//! schedule's end.

use super::{
    frame_type, Done, Endpoints, Fault, First, Frame, Hello, Open, Pick, Queued, Reject, Welcome,
    MAGIC, NO_PRIORITY, SIZE_BYTES,
};
use crate::blocks::BLOCKS_MAX;

/// Appends one frame; the closure writes type and payload.
fn frame(out: &mut Vec<u8>, frame_type: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; SIZE_BYTES]);
    out.push(frame_type);
    payload(out);
    let size = (out.len() - start - SIZE_BYTES) as u32;
    out[start..start + SIZE_BYTES].copy_from_slice(&size.to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(&(end as u16).to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

impl Hello {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::HELLO, |out| {
            out.extend_from_slice(&MAGIC.to_le_bytes());
            out.extend_from_slice(&self.major.to_le_bytes());
            out.extend_from_slice(&self.minor.to_le_bytes());
            out.extend_from_slice(&self.filter_id.to_le_bytes());
        });
    }
}

impl Welcome {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::WELCOME, |out| {
            out.extend_from_slice(&MAGIC.to_le_bytes());
            out.extend_from_slice(&self.major.to_le_bytes());
            out.extend_from_slice(&self.minor.to_le_bytes());
            out.extend_from_slice(&self.epoch.to_le_bytes());
            out.extend_from_slice(&self.heartbeat_ms.to_le_bytes());
        });
    }
}

impl Pick {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let hashes = &self.hashes[..self.hashes.len().min(BLOCKS_MAX)];
        let priority = match self.priority {
            None => NO_PRIORITY,
            Some(value) => value.max(NO_PRIORITY + 1),
        };
        out.reserve(128 + hashes.len() * 8);
        frame(out, frame_type::PICK, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.received_ns.to_le_bytes());
            out.extend_from_slice(&self.body_bytes.to_le_bytes());
            out.extend_from_slice(&self.prompt_bytes.to_le_bytes());
            out.extend_from_slice(&self.max_tokens.to_le_bytes());
            out.extend_from_slice(&priority.to_le_bytes());
            out.extend_from_slice(&[self.kind, self.flags]);
            out.extend_from_slice(&(hashes.len() as u32).to_le_bytes());
            for text in [
                &self.pool,
                &self.model,
                &self.objective,
                &self.fairness,
                &self.session,
                &self.request_id,
            ] {
                put_str(out, text);
            }
            for hash in hashes {
                out.extend_from_slice(&hash.to_le_bytes());
            }
            for number in [self.slo_ttft_ms, self.slo_tpot_ms, self.ttl_ms] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            for text in [&self.user, &self.subset, &self.exclude] {
                put_str(out, text);
            }
            let headers = &self.headers[..self.headers.len().min(usize::from(u16::MAX))];
            out.extend_from_slice(&(headers.len() as u16).to_le_bytes());
            for (name, value) in headers {
                put_str(out, name);
                put_str(out, value);
            }
        });
    }
}

impl Endpoints {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::ENDPOINTS, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.charged_uncached.to_le_bytes());
            out.extend_from_slice(&self.charged_context.to_le_bytes());
            put_str(out, &self.endpoints);
            put_str(out, &self.model);
            out.extend_from_slice(&self.queued_us.to_le_bytes());
            out.extend_from_slice(&self.ttft_deadline_ms.to_le_bytes());
            put_str(out, &self.reason);
        });
    }
}

impl Reject {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::REJECT, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.status.to_le_bytes());
            out.extend_from_slice(&self.retry_after_ms.to_le_bytes());
            for text in [&self.kind, &self.code, &self.message, &self.reason] {
                put_str(out, text);
            }
            out.push(self.retry);
        });
    }
}

impl First {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::FIRST, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.ttft_us.to_le_bytes());
            out.extend_from_slice(&self.status.to_le_bytes());
        });
    }
}

impl Done {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::DONE, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&[self.end, self.flags]);
            out.extend_from_slice(&self.status.to_le_bytes());
            for number in [
                self.ttft_us,
                self.duration_us,
                self.prompt_tokens,
                self.cached_tokens,
                self.completion_tokens,
            ] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            put_str(out, &self.endpoint);
            out.push(self.attempts);
            out.extend_from_slice(&self.retry_after_ms.to_le_bytes());
            out.extend_from_slice(&[self.fault, self.finish]);
        });
    }
}

impl Open {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::OPEN, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.charged_uncached.to_le_bytes());
            out.extend_from_slice(&self.charged_context.to_le_bytes());
            out.push(self.phase);
            for text in [&self.pool, &self.model, &self.endpoint] {
                put_str(out, text);
            }
        });
    }
}

impl Fault {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::FAULT, |out| {
            put_str(out, &self.pool);
            put_str(out, &self.endpoint);
            out.push(self.cause);
            out.extend_from_slice(&self.status.to_le_bytes());
            out.extend_from_slice(&self.retry_after_ms.to_le_bytes());
        });
    }
}

impl Queued {
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, frame_type::QUEUED, |out| {
            out.extend_from_slice(&self.stream.to_le_bytes());
            out.extend_from_slice(&self.keepalive_ms.to_le_bytes());
        });
    }
}

pub fn encode_heartbeat(out: &mut Vec<u8>) {
    frame(out, frame_type::HEARTBEAT, |_| {});
}

impl Frame {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Hello(frame) => frame.encode(out),
            Frame::Pick(frame) => frame.encode(out),
            Frame::First(frame) => frame.encode(out),
            Frame::Done(frame) => frame.encode(out),
            Frame::Open(frame) => frame.encode(out),
            Frame::Fault(frame) => frame.encode(out),
            Frame::Welcome(frame) => frame.encode(out),
            Frame::Endpoints(frame) => frame.encode(out),
            Frame::Reject(frame) => frame.encode(out),
            Frame::Heartbeat => encode_heartbeat(out),
            Frame::Queued(frame) => frame.encode(out),
        }
    }
}
