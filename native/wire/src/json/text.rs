//! What stands inside strings: plain runs, escapes, characters.

use super::Fault;
use std::borrow::Cow;

pub(super) const BAD_ESCAPE: &str = "not an escape sequence of JSON";

pub(super) fn is_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
}

/// Length of the escape sequence at the backslash `at`; None when the piece ends within it.
#[inline]
pub(super) fn escape(piece: &[u8], at: usize) -> Result<Option<usize>, Fault> {
    match piece.get(at + 1) {
        Some(b'u') => {
            for digit in at + 2..at + 6 {
                match piece.get(digit) {
                    None => return Ok(None),
                    Some(byte) if byte.is_ascii_hexdigit() => {}
                    Some(_) => return Err((digit, BAD_ESCAPE)),
                }
            }
            Ok(Some(6))
        }
        Some(&byte) if is_escape(byte) => Ok(Some(2)),
        Some(_) => Err((at + 1, BAD_ESCAPE)),
        None => Ok(None),
    }
}

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// First byte at or after `at` that a string cannot carry as it is (quote, backslash, control), or
/// the end; and whether a byte above 127 may have been passed.
#[inline]
pub(super) fn skip_plain(piece: &[u8], mut at: usize) -> (usize, bool) {
    let mut seen = 0;
    while let Some(bytes) = piece[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*bytes);
        seen |= word;
        // The lowest bit set in each mask is exact; a borrow can only spoil bytes above it.
        let quote = word ^ repeat(b'"');
        let backslash = word ^ repeat(b'\\');
        let stops = (quote.wrapping_sub(repeat(1)) & !quote)
            | (backslash.wrapping_sub(repeat(1)) & !backslash)
            | (word.wrapping_sub(repeat(0x20)) & !word);
        let stops = stops & repeat(0x80);
        if stops != 0 {
            at += stops.trailing_zeros() as usize / 8;
            return (at, seen & repeat(0x80) != 0);
        }
        at += 8;
    }
    while let Some(&byte) = piece.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            break;
        }
        seen |= u64::from(byte);
        at += 1;
    }
    (at, seen & repeat(0x80) != 0)
}

/// The characters that a string's raw text stands for. A lone surrogate becomes U+FFFD.
pub fn unescape(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        let (character, bytes) = unescape_one(&rest[at..]);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[(at + bytes).min(rest.len())..];
    }
    out.extend_from_slice(rest);
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The character of the escape that `raw` begins with, and its length.
fn unescape_one(raw: &[u8]) -> (char, usize) {
    let simple = match raw.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let first = hex4(raw);
            if let (0xD800..=0xDBFF, Some(b"\\u")) = (first, raw.get(6..8)) {
                let second = hex4(&raw[6..]);
                if (0xDC00..=0xDFFF).contains(&second) {
                    let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                    return (char::from_u32(code).unwrap_or('\u{FFFD}'), 12);
                }
            }
            return (char::from_u32(first).unwrap_or('\u{FFFD}'), 6);
        }
        Some(byte) => char::from(*byte),
        None => '\u{FFFD}',
    };
    (simple, 2)
}

/// The code in `\uXXXX`. What is not there reads as a lone surrogate.
fn hex4(escape: &[u8]) -> u32 {
    escape
        .get(2..6)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(0xD800)
}
