//! Which endpoint probably holds which prompt blocks.
//!
//! Problem: for each request, find how many bytes of its prompt each of up to 10,000 endpoints has
//! cached, in microseconds and bounded memory. Model: one table from block key to the endpoints
//! that hold it (sorted, so that walking a prompt is a merge of sorted lists, and mostly a
//! comparison of equal ones), and one LRU list per endpoint through a shared slab. Invariants: a
//! chain's root is always fresher than its leaf, so what is left of a prompt is its beginning; no
//! endpoint exceeds its capacity, all together never exceed `blocks_max`. What an engine really
//! holds is not known here.

use inferway_wire::blocks::{block_end, BLOCKS_MAX};
use std::collections::hash_map::Entry;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::size_of;

/// Endpoints are small integers; each costs a few words whether it is used or not.
pub const ENDPOINTS_MAX: usize = 1 << 20;
/// So that a slot number, with a prompt's worth of blocks on top, fits 32 bits.
pub const BLOCKS_LIMIT: usize = 1 << 31;

const NONE: u32 = u32::MAX;

/// Keys are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Table = HashMap<u64, Holders, BuildHasherDefault<Same>>;

/// The endpoints that hold a block, ascending, each with its slot in the slab.
enum Holders {
    One(u32, u32),
    Many(Box<Many>),
}

#[derive(Default)]
struct Many {
    endpoints: Vec<u32>,
    slots: Vec<u32>,
}

impl Many {
    fn heap_bytes(&self) -> usize {
        size_of::<Self>() + (self.endpoints.capacity() + self.slots.capacity()) * size_of::<u32>()
    }
}

impl Holders {
    fn endpoints(&self) -> &[u32] {
        match self {
            Self::One(endpoint, _) => std::slice::from_ref(endpoint),
            Self::Many(many) => &many.endpoints,
        }
    }

    fn slot(&self, endpoint: u32) -> Option<u32> {
        match self {
            Self::One(only, slot) => (*only == endpoint).then_some(*slot),
            Self::Many(many) => {
                let at = many.endpoints.binary_search(&endpoint).ok()?;
                Some(many.slots[at])
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::One(..) => 0,
            Self::Many(many) => many.heap_bytes(),
        }
    }

    fn add(&mut self, endpoint: u32, slot: u32) {
        if let Self::One(only, only_slot) = *self {
            *self = Self::Many(Box::new(Many {
                endpoints: vec![only],
                slots: vec![only_slot],
            }));
        }
        if let Self::Many(many) = self {
            let at = many.endpoints.partition_point(|known| *known < endpoint);
            many.endpoints.insert(at, endpoint);
            many.slots.insert(at, slot);
        }
    }

    /// Of several holders only: the last one goes with the table's entry.
    fn remove(&mut self, endpoint: u32) {
        let Self::Many(many) = self else {
            return;
        };
        if let Ok(at) = many.endpoints.binary_search(&endpoint) {
            many.endpoints.remove(at);
            many.slots.remove(at);
        }
        if let ([only], [slot]) = (&many.endpoints[..], &many.slots[..]) {
            *self = Self::One(*only, *slot);
        } else if many.endpoints.len() * 4 < many.endpoints.capacity() {
            many.endpoints.shrink_to(many.endpoints.len() * 2);
            many.slots.shrink_to(many.slots.len() * 2);
        }
    }
}

/// One block on one endpoint. `older` also chains the free slots.
#[derive(Clone, Copy)]
struct Slot {
    key: u64,
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
    slots: Vec<Slot>,
    free: u32,
    blocks: usize,
    endpoints: Vec<Lru>,
    /// Memory of the holder lists that stand outside the table.
    holders_bytes: usize,
    /// Endpoints that still match, while a prompt is walked.
    matching: Vec<u32>,
}

impl PrefixIndex {
    pub fn new(blocks_max: usize) -> Self {
        Self {
            blocks_max,
            table: Table::default(),
            slots: Vec::new(),
            free: NONE,
            blocks: 0,
            endpoints: Vec::new(),
            holders_bytes: 0,
            matching: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.blocks
    }

    pub fn endpoint_bytes(&self, endpoint: usize) -> u64 {
        self.endpoints.get(endpoint).map_or(0, |lru| lru.bytes)
    }

    /// What the index has allocated, up to the allocator's own overhead.
    pub fn memory_bytes(&self) -> usize {
        // The table keeps one control byte per bucket and fills at most 7/8 of its buckets.
        let buckets = match self.table.capacity() {
            0 => 0,
            capacity => (capacity * 8 / 7).next_power_of_two(),
        };
        size_of::<Self>()
            + buckets * (size_of::<(u64, Holders)>() + 1)
            + self.slots.capacity() * size_of::<Slot>()
            + self.endpoints.capacity() * size_of::<Lru>()
            + self.matching.capacity() * size_of::<u32>()
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
        for hash in hashes.iter().take(BLOCKS_MAX) {
            let Some(holders) = self.table.get(&(hash ^ seed)) else {
                break;
            };
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
        // From leaf to root, so that the root ends up freshest.
        for (position, hash) in hashes.iter().enumerate().rev() {
            self.touch(endpoint, hash ^ seed, position);
        }
        self.shrink_to_capacity(endpoint);
        self.shrink_to_limit();
    }

    pub fn clear(&mut self, endpoint: usize) {
        if endpoint < self.endpoints.len() {
            while self.forget_oldest(endpoint) {}
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
        while self.blocks > self.blocks_max {
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
            while self.blocks > self.blocks_max
                && self.endpoints[fullest].bytes >= second_bytes
                && self.forget_oldest(fullest)
            {}
        }
    }

    /// Makes the block the endpoint's freshest; adds it when it is not known there.
    fn touch(&mut self, endpoint: usize, key: u64, position: usize) {
        let owner = endpoint as u32;
        let next_slot = self.free;
        let new_slot = if next_slot == NONE {
            self.slots.len() as u32
        } else {
            next_slot
        };
        match self.table.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Holders::One(owner, new_slot));
            }
            Entry::Occupied(mut entry) => {
                let holders = entry.get_mut();
                if let Some(slot) = holders.slot(owner) {
                    self.unlink(endpoint, slot);
                    self.link(endpoint, slot);
                    return;
                }
                let before = holders.heap_bytes();
                holders.add(owner, new_slot);
                self.holders_bytes += holders.heap_bytes() - before;
            }
        }
        let bytes = (block_end(position + 1) - block_end(position)) as u32;
        let slot = Slot {
            key,
            newer: NONE,
            older: NONE,
            bytes,
        };
        if next_slot == NONE {
            self.slots.push(slot);
        } else {
            self.free = self.slots[new_slot as usize].older;
            self.slots[new_slot as usize] = slot;
        }
        self.link(endpoint, new_slot);
        self.endpoints[endpoint].bytes += u64::from(bytes);
        self.blocks += 1;
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
        self.unlink(endpoint, oldest);
        let Slot { key, bytes, .. } = self.slots[oldest as usize];
        self.endpoints[endpoint].bytes -= u64::from(bytes);
        self.blocks -= 1;
        self.slots[oldest as usize].older = self.free;
        self.free = oldest;
        if let Entry::Occupied(mut entry) = self.table.entry(key) {
            if let Holders::Many(_) = entry.get() {
                let before = entry.get().heap_bytes();
                entry.get_mut().remove(endpoint as u32);
                self.holders_bytes -= before - entry.get().heap_bytes();
            } else {
                entry.remove();
            }
        }
        true
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
