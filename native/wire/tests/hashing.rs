//! xxh3 against its authors' vectors, and the block schedule against the document's table.

use inferway_wire::blocks::{
    block_end, block_size_at, fixed_block_hashes, hash_seed, BlockHasher, BLOCKS_MAX,
};

/// The buffer and seed of xxHash's own sanity check.
fn sanity_buffer(length: usize) -> Vec<u8> {
    let mut state: u64 = 2_654_435_761;
    (0..length)
        .map(|_| {
            let byte = (state >> 56) as u8;
            state = state.wrapping_mul(SANITY_SEED);
            byte
        })
        .collect()
}

const SANITY_SEED: u64 = 11_400_714_785_074_694_797;

#[test]
fn xxh3_agrees_with_published_vectors() {
    for (length, plain, seeded) in [
        (1, 0xC44B_DFF4_074E_ECDB, 0x032B_E332_DD76_6EF8),
        (6, 0x27B5_6A84_CD2D_7325, 0x8458_9C11_6AB5_9AB9),
        (24, 0xA3FE_70BF_9D35_10EB, 0x850E_80FC_35BD_D690),
        (80, 0xBCDE_FBBB_2C47_C90A, 0xC6DD_0CB6_9953_2E73),
        (195, 0xCD94_217E_E362_EC3A, 0xBA68_003D_370C_B3D9),
        (512, 0x617E_4959_9013_CB6B, 0x3CE4_57DE_14C2_7708),
        (2048, 0xDD59_E2C3_A5F0_38E0, 0x66F8_1670_669A_BABC),
        (2367, 0xCB37_AEB9_E5D3_61ED, 0xD2DB_3415_B942_B42A),
    ] {
        let data = sanity_buffer(length);
        assert_eq!(fixed_block_hashes(&data, length, 0), [plain], "{length}");
        assert_eq!(
            fixed_block_hashes(&data, length, SANITY_SEED),
            [seeded],
            "{length}"
        );
    }
    assert_eq!(hash_seed(b""), 0x2D06_8005_38D3_94C2);
    assert_eq!(hash_seed(&sanity_buffer(1)), 0xC44B_DFF4_074E_ECDB);
}

#[test]
fn schedule_is_the_documents_table() {
    let rows = [
        (0, 8 << 10, 256, 32),
        (8 << 10, 32 << 10, 512, 48),
        (32 << 10, 128 << 10, 1 << 10, 96),
        (128 << 10, 4 << 20, 4 << 10, 992),
    ];
    let mut blocks = 0;
    for (start, end, size, count) in rows {
        assert_eq!(block_end(blocks), start);
        assert_eq!(block_size_at(start), Some(size));
        assert_eq!(block_size_at(end - 1), Some(size));
        assert_eq!(block_end(blocks + 1) - start, size);
        blocks += count;
        assert_eq!(block_end(blocks), end);
    }
    assert_eq!(blocks, BLOCKS_MAX);
    assert_eq!(block_size_at(4 << 20), None);
    assert_eq!(block_end(usize::MAX), 4 << 20);
}

#[test]
fn every_cut_hashes_alike_and_a_beginning_is_a_beginning() {
    let data = sanity_buffer(40_000);
    let whole = hash(&[&data], 9);
    assert_eq!(whole.1, 40_000);
    for size in [1, 7, 255, 256, 257, 511, 4096, 5000] {
        let pieces: Vec<&[u8]> = data.chunks(size).collect();
        assert_eq!(hash(&pieces, 9), whole, "{size}");
    }
    let (beginning, _) = hash(&[&data[..10_000]], 9);
    assert!(whole.0.starts_with(&beginning));
    assert_eq!(block_end(beginning.len()), 9_728);
    let (other_seed, _) = hash(&[&data], 8);
    assert!(whole.0.iter().all(|hash| !other_seed.contains(hash)));
}

#[test]
fn nothing_is_hashed_beyond_the_schedule() {
    let data = vec![b'x'; (4 << 20) + 10_000];
    let (hashes, bytes) = hash(&[&data], 0);
    assert_eq!(hashes.len(), BLOCKS_MAX);
    assert_eq!(bytes, data.len() as u64);
}

fn hash(pieces: &[&[u8]], seed: u64) -> (Vec<u64>, u64) {
    let mut hasher = BlockHasher::new(seed);
    for piece in pieces {
        hasher.feed(piece);
    }
    hasher.finish()
}
