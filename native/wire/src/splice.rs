//! A few values of a JSON body replaced; every other byte stays what and where it was.
//!
//! Problem: a request goes to another model than it names, and the body is megabytes in pieces that
//! somebody else owns. Model: a `Splice` knows which bytes of the whole body go and what comes in their
//! place, and says for each piece, in order, what of it stays. Invariant: for every cut of a body the
//! pieces add up to the same result.

use std::ops::Range;

/// A text as a JSON string with its quotes: only what must be escaped is.
pub fn json_string(text: &str) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    out
}

/// Bytes of the body before, and what comes in their place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    pub range: Range<usize>,
    pub text: Vec<u8>,
}

impl Edit {
    /// Another string where a JSON string stands, quotes included.
    pub fn string(range: Range<usize>, text: &str) -> Self {
        Self {
            range,
            text: json_string(text),
        }
    }
}

pub struct Splice {
    /// In order, and apart from each other.
    edits: Vec<Edit>,
    /// Edits whose beginning has passed.
    begun: usize,
    /// Bytes of the body before that were given to `cut`.
    seen: usize,
}

impl Splice {
    /// The edits must not overlap.
    pub fn new(mut edits: Vec<Edit>) -> Self {
        edits.sort_by_key(|edit| edit.range.start);
        Self {
            edits,
            begun: 0,
            seen: 0,
        }
    }

    /// Size of the body after, in bytes.
    pub fn length_after(&self, before: u64) -> u64 {
        self.edits.iter().fold(before, |length, edit| {
            (length + edit.text.len() as u64).saturating_sub(edit.range.len() as u64)
        })
    }

    /// Puts what stands for the next piece of the body.
    pub fn cut(&mut self, piece: &[u8], mut put: impl FnMut(&[u8])) {
        let offset = self.seen;
        self.seen += piece.len();
        let within = |place: usize| place.saturating_sub(offset).min(piece.len());
        // The end of an edit that an earlier piece began.
        let last = self.begun.checked_sub(1).map(|last| &self.edits[last]);
        let mut at = last.map_or(0, |edit| within(edit.range.end));
        while let Some(edit) = self.edits.get(self.begun) {
            if edit.range.start >= self.seen {
                break;
            }
            put(&piece[at..within(edit.range.start)]);
            put(&edit.text);
            at = within(edit.range.end);
            self.begun += 1;
        }
        put(&piece[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(pieces: &[&[u8]], edits: &[Edit]) -> Vec<u8> {
        let mut splice = Splice::new(edits.to_vec());
        let mut out = Vec::new();
        for piece in pieces {
            splice.cut(piece, |bytes| out.extend_from_slice(bytes));
        }
        out
    }

    #[test]
    fn every_cut_gives_the_same_body() {
        let body = br#"{"model" : "llm", "stream": true}"#;
        let insert = Edit {
            range: 1..1,
            text: b"\"x\":1,".to_vec(),
        };
        let edits = [Edit::string(11..16, "a\"b"), insert];
        let wanted = br#"{"x":1,"model" : "a\"b", "stream": true}"#.to_vec();
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                assert_eq!(spliced(&pieces, &edits), wanted);
            }
        }
        let splice = Splice::new(edits.to_vec());
        assert_eq!(splice.length_after(body.len() as u64), wanted.len() as u64);
    }

    #[test]
    fn only_what_must_be_escaped_is() {
        assert_eq!(json_string("a/é😀"), "\"a/é😀\"".as_bytes());
        assert_eq!(json_string("\\ \" \n\u{1f}"), br#""\\ \" \u000a\u001f""#);
    }
}
