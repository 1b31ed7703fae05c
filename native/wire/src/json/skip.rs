//! Past the inside of a string: plain text and whole escapes, as far as they are legal.
//!
//! Problem: nearly all bytes of a body stand in strings, and what can end one is a quote, a
//! backslash or a control character. Model: the same walk twice, eight bytes at a time for any
//! processor and 64 at a time with AVX2, chosen when it runs. Invariants: both give the same stop
//! for the same text. Whether the text is UTF-8 is not checked here, only whether it needs a check.

use super::text::escape;

#[cfg(target_arch = "x86_64")]
mod avx2;

/// Where a walk through a string stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Skipped {
    /// Of the first quote, control character, or escape that is bad or cut; or the piece's end.
    pub(super) at: usize,
    /// False: everything before `at` is ASCII.
    pub(super) maybe_not_ascii: bool,
}

#[inline]
pub(super) fn skip(piece: &[u8], at: usize) -> Skipped {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        return unsafe { avx2::skip(piece, at) };
    }
    skip_words(piece, at)
}

/// Length of the escape at `at`, if a legal one stands there whole.
#[inline(always)]
fn whole_escape(piece: &[u8], at: usize) -> Option<usize> {
    match piece.get(at) {
        Some(b'\\') => escape(piece, at).ok().flatten(),
        _ => None,
    }
}

fn skip_words(piece: &[u8], mut at: usize) -> Skipped {
    let mut maybe_not_ascii = false;
    loop {
        let (stop, seen) = skip_plain(piece, at);
        maybe_not_ascii |= seen;
        match whole_escape(piece, stop) {
            Some(bytes) => at = stop + bytes,
            None => {
                return Skipped {
                    at: stop,
                    maybe_not_ascii,
                }
            }
        }
    }
}

const fn repeat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// First byte at or after `at` that a string cannot carry as it is (quote, backslash, control), or
/// the end; and whether a byte above 127 may have been passed.
#[inline]
fn skip_plain(piece: &[u8], mut at: usize) -> (usize, bool) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte at a time.
    fn skip_bytes(piece: &[u8], mut at: usize) -> usize {
        while let Some(&byte) = piece.get(at) {
            at += match byte {
                b'\\' => match whole_escape(piece, at) {
                    Some(bytes) => bytes,
                    None => break,
                },
                b'"' | 0..=0x1f => break,
                _ => 1,
            };
        }
        at
    }

    fn check(piece: &[u8], at: usize) {
        let expected = skip_bytes(piece, at);
        for (name, skipped) in [
            ("words", skip_words(piece, at)),
            ("chosen", skip(piece, at)),
        ] {
            assert_eq!(skipped.at, expected, "{name} from {at}: {piece:?}");
            let ascii = piece[at..expected].is_ascii();
            assert!(
                skipped.maybe_not_ascii || ascii,
                "{name} from {at}: {piece:?}"
            );
        }
    }

    #[test]
    fn every_byte_at_every_place() {
        for length in [1, 7, 8, 63, 64, 65, 130] {
            for place in 0..length {
                for byte in 0..=255 {
                    let mut piece = vec![b'a'; length];
                    piece[place] = byte;
                    check(&piece, 0);
                }
            }
        }
    }

    #[test]
    fn any_text_stops_where_a_walk_by_bytes_stops() {
        let words: [&[u8]; 14] = [
            b"plain text of some words",
            b"a",
            b"\\n",
            b"\\\"",
            b"\\\\",
            b"\\u00e9",
            b"\\u00g9",
            b"\\x",
            b"\\",
            b"\"",
            b"\x1f",
            "é€😀".as_bytes(),
            b"\xff",
            b" !#[]^_\x7f",
        ];
        // The rarer the last ones, the longer the walks.
        let mut state = 88_172_645_463_325_252_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % limit
        };
        for round in 0..20_000 {
            let common = if round % 2 == 0 { 6 } else { words.len() };
            let mut piece = Vec::new();
            for _ in 0..below(40) {
                piece.extend_from_slice(words[below(common)]);
            }
            piece.extend_from_slice(words[below(words.len())]);
            check(&piece, below(piece.len() + 1));
        }
    }

    #[test]
    fn ascii_text_needs_no_check() {
        let piece = "only ASCII \\n in 64 bytes and more, \\\" up to the quote\"é".repeat(3);
        let stop = skip(piece.as_bytes(), 0);
        assert_eq!(piece.as_bytes()[stop.at], b'"');
        assert!(!stop.maybe_not_ascii);
    }
}
