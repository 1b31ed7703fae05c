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
            if let Some(digits) = piece.get(at + 2..at + 6) {
                // All four without a branch: which one is wrong matters only when one is.
                if digits
                    .iter()
                    .fold(true, |all, digit| all & digit.is_ascii_hexdigit())
                {
                    return Ok(Some(6));
                }
            }
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
