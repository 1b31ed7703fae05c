//! Which API a request belongs to, from its path; and whether a content type is JSON.

use inferway_wire::request::Kind;

/// The API of a path, with or without a query, under any prefix.
pub fn of_path(path: &[u8]) -> Kind {
    let end = path
        .iter()
        .position(|byte| b"?#".contains(byte))
        .unwrap_or(path.len());
    let path = &path[..end];
    // The longer suffix first: a chat path ends in the one of plain completions as well.
    const SUFFIXES: [(&[u8], Kind); 5] = [
        (b"/chat/completions", Kind::Chat),
        (b"/completions", Kind::Completions),
        (b"/embeddings", Kind::Embeddings),
        (b"/responses", Kind::Responses),
        (b"/messages", Kind::Messages),
    ];
    SUFFIXES
        .iter()
        .find(|(suffix, _)| path.ends_with(suffix))
        .map_or(Kind::Other, |(_, kind)| *kind)
}

/// The media type of a content-type header: without parameters and surrounding space.
fn media_type(content_type: &[u8]) -> &[u8] {
    content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
}

/// `application/json` or any `+json` type.
pub fn is_json(content_type: &[u8]) -> bool {
    let media_type = media_type(content_type);
    media_type.eq_ignore_ascii_case(b"application/json")
        || (media_type.len() > 5
            && media_type[media_type.len() - 5..].eq_ignore_ascii_case(b"+json"))
}

/// Server-sent events.
pub fn is_event_stream(content_type: &[u8]) -> bool {
    media_type(content_type).eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_by_their_end() {
        for (path, kind) in [
            ("/v1/chat/completions", Kind::Chat),
            ("/v1/completions", Kind::Completions),
            ("/openai/v1/embeddings?x=/messages", Kind::Embeddings),
            ("/v1/responses#top", Kind::Responses),
            ("/v1/messages", Kind::Messages),
            ("/v1/messages/count_tokens", Kind::Other),
            ("/v1/responses/resp_1", Kind::Other),
            ("/v1/chat/completions/", Kind::Other),
            ("/subcompletions", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(of_path(path.as_bytes()), kind, "{path}");
        }
    }

    #[test]
    fn json_content_types() {
        for content_type in [
            "application/json",
            "Application/JSON ; charset=utf-8",
            "application/vnd.api+json",
        ] {
            assert!(is_json(content_type.as_bytes()), "{content_type}");
        }
        for content_type in [
            "text/plain",
            "",
            "+json",
            "application/jsonl",
            "text/event-stream",
        ] {
            assert!(!is_json(content_type.as_bytes()), "{content_type}");
        }
        assert!(is_event_stream(b"text/event-stream; charset=utf-8"));
        assert!(!is_event_stream(b"text/event-streams"));
    }
}
