//! XXH3 of whole stripes with AVX2: eight lanes of 64 bits in two registers.

use core::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_mul_epu32, _mm256_or_si256,
    _mm256_set1_epi64x, _mm256_set_epi64x, _mm256_shuffle_epi32, _mm256_slli_epi64,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
};

const STRIPE_BYTES: usize = 64;
/// After so many stripes the lanes are scrambled.
const ROUND_STRIPES: usize = 16;
/// XXH3 treats inputs of up to 240 bytes in another way.
const BYTES_MIN: usize = 256;

const PRIME32_1: u64 = 0x9E37_79B1;
const PRIME64_1: u64 = 0x9E37_79B1_85EB_CA87;
const AVALANCHE: u64 = 0x1656_6791_9E37_79F9;

const START: [u64; 8] = [
    0xC2B2_AE3D,
    PRIME64_1,
    0xC2B2_AE3D_27D4_EB4F,
    0x1656_67B1_9E37_79F9,
    0x85EB_CA77_C2B2_AE63,
    0x85EB_CA77,
    0x27D4_EB2F_1656_67C5,
    PRIME32_1,
];

/// XXH3's default secret, as little-endian words.
const SECRET: [u64; 24] = [
    0xBE4B_A423_396C_FEB8,
    0x1CAD_21F7_2C81_017C,
    0xDB97_9083_E96D_D4DE,
    0x1F67_B3B7_A4A4_4072,
    0x78E5_C0CC_4EE6_79CB,
    0x2172_FFCC_7DD0_5A82,
    0x8E24_43F7_7446_08B8,
    0x4C26_3A81_E690_35E0,
    0xCB00_C391_BB52_283C,
    0xA32E_531B_8B65_D088,
    0x4EF9_0DA2_9748_6471,
    0xD8AC_DEA9_46EF_1938,
    0x3F34_9CE3_3F76_FAA8,
    0x1D4F_0BC7_C7BB_DCF9,
    0x3159_B4CD_4BE0_518A,
    0x6473_78D9_C97E_9FC8,
    0xC3EB_D334_83AC_C5EA,
    0xEB63_13FA_FFA0_81C5,
    0x49DA_F0B7_51DD_0D17,
    0x9E68_D429_2655_16D3,
    0xFCA1_477D_58BE_162B,
    0xCE31_D07A_D1B8_F88F,
    0x2804_1695_8F3A_CB45,
    0x7E40_4BBB_CAFB_D7AF,
];
/// Words of the secret where its uses begin: scrambling; the last stripe, at the second byte of its
/// word; the merge, at the fourth byte.
const SCRAMBLE_WORD: usize = 16;
const LAST_WORD: usize = 15;
const MERGE_WORD: usize = 1;

type Lanes = [__m256i; 2];

pub fn takes(bytes: usize) -> bool {
    bytes >= BYTES_MIN && bytes % STRIPE_BYTES == 0
}

/// XXH3_64 of the block.
///
/// # Safety
/// The processor must have AVX2, and the length must be one that [`takes`] allows.
#[target_feature(enable = "avx2")]
pub unsafe fn hash(block: &[u8], seed: u64) -> u64 {
    // The last stripe has its own key, so it never ends a round.
    let last = block.len() / STRIPE_BYTES - 1;
    let stripes = block.as_ptr();
    // SAFETY: AVX2 is there (the caller's duty). The stripes 0..=last are the block, START and the
    // results have eight words each, and every word index given to a key is at most 16.
    unsafe {
        let key = Key::new(seed);
        let mut lanes = load(START.as_ptr().cast());
        for stripe in 0..last {
            let word = stripe % ROUND_STRIPES;
            accumulate(&mut lanes, stripes.add(stripe * STRIPE_BYTES), key.at(word));
            if word == ROUND_STRIPES - 1 {
                scramble(&mut lanes, key.at(SCRAMBLE_WORD));
            }
        }
        let last_key = key.between::<8, 56>(LAST_WORD);
        accumulate(&mut lanes, stripes.add(last * STRIPE_BYTES), last_key);
        let merge_key = key.between::<24, 40>(MERGE_WORD);
        let mut keyed = [0_u64; 8];
        for half in 0..2 {
            let to = keyed.as_mut_ptr().add(4 * half).cast();
            _mm256_storeu_si256(to, _mm256_xor_si256(lanes[half], merge_key[half]));
        }
        merge(&keyed, block.len())
    }
}

fn merge(keyed: &[u64; 8], bytes: usize) -> u64 {
    let mut sum = (bytes as u64).wrapping_mul(PRIME64_1);
    for pair in keyed.chunks_exact(2) {
        let product = u128::from(pair[0]) * u128::from(pair[1]);
        sum = sum.wrapping_add(product as u64 ^ (product >> 64) as u64);
    }
    sum ^= sum >> 37;
    sum = sum.wrapping_mul(AVALANCHE);
    sum ^ (sum >> 32)
}

/// The seeded secret: the seed is added to its even words and taken from its odd ones.
struct Key {
    /// What to add to four words that begin with an even one, and with an odd one.
    seeds: Lanes,
}

impl Key {
    /// # Safety
    /// The processor must have AVX2.
    #[inline(always)]
    unsafe fn new(seed: u64) -> Self {
        let (plus, minus) = (seed as i64, seed.wrapping_neg() as i64);
        // SAFETY: as above.
        let seeds = unsafe {
            [
                _mm256_set_epi64x(minus, plus, minus, plus),
                _mm256_set_epi64x(plus, minus, plus, minus),
            ]
        };
        Self { seeds }
    }

    /// Eight words.
    ///
    /// # Safety
    /// The processor must have AVX2; `word` is at most 16.
    #[inline(always)]
    unsafe fn at(&self, word: usize) -> Lanes {
        let seeds = self.seeds[word % 2];
        // SAFETY: AVX2 as above; SECRET has 24 words.
        unsafe {
            let [low, high] = load(SECRET.as_ptr().add(word).cast());
            [_mm256_add_epi64(low, seeds), _mm256_add_epi64(high, seeds)]
        }
    }

    /// Eight words that begin `RIGHT` bits into a word; `LEFT` is the rest of the 64.
    ///
    /// # Safety
    /// The processor must have AVX2; `word` is at most 15.
    #[inline(always)]
    unsafe fn between<const RIGHT: i32, const LEFT: i32>(&self, word: usize) -> Lanes {
        // SAFETY: as above.
        unsafe {
            let (first, second) = (self.at(word), self.at(word + 1));
            [0, 1].map(|half| {
                _mm256_or_si256(
                    _mm256_srli_epi64::<RIGHT>(first[half]),
                    _mm256_slli_epi64::<LEFT>(second[half]),
                )
            })
        }
    }
}

/// # Safety
/// The processor must have AVX2, and 64 bytes must be readable at `from`.
#[inline(always)]
unsafe fn load(from: *const u8) -> Lanes {
    // SAFETY: as above; the loads may be unaligned.
    unsafe {
        [
            _mm256_loadu_si256(from.cast()),
            _mm256_loadu_si256(from.add(32).cast()),
        ]
    }
}

/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn accumulate(lanes: &mut Lanes, stripe: *const u8, key: Lanes) {
    // SAFETY: as above.
    unsafe {
        let words = load(stripe);
        for half in 0..2 {
            let mixed = _mm256_xor_si256(words[half], key[half]);
            let product = _mm256_mul_epu32(mixed, _mm256_srli_epi64::<32>(mixed));
            // Each word is added to its neighbour's lane.
            let swapped = _mm256_shuffle_epi32::<0b01_00_11_10>(words[half]);
            let sum = _mm256_add_epi64(product, swapped);
            lanes[half] = _mm256_add_epi64(lanes[half], sum);
        }
    }
}

/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn scramble(lanes: &mut Lanes, key: Lanes) {
    // SAFETY: as above.
    unsafe {
        let prime = _mm256_set1_epi64x(PRIME32_1 as i64);
        for half in 0..2 {
            let shifted = _mm256_srli_epi64::<47>(lanes[half]);
            let mixed = _mm256_xor_si256(_mm256_xor_si256(lanes[half], shifted), key[half]);
            let low = _mm256_mul_epu32(mixed, prime);
            let high = _mm256_mul_epu32(_mm256_srli_epi64::<32>(mixed), prime);
            lanes[half] = _mm256_add_epi64(low, _mm256_slli_epi64::<32>(high));
        }
    }
}
