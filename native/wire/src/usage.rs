//! Response body → token usage, while the bytes pass by.
//!
//! Problem: servers report tokens in a JSON body, in one of the last events of a stream, or spread
//! over several events, and events are cut anywhere. Model: a line of an event stream that cannot
//! name `usage` costs a search; any other is scanned as JSON, and counts only when it is whole.
//! Later reports override earlier ones number by number. Invariants: no bytes make it fail, and it
//! keeps nothing of the body. It does not know whether the response was a success.

use crate::json::{integer, Scanner, Sink, Text, Want};
use memchr::{memchr2, memchr_iter, memmem};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Other,
    Usage,
    Response,
    Message,
    PromptTokens,
    InputTokens,
    CompletionTokens,
    OutputTokens,
    PromptDetails,
    InputDetails,
    CachedTokens,
    CacheRead,
}

fn name(key: &[u8]) -> Name {
    match key {
        b"usage" => Name::Usage,
        b"response" => Name::Response,
        b"message" => Name::Message,
        b"prompt_tokens" => Name::PromptTokens,
        b"input_tokens" => Name::InputTokens,
        b"completion_tokens" => Name::CompletionTokens,
        b"output_tokens" => Name::OutputTokens,
        b"prompt_tokens_details" => Name::PromptDetails,
        b"input_tokens_details" => Name::InputDetails,
        b"cached_tokens" => Name::CachedTokens,
        b"cache_read_input_tokens" => Name::CacheRead,
        _ => Name::Other,
    }
}

/// One usage object. Each number has two names, `cached` three.
#[derive(Clone, Copy, Default)]
struct Counts {
    prompt: [Option<u32>; 2],
    completion: [Option<u32>; 2],
    cached: [Option<u32>; 3],
}

impl Counts {
    fn slot(&mut self, path: &[Name]) -> Option<&mut Option<u32>> {
        match path {
            [Name::PromptTokens] => Some(&mut self.prompt[0]),
            [Name::InputTokens] => Some(&mut self.prompt[1]),
            [Name::CompletionTokens] => Some(&mut self.completion[0]),
            [Name::OutputTokens] => Some(&mut self.completion[1]),
            [Name::PromptDetails, Name::CachedTokens] => Some(&mut self.cached[0]),
            [Name::InputDetails, Name::CachedTokens] => Some(&mut self.cached[1]),
            [Name::CacheRead] => Some(&mut self.cached[2]),
            _ => None,
        }
    }
}

/// What is known so far.
#[derive(Clone, Copy, Default)]
struct Known {
    prompt: Option<u32>,
    completion: Option<u32>,
    cached: Option<u32>,
}

impl Known {
    fn override_with(&mut self, counts: &Counts) {
        let Counts {
            prompt,
            completion,
            cached,
        } = counts;
        self.prompt = prompt[0].or(prompt[1]).or(self.prompt);
        self.completion = completion[0].or(completion[1]).or(self.completion);
        self.cached = cached[0].or(cached[1]).or(cached[2]).or(self.cached);
    }
}

/// Depth of `cached_tokens` in `response.usage.input_tokens_details.cached_tokens`.
const DEPTH_MAX: usize = 4;

/// Usage objects of one JSON text, by where they stand: `message.usage`, `response.usage`, `usage`.
struct Report {
    nested: bool,
    path: [Name; DEPTH_MAX],
    counts: [Counts; 3],
}

const IN_MESSAGE: usize = 0;
const IN_RESPONSE: usize = 1;
const TOP: usize = 2;

impl Report {
    fn new(nested: bool) -> Self {
        Self {
            nested,
            path: [Name::Other; DEPTH_MAX],
            counts: [Counts::default(); 3],
        }
    }

    /// Which usage object the value at `depth` belongs to, and its path within it.
    fn place(&self, depth: usize) -> Option<(usize, &[Name])> {
        match &self.path[..depth] {
            [Name::Usage, rest @ ..] => Some((TOP, rest)),
            [Name::Response, Name::Usage, rest @ ..] if self.nested => Some((IN_RESPONSE, rest)),
            [Name::Message, Name::Usage, rest @ ..] if self.nested => Some((IN_MESSAGE, rest)),
            _ => None,
        }
    }

    /// Forgets what an earlier value under the same keys said.
    fn forget(&mut self, depth: usize) {
        match self.path[..depth] {
            [Name::Response] => self.counts[IN_RESPONSE] = Counts::default(),
            [Name::Message] => self.counts[IN_MESSAGE] = Counts::default(),
            _ => {
                let Some((index, path)) = self.place(depth) else {
                    return;
                };
                let mut counts = self.counts[index];
                match path {
                    [] => counts = Counts::default(),
                    [Name::PromptDetails] => counts.cached[0] = None,
                    [Name::InputDetails] => counts.cached[1] = None,
                    path => {
                        if let Some(slot) = counts.slot(path) {
                            *slot = None;
                        }
                    }
                }
                self.counts[index] = counts;
            }
        }
    }
}

impl Sink for Report {
    fn key(&mut self, depth: usize, key: &[u8]) {
        self.path[depth - 1] = name(key);
    }

    fn begin(&mut self, depth: usize, first: u8, _offset: usize) -> Want {
        if depth > 0 && self.path[depth - 1] == Name::Other {
            return Want::Skip;
        }
        self.forget(depth);
        let is_way = match &self.path[..depth] {
            [] => true,
            [Name::Response | Name::Message] => self.nested,
            _ => matches!(
                self.place(depth),
                Some((_, [] | [Name::PromptDetails | Name::InputDetails]))
            ),
        };
        match first {
            b'{' if is_way => Want::Inside,
            b'-' | b'0'..=b'9' if self.place(depth).is_some() => Want::Text,
            _ => Want::Skip,
        }
    }

    fn end(&mut self, depth: usize, _offset: usize, text: Text<'_>) -> Result<(), &'static str> {
        let Text::Raw(raw) = text else {
            return Ok(());
        };
        let value = integer(raw).and_then(|value| u32::try_from(value).ok());
        if let Some((index, _)) = self.place(depth) {
            let path = self.path;
            let within = if index == TOP { 1 } else { 2 };
            if let Some(slot) = self.counts[index].slot(&path[within..depth]) {
                *slot = value;
            }
        }
        Ok(())
    }
}

/// Whether what follows the word `usage` makes it a key whose value is null.
fn is_null(rest: &[u8]) -> bool {
    rest.starts_with(b"\":null") || rest.starts_with(b"\": null")
}

/// Where in a line of an event stream we are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So much of `data:` was seen.
    Name(usize),
    Data,
    Ignored,
}

const DATA: &[u8] = b"data:";
const DONE: &[u8] = b"[DONE]";

/// Takes a body in arbitrary pieces.
pub struct UsageScanner {
    event_stream: bool,
    json: Scanner,
    report: Report,
    known: Known,
    line: Line,
    /// So much of `[DONE]` was seen in this line; None: it is something else.
    done_seen: Option<usize>,
    done: bool,
    json_complete: bool,
    usage: memmem::Finder<'static>,
}

impl UsageScanner {
    pub fn new(event_stream: bool) -> Self {
        Self {
            event_stream,
            json: Scanner::new(),
            report: Report::new(event_stream),
            known: Known::default(),
            line: Line::Name(0),
            done_seen: None,
            done: false,
            json_complete: false,
            usage: memmem::Finder::new("usage"),
        }
    }

    pub fn feed(&mut self, piece: &[u8]) {
        if !self.event_stream {
            // A broken body stays broken and then counts for nothing: `json` remembers.
            let _ = self.json.feed(piece, &mut self.report);
            return;
        }
        let mut rest = piece;
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if self.line == Line::Name(0) && !self.worth_scanning(line) {
                continue;
            }
            self.part(line);
            self.end_line();
        }
        self.part(rest);
    }

    /// Tokens reported so far, given that the body is complete. None: neither prompt nor output
    /// tokens were reported.
    pub fn finish(&mut self) -> Option<Usage> {
        if self.event_stream {
            self.end_line();
        } else {
            self.end_json();
        }
        let Known {
            prompt,
            completion,
            cached,
        } = self.known;
        (prompt.is_some() || completion.is_some()).then(|| Usage {
            prompt_tokens: prompt.unwrap_or(0),
            cached_tokens: cached.unwrap_or(0),
            completion_tokens: completion.unwrap_or(0),
        })
    }

    /// Whether `data: [DONE]` came by.
    pub fn saw_done(&self) -> bool {
        self.done
    }

    /// Whether the body, which is no event stream, was a whole JSON text when `finish` was called.
    pub fn json_complete(&self) -> bool {
        self.json_complete
    }

    /// Whether a whole line can say something: it needs the word, as it is or with escapes, and
    /// another value than null.
    fn worth_scanning(&self, line: &[u8]) -> bool {
        let Some(data) = line.strip_prefix(DATA) else {
            return false;
        };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        data.len() < 16
            || self
                .usage
                .find_iter(data)
                .any(|at| !is_null(&data[at + 5..]))
            || memchr_iter(b'\\', data).any(|at| data.get(at + 1) == Some(&b'u'))
    }

    /// Some bytes of a line, without its end.
    fn part(&mut self, mut bytes: &[u8]) {
        if let Line::Name(seen) = self.line {
            let missing = &DATA[seen..];
            let count = missing.len().min(bytes.len());
            if bytes[..count] != missing[..count] {
                self.line = Line::Ignored;
                return;
            }
            self.line = Line::Name(seen + count);
            if seen + count < DATA.len() {
                return;
            }
            self.line = Line::Data;
            self.json.reset();
            self.report = Report::new(true);
            self.done_seen = Some(0);
            bytes = &bytes[count..];
        }
        if self.line == Line::Data {
            // A line that is not JSON is skipped to its end: `json` remembers.
            let _ = self.json.feed(bytes, &mut self.report);
            self.look_for_done(bytes);
        }
    }

    fn look_for_done(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(seen) = self.done_seen else {
                return;
            };
            self.done_seen = match byte {
                b' ' if seen == 0 || seen == DONE.len() => Some(seen),
                byte if DONE.get(seen) == Some(byte) => Some(seen + 1),
                _ => None,
            };
        }
    }

    fn end_line(&mut self) {
        if self.line == Line::Data {
            self.end_json();
            self.done |= self.done_seen == Some(DONE.len());
        }
        self.line = Line::Name(0);
    }

    fn end_json(&mut self) {
        self.json_complete = self.json.finish(&mut self.report).is_ok();
        if self.json_complete {
            for counts in &self.report.counts {
                self.known.override_with(counts);
            }
        }
    }
}
