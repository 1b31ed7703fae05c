//! What an engine publishes of its KV cache: msgpack batches of BlockStored, BlockRemoved and
//! AllBlocksCleared.
//!
//! Problem: batches come from engines of several makes and versions, each in one of two shapes
//! (arrays until vLLM 0.11 and in SGLang, maps in newer ones) and with fields that only some have;
//! and a server may send anything. Model: an event is first measured, then read from its own bytes,
//! so that what cannot be read costs only itself. Token ids are skipped, never made. Invariants:
//! no input makes it fail in any way but `None`; work is linear in the bytes given.

use rmp::Marker;

/// Event of one engine, as far as it says something about the accelerator's own cache.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Stored {
        blocks: Vec<u64>,
        parent: Option<u64>,
        block_tokens: u32,
    },
    Removed {
        blocks: Vec<u64>,
    },
    Cleared,
    /// Blocks of another tier (host memory, disk), or of a layer group that prompts do not go by.
    Elsewhere,
}

/// One published batch. `unread` events could not be understood.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
    pub rank: Option<u64>,
    pub unread: u32,
}

/// None: these bytes are no batch.
pub fn read_batch(bytes: &[u8]) -> Option<Batch> {
    let mut reader = Reader { left: bytes };
    let mut batch = Batch::default();
    match reader.fields()? {
        Fields::Listed(count) => {
            for position in 0..count {
                match position {
                    1 => reader.events(&mut batch)?,
                    2 => batch.rank = reader.integer()?,
                    _ => reader.skip()?,
                }
            }
            (count >= 2).then_some(batch)
        }
        Fields::Named(count) => {
            let mut found = false;
            for _ in 0..count {
                match reader.text()? {
                    b"events" => {
                        reader.events(&mut batch)?;
                        found = true;
                    }
                    b"data_parallel_rank" | b"attn_dp_rank" => batch.rank = reader.integer()?,
                    _ => reader.skip()?,
                }
            }
            found.then_some(batch)
        }
    }
}

enum Fields {
    Listed(usize),
    Named(usize),
}

/// The fields that are read, of whatever event.
#[derive(Clone, Copy)]
enum Field {
    Blocks,
    Parent,
    BlockTokens,
    Medium,
    Group,
    Other,
}

const STORED: [Field; 9] = [
    Field::Blocks,
    Field::Parent,
    Field::Other, // token ids
    Field::BlockTokens,
    Field::Other, // LoRA id
    Field::Medium,
    Field::Other, // LoRA name
    Field::Other, // extra keys
    Field::Group,
];
const REMOVED: [Field; 3] = [Field::Blocks, Field::Medium, Field::Group];

#[derive(Default)]
struct Found {
    blocks: Option<Vec<u64>>,
    parent: Option<u64>,
    block_tokens: Option<u64>,
    elsewhere: bool,
}

impl Found {
    fn take(&mut self, field: Field, reader: &mut Reader) -> Option<()> {
        match field {
            Field::Blocks => self.blocks = Some(reader.hashes()?),
            Field::Parent => self.parent = reader.hash()?,
            Field::BlockTokens => self.block_tokens = reader.integer()?,
            Field::Medium => {
                let medium = reader.text_or_nil()?.unwrap_or(b"gpu");
                self.elsewhere |= !medium.eq_ignore_ascii_case(b"gpu");
            }
            Field::Group => self.elsewhere |= reader.integer()?.unwrap_or(0) != 0,
            Field::Other => reader.skip()?,
        }
        Some(())
    }

    fn stored(self) -> Option<Event> {
        let block_tokens = u32::try_from(self.block_tokens?).ok().filter(|n| *n > 0)?;
        let blocks = self.blocks?;
        if self.elsewhere {
            return Some(Event::Elsewhere);
        }
        Some(Event::Stored {
            blocks,
            parent: self.parent,
            block_tokens,
        })
    }

    fn removed(self) -> Option<Event> {
        let blocks = self.blocks?;
        if self.elsewhere {
            return Some(Event::Elsewhere);
        }
        Some(Event::Removed { blocks })
    }
}

fn read_event(bytes: &[u8]) -> Option<Event> {
    let mut reader = Reader { left: bytes };
    let mut found = Found::default();
    let tag = match reader.fields()? {
        Fields::Listed(count) => {
            let tag = reader.text()?;
            let order: &[Field] = match tag {
                b"BlockStored" => &STORED,
                b"BlockRemoved" => &REMOVED,
                _ => &[],
            };
            for position in 1..count {
                let field = order.get(position - 1).copied();
                found.take(field.unwrap_or(Field::Other), &mut reader)?;
            }
            tag
        }
        Fields::Named(count) => {
            let mut tag: &[u8] = b"";
            for _ in 0..count {
                let field = match reader.text()? {
                    b"type" => {
                        tag = reader.text()?;
                        continue;
                    }
                    b"block_hashes" => Field::Blocks,
                    b"parent_block_hash" => Field::Parent,
                    b"block_size" => Field::BlockTokens,
                    b"medium" => Field::Medium,
                    b"group_idx" => Field::Group,
                    _ => Field::Other,
                };
                found.take(field, &mut reader)?;
            }
            tag
        }
    };
    match tag {
        b"BlockStored" => found.stored(),
        b"BlockRemoved" => found.removed(),
        b"AllBlocksCleared" => Some(Event::Cleared),
        _ => None,
    }
}

struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn marker(&mut self) -> Option<Marker> {
        let (first, rest) = self.left.split_first()?;
        self.left = rest;
        Some(Marker::from_u8(*first))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.left.split_at_checked(count)?;
        self.left = rest;
        Some(taken)
    }

    /// A big-endian number of up to eight bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(big_endian(self.take(bytes)?))
    }

    fn fields(&mut self) -> Option<Fields> {
        Some(match self.marker()? {
            Marker::FixArray(count) => Fields::Listed(count.into()),
            Marker::Array16 => Fields::Listed(self.number(2)? as usize),
            Marker::Array32 => Fields::Listed(self.number(4)? as usize),
            Marker::FixMap(count) => Fields::Named(count.into()),
            Marker::Map16 => Fields::Named(self.number(2)? as usize),
            Marker::Map32 => Fields::Named(self.number(4)? as usize),
            _ => return None,
        })
    }

    fn events(&mut self, batch: &mut Batch) -> Option<()> {
        let Fields::Listed(count) = self.fields()? else {
            return None;
        };
        for _ in 0..count {
            let before = self.left;
            self.skip()?;
            let event = read_event(&before[..before.len() - self.left.len()]);
            batch.unread += u32::from(event.is_none());
            batch.events.extend(event);
        }
        Some(())
    }

    fn hashes(&mut self) -> Option<Vec<u64>> {
        let Fields::Listed(count) = self.fields()? else {
            return None;
        };
        // Every hash has at least one byte, so what is left bounds what a length may promise.
        let mut hashes = Vec::with_capacity(count.min(self.left.len()));
        for _ in 0..count {
            hashes.push(self.hash()??);
        }
        Some(hashes)
    }

    /// A hash as a number: integers as they are (two's complement), of bytes the last eight.
    fn hash(&mut self) -> Option<Option<u64>> {
        let before = self.left;
        let length = match self.marker()? {
            Marker::Bin8 | Marker::Str8 => self.number(1)? as usize,
            Marker::Bin16 | Marker::Str16 => self.number(2)? as usize,
            Marker::Bin32 | Marker::Str32 => self.number(4)? as usize,
            Marker::FixStr(length) => length.into(),
            _ => {
                self.left = before;
                return self.integer();
            }
        };
        let bytes = self.take(length)?;
        let last = &bytes[bytes.len().saturating_sub(8)..];
        (!last.is_empty()).then(|| Some(big_endian(last)))
    }

    /// Some(None): there is nil in its place.
    fn integer(&mut self) -> Option<Option<u64>> {
        Some(Some(match self.marker()? {
            Marker::Null => return Some(None),
            Marker::FixPos(value) => value.into(),
            Marker::FixNeg(value) => i64::from(value) as u64,
            Marker::U8 => self.number(1)?,
            Marker::U16 => self.number(2)?,
            Marker::U32 => self.number(4)?,
            Marker::U64 | Marker::I64 => self.number(8)?,
            Marker::I8 => i64::from(self.number(1)? as i8) as u64,
            Marker::I16 => i64::from(self.number(2)? as i16) as u64,
            Marker::I32 => i64::from(self.number(4)? as i32) as u64,
            _ => return None,
        }))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        self.text_or_nil()?
    }

    fn text_or_nil(&mut self) -> Option<Option<&'a [u8]>> {
        let length = match self.marker()? {
            Marker::Null => return Some(None),
            Marker::FixStr(length) => length.into(),
            Marker::Str8 => self.number(1)? as usize,
            Marker::Str16 => self.number(2)? as usize,
            Marker::Str32 => self.number(4)? as usize,
            _ => return None,
        };
        self.take(length).map(Some)
    }

    /// Passes over one value, however deep.
    fn skip(&mut self) -> Option<()> {
        let mut values: u64 = 1;
        while values > 0 {
            values -= 1;
            let bytes = match self.marker()? {
                Marker::FixArray(count) => {
                    values += u64::from(count);
                    0
                }
                Marker::Array16 => {
                    values += self.number(2)?;
                    0
                }
                Marker::Array32 => {
                    values += self.number(4)?;
                    0
                }
                Marker::FixMap(count) => {
                    values += 2 * u64::from(count);
                    0
                }
                Marker::Map16 => {
                    values += 2 * self.number(2)?;
                    0
                }
                Marker::Map32 => {
                    values += 2 * self.number(4)?;
                    0
                }
                Marker::FixStr(length) => length.into(),
                Marker::Str8 | Marker::Bin8 => self.number(1)?,
                Marker::Str16 | Marker::Bin16 => self.number(2)?,
                Marker::Str32 | Marker::Bin32 => self.number(4)?,
                Marker::Ext8 => 1 + self.number(1)?,
                Marker::Ext16 => 1 + self.number(2)?,
                Marker::Ext32 => 1 + self.number(4)?,
                Marker::FixExt1 => 2,
                Marker::FixExt2 => 3,
                Marker::FixExt4 => 5,
                Marker::FixExt8 => 9,
                Marker::FixExt16 => 17,
                Marker::U8 | Marker::I8 => 1,
                Marker::U16 | Marker::I16 => 2,
                Marker::U32 | Marker::I32 | Marker::F32 => 4,
                Marker::U64 | Marker::I64 | Marker::F64 => 8,
                Marker::FixPos(_) | Marker::FixNeg(_) => 0,
                Marker::Null | Marker::True | Marker::False => 0,
                Marker::Reserved => return None,
            };
            self.take(usize::try_from(bytes).ok()?)?;
        }
        Some(())
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
