//! Prompt → chained block hashes (docs/pick-protocol.md, "Block hashes").
//!
//! Two prompts with a common beginning agree on every boundary because a block's size depends on its offset alone; a hash
//! names the whole prefix because it is seeded with the one before it. Only full blocks count, and nothing beyond the last
//! row of the schedule is hashed.

use crate::xxh3;
use xxhash_rust::xxh3::xxh3_64;

/// (offset at which the row ends, block size within it), in bytes.
const SCHEDULE: [(usize, usize); 4] = [
    (8 << 10, 256),
    (32 << 10, 512),
    (128 << 10, 1 << 10),
    (4 << 20, 4 << 10),
];

const BLOCK_BYTES_MAX: usize = SCHEDULE[SCHEDULE.len() - 1].1;

/// Blocks of a prompt that is hashed as far as the schedule goes.
pub const BLOCKS_MAX: usize = 1168;

/// Size of the block that covers `offset`; None beyond the schedule.
pub fn block_size_at(offset: usize) -> Option<usize> {
    SCHEDULE
        .iter()
        .find(|(end, _)| offset < *end)
        .map(|(_, size)| *size)
}

/// Bytes that the first `blocks` blocks cover, which is where block number `blocks` begins. Saturates at the schedule's end.
pub fn block_end(blocks: usize) -> usize {
    let mut left = blocks;
    let mut start = 0;
    for (end, size) in SCHEDULE {
        let in_row = (end - start) / size;
        if left <= in_row {
            return start + left * size;
        }
        left -= in_row;
        start = end;
    }
    start
}

/// Seed for a text: 64-bit xxh3 of its bytes. Used for model names and cache salts.
pub fn hash_seed(text: &[u8]) -> u64 {
    xxh3_64(text)
}

/// Chained hashes over full blocks of one size. `block_bytes` 0 gives none.
pub fn fixed_block_hashes(data: &[u8], block_bytes: usize, seed: u64) -> Vec<u64> {
    if block_bytes == 0 {
        return Vec::new();
    }
    let mut chain = seed;
    data.chunks_exact(block_bytes)
        .map(|block| {
            chain = xxh3::hash(block, chain);
            chain
        })
        .collect()
}

/// Takes a prompt in arbitrary pieces. Copies only blocks that straddle two pieces.
pub struct BlockHasher {
    chain: u64,
    bytes: u64,
    /// Where the unfinished block begins.
    start: usize,
    partial: Vec<u8>,
    hashes: Vec<u64>,
}

impl BlockHasher {
    pub fn new(seed: u64) -> Self {
        Self {
            chain: seed,
            bytes: 0,
            start: 0,
            partial: Vec::new(),
            hashes: Vec::new(),
        }
    }

    pub fn feed(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            let Some(size) = block_size_at(self.start) else {
                return;
            };
            if self.partial.is_empty() && piece.len() >= size {
                let (block, rest) = piece.split_at(size);
                self.push(block);
                piece = rest;
                continue;
            }
            if self.partial.capacity() == 0 {
                self.partial.reserve_exact(BLOCK_BYTES_MAX);
            }
            let taken = piece.len().min(size - self.partial.len());
            self.partial.extend_from_slice(&piece[..taken]);
            piece = &piece[taken..];
            if self.partial.len() == size {
                let block = std::mem::take(&mut self.partial);
                self.push(&block);
                self.partial = block;
                self.partial.clear();
            }
        }
    }

    fn push(&mut self, block: &[u8]) {
        self.chain = xxh3::hash(block, self.chain);
        self.hashes.push(self.chain);
        self.start += block.len();
    }

    /// The hashes and the number of bytes fed (more than was hashed when a tail was left over).
    pub fn finish(self) -> (Vec<u64>, u64) {
        (self.hashes, self.bytes)
    }
}
