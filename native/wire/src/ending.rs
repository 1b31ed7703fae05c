//! Event stream → whether it said how it ended, while the bytes pass by.
//!
//! Problem: a stream that stops in the middle may end as cleanly as one that is complete, and then looks
//! like success. Model: every API says it in words: a `finish_reason`, or an event of its own; so a few words
//! are looked for in each piece, quotes included, which no text inside a JSON string can spell. A word cut in
//! two is found in the seam of two pieces. Invariants: every cut gives the same verdict, no bytes make it
//! fail, and it keeps less than 128 bytes. `[DONE]` is found by the usage scanner.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::request::Kind;

/// Longer than a word, the space after it, and the first byte of a value.
const SEAM_BYTES: usize = 48;

static FINISH_REASON: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new("\"finish_reason\""));
static RESPONSE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"response."));
static MESSAGE_STOP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"message_stop\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));

/// What a stream said about its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Told {
    #[default]
    Nothing,
    Finished,
    /// It told the client of an error by itself.
    Failed,
}

/// Takes the bytes of one event stream in arbitrary pieces.
pub struct EndScanner {
    kind: Kind,
    told: Told,
    /// The end of what was fed, unless a line ended with it.
    seam: [u8; SEAM_BYTES],
    seam_bytes: usize,
}

impl EndScanner {
    /// None: an API whose streams say nothing that is known here.
    pub fn new(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Chat | Kind::Completions | Kind::Responses | Kind::Messages => Some(Self {
                kind,
                told: Told::Nothing,
                seam: [0; SEAM_BYTES],
                seam_bytes: 0,
            }),
            Kind::Other | Kind::Embeddings => None,
        }
    }

    pub fn told(&self) -> Told {
        self.told
    }

    pub fn feed(&mut self, piece: &[u8]) {
        if self.told != Told::Nothing || piece.is_empty() {
            return;
        }
        if self.seam_bytes > 0 {
            let mut joined = [0; 2 * SEAM_BYTES];
            let before = self.seam_bytes;
            let after = piece.len().min(SEAM_BYTES);
            joined[..before].copy_from_slice(&self.seam[..before]);
            joined[before..before + after].copy_from_slice(&piece[..after]);
            self.told = told(self.kind, &joined[..before + after]);
        }
        if self.told == Told::Nothing {
            self.told = told(self.kind, piece);
        }
        self.keep(piece);
    }

    fn keep(&mut self, piece: &[u8]) {
        if piece.ends_with(b"\n") {
            self.seam_bytes = 0;
            return;
        }
        let new = piece.len().min(SEAM_BYTES);
        let old = self.seam_bytes.min(SEAM_BYTES - new);
        self.seam
            .copy_within(self.seam_bytes - old..self.seam_bytes, 0);
        self.seam[old..old + new].copy_from_slice(&piece[piece.len() - new..]);
        self.seam_bytes = old + new;
    }
}

fn told(kind: Kind, bytes: &[u8]) -> Told {
    let any = |word: &Finder<'_>, says: fn(&[u8]) -> bool| {
        let length = word.needle().len();
        word.find_iter(bytes).any(|at| says(&bytes[at + length..]))
    };
    let (finished, failed) = match kind {
        Kind::Chat | Kind::Completions => (
            any(&FINISH_REASON, is_key_with_value),
            any(&ERROR, is_key_with_value),
        ),
        Kind::Responses => (
            any(&RESPONSE, |rest| {
                rest.starts_with(b"completed\"") || rest.starts_with(b"incomplete\"")
            }),
            any(&RESPONSE, |rest| rest.starts_with(b"failed\"")) || any(&ERROR, is_value),
        ),
        Kind::Messages => (any(&MESSAGE_STOP, is_value), any(&ERROR, is_value)),
        Kind::Other | Kind::Embeddings => (false, false),
    };
    match (finished, failed) {
        (true, _) => Told::Finished,
        (false, true) => Told::Failed,
        (false, false) => Told::Nothing,
    }
}

fn after_space(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

/// Whether a text, seen from its end, is a key of an object, and its value something.
fn is_key_with_value(rest: &[u8]) -> bool {
    let value = after_space(rest).strip_prefix(b":").map(after_space);
    value
        .and_then(<[u8]>::first)
        .is_some_and(|first| *first != b'n')
}

/// Whether a text, seen from its end, is the value of a key.
fn is_value(rest: &[u8]) -> bool {
    matches!(after_space(rest).first(), Some(b',' | b'}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [(Kind, &str, Told); 15] = [
        (
            Kind::Chat,
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n",
            Told::Finished,
        ),
        (
            Kind::Chat,
            "data: {\"finish_reason\" : \"length\"}\n\n",
            Told::Finished,
        ),
        (
            Kind::Completions,
            "data: {\"finish_reason\":null}\n\n",
            Told::Nothing,
        ),
        (
            Kind::Chat,
            "data: {\"content\":\"\\\"finish_reason\\\":\\\"stop\\\"\"}\n\n",
            Told::Nothing,
        ),
        (
            Kind::Chat,
            "data: {\"error\": {\"message\":\"x\"}}\n\n",
            Told::Failed,
        ),
        (Kind::Chat, "data: {\"error\":null}\n\n", Told::Nothing),
        (
            Kind::Chat,
            "data: {\"content\":\"error\"}\n\n",
            Told::Nothing,
        ),
        (
            Kind::Responses,
            "event: x\ndata: {\"type\":\"response.completed\",\"r\":1}\n\n",
            Told::Finished,
        ),
        (
            Kind::Responses,
            "data: {\"type\": \"response.incomplete\"}\n\n",
            Told::Finished,
        ),
        (
            Kind::Responses,
            "data: {\"type\":\"response.created\",\"error\":null}\n\n",
            Told::Nothing,
        ),
        (
            Kind::Responses,
            "data: {\"type\":\"response.failed\"}\n\n",
            Told::Failed,
        ),
        (
            Kind::Responses,
            "data: {\"type\":\"error\",\"code\":null}\n\n",
            Told::Failed,
        ),
        (
            Kind::Messages,
            "event: message_stop\ndata: {\"type\": \"message_stop\" }\n\n",
            Told::Finished,
        ),
        (
            Kind::Messages,
            "data: {\"type\":\"message_delta\"}\n\n",
            Told::Nothing,
        ),
        (
            Kind::Messages,
            "data: {\"type\":\"error\",\"error\":{}}\n\n",
            Told::Failed,
        ),
    ];

    #[test]
    fn every_cut_gives_the_same_verdict() {
        for (kind, text, verdict) in CASES {
            let text = format!(
                "data: {{\"finish_reason\":null,\"x\":\"{}\"}}\n\n{text}data",
                "y".repeat(60)
            );
            for size in 1..=text.len() {
                let mut scanner = EndScanner::new(kind).expect("an API");
                text.as_bytes()
                    .chunks(size)
                    .for_each(|piece| scanner.feed(piece));
                assert_eq!(scanner.told(), verdict, "{kind:?} {text} {size}");
            }
        }
    }

    #[test]
    fn other_streams_are_not_judged() {
        assert!(EndScanner::new(Kind::Other).is_none());
        assert!(EndScanner::new(Kind::Embeddings).is_none());
    }
}
