//! The `tools` of a request → whether the server itself runs one of them.
//!
//! Problem: a request may be sent again only while that repeats nothing but computation. A tool of the
//! client (`function`, `custom`, or of no type) is only ever proposed to it; any other type (`mcp`, a web search,
//! an interpreter) is run by the server, with whatever effect it has. Invariants: no bytes make it fail, and what
//! is not a list of objects has no tools.

use crate::json::{unescape, Scanner, Sink, Text, Want};

/// Takes the JSON text of `tools` in arbitrary pieces.
#[derive(Default)]
pub struct ToolScanner {
    json: Scanner,
    types: Types,
}

#[derive(Default)]
struct Types {
    is_type: bool,
    server_runs_one: bool,
}

/// Depth of the members of a tool in the list.
const MEMBERS: usize = 2;

impl Sink for Types {
    fn key(&mut self, _depth: usize, key: &[u8]) {
        self.is_type = key == b"type";
    }

    fn begin(&mut self, depth: usize, first: u8, _offset: usize) -> Want {
        match (depth, first) {
            (0, b'[') | (1, b'{') => Want::Inside,
            (MEMBERS, b'"') if self.is_type => Want::Text,
            _ => Want::Skip,
        }
    }

    fn end(&mut self, _depth: usize, _offset: usize, text: Text<'_>) -> Result<(), &'static str> {
        self.server_runs_one |= match text {
            Text::NotWanted => false,
            Text::TooLong => true,
            Text::Raw(raw) => !matches!(&*unescape(raw), "function" | "custom"),
        };
        Ok(())
    }
}

impl ToolScanner {
    pub fn feed(&mut self, piece: &[u8]) {
        // The text was legal as a part of the body.
        let _ = self.json.feed(piece, &mut self.types);
    }

    pub fn server_runs_one(&self) -> bool {
        self.types.server_runs_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_of_the_client_are_only_proposed() {
        for (tools, server_runs_one) in [
            ("[]", false),
            (
                r#"[{"type":"function","function":{"parameters":{"type":"object"}}}]"#,
                false,
            ),
            (r#"[{"name":"f","input_schema":{"type":"object"}}]"#, false),
            (r#"[{"type":"custom"},{"type":"function"}]"#, false),
            (
                r#"[{"type":"function"},{"type":"mcp","server_url":"x"}]"#,
                true,
            ),
            (r#"[{"type":"web_search_20250305"}]"#, true),
            (r#"[[{"type":"mcp"}]]"#, false),
            (r#"{"type":"mcp"}"#, false),
            ("\"mcp\"", false),
            (r#"[{"type":null},7]"#, false),
        ] {
            for size in [1, 3, 1000] {
                let mut scanner = ToolScanner::default();
                tools
                    .as_bytes()
                    .chunks(size)
                    .for_each(|piece| scanner.feed(piece));
                assert_eq!(scanner.server_runs_one(), server_runs_one, "{tools}");
            }
        }
    }
}
