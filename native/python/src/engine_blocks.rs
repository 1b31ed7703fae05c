//! The blocks that one engine has in its cache, as its events tell them, and which of our prompt
//! blocks each of them stands for.
//!
//! Problem: an engine names blocks of tokens, the prefix index blocks of bytes, and no tokenizer
//! stands between them. Model: a table of the engine's blocks, each with its parent and the tokens
//! that its prefix ends at; what was stored in one go is remembered for a while as a run. Whoever
//! finds that a run was the end of a certain prompt binds that prompt's blocks to the path from the
//! first block to the run's last: a byte block belongs to the engine block in which it ends, in
//! proportion to the prompt's own bytes per token, counted from the nearest place where both are
//! known already. When an engine block goes, the prompt blocks bound to it are lost. Invariants: a
//! key is bound to one block at most, and only to a block that is there; a block that was stored
//! twice must be removed twice; blocks, bindings and runs are bounded. It judges nothing: see
//! picker/datalayer/kv_events/association.py.

use crate::kv_events::{read_batch, Event};
use crate::prefix_index::table::Table;
use inferway_wire::blocks::{block_end, BLOCKS_MAX};
use std::collections::{HashMap, HashSet, VecDeque};
use std::mem::size_of;

const NONE: u32 = u32::MAX;
/// A run that is shorter cannot complete a prompt block: mostly it is one block of an answer.
pub const RUN_TOKENS_MIN: u32 = 48;
const RUNS_MAX: usize = 1024;
/// Prompts that differ only behind a block may bind to it; their number must not matter.
const BINDINGS_PER_BLOCK_MAX: usize = 8;

/// One block of the engine. `hash` of a free place is the next free one.
struct Node {
    hash: u64,
    parent: u64,
    /// Of its whole prefix; 0: not known, because a block before it is not.
    tokens_end: u32,
    tokens: u32,
    binding: u32,
    copies: u32,
}

/// `next` also chains the free places.
struct Binding {
    key: u64,
    next: u32,
}

struct Run {
    at_s: f64,
    leaf: u64,
    tokens_end: u32,
    block_tokens: u32,
    /// Stored in one go.
    tokens: u32,
    bound: bool,
}

/// What one batch did.
#[derive(Default)]
pub struct Applied {
    pub stored: u32,
    pub removed: u32,
    pub orphans: u32,
    pub ignored: u32,
    pub unread: u32,
    pub cleared: bool,
    /// Keys of prompt blocks that are not cached any more.
    pub lost: Vec<u64>,
}

/// A run that may be the end of a prompt: its number, the tokens stored in one go, and how many of
/// the keys bound to its path are the prompt's and how many are others'.
pub type Candidate = (u64, u32, u32, u32);

pub struct EngineBlocks {
    blocks_max: usize,
    /// Of the first batch that said one.
    rank: Option<u64>,
    table: Table,
    nodes: Vec<Node>,
    nodes_free: u32,
    held: usize,
    tokens: u64,
    bindings: Vec<Binding>,
    bindings_free: u32,
    bound: HashMap<u64, u32>,
    runs: VecDeque<Run>,
    /// Number of the oldest run that is remembered.
    first_run: u64,
}

impl EngineBlocks {
    pub fn new(blocks_max: usize) -> Self {
        Self {
            blocks_max,
            rank: None,
            table: Table::new(),
            nodes: Vec::new(),
            nodes_free: NONE,
            held: 0,
            tokens: 0,
            bindings: Vec::new(),
            bindings_free: NONE,
            bound: HashMap::new(),
            runs: VecDeque::new(),
            first_run: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.held
    }

    /// Of all blocks that are there.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    pub fn bound(&self) -> usize {
        self.bound.len()
    }

    /// What is allocated, up to the allocator's own overhead.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.table.memory_bytes()
            + self.nodes.capacity() * size_of::<Node>()
            + self.bindings.capacity() * size_of::<Binding>()
            + self.bound.capacity() * (size_of::<(u64, u32)>() + 1)
            + self.runs.capacity() * size_of::<Run>()
    }

    /// None: not a batch, or one of another data-parallel rank, and nothing changed.
    pub fn apply(&mut self, batch: &[u8], now_s: f64) -> Option<Applied> {
        let batch = read_batch(batch)?;
        if self.rank.is_some() && batch.rank.is_some() && self.rank != batch.rank {
            return None;
        }
        self.rank = self.rank.or(batch.rank);
        let mut applied = Applied {
            unread: batch.unread,
            ..Applied::default()
        };
        let mut run: Option<Run> = None;
        for event in batch.events {
            match event {
                Event::Stored {
                    blocks,
                    parent,
                    block_tokens,
                } => {
                    if run.as_ref().is_none_or(|run| Some(run.leaf) != parent) {
                        self.remember(run.take());
                    }
                    self.store(&blocks, parent, block_tokens, &mut applied);
                    run = self.extended(run, &blocks, block_tokens, now_s);
                }
                Event::Removed { blocks } => {
                    for hash in blocks {
                        self.remove(hash, &mut applied);
                    }
                }
                Event::Cleared => {
                    run = None;
                    applied.cleared = true;
                    applied.lost.extend(self.clear());
                }
                Event::Elsewhere => applied.ignored += 1,
            }
        }
        self.remember(run);
        Some(applied)
    }

    /// Forgets everything; returns the keys that were bound.
    pub fn clear(&mut self) -> Vec<u64> {
        let lost = self.bound.keys().copied().collect();
        let first_run = self.first_run + self.runs.len() as u64;
        *self = Self {
            first_run,
            ..Self::new(self.blocks_max)
        };
        lost
    }

    /// The runs that ended where a prompt of so many tokens has its last full block, within a time.
    pub fn candidates(
        &self,
        tokens: u32,
        since_s: f64,
        until_s: f64,
        keys: &[u64],
    ) -> Vec<Candidate> {
        let keys: HashSet<u64> = keys.iter().copied().collect();
        let mut found = Vec::new();
        for (number, run) in self.runs.iter().enumerate() {
            let ends_there = run.tokens_end <= tokens && tokens - run.tokens_end < run.block_tokens;
            if run.bound || !ends_there || run.at_s < since_s || run.at_s > until_s {
                continue;
            }
            let Some(path) = self.path(run.leaf) else {
                continue;
            };
            let bound = path.iter().flat_map(|node| self.keys_of(*node));
            let (mut own, mut others) = (0, 0);
            for key in bound {
                *(if keys.contains(&key) {
                    &mut own
                } else {
                    &mut others
                }) += 1;
            }
            found.push((self.first_run + number as u64, run.tokens, own, others));
        }
        found
    }

    /// Binds a prompt's blocks to the path that ends with the run; returns how many blocks from the
    /// prompt's beginning the engine has. 0: the run is forgotten, or a part of its path is gone.
    pub fn bind(&mut self, run: u64, keys: &[u64], tokens: u32, bytes: u64) -> usize {
        let Some(index) = run.checked_sub(self.first_run) else {
            return 0;
        };
        let Some(run) = self.runs.get_mut(index as usize) else {
            return 0;
        };
        run.bound = true;
        let leaf = run.leaf;
        let Some(path) = self.path(leaf) else {
            return 0;
        };
        let keys = &keys[..keys.len().min(BLOCKS_MAX)];
        let (known, known_tokens) = self.known(&path, keys);
        let known_bytes = block_end(known) as f64;
        let per_byte =
            (f64::from(tokens) - known_tokens).max(0.0) / (bytes as f64 - known_bytes).max(1.0);
        let mut at = 0;
        for (position, key) in keys.iter().enumerate().skip(known) {
            let end = known_tokens + (block_end(position + 1) as f64 - known_bytes) * per_byte;
            while at < path.len() && f64::from(self.nodes[path[at] as usize].tokens_end) < end {
                at += 1;
            }
            let Some(node) = path.get(at) else {
                return position;
            };
            self.tie(*key, *node);
        }
        keys.len()
    }

    /// Those of the keys that are bound to no block.
    pub fn unbound(&self, keys: &[u64]) -> Vec<u64> {
        let unbound = keys.iter().filter(|key| !self.bound.contains_key(key));
        unbound.copied().collect()
    }

    fn find(&self, hash: u64) -> Option<u32> {
        self.table
            .find(hash, |node| self.nodes[node as usize].hash == hash)
    }

    /// The blocks from the first to this one; None: not all of them are there.
    fn path(&self, leaf: u64) -> Option<Vec<u32>> {
        let mut path = Vec::new();
        let mut hash = leaf;
        loop {
            let number = self.find(hash)?;
            let node = &self.nodes[number as usize];
            if node.tokens_end < node.tokens || path.len() > self.held {
                return None;
            }
            path.push(number);
            if node.tokens_end == node.tokens {
                path.reverse();
                return Some(path);
            }
            hash = node.parent;
        }
    }

    /// How many blocks of the prompt end where a block of the path is bound to the last of them,
    /// and the tokens there.
    fn known(&self, path: &[u32], keys: &[u64]) -> (usize, f64) {
        let positions: HashMap<u64, usize> = keys.iter().copied().zip(1..).collect();
        for number in path.iter().rev() {
            let furthest = self.keys_of(*number);
            if let Some(known) = furthest.filter_map(|key| positions.get(&key)).max() {
                return (*known, f64::from(self.nodes[*number as usize].tokens_end));
            }
        }
        (0, 0.0)
    }

    fn store(&mut self, blocks: &[u64], parent: Option<u64>, tokens: u32, applied: &mut Applied) {
        let mut before = parent;
        let mut tokens_end = match parent {
            None => Some(0),
            Some(hash) => {
                let known = self
                    .find(hash)
                    .map(|node| self.nodes[node as usize].tokens_end);
                known.filter(|end| *end > 0)
            }
        };
        applied.orphans += u32::from(tokens_end.is_none());
        for hash in blocks {
            tokens_end = tokens_end.and_then(|end: u32| end.checked_add(tokens));
            self.add(
                *hash,
                before.unwrap_or(0),
                tokens_end.unwrap_or(0),
                tokens,
                applied,
            );
            before = Some(*hash);
        }
    }

    fn add(&mut self, hash: u64, parent: u64, tokens_end: u32, tokens: u32, applied: &mut Applied) {
        if let Some(known) = self.find(hash) {
            let node = &mut self.nodes[known as usize];
            node.copies = node.copies.saturating_add(1);
            if node.tokens_end == 0 {
                (node.parent, node.tokens_end) = (parent, tokens_end);
            }
            applied.stored += 1;
            return;
        }
        if self.held >= self.blocks_max {
            applied.ignored += 1;
            return;
        }
        let node = Node {
            hash,
            parent,
            tokens_end,
            tokens,
            binding: NONE,
            copies: 1,
        };
        let number = match self.nodes_free {
            NONE => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
            free => {
                let place = &mut self.nodes[free as usize];
                self.nodes_free = place.hash as u32;
                *place = node;
                free
            }
        };
        self.table.insert(hash, number);
        self.held += 1;
        self.tokens += u64::from(tokens);
        applied.stored += 1;
    }

    fn remove(&mut self, hash: u64, applied: &mut Applied) {
        let Some(number) = self.find(hash) else {
            return;
        };
        applied.removed += 1;
        let node = &mut self.nodes[number as usize];
        node.copies -= 1;
        if node.copies > 0 {
            return;
        }
        let mut binding = node.binding;
        self.tokens -= u64::from(node.tokens);
        self.held -= 1;
        self.table.remove(hash, number);
        node.hash = u64::from(self.nodes_free);
        self.nodes_free = number;
        while binding != NONE {
            let Binding { key, next } = self.bindings[binding as usize];
            self.bound.remove(&key);
            applied.lost.push(key);
            self.free_binding(binding);
            binding = next;
        }
    }

    /// The run with the blocks at its end; None when they cannot be the end of a known path.
    fn extended(
        &self,
        run: Option<Run>,
        blocks: &[u64],
        block_tokens: u32,
        at_s: f64,
    ) -> Option<Run> {
        let leaf = *blocks.last()?;
        let node = self.find(leaf)?;
        let tokens_end = self.nodes[node as usize].tokens_end;
        let added = (blocks.len() as u32).saturating_mul(block_tokens);
        (tokens_end > 0).then_some(Run {
            at_s,
            leaf,
            tokens_end,
            block_tokens,
            tokens: run.map_or(0, |run| run.tokens).saturating_add(added),
            bound: false,
        })
    }

    fn remember(&mut self, run: Option<Run>) {
        let Some(run) = run.filter(|run| run.tokens >= RUN_TOKENS_MIN) else {
            return;
        };
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
            self.first_run += 1;
        }
        self.runs.push_back(run);
    }

    fn keys_of(&self, node: u32) -> impl Iterator<Item = u64> + '_ {
        let first = self.nodes[node as usize].binding;
        let at = move |binding: u32| (binding != NONE).then_some(binding);
        let bindings = std::iter::successors(at(first), move |binding| {
            at(self.bindings[*binding as usize].next)
        });
        bindings.map(|binding| self.bindings[binding as usize].key)
    }

    fn tie(&mut self, key: u64, node: u32) {
        match self.bound.insert(key, node) {
            Some(before) if before == node => return,
            Some(before) => self.untie(key, before),
            None => {}
        }
        let oldest = self.keys_of(node).nth(BINDINGS_PER_BLOCK_MAX - 1);
        if let Some(oldest) = oldest {
            self.bound.remove(&oldest);
            self.untie(oldest, node);
        }
        let next = self.nodes[node as usize].binding;
        let binding = Binding { key, next };
        let number = match self.bindings_free {
            NONE => {
                self.bindings.push(binding);
                self.bindings.len() as u32 - 1
            }
            free => {
                let place = &mut self.bindings[free as usize];
                self.bindings_free = place.next;
                *place = binding;
                free
            }
        };
        self.nodes[node as usize].binding = number;
    }

    /// Takes the key out of the node's list.
    fn untie(&mut self, key: u64, node: u32) {
        let mut before = NONE;
        let mut at = self.nodes[node as usize].binding;
        while at != NONE {
            let Binding { key: found, next } = self.bindings[at as usize];
            if found == key {
                match before {
                    NONE => self.nodes[node as usize].binding = next,
                    before => self.bindings[before as usize].next = next,
                }
                self.free_binding(at);
                return;
            }
            (before, at) = (at, next);
        }
    }

    fn free_binding(&mut self, binding: u32) {
        self.bindings[binding as usize].next = self.bindings_free;
        self.bindings_free = binding;
    }
}
