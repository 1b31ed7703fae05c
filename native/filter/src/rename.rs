//! Changes the body of a request: another model than it names, and a stream that reports its usage.
//!
//! The picker (or, without it, the route's own table: `fallback.rs`) says which model shall serve. The
//! headers are put right at once, while the stream is held: the model's header and the body's length.
//! The body is put right as it passes, whole or in pieces. Invariant: a request that is not changed
//! costs one look at an empty field. Filters between `route`, which found the model's place, and `pick`
//! must leave the body as it is.

use std::ops::Range;

use inferway_wire::splice::{Edit, Splice};

use crate::envoy::Stream;
use crate::reply;
use crate::route::{MODEL_BYTES_MAX, MODEL_HEADER};

/// A body is copied in parts of at most so many bytes, so that it never stands in memory twice.
pub const PART_BYTES_MAX: usize = 64 << 10;
/// By how much a body may outgrow its own size meanwhile: a part, a name of escapes only, and the wish
/// for usage.
pub const ROOM_BYTES: u64 = (PART_BYTES_MAX + 6 * MODEL_BYTES_MAX + 2 + USAGE_BYTES_MAX) as u64;
/// What asks for usage is never longer.
const USAGE_BYTES_MAX: usize = 64;

/// The body of a request, as far as it may have to be changed.
#[derive(Default)]
pub struct Body {
    /// Where the model stands; None when no model was read.
    model: Option<Range<usize>>,
    /// What makes a stream report its usage; None when that is not wanted, or asked already.
    usage: Option<Edit>,
    /// As its header says; None for a body that announces no length.
    length: Option<u64>,
    splice: Option<Splice>,
}

impl Body {
    pub fn new(model: Option<Range<usize>>, usage: Option<Edit>, length: Option<u64>) -> Self {
        Self {
            model,
            usage,
            length,
            splice: None,
        }
    }

    /// The request goes on, for this model (empty: the one it names). Called at most once, before the
    /// body passes.
    pub fn settle<S: Stream>(&mut self, stream: &S, model: &str) {
        let range = self.model.take().filter(|_| !model.is_empty());
        if range.is_some() && reply::is_header_value(model.as_bytes()) {
            stream.set_request_header(MODEL_HEADER, Some(model.as_bytes()));
        }
        let name = range.map(|range| Edit::string(range, model));
        let edits: Vec<Edit> = name.into_iter().chain(self.usage.take()).collect();
        if edits.is_empty() {
            return;
        }
        let splice = Splice::new(edits);
        if let Some(length) = self.length {
            let length = splice.length_after(length).to_string();
            stream.set_request_header("content-length", Some(length.as_bytes()));
        }
        self.splice = Some(splice);
    }

    /// A piece of the body goes by.
    pub fn pass<S: Stream>(&mut self, stream: &S) {
        if let Some(splice) = &mut self.splice {
            stream.remake_request_body(PART_BYTES_MAX, |part, put| {
                splice.cut(part, put);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::fake_stream::FakeStream;

    fn stream() -> FakeStream {
        FakeStream::new(
            &[(MODEL_HEADER, "llm"), ("content-length", "25")],
            channel().0,
        )
    }

    #[test]
    fn headers_at_once_and_the_body_as_it_passes() {
        let stream = stream();
        let usage = Edit {
            range: 1..1,
            text: b"\"u\":1,".to_vec(),
        };
        let mut body = Body::new(Some(9..14), Some(usage), Some(25));
        body.settle(&stream, "lüm-2");
        assert_eq!(stream.header(MODEL_HEADER).as_deref(), Some("lüm-2"));
        assert_eq!(stream.header("content-length").as_deref(), Some("34"));
        for (before, after) in [
            (r#"{"model":"l"#, "{\"u\":1,\"model\":\"lüm-2\""),
            (r#"lm","a":"#, r#","a":"#),
            (r#""llm"}"#, r#""llm"}"#),
        ] {
            stream.receive(&[before.as_bytes()]);
            body.pass(&stream);
            assert_eq!(stream.received.borrow().concat(), after.as_bytes());
        }
    }

    #[test]
    fn nothing_changes_without_another_name_or_a_place_for_it() {
        for (range, model) in [(Some(9..14), ""), (None, "other")] {
            let stream = stream();
            let mut body = Body::new(range, None, Some(25));
            body.settle(&stream, model);
            stream.receive(&[br#"{"model":"llm","a":"llm"}"#]);
            body.pass(&stream);
            assert_eq!(
                stream.received.borrow().concat(),
                br#"{"model":"llm","a":"llm"}"#
            );
            assert_eq!(stream.header(MODEL_HEADER).as_deref(), Some("llm"));
            assert_eq!(stream.header("content-length").as_deref(), Some("25"));
        }
    }
}
