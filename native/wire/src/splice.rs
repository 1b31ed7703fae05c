//! One value of a JSON body replaced; every other byte stays what and where it was.
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

pub struct Splice {
    /// In bytes of the body before.
    range: Range<usize>,
    replacement: Vec<u8>,
    /// Bytes of the body before that were given to `cut`.
    seen: usize,
}

impl Splice {
    /// `range` is where the value stands, quotes included.
    pub fn string(range: Range<usize>, text: &str) -> Self {
        Self {
            range,
            replacement: json_string(text),
            seen: 0,
        }
    }

    /// Size of the body after, in bytes.
    pub fn length_after(&self, before: u64) -> u64 {
        (before + self.replacement.len() as u64).saturating_sub(self.range.len() as u64)
    }

    /// What stands for the next piece of the body: its beginning, what is put in, its end.
    pub fn cut<'a>(&'a mut self, piece: &'a [u8]) -> [&'a [u8]; 3] {
        let offset = self.seen;
        self.seen += piece.len();
        let within = |place: usize| place.saturating_sub(offset).min(piece.len());
        let (start, end) = (within(self.range.start), within(self.range.end));
        let here = (offset..self.seen).contains(&self.range.start);
        let put = if here { &self.replacement[..] } else { &[] };
        [&piece[..start], put, &piece[end..]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(pieces: &[&[u8]], range: Range<usize>, text: &str) -> Vec<u8> {
        let mut splice = Splice::string(range, text);
        pieces
            .iter()
            .flat_map(|piece| splice.cut(piece).concat())
            .collect()
    }

    #[test]
    fn every_cut_gives_the_same_body() {
        let body = br#"{"model" : "llm", "stream": true}"#;
        let range = 11..16;
        let wanted = br#"{"model" : "a\"b", "stream": true}"#.to_vec();
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                assert_eq!(spliced(&pieces, range.clone(), "a\"b"), wanted);
            }
        }
        let splice = Splice::string(range, "a\"b");
        assert_eq!(splice.length_after(body.len() as u64), wanted.len() as u64);
    }

    #[test]
    fn only_what_must_be_escaped_is() {
        assert_eq!(json_string("a/é😀"), "\"a/é😀\"".as_bytes());
        assert_eq!(json_string("\\ \" \n\u{1f}"), br#""\\ \" \u000a\u001f""#);
    }
}
