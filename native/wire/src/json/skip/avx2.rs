//! The walk with AVX2, 64 bytes at a time.

use super::{skip_words, whole_escape, Skipped};
use core::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_xor_si256,
};

const CHUNK_BYTES: usize = 64;

/// # Safety
/// The processor must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn skip(piece: &[u8], mut at: usize) -> Skipped {
    let mut maybe_not_ascii = false;
    // SAFETY: AVX2 is there: the caller's duty.
    while let Some(chunk) = unsafe { next_stops(piece, at, &mut maybe_not_ascii) } {
        match past_escapes(piece, chunk.at, chunk.stops) {
            Ok(next) => {
                at = next;
                maybe_not_ascii |= chunk.not_ascii != 0;
            }
            Err(stop) => {
                let passed = (1_u64 << (stop - chunk.at)) - 1;
                maybe_not_ascii |= chunk.not_ascii & passed != 0;
                return Skipped {
                    at: stop,
                    maybe_not_ascii,
                };
            }
        }
    }
    at += (piece.len() - at) / CHUNK_BYTES * CHUNK_BYTES;
    let mut skipped = skip_words(piece, at);
    skipped.maybe_not_ascii |= maybe_not_ascii;
    skipped
}

/// 64 bytes with a stop among them; the masks have a bit for each byte.
struct Chunk {
    at: usize,
    stops: u64,
    not_ascii: u64,
}

/// The first chunk with a stop, of those that lie whole in the piece from `at` on. Says whether
/// those before it hold anything but ASCII.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn next_stops(piece: &[u8], mut at: usize, not_ascii: &mut bool) -> Option<Chunk> {
    let last = piece.len().checked_sub(CHUNK_BYTES)?;
    // SAFETY: AVX2 as above; 64 bytes are read, at most at `last`, where 64 are left.
    unsafe {
        let mut seen = _mm256_setzero_si256();
        let mut found = None;
        while at <= last {
            let low = _mm256_loadu_si256(piece.as_ptr().add(at).cast());
            let high = _mm256_loadu_si256(piece.as_ptr().add(at + 32).cast());
            let (low_stops, high_stops) = (stops(low), stops(high));
            if _mm256_movemask_epi8(_mm256_or_si256(low_stops, high_stops)) != 0 {
                found = Some(Chunk {
                    at,
                    stops: mask(low_stops, high_stops),
                    not_ascii: mask(low, high),
                });
                break;
            }
            seen = _mm256_or_si256(seen, _mm256_or_si256(low, high));
            at += CHUNK_BYTES;
        }
        *not_ascii |= _mm256_movemask_epi8(seen) != 0;
        found
    }
}

/// Goes through the stops of the chunk at `at`, one bit for each. Ok: where to go on, all of them
/// being escapes; Err: the one that ends the walk, within the chunk.
#[inline(always)]
fn past_escapes(piece: &[u8], at: usize, mut stops: u64) -> Result<usize, usize> {
    while stops != 0 {
        let stop = stops.trailing_zeros() as usize;
        let Some(bytes) = whole_escape(piece, at + stop) else {
            return Err(at + stop);
        };
        let end = stop + bytes;
        if end >= CHUNK_BYTES {
            return Ok(at + end);
        }
        // What belongs to the escape stops nothing.
        stops &= u64::MAX << end;
    }
    Ok(at + CHUNK_BYTES)
}

/// All ones for each quote, backslash or control character.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn stops(bytes: __m256i) -> __m256i {
    // SAFETY: as above.
    unsafe {
        // Exchanges the quote with the space, so that the controls and it are all up to 0x20.
        let exchanged = _mm256_xor_si256(bytes, _mm256_set1_epi8(0x02));
        let limit = _mm256_set1_epi8(0x20);
        let low = _mm256_cmpeq_epi8(_mm256_min_epu8(exchanged, limit), exchanged);
        let backslash = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8));
        _mm256_or_si256(low, backslash)
    }
}

/// The highest bit of each byte.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn mask(low: __m256i, high: __m256i) -> u64 {
    // SAFETY: as above.
    unsafe {
        let (low, high) = (_mm256_movemask_epi8(low), _mm256_movemask_epi8(high));
        u64::from(low as u32) | u64::from(high as u32) << 32
    }
}
