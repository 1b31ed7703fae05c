//! Block key → block number, by open addressing.
//!
//! Problem: a prompt is hundreds of keys, each in another place of a table that no cache holds.
//! Model: cells of eight bytes (half of the mixed key, and the number; whoever asks compares the
//! whole key), probed one after the other, so that nearly every search is one cache line, which can
//! be fetched before it is needed. Invariants: at most 3/4 of the cells are taken; no tombstones.

use super::prefetch::prefetch;
use std::mem::size_of;

#[derive(Clone, Copy)]
struct Cell {
    tag: u32,
    block: u32,
}

const NONE: u32 = u32::MAX;
const EMPTY: Cell = Cell {
    tag: 0,
    block: NONE,
};
const CELLS_MIN: usize = 16;

/// Keys are hashes already, but not all callers' are good ones.
fn tag_of(key: u64) -> u32 {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

pub struct Table {
    cells: Vec<Cell>,
    taken: usize,
}

impl Table {
    pub fn new() -> Self {
        Self {
            cells: vec![EMPTY; CELLS_MIN],
            taken: 0,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>()
    }

    /// The highest bits of the tag: so a larger table keeps the order of a smaller one.
    fn home(&self, tag: u32) -> usize {
        (tag >> (32 - self.cells.len().trailing_zeros())) as usize
    }

    fn after(&self, cell: usize) -> usize {
        (cell + 1) & (self.cells.len() - 1)
    }

    /// Asks for the line of the key, to be there when it is searched.
    #[inline]
    pub fn prefetch(&self, key: u64) {
        prefetch(&self.cells, self.home(tag_of(key)));
    }

    /// The number that `is_it` accepts, of those under keys like this one.
    #[inline]
    pub fn find(&self, key: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag_of(key);
        let mut at = self.home(tag);
        loop {
            let cell = self.cells[at];
            if cell.block == NONE {
                return None;
            }
            if cell.tag == tag && is_it(cell.block) {
                return Some(cell.block);
            }
            at = self.after(at);
        }
    }

    /// The key must not be there yet.
    pub fn insert(&mut self, key: u64, block: u32) {
        if (self.taken + 1) * 4 > self.cells.len() * 3 {
            let larger = vec![EMPTY; self.cells.len() * 2];
            for cell in std::mem::replace(&mut self.cells, larger) {
                if cell.block != NONE {
                    self.place(cell);
                }
            }
        }
        self.taken += 1;
        self.place(Cell {
            tag: tag_of(key),
            block,
        });
    }

    fn place(&mut self, cell: Cell) {
        let mut at = self.home(cell.tag);
        while self.cells[at].block != NONE {
            at = self.after(at);
        }
        self.cells[at] = cell;
    }

    pub fn remove(&mut self, key: u64, block: u32) {
        let mut hole = self.home(tag_of(key));
        while self.cells[hole].block != block {
            if self.cells[hole].block == NONE {
                return;
            }
            hole = self.after(hole);
        }
        self.taken -= 1;
        // What comes after closes up, as far as it may: no cell moves before its home.
        let mask = self.cells.len() - 1;
        let mut at = self.after(hole);
        while self.cells[at].block != NONE {
            let home = self.home(self.cells[at].tag);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = self.cells[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.cells[hole] = EMPTY;
    }
}
