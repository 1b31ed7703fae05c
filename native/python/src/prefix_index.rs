//! Which endpoint probably holds which prompt blocks.
//!
//! Problem: for each request, find how many bytes of its prompt each of up to 10,000 endpoints has
//! cached, in microseconds and bounded memory that no cache holds. Model: a slab of blocks, each
//! with the endpoints that hold it (sorted, so that walking a prompt is a merge of sorted lists,
//! and mostly a comparison of equal ones), a table from key to block, and one LRU list per endpoint
//! through a second slab. Blocks of a prompt that came together are neighbours in both slabs, so a
//! walk tries the neighbour before it asks the table. Invariants: a chain's root is always fresher
//! than its leaf, so what is left of a prompt is its beginning; no endpoint exceeds its capacity,
//! all together never exceed `blocks_max`. What an engine really holds is not known here; whoever
//! knows that a block is gone says so (`remove`).

mod holders;
mod prefetch;
pub(crate) mod table;

use holders::Holders;
use inferway_wire::blocks::{block_end, BLOCKS_MAX};
use prefetch::prefetch;
use std::mem::size_of;
use table::Table;

/// Endpoints are small integers; each costs a few words whether it is used or not.
pub const ENDPOINTS_MAX: usize = 1 << 20;
/// So that a slot number, with a prompt's worth of blocks on top, fits 32 bits.
pub const BLOCKS_LIMIT: usize = 1 << 31;

const NONE: u32 = u32::MAX;

/// How far ahead of a walk memory is asked for, in blocks.
const AHEAD: usize = 16;

struct Block {
    key: u64,
    holders: Holders,
}

/// One block on one endpoint. `older` also chains the free slots.
#[derive(Clone, Copy)]
struct Slot {
    block: u32,
    newer: u32,
    older: u32,
    bytes: u32,
}

#[derive(Clone, Copy)]
struct Lru {
    newest: u32,
    oldest: u32,
    bytes: u64,
    bytes_max: u64,
}

const EMPTY: Lru = Lru {
    newest: NONE,
    oldest: NONE,
    bytes: 0,
    bytes_max: u64::MAX,
};

pub struct PrefixIndex {
    blocks_max: usize,
    table: Table,
    blocks: Vec<Block>,
    blocks_free: u32,
    slots: Vec<Slot>,
    slots_free: u32,
    /// Slots in use.
    held: usize,
    endpoints: Vec<Lru>,
    /// Memory of the holder lists that stand outside the blocks.
    holders_bytes: usize,
    /// Endpoints that still match, while a prompt is walked.
    matching: Vec<u32>,
    /// Blocks of the prompt that was walked last, from its beginning on: an insert mostly follows
    /// the match of the same prompt. They may be gone since, so their keys are compared.
    walked: Vec<u32>,
    /// Their slots, while a prompt is inserted.
    walked_slots: Vec<u32>,
}

impl PrefixIndex {
    pub fn new(blocks_max: usize) -> Self {
        Self {
            blocks_max,
            table: Table::new(),
            blocks: Vec::new(),
            blocks_free: NONE,
            slots: Vec::new(),
            slots_free: NONE,
            held: 0,
            endpoints: Vec::new(),
            holders_bytes: 0,
            matching: Vec::new(),
            walked: Vec::new(),
            walked_slots: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.held
    }

    pub fn endpoint_bytes(&self, endpoint: usize) -> u64 {
        self.endpoints.get(endpoint).map_or(0, |lru| lru.bytes)
    }

    /// What the index has allocated, up to the allocator's own overhead.
    pub fn memory_bytes(&self) -> usize {
        let scratch =
            self.matching.capacity() + self.walked.capacity() + self.walked_slots.capacity();
        size_of::<Self>()
            + self.table.memory_bytes()
            + self.blocks.capacity() * size_of::<Block>()
            + self.slots.capacity() * size_of::<Slot>()
            + self.endpoints.capacity() * size_of::<Lru>()
            + scratch * size_of::<u32>()
            + self.holders_bytes
    }

    pub fn set_capacity(&mut self, endpoint: usize, bytes_max: u64) {
        self.lru(endpoint).bytes_max = bytes_max;
        self.shrink_to_capacity(endpoint);
    }

    /// Writes to `result[e]` the bytes of the longest known prefix on endpoint `e`; the caller
    /// gives zeros.
    pub fn find(&mut self, hashes: &[u64], seed: u64, result: &mut [f64]) {
        let mut matching = std::mem::take(&mut self.matching);
        matching.clear();
        let mut matched = 0;
        let mut walk = Walk::new(hashes, seed);
        self.walked.clear();
        while let Some(block) = walk.locate(self, matched) {
            self.walked.push(block);
            let holders = &self.blocks[block as usize].holders;
            let holders = below(holders.endpoints(), result.len());
            if matched == 0 {
                matching.extend_from_slice(holders);
            } else if matching != holders {
                keep_common(&mut matching, holders, result, block_end(matched) as f64);
            }
            if matching.is_empty() {
                break;
            }
            matched += 1;
        }
        let bytes = block_end(matched) as f64;
        for endpoint in &matching {
            result[*endpoint as usize] = bytes;
        }
        self.matching = matching;
    }

    pub fn insert(&mut self, endpoint: usize, hashes: &[u64], seed: u64) {
        self.lru(endpoint);
        let hashes = &hashes[..hashes.len().min(BLOCKS_MAX)];
        let walked = self.walk_on(hashes, seed);
        let mut slots = std::mem::take(&mut self.walked_slots);
        slots.clear();
        slots.extend(walked.iter().map(|block| {
            let block = self.blocks.get(*block as usize);
            let slot = block.and_then(|block| block.holders.slot(endpoint as u32));
            let slot = slot.unwrap_or(NONE);
            prefetch(&self.slots, slot as usize);
            slot
        }));
        // From leaf to root, so that the root ends up freshest.
        for (position, hash) in hashes.iter().enumerate().rev() {
            match slots[position] {
                NONE => self.touch(endpoint, hash ^ seed, position, walked[position]),
                slot => self.refresh(endpoint, slot),
            }
        }
        self.walked_slots = slots;
        self.walked = walked;
        self.shrink_to_capacity(endpoint);
        self.shrink_to_limit();
    }

    pub fn clear(&mut self, endpoint: usize) {
        if endpoint < self.endpoints.len() {
            while self.forget_oldest(endpoint) {}
        }
    }

    /// Forgets these blocks on the endpoint, by their keys (hash and seed already mixed).
    pub fn remove(&mut self, endpoint: usize, keys: &[u64]) {
        for key in keys {
            let block = self.find_block(*key);
            let holders = block.map(|block| &self.blocks[block as usize].holders);
            if let Some(slot) = holders.and_then(|holders| holders.slot(endpoint as u32)) {
                self.forget(endpoint, slot);
            }
        }
    }

    fn lru(&mut self, endpoint: usize) -> &mut Lru {
        if endpoint >= self.endpoints.len() {
            self.endpoints.resize(endpoint + 1, EMPTY);
        }
        &mut self.endpoints[endpoint]
    }

    fn shrink_to_capacity(&mut self, endpoint: usize) {
        while self.endpoints[endpoint].bytes > self.endpoints[endpoint].bytes_max {
            self.forget_oldest(endpoint);
        }
    }

    /// The endpoint with the most bytes gives up its oldest until all fit.
    fn shrink_to_limit(&mut self) {
        while self.held > self.blocks_max {
            let mut fullest = 0;
            let mut second_bytes = 0;
            for (endpoint, lru) in self.endpoints.iter().enumerate().skip(1) {
                if lru.bytes > self.endpoints[fullest].bytes {
                    second_bytes = self.endpoints[fullest].bytes;
                    fullest = endpoint;
                } else {
                    second_bytes = second_bytes.max(lru.bytes);
                }
            }
            while self.held > self.blocks_max
                && self.endpoints[fullest].bytes >= second_bytes
                && self.forget_oldest(fullest)
            {}
        }
    }

    fn is_block(&self, block: u32, key: u64) -> bool {
        let block = self.blocks.get(block as usize);
        block.is_some_and(|block| block.key == key && !block.holders.is_free())
    }

    fn prefetch_block(&self, block: usize) {
        prefetch(&self.blocks, block);
    }

    /// What stands outside of a block, which should have been fetched itself.
    fn prefetch_holders(&self, block: usize) {
        if let Some(Holders::Many(many)) = self.blocks.get(block).map(|block| &block.holders) {
            prefetch(many, 0);
            prefetch(many, many.len() - 1);
        }
    }

    fn find_block(&self, key: u64) -> Option<u32> {
        self.table
            .find(key, |block| self.blocks[block as usize].key == key)
    }

    /// The block of each hash, `NONE` where there is none; begins with what the last walk found.
    fn walk_on(&mut self, hashes: &[u64], seed: u64) -> Vec<u32> {
        let mut walked = std::mem::take(&mut self.walked);
        let known = walked.iter().zip(hashes);
        let known = known.take_while(|(block, hash)| self.is_block(**block, **hash ^ seed));
        let known = known.count();
        walked.truncate(known);
        let mut walk = Walk::new(hashes, seed);
        walk.near = walked.last().copied().unwrap_or(NONE);
        walked.extend((known..hashes.len()).map(|at| walk.locate(self, at).unwrap_or(NONE)));
        walked
    }

    /// Makes the block the endpoint's freshest; adds it when it is not known there. `block`: its
    /// number, `NONE` when it was not known at all.
    fn touch(&mut self, endpoint: usize, key: u64, position: usize, mut block: u32) {
        let owner = endpoint as u32;
        if block == NONE {
            // It may have come since, when the prompt has it twice.
            block = self.find_block(key).unwrap_or_else(|| self.add_block(key));
        }
        if let Some(slot) = self.blocks[block as usize].holders.slot(owner) {
            self.refresh(endpoint, slot);
            return;
        }
        let bytes = (block_end(position + 1) - block_end(position)) as u32;
        let slot = self.add_slot(Slot {
            block,
            newer: NONE,
            older: NONE,
            bytes,
        });
        let holders = &mut self.blocks[block as usize].holders;
        let before = holders.heap_bytes();
        holders.add(owner, slot);
        self.holders_bytes += holders.heap_bytes() - before;
        self.link(endpoint, slot);
        self.endpoints[endpoint].bytes += u64::from(bytes);
        self.held += 1;
    }

    /// A block without holders, which it must get.
    fn add_block(&mut self, key: u64) -> u32 {
        let block = Block {
            key,
            holders: Holders::Free(NONE),
        };
        let number = match self.blocks_free {
            NONE => {
                self.blocks.push(block);
                self.blocks.len() as u32 - 1
            }
            free => {
                let place = &mut self.blocks[free as usize];
                if let Holders::Free(next) = place.holders {
                    self.blocks_free = next;
                }
                *place = block;
                free
            }
        };
        self.table.insert(key, number);
        number
    }

    fn add_slot(&mut self, slot: Slot) -> u32 {
        match self.slots_free {
            NONE => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
            free => {
                let place = &mut self.slots[free as usize];
                self.slots_free = place.older;
                *place = slot;
                free
            }
        }
    }

    fn refresh(&mut self, endpoint: usize, slot: u32) {
        if self.endpoints[endpoint].newest != slot {
            self.unlink(endpoint, slot);
            self.link(endpoint, slot);
        }
    }

    fn link(&mut self, endpoint: usize, slot: u32) {
        let lru = &mut self.endpoints[endpoint];
        let second = std::mem::replace(&mut lru.newest, slot);
        if second == NONE {
            lru.oldest = slot;
        } else {
            self.slots[second as usize].newer = slot;
        }
        let entry = &mut self.slots[slot as usize];
        entry.newer = NONE;
        entry.older = second;
    }

    fn unlink(&mut self, endpoint: usize, slot: u32) {
        let Slot { newer, older, .. } = self.slots[slot as usize];
        let lru = &mut self.endpoints[endpoint];
        match newer {
            NONE => lru.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => lru.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }

    /// False when there was nothing to forget.
    fn forget_oldest(&mut self, endpoint: usize) -> bool {
        let oldest = self.endpoints[endpoint].oldest;
        if oldest == NONE {
            return false;
        }
        self.forget(endpoint, oldest);
        true
    }

    fn forget(&mut self, endpoint: usize, slot: u32) {
        self.unlink(endpoint, slot);
        let Slot { block, bytes, .. } = self.slots[slot as usize];
        self.endpoints[endpoint].bytes -= u64::from(bytes);
        self.held -= 1;
        self.slots[slot as usize].older = self.slots_free;
        self.slots_free = slot;
        let Block { key, holders } = &mut self.blocks[block as usize];
        if holders.endpoints().len() > 1 {
            let before = holders.heap_bytes();
            holders.remove(endpoint as u32);
            self.holders_bytes -= before - holders.heap_bytes();
        } else {
            *holders = Holders::Free(self.blocks_free);
            self.blocks_free = block;
            self.table.remove(*key, block);
        }
    }
}

/// Goes through a prompt's blocks from its beginning.
struct Walk<'a> {
    hashes: &'a [u64],
    seed: u64,
    /// The block before.
    near: u32,
    /// The block before was no neighbour of the one before it.
    alone: bool,
    /// Up to here the table's lines were asked for.
    asked: usize,
}

impl<'a> Walk<'a> {
    fn new(hashes: &'a [u64], seed: u64) -> Self {
        Self {
            hashes: &hashes[..hashes.len().min(BLOCKS_MAX)],
            seed,
            near: NONE,
            alone: false,
            asked: 0,
        }
    }

    /// The block at a position; None: unknown, or the prompt ends before.
    #[inline]
    fn locate(&mut self, index: &PrefixIndex, position: usize) -> Option<u32> {
        let key = self.hashes.get(position)? ^ self.seed;
        // New blocks are numbered from leaf to root, used ones in either direction.
        let (before, after) = (self.near.wrapping_sub(1), self.near.wrapping_add(1));
        let neighbour = if index.is_block(before, key) {
            index.prefetch_block((before as usize).wrapping_sub(AHEAD));
            index.prefetch_holders((before as usize).wrapping_sub(AHEAD / 2));
            Some(before)
        } else if index.is_block(after, key) {
            index.prefetch_block(after as usize + AHEAD);
            index.prefetch_holders(after as usize + AHEAD / 2);
            Some(after)
        } else {
            None
        };
        let found = neighbour.or_else(|| self.search(index, key, position));
        self.alone = neighbour.is_none();
        self.near = found.unwrap_or(self.near);
        found
    }

    /// Asks the table. One search alone begins a run of neighbours; where a second one follows, more
    /// will, and their lines are asked for at once.
    fn search(&mut self, index: &PrefixIndex, key: u64, position: usize) -> Option<u32> {
        if self.alone {
            let from = self.asked.max(position + 1);
            self.asked = from.max(self.hashes.len().min(position + 1 + AHEAD));
            for hash in self.hashes.get(from..self.asked).unwrap_or_default() {
                index.table.prefetch(hash ^ self.seed);
            }
        }
        let found = index.find_block(key)?;
        for step in 1..=AHEAD {
            index.prefetch_block((found as usize).wrapping_sub(step));
        }
        Some(found)
    }
}

/// The part of an ascending list that is below the limit.
fn below(endpoints: &[u32], limit: usize) -> &[u32] {
    match endpoints.last() {
        Some(last) if *last as usize >= limit => {
            &endpoints[..endpoints.partition_point(|endpoint| (*endpoint as usize) < limit)]
        }
        _ => endpoints,
    }
}

/// Keeps of `matching` what is in `holders` too; the others matched `bytes` and no more.
fn keep_common(matching: &mut Vec<u32>, holders: &[u32], result: &mut [f64], bytes: f64) {
    let mut holders = holders.iter().copied().peekable();
    matching.retain(|endpoint| {
        while holders.next_if(|holder| holder < endpoint).is_some() {}
        let holds = holders.peek() == Some(endpoint);
        if !holds {
            result[*endpoint as usize] = bytes;
        }
        holds
    });
}
