//! Legal JSON over arbitrary pieces: no tree, no copy of the body, constant memory.
//!
//! Problem: a body of megabytes comes in pieces that are cut anywhere, and a few of its values are
//! needed. Model: a push scanner checks the whole grammar byte by byte and tells a [`Sink`] about
//! the values the sink asked for; inside strings it skips many bytes at a time. Invariants: every
//! cut of a text gives the same events and the same verdict; the verdict is that of Python's
//! `json.loads` on the decoded text, except that `NaN` and `Infinity` are refused, and nesting
//! deeper than [`DEPTH_MAX`]. It does not interpret numbers beyond [`integer`].

mod number;
mod sink;
mod skip;
mod text;

pub use number::integer;
use number::Number;
pub use sink::{Sink, Text, Want};
use skip::skip;
pub use text::unescape;
use text::{escape, is_escape, BAD_ESCAPE};

pub const DEPTH_MAX: usize = 512;

/// Longest raw text that is given to a sink. A `\u` escape needs six bytes for a character, so this
/// is every text of up to 1 KiB.
const TEXT_BYTES_MAX: usize = 6 << 10;

/// Why a text is not legal JSON, or not one we read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    pub offset: usize,
    pub reason: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    /// A value, or the end of an array.
    FirstElement,
    Key,
    /// A key, or the end of an object.
    FirstKey,
    Colon,
    /// After a value.
    After,
    String,
    Escape,
    /// That many hexadecimal digits are missing.
    Hex(u8),
    Number(Number),
    /// The word, and how much of it was seen.
    Literal(&'static [u8], u8),
}

/// Position relative to the piece (wrapping: it may lie before it), and what is wrong there.
type Fault = (usize, &'static str);

pub struct Scanner {
    state: State,
    depth: usize,
    /// Depth of the innermost container the sink listens to.
    watched: usize,
    /// One bit per open container: 1 an object, 0 an array.
    objects: [u64; DEPTH_MAX / 64],
    in_key: bool,
    capturing: bool,
    too_long: bool,
    captured: Vec<u8>,
    /// The beginning of a character that a cut tore apart.
    torn: [u8; 4],
    torn_bytes: usize,
    /// Bytes in the pieces before this one.
    base: usize,
    failed: Option<Malformed>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    pub fn new() -> Self {
        Self {
            state: State::Value,
            depth: 0,
            watched: 0,
            objects: [0; DEPTH_MAX / 64],
            in_key: false,
            capturing: false,
            too_long: false,
            captured: Vec::new(),
            torn: [0; 4],
            torn_bytes: 0,
            base: 0,
            failed: None,
        }
    }

    /// Ready for another text.
    pub fn reset(&mut self) {
        self.state = State::Value;
        self.depth = 0;
        self.watched = 0;
        self.capturing = false;
        self.too_long = false;
        self.captured.clear();
        self.torn_bytes = 0;
        self.base = 0;
        self.failed = None;
    }

    /// An error is final: every later call repeats it.
    pub fn feed<S: Sink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), Malformed> {
        if let Some(malformed) = self.failed {
            return Err(malformed);
        }
        let mut at = 0;
        while at < piece.len() {
            let result = match self.state {
                State::String => self.string(piece, at, sink),
                State::Escape | State::Hex(_) => self.torn_escape(piece, at),
                State::Number(number) => self.number(number, piece, at, sink),
                State::Literal(word, seen) => self.literal(word, seen, piece, at, sink),
                _ => self.structure(piece, at, sink),
            };
            at = result.map_err(|fault| self.fail(fault))?;
        }
        self.base += piece.len();
        Ok(())
    }

    /// Says that the text is complete.
    pub fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), Malformed> {
        if let Some(malformed) = self.failed {
            return Err(malformed);
        }
        if let State::Number(number) = self.state {
            if number.may_end() {
                self.end(&[], 0, sink)
                    .map_err(|reason| self.fail((0, reason)))?;
            }
        }
        match (self.state, self.depth) {
            (State::After, 0) => Ok(()),
            (State::Value, 0) => Err(self.fail((0, "empty: a JSON value was expected"))),
            _ => Err(self.fail((0, "ends in the middle of a JSON value"))),
        }
    }

    #[cold]
    fn fail(&mut self, (at, reason): Fault) -> Malformed {
        let malformed = Malformed {
            offset: self.base.wrapping_add(at),
            reason,
        };
        self.failed = Some(malformed);
        malformed
    }

    /// Whitespace, punctuation, and the first byte of values and keys.
    fn structure<S: Sink>(
        &mut self,
        piece: &[u8],
        mut at: usize,
        sink: &mut S,
    ) -> Result<usize, Fault> {
        while at < piece.len() {
            let byte = piece[at];
            if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                at += 1;
                continue;
            }
            match self.state {
                State::FirstElement if byte == b']' => self.close(at, sink)?,
                State::FirstKey if byte == b'}' => self.close(at, sink)?,
                State::Value | State::FirstElement => {
                    let consumed = self.begin(byte, at, sink)?;
                    if !matches!(self.state, State::FirstElement | State::FirstKey) {
                        return Ok(at + consumed);
                    }
                }
                State::Key | State::FirstKey if byte == b'"' => {
                    self.in_key = true;
                    self.start_capture(self.depth == self.watched);
                    self.state = State::String;
                    return Ok(at + 1);
                }
                State::Key | State::FirstKey => return Err((at, "a key in quotes was expected")),
                State::Colon if byte == b':' => self.state = State::Value,
                State::Colon => return Err((at, "a colon was expected")),
                _ => self.after(byte, at, sink)?,
            }
            at += 1;
        }
        Ok(at)
    }

    fn after<S: Sink>(&mut self, byte: u8, at: usize, sink: &mut S) -> Result<(), Fault> {
        if self.depth == 0 {
            return Err((at, "data after the end of the JSON value"));
        }
        match (byte, self.in_object()) {
            (b',', true) => self.state = State::Key,
            (b',', false) => self.state = State::Value,
            (b'}', true) | (b']', false) => self.close(at, sink)?,
            (_, true) => return Err((at, "a comma or the end of the object was expected")),
            (_, false) => return Err((at, "a comma or the end of the array was expected")),
        }
        Ok(())
    }

    /// Enters the state for the value that begins here; says how many bytes that consumed.
    fn begin<S: Sink>(&mut self, byte: u8, at: usize, sink: &mut S) -> Result<usize, Fault> {
        let want = if self.depth == self.watched {
            sink.begin(self.depth, byte, self.base + at)
        } else {
            Want::Skip
        };
        self.start_capture(want == Want::Text);
        self.state = match byte {
            b'"' => {
                self.in_key = false;
                State::String
            }
            b'{' | b'[' => {
                self.open(byte == b'{', at)?;
                if want == Want::Inside {
                    self.watched = self.depth;
                }
                if byte == b'{' {
                    State::FirstKey
                } else {
                    State::FirstElement
                }
            }
            b'-' => State::Number(Number::Minus),
            b'0'..=b'9' => {
                // The byte itself goes through the number's own states.
                self.state = State::Number(Number::Minus);
                return Ok(0);
            }
            b't' => State::Literal(b"true", 1),
            b'f' => State::Literal(b"false", 1),
            b'n' => State::Literal(b"null", 1),
            _ => return Err((at, "a JSON value was expected")),
        };
        if byte == b'-' && self.capturing {
            self.captured.push(byte);
        }
        Ok(1)
    }

    fn open(&mut self, object: bool, at: usize) -> Result<(), Fault> {
        if self.depth == DEPTH_MAX {
            return Err((at, "nested deeper than 512 levels"));
        }
        let bit = 1 << (self.depth % 64);
        if object {
            self.objects[self.depth / 64] |= bit;
        } else {
            self.objects[self.depth / 64] &= !bit;
        }
        self.depth += 1;
        Ok(())
    }

    fn in_object(&self) -> bool {
        let level = self.depth - 1;
        self.objects[level / 64] & 1 << (level % 64) != 0
    }

    fn close<S: Sink>(&mut self, at: usize, sink: &mut S) -> Result<(), Fault> {
        self.depth -= 1;
        self.watched = self.watched.min(self.depth);
        self.capturing = false;
        self.end(&[], at + 1, sink).map_err(|reason| (at, reason))
    }

    fn start_capture(&mut self, wanted: bool) {
        self.capturing = wanted;
        self.too_long = false;
        self.captured.clear();
    }

    fn capture(&mut self, bytes: &[u8]) {
        if self.captured.len() + bytes.len() > TEXT_BYTES_MAX {
            self.too_long = true;
        } else {
            self.captured.extend_from_slice(bytes);
        }
    }

    /// A value ended; `last` is its text in this piece.
    fn end<S: Sink>(&mut self, last: &[u8], at: usize, sink: &mut S) -> Result<(), &'static str> {
        self.state = State::After;
        if self.depth != self.watched {
            return Ok(());
        }
        let (depth, offset) = (self.depth, self.base + at);
        sink.end(depth, offset, self.whole_text(last))
    }

    fn whole_text<'a>(&'a mut self, last: &'a [u8]) -> Text<'a> {
        if !self.capturing {
            return Text::NotWanted;
        }
        if self.captured.is_empty() && last.len() <= TEXT_BYTES_MAX {
            return Text::Raw(last);
        }
        self.capture(last);
        if self.too_long {
            Text::TooLong
        } else {
            Text::Raw(&self.captured)
        }
    }

    fn end_key<S: Sink>(&mut self, last: &[u8], sink: &mut S) {
        self.state = State::Colon;
        if !self.capturing {
            return;
        }
        let depth = self.depth;
        match self.whole_text(last) {
            Text::Raw(raw) if raw.contains(&b'\\') => sink.key(depth, unescape(raw).as_bytes()),
            Text::Raw(raw) => sink.key(depth, raw),
            // No sink knows a key of that length.
            Text::TooLong | Text::NotWanted => sink.key(depth, &[]),
        }
    }

    fn string<S: Sink>(
        &mut self,
        piece: &[u8],
        start: usize,
        sink: &mut S,
    ) -> Result<usize, Fault> {
        let mut at = self.mend(piece, start)?;
        loop {
            let skipped = skip(piece, at);
            if skipped.maybe_not_ascii {
                self.check_utf8(piece, at, skipped.at)?;
            }
            at = skipped.at;
            let Some(byte) = piece.get(at) else {
                break;
            };
            match byte {
                b'"' => {
                    let last = &piece[start..at];
                    if self.in_key {
                        self.end_key(last, sink);
                    } else {
                        self.end(last, at + 1, sink)
                            .map_err(|reason| (at, reason))?;
                    }
                    return Ok(at + 1);
                }
                b'\\' => match escape(piece, at)? {
                    Some(bytes) => at += bytes,
                    None => {
                        self.state = State::Escape;
                        at += 1;
                        break;
                    }
                },
                _ => return Err((at, "a control character in a string")),
            }
        }
        if self.capturing {
            self.capture(&piece[start..at]);
        }
        Ok(at)
    }

    /// Completes the character that the cut before this piece tore apart.
    fn mend(&mut self, piece: &[u8], mut at: usize) -> Result<usize, Fault> {
        while self.torn_bytes > 0 && at < piece.len() {
            self.torn[self.torn_bytes] = piece[at];
            match std::str::from_utf8(&self.torn[..=self.torn_bytes]) {
                Ok(_) => self.torn_bytes = 0,
                Err(error) if error.error_len().is_none() => self.torn_bytes += 1,
                // The character began before this piece.
                Err(_) => return Err((at.wrapping_sub(self.torn_bytes), NOT_UTF8)),
            }
            at += 1;
        }
        Ok(at)
    }

    fn check_utf8(&mut self, piece: &[u8], from: usize, to: usize) -> Result<(), Fault> {
        let run = &piece[from..to];
        let Err(error) = std::str::from_utf8(run) else {
            return Ok(());
        };
        let good = error.valid_up_to();
        if error.error_len().is_some() || to < piece.len() {
            return Err((from + good, NOT_UTF8));
        }
        let rest = &run[good..];
        self.torn[..rest.len()].copy_from_slice(rest);
        self.torn_bytes = rest.len();
        Ok(())
    }

    /// The rest of an escape that a cut tore apart, one byte.
    fn torn_escape(&mut self, piece: &[u8], at: usize) -> Result<usize, Fault> {
        let byte = piece[at];
        self.state = match self.state {
            State::Escape if byte == b'u' => State::Hex(4),
            State::Escape if is_escape(byte) => State::String,
            State::Hex(1) if byte.is_ascii_hexdigit() => State::String,
            State::Hex(left) if byte.is_ascii_hexdigit() => State::Hex(left - 1),
            _ => return Err((at, BAD_ESCAPE)),
        };
        if self.capturing {
            self.capture(&[byte]);
        }
        Ok(at + 1)
    }

    fn number<S: Sink>(
        &mut self,
        mut number: Number,
        piece: &[u8],
        start: usize,
        sink: &mut S,
    ) -> Result<usize, Fault> {
        let mut at = start;
        while let Some(&byte) = piece.get(at) {
            match number.next(byte) {
                Some(next) => number = next,
                None if number.may_end() => {
                    self.end(&piece[start..at], at, sink)
                        .map_err(|reason| (at, reason))?;
                    return Ok(at);
                }
                None => return Err((at, "not a number as JSON writes it")),
            }
            at += 1;
        }
        self.state = State::Number(number);
        if self.capturing {
            self.capture(&piece[start..at]);
        }
        Ok(at)
    }

    fn literal<S: Sink>(
        &mut self,
        word: &'static [u8],
        seen: u8,
        piece: &[u8],
        start: usize,
        sink: &mut S,
    ) -> Result<usize, Fault> {
        let missing = &word[usize::from(seen)..];
        let mut at = start;
        for expected in missing {
            match piece.get(at) {
                None => {
                    self.state = State::Literal(word, seen + (at - start) as u8);
                    return Ok(at);
                }
                Some(byte) if byte == expected => at += 1,
                Some(_) => return Err((at, "not true, false or null")),
            }
        }
        self.end(word, at, sink).map_err(|reason| (at, reason))?;
        Ok(at)
    }
}

const NOT_UTF8: &str = "not UTF-8";
