//! Token usage of a response.

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
}

pub struct UsageScanner {
    event_stream: bool,
}

impl UsageScanner {
    pub fn new(event_stream: bool) -> Self {
        Self { event_stream }
    }

    pub fn feed(&mut self, _piece: &[u8]) {}

    pub fn finish(&mut self) -> Option<Usage> {
        None
    }

    pub fn saw_done(&self) -> bool {
        self.event_stream
    }
}
