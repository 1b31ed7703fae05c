//! XXH3 (64 bits, seeded) of a block, for the processor that runs us.
//!
//! Problem: blocks are chained, so the latency of one hash counts, and `xxhash-rust` chooses its
//! instructions when it is compiled, which for a portable build is the oldest kind. Model: on a
//! processor with AVX2, lengths that are whole stripes (all of the block schedule) are hashed here,
//! with the lanes in two registers and the seed added to the secret where it is read, so that
//! nothing has to be written before the first stripe. Invariants: the result is XXH3's, whatever
//! the length and the machine. Everything else is left to `xxhash-rust`.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// XXH3_64 of the block.
#[inline]
pub fn hash(block: &[u8], seed: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if avx2::takes(block.len()) && std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, and the length was checked.
        return unsafe { avx2::hash(block, seed) };
    }
    xxh3_64_with_seed(block, seed)
}

#[cfg(target_arch = "x86_64")]
mod avx2;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around and between the kinds of input, and several rounds.
    fn cases() -> impl Iterator<Item = (Vec<u8>, u64)> {
        let lengths = (0..1100)
            .chain((1100..9000).step_by(61))
            .chain([1 << 12, 1 << 14]);
        lengths.map(|length| {
            let mut state = length as u64 ^ 0x9E37_79B9_7F4A_7C15;
            let mut next = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let seed = if length % 5 == 0 { 0 } else { next() };
            ((0..length).map(|_| (next() >> 32) as u8).collect(), seed)
        })
    }

    #[test]
    fn every_length_agrees_with_the_reference() {
        for (data, seed) in cases() {
            assert_eq!(
                hash(&data, seed),
                xxh3_64_with_seed(&data, seed),
                "{}",
                data.len()
            );
        }
    }
}
