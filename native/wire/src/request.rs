//! What a decision needs from a request body.

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

/// Why a body is not legal JSON, or not one we read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    pub offset: usize,
    pub reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestFields {
    pub model: Option<String>,
    pub model_not_string: bool,
    pub stream: bool,
    pub max_tokens: u32,
    pub priority: Option<i32>,
    pub cache_salt: Option<String>,
    pub prompt_bytes: u32,
    pub hashes: Vec<u64>,
}

pub struct RequestScanner {
    kind: Kind,
}

impl RequestScanner {
    pub fn new(kind: Kind) -> Self {
        Self { kind }
    }

    pub fn feed(&mut self, _piece: &[u8]) -> Result<(), Malformed> {
        let _ = self.kind;
        Ok(())
    }

    pub fn finish(self, _pieces: &[&[u8]]) -> Result<RequestFields, Malformed> {
        Ok(RequestFields::default())
    }
}
