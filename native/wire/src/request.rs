//! Request body → what a decision needs: model, limits, hints, and the prompt's block hashes.
//!
//! Problem: the fields stand in the body in any order, the prompt's parts are hashed in one fixed
//! order, and the body is megabytes in pieces that somebody else owns. Model: `feed` checks the
//! grammar, decodes the few small values and notes where the prompt's parts lie; `finish` gets the
//! pieces again and hashes those ranges. Invariants: the last of several equal keys wins; null is
//! absent. Whether the model exists or the request makes sense to a server is not judged here.

use std::ops::Range;

use crate::blocks::{hash_seed, BlockHasher};
pub use crate::json::Malformed;
use crate::json::{integer, unescape, Scanner, Sink, Text, Want};
use crate::splice::Edit;
use crate::tools::ToolScanner;

const TEXT_BYTES_MAX: usize = 1024;

/// The route that a request came by. The numbers are those of the pick protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Other = 0,
    Chat = 1,
    Completions = 2,
    Embeddings = 3,
    Responses = 4,
    Messages = 5,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestFields {
    /// None with `model_not_string` false: absent.
    pub model: Option<String>,
    /// Where the model's string stands in the body, quotes included; None when there is no model.
    pub model_range: Option<Range<usize>>,
    pub model_not_string: bool,
    pub stream: bool,
    /// 0: none given, or not a number of tokens.
    pub max_tokens: u32,
    /// Saturated to 32 bits; None: absent or not a whole number.
    pub priority: Option<i32>,
    pub cache_salt: Option<String>,
    /// Who the client acts for, as it says; None also when that is longer than 1 KiB.
    pub user: Option<String>,
    /// Whether the server itself runs a tool, so that the request must not be sent twice.
    pub server_tools: bool,
    /// What makes the server report usage in a stream; None when it does so anyway.
    pub usage_edit: Option<Edit>,
    pub prompt_bytes: u32,
    pub hashes: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Field {
    Model,
    Stream,
    /// `max_tokens`, `max_completion_tokens`, `max_output_tokens`
    Limit(usize),
    Priority,
    CacheSalt,
    User,
    StreamOptions,
    /// Index in `PART_*`.
    Part(usize),
}

/// Parts of a prompt in the order in which they are hashed; the last three exclude each other.
const PART_TOOLS: usize = 0;
const PART_INSTRUCTIONS: usize = 1;
const PART_SYSTEM: usize = 2;
const PART_MESSAGES: usize = 3;
const PART_PROMPT: usize = 4;
const PART_INPUT: usize = 5;
const PARTS: usize = 6;

/// Where a part's raw JSON text lies in the body.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    end: usize,
    array: bool,
}

/// Depth of the members of `stream_options`, the only container that is looked into.
const OPTIONS: usize = 2;

/// What was seen of `stream_options`.
#[derive(Default)]
struct Options {
    range: Option<Range<usize>>,
    object: bool,
    null: bool,
    empty: bool,
    is_usage: bool,
    /// Where the value of `include_usage` stands, and whether it is true.
    usage: Option<(Range<usize>, bool)>,
}

#[derive(Default)]
struct Fields {
    current: Option<Field>,
    model: Option<String>,
    model_range: Option<Range<usize>>,
    model_not_string: bool,
    stream: bool,
    limits: [Option<u32>; 3],
    priority: Option<i32>,
    cache_salt: Option<String>,
    user: Option<String>,
    /// Where the members of the body begin.
    members: usize,
    options: Options,
    parts: [Option<Part>; PARTS],
}

fn decoded(text: Text<'_>, too_long: &'static str) -> Result<Option<String>, &'static str> {
    match text {
        Text::NotWanted => Ok(None),
        Text::TooLong => Err(too_long),
        Text::Raw(raw) => match unescape(raw) {
            text if text.len() > TEXT_BYTES_MAX => Err(too_long),
            text => Ok(Some(text.into_owned())),
        },
    }
}

fn number(text: Text<'_>) -> Option<i64> {
    match text {
        Text::Raw(raw) => integer(raw),
        _ => None,
    }
}

impl Sink for Fields {
    fn key(&mut self, depth: usize, key: &[u8]) {
        if depth == OPTIONS {
            self.options.is_usage = key == b"include_usage";
            self.options.empty = false;
            return;
        }
        self.current = match key {
            b"model" => Some(Field::Model),
            b"stream" => Some(Field::Stream),
            b"max_tokens" => Some(Field::Limit(0)),
            b"max_completion_tokens" => Some(Field::Limit(1)),
            b"max_output_tokens" => Some(Field::Limit(2)),
            b"priority" => Some(Field::Priority),
            b"cache_salt" => Some(Field::CacheSalt),
            b"user" => Some(Field::User),
            b"stream_options" => Some(Field::StreamOptions),
            b"tools" => Some(Field::Part(PART_TOOLS)),
            b"instructions" => Some(Field::Part(PART_INSTRUCTIONS)),
            b"system" => Some(Field::Part(PART_SYSTEM)),
            b"messages" => Some(Field::Part(PART_MESSAGES)),
            b"prompt" => Some(Field::Part(PART_PROMPT)),
            b"input" => Some(Field::Part(PART_INPUT)),
            _ => None,
        };
    }

    fn begin(&mut self, depth: usize, first: u8, offset: usize) -> Want {
        if depth == OPTIONS {
            if self.options.is_usage {
                self.options.usage = Some((offset..offset, first == b't'));
            }
            return Want::Skip;
        }
        if depth == 0 {
            self.members = offset + 1;
            return if first == b'{' {
                Want::Inside
            } else {
                Want::Skip
            };
        }
        let is_number = first == b'-' || first.is_ascii_digit();
        let wanted = match self.current {
            None => false,
            Some(Field::Model) => {
                self.model = None;
                self.model_range = (first == b'"').then_some(offset..offset);
                self.model_not_string = first != b'"' && first != b'n';
                first == b'"'
            }
            Some(Field::Stream) => {
                self.stream = first == b't';
                false
            }
            Some(Field::Limit(index)) => {
                self.limits[index] = (first != b'n').then_some(0);
                is_number
            }
            Some(Field::Priority) => {
                self.priority = None;
                is_number
            }
            Some(Field::CacheSalt) => {
                self.cache_salt = None;
                first == b'"'
            }
            Some(Field::User) => {
                self.user = None;
                first == b'"'
            }
            Some(Field::StreamOptions) => {
                self.options = Options {
                    range: Some(offset..offset),
                    object: first == b'{',
                    null: first == b'n',
                    empty: true,
                    ..Options::default()
                };
                if first == b'{' {
                    return Want::Inside;
                }
                false
            }
            Some(Field::Part(index)) => {
                self.parts[index] = (first != b'n').then_some(Part {
                    start: offset,
                    end: offset,
                    array: first == b'[',
                });
                false
            }
        };
        if wanted {
            Want::Text
        } else {
            Want::Skip
        }
    }

    fn end(&mut self, depth: usize, offset: usize, text: Text<'_>) -> Result<(), &'static str> {
        if depth == 0 {
            return Ok(());
        }
        if depth == OPTIONS {
            if let (true, Some((range, _))) = (self.options.is_usage, &mut self.options.usage) {
                range.end = offset;
            }
            return Ok(());
        }
        match self.current {
            Some(Field::Model) => {
                self.model = decoded(text, "the model name is longer than 1024 bytes")?;
                if let Some(range) = &mut self.model_range {
                    range.end = offset;
                }
            }
            Some(Field::CacheSalt) => {
                self.cache_salt = decoded(text, "cache_salt is longer than 1024 bytes")?;
            }
            Some(Field::User) => self.user = decoded(text, "").unwrap_or(None),
            Some(Field::Limit(index)) => {
                if let Some(value) = number(text) {
                    self.limits[index] = Some(u32::try_from(value).unwrap_or(0));
                }
            }
            Some(Field::Priority) => {
                self.priority =
                    number(text).map(|value| value.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
            }
            Some(Field::Part(index)) => {
                if let Some(part) = &mut self.parts[index] {
                    part.end = offset;
                }
            }
            Some(Field::StreamOptions) => {
                if let Some(range) = &mut self.options.range {
                    range.end = offset;
                }
            }
            Some(Field::Stream) | None => {}
        }
        Ok(())
    }
}

impl Fields {
    fn max_tokens(&self, kind: Kind) -> u32 {
        let [plain, completion, output] = self.limits;
        match kind {
            Kind::Responses => output,
            _ => completion.or(plain),
        }
        .unwrap_or(0)
    }

    /// Other APIs report usage in every stream.
    fn usage_edit(&self, kind: Kind) -> Option<Edit> {
        let asks = self.stream && matches!(kind, Kind::Chat | Kind::Completions);
        let options = &self.options;
        let edit = |range: Range<usize>, text: &str| {
            Some(Edit {
                range,
                text: text.as_bytes().to_vec(),
            })
        };
        match (asks, &options.range, &options.usage) {
            (false, ..) | (true, Some(_), Some((_, true))) => None,
            (true, Some(_), Some((range, false))) => edit(range.clone(), "true"),
            (true, None, _) => edit(
                self.members..self.members,
                "\"stream_options\":{\"include_usage\":true},",
            ),
            (true, Some(range), None) if options.object => {
                let comma = if options.empty { "" } else { "," };
                let text = format!("\"include_usage\":true{comma}");
                edit(range.start + 1..range.start + 1, &text)
            }
            (true, Some(range), None) if options.null => {
                edit(range.clone(), "{\"include_usage\":true}")
            }
            // The server will refuse it, in its own words.
            (true, Some(_), None) => None,
        }
    }

    /// Ranges of the body that form the prompt, in the order in which they are hashed.
    fn prompt(&self, kind: Kind) -> impl Iterator<Item = (usize, usize)> {
        let main = match kind {
            Kind::Chat | Kind::Messages => self.parts[PART_MESSAGES],
            Kind::Completions => self.parts[PART_PROMPT],
            Kind::Embeddings | Kind::Responses => self.parts[PART_INPUT],
            Kind::Other => self.parts[PART_MESSAGES]
                .or(self.parts[PART_PROMPT])
                .or(self.parts[PART_INPUT]),
        };
        // Without its closing bracket a conversation is a prefix of its continuation.
        let main = main.map(|part| (part.start, part.end - usize::from(part.array)));
        let before = [PART_TOOLS, PART_INSTRUCTIONS, PART_SYSTEM]
            .map(|index| self.parts[index].map(|part| (part.start, part.end)));
        before.into_iter().flatten().chain(main)
    }
}

/// Takes a body in arbitrary pieces and keeps none of them.
pub struct RequestScanner {
    kind: Kind,
    json: Scanner,
    bytes: usize,
    fields: Fields,
}

impl RequestScanner {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            json: Scanner::new(),
            bytes: 0,
            fields: Fields::default(),
        }
    }

    /// An error is final.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        self.bytes += piece.len();
        self.json.feed(piece, &mut self.fields)
    }

    /// `pieces` are the bytes that were fed, in the same order, cut in any way.
    pub fn finish(mut self, pieces: &[&[u8]]) -> Result<RequestFields, Malformed> {
        self.json.finish(&mut self.fields)?;
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() != self.bytes {
            return Err(Malformed {
                offset: 0,
                reason: "the pieces to hash are not those that were read",
            });
        }
        let fields = self.fields;
        let seed = fields
            .cache_salt
            .as_ref()
            .map_or(0, |salt| hash_seed(salt.as_bytes()));
        let mut hasher = BlockHasher::new(seed);
        for (index, range) in fields.prompt(self.kind).enumerate() {
            if index > 0 {
                hasher.feed(&[0]);
            }
            for_range(pieces, range, |bytes| hasher.feed(bytes));
        }
        let (hashes, prompt_bytes) = hasher.finish();
        let tools = fields.parts[PART_TOOLS].map(|part| {
            let mut scanner = ToolScanner::default();
            for_range(pieces, (part.start, part.end), |bytes| scanner.feed(bytes));
            scanner.server_runs_one()
        });
        Ok(RequestFields {
            server_tools: tools.unwrap_or(false),
            usage_edit: fields.usage_edit(self.kind),
            max_tokens: fields.max_tokens(self.kind),
            model: fields.model,
            model_range: fields.model_range,
            model_not_string: fields.model_not_string,
            stream: fields.stream,
            priority: fields.priority,
            cache_salt: fields.cache_salt,
            user: fields.user,
            prompt_bytes: u32::try_from(prompt_bytes).unwrap_or(u32::MAX),
            hashes,
        })
    }
}

fn for_range(pieces: &[&[u8]], (from, to): (usize, usize), mut each: impl FnMut(&[u8])) {
    let mut offset = 0;
    for piece in pieces {
        if offset >= to {
            return;
        }
        let start = from.saturating_sub(offset).min(piece.len());
        let end = (to - offset).min(piece.len());
        each(&piece[start..end]);
        offset += piece.len();
    }
}
