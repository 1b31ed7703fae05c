//! Event stream → the same without the event that only reports usage.
//!
//! Problem: a server was asked for usage that its client did not ask for, and tells it in an event of its own:
//! no choices, and a usage. Model: whoever knows that such an event may come next gives the pieces here; what is
//! certain to stay passes, an event that is not complete yet waits for its end. Invariants: every cut gives the
//! same bytes; nothing is lost but that event; at most [`HELD_BYTES_MAX`] wait, and a longer event passes.

use memchr::memmem;

/// An event that only reports usage has some hundred bytes.
pub const HELD_BYTES_MAX: usize = 16 << 10;

#[derive(Default)]
pub struct Withhold {
    /// The beginning of an event that is not complete.
    held: Vec<u8>,
    /// The rest of an event whose beginning has passed.
    passing: bool,
}

impl Withhold {
    /// `between_events`: what has passed ended with a blank line.
    pub fn new(between_events: bool) -> Self {
        Self {
            held: Vec::new(),
            passing: !between_events,
        }
    }

    /// Puts what of the stream may pass now.
    pub fn feed(&mut self, piece: &[u8], mut put: impl FnMut(&[u8])) {
        self.held.extend_from_slice(piece);
        let mut start = 0;
        while let Some(length) = event_length(&self.held[start..]) {
            let event = &self.held[start..start + length];
            if std::mem::take(&mut self.passing) || !only_reports_usage(event) {
                put(event);
            }
            start += length;
        }
        let rest = &self.held[start..];
        if self.passing || rest.len() > HELD_BYTES_MAX {
            // The last bytes may belong to a blank line.
            let keep = rest.len().saturating_sub(3);
            put(&rest[..keep]);
            start += keep;
            self.passing = true;
        }
        self.held.drain(..start);
    }

    /// Puts what waited, because nothing follows.
    pub fn finish(&mut self, mut put: impl FnMut(&[u8])) {
        if self.passing || !only_reports_usage(&self.held) {
            put(&self.held);
        }
        self.held.clear();
    }
}

/// Bytes up to the end of the first blank line.
fn event_length(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes).find_map(|at| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Whether a key is there, and after it, space apart, these bytes.
fn has(event: &[u8], key: &str, value: &[u8]) -> bool {
    memmem::find_iter(event, key).any(|at| {
        let rest = event[at + key.len()..].trim_ascii_start();
        let rest = rest.strip_prefix(b":").unwrap_or_default();
        let rest: Vec<u8> = rest
            .iter()
            .filter(|byte| !byte.is_ascii_whitespace())
            .take(value.len())
            .copied()
            .collect();
        rest == value
    })
}

fn only_reports_usage(event: &[u8]) -> bool {
    has(event, "\"choices\"", b"[]") && has(event, "\"usage\"", b"{")
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str =
        "data: {\"id\":\"x\",\"choices\": [ ],\"usage\": {\"prompt_tokens\":1}}\n\n";

    fn passed(text: &str, size: usize, between_events: bool) -> String {
        let mut withhold = Withhold::new(between_events);
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            withhold.feed(piece, |bytes| out.extend_from_slice(bytes));
        }
        withhold.finish(|bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn only_that_event_is_withheld_however_it_is_cut() {
        let chunk = "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"a\":1}}\r\n\r\n";
        let content = "data: {\"choices\":[],\"usage\":null}\n\n";
        for (text, left) in [
            (
                format!("{chunk}{USAGE}data: [DONE]\n\n"),
                format!("{chunk}data: [DONE]\n\n"),
            ),
            (format!("{content}{USAGE}"), content.to_owned()),
            (format!("{content}{}", USAGE.trim_end()), content.to_owned()),
            (format!("{USAGE}data: [DO"), "data: [DO".to_owned()),
        ] {
            for size in 1..=text.len() {
                assert_eq!(passed(&text, size, true), left, "{size}");
            }
        }
    }

    #[test]
    fn the_rest_of_an_event_passes() {
        let text = format!("\"choices\":[],\"usage\":{{}}}}\n\n{USAGE}: end\n\n");
        for size in 1..=text.len() {
            let left = "\"choices\":[],\"usage\":{}}\n\n: end\n\n";
            assert_eq!(passed(&text, size, false), left, "{size}");
        }
    }

    #[test]
    fn what_is_too_long_passes() {
        let long = format!(
            "data: {{\"choices\":[],\"usage\":{{\"x\":\"{}\"}}}}\n\n",
            "y".repeat(20_000)
        );
        let text = format!("{long}{USAGE}");
        assert_eq!(passed(&text, 1_000, true), long);
    }
}
