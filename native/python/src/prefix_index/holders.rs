//! The endpoints that hold a block, ascending, each with its slot in the slab.

use std::mem::size_of;

pub enum Holders {
    /// No block is here; the next number that is free.
    Free(u32),
    One(u32, u32),
    /// Endpoints and slots.
    Two([u32; 2], [u32; 2]),
    /// First the endpoints, then as many slots: one allocation, and the endpoints in one piece.
    Many(Vec<u32>),
}

impl Holders {
    pub fn is_free(&self) -> bool {
        matches!(self, Self::Free(_))
    }

    pub fn endpoints(&self) -> &[u32] {
        match self {
            Self::Free(_) => &[],
            Self::One(endpoint, _) => std::slice::from_ref(endpoint),
            Self::Two(endpoints, _) => endpoints,
            Self::Many(many) => &many[..many.len() / 2],
        }
    }

    pub fn slot(&self, endpoint: u32) -> Option<u32> {
        match self {
            Self::Free(_) => None,
            Self::One(only, slot) => (*only == endpoint).then_some(*slot),
            Self::Two(endpoints, slots) => {
                let at = endpoints.iter().position(|known| *known == endpoint)?;
                Some(slots[at])
            }
            Self::Many(many) => {
                let (endpoints, slots) = many.split_at(many.len() / 2);
                let at = endpoints.binary_search(&endpoint).ok()?;
                Some(slots[at])
            }
        }
    }

    /// What stands outside of `self`.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Many(many) => many.capacity() * size_of::<u32>(),
            Self::Free(_) | Self::One(..) | Self::Two(..) => 0,
        }
    }

    pub fn add(&mut self, endpoint: u32, slot: u32) {
        match self {
            Self::Free(_) => *self = Self::One(endpoint, slot),
            Self::One(only, only_slot) => {
                *self = if *only < endpoint {
                    Self::Two([*only, endpoint], [*only_slot, slot])
                } else {
                    Self::Two([endpoint, *only], [slot, *only_slot])
                };
            }
            Self::Two(endpoints, slots) => {
                *self = Self::Many([*endpoints, *slots].concat());
                self.add(endpoint, slot);
            }
            Self::Many(many) => {
                let count = many.len() / 2;
                let at = many[..count].partition_point(|known| *known < endpoint);
                many.insert(count + at, slot);
                many.insert(at, endpoint);
            }
        }
    }

    /// The endpoint is one of several holders: the last one goes with the block.
    pub fn remove(&mut self, endpoint: u32) {
        match self {
            Self::Free(_) | Self::One(..) => {}
            Self::Two(endpoints, slots) => {
                let other = usize::from(endpoints[0] == endpoint);
                *self = Self::One(endpoints[other], slots[other]);
            }
            Self::Many(many) => {
                let count = many.len() / 2;
                if let Ok(at) = many[..count].binary_search(&endpoint) {
                    many.remove(count + at);
                    many.remove(at);
                }
                if let [first, second, first_slot, second_slot] = many[..] {
                    *self = Self::Two([first, second], [first_slot, second_slot]);
                } else if many.len() * 4 < many.capacity() {
                    many.shrink_to(many.len() * 2);
                }
            }
        }
    }
}
