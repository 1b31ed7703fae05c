//! No bytes make anything panic, and no cut changes an outcome.

use inferway_wire::protocol::{Done, Frame, FrameBuffer, Pick};
use inferway_wire::request::{Kind, RequestFields, RequestScanner};
use inferway_wire::usage::{Usage, UsageScanner};

/// xorshift64*: reproducible, and good enough to wander.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pieces<'a>(&mut self, mut data: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !data.is_empty() {
            let (piece, rest) = data.split_at(self.below(data.len().min(40) + 1));
            pieces.push(piece);
            data = rest;
        }
        pieces
    }

    /// Overwrites, inserts or removes a few bytes.
    fn damage(&mut self, data: &mut Vec<u8>, alphabet: &[u8]) {
        for _ in 0..=self.below(3) {
            let at = self.below(data.len().max(1)).min(data.len());
            let byte = alphabet[self.below(alphabet.len())];
            match self.below(3) {
                0 => data.insert(at, byte),
                1 if at < data.len() => data[at] = byte,
                _ if at < data.len() => {
                    data.remove(at);
                }
                _ => {}
            }
        }
    }
}

fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let mut buffer = FrameBuffer::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.feed(piece);
        loop {
            match buffer.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

#[test]
fn damaged_frames() {
    let mut random = Random(1);
    let mut base = Vec::new();
    Pick {
        pool: "default/llama".into(),
        model: "größe".into(),
        hashes: vec![1, 2, 3],
        ..Pick::default()
    }
    .encode(&mut base);
    Done {
        endpoint: "10.0.0.1:8000".into(),
        ..Done::default()
    }
    .encode(&mut base);
    let alphabet: Vec<u8> = (0..=255).collect();
    for _ in 0..20_000 {
        let mut data = base.clone();
        random.damage(&mut data, &alphabet);
        let whole = frames(&[&data]);
        assert_eq!(frames(&random.pieces(&data)), whole);
    }
}

fn request(pieces: &[&[u8]]) -> Result<RequestFields, (usize, &'static str)> {
    let mut scanner = RequestScanner::new(Kind::Other);
    for piece in pieces {
        scanner
            .feed(piece)
            .map_err(|error| (error.offset, error.reason))?;
    }
    scanner
        .finish(pieces)
        .map_err(|error| (error.offset, error.reason))
}

#[test]
fn damaged_requests() {
    let mut random = Random(2);
    let base = r#"{"model":"a\u00e9\ud83d\ude00ü€😀b","stream": true,"max_tokens":-12.5e+3,
        "messages":[{"role":"user","content":"x\\\"y"},null,false,[[]],{}],"mod\u0065l":"z",
        "priority":0,"cache_salt":"s","tools":[1,2.5,3E-2]}"#
        .as_bytes();
    let alphabet: Vec<u8> = b"{}[]\",:\\u0123e+-.tfn \n\x1f\x80\xc3\xed\xf0\xff".to_vec();
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut data = base.to_vec();
        random.damage(&mut data, &alphabet);
        let whole = request(&[&data]);
        accepted += usize::from(whole.is_ok());
        assert_eq!(request(&random.pieces(&data)), whole);
    }
    assert!((1_000..19_000).contains(&accepted), "{accepted}");
}

fn usage(pieces: &[&[u8]], event_stream: bool) -> (Option<Usage>, bool) {
    let mut scanner = UsageScanner::new(event_stream);
    for piece in pieces {
        scanner.feed(piece);
    }
    (scanner.finish(), scanner.saw_done())
}

#[test]
fn damaged_responses() {
    let mut random = Random(3);
    let base =
        b"event: x\r\ndata: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\r\n\r\n\
        data:{\"response\":{\"usage\":{\"input_tokens_details\":{\"cached_tokens\":3}}}}\n\n\
        : comment\ndata: {\"us\\u0061ge\":{\"output_tokens\":9}}\n\ndata: [DONE]\n\n";
    let alphabet: Vec<u8> = b"{}[]\",:\\u0123e+-.tfn \n\r\x80\xc3d".to_vec();
    for _ in 0..20_000 {
        let mut data = base.to_vec();
        random.damage(&mut data, &alphabet);
        let pieces = random.pieces(&data);
        for event_stream in [true, false] {
            assert_eq!(usage(&pieces, event_stream), usage(&[&data], event_stream));
        }
    }
    assert_eq!(
        usage(&[base], true),
        (
            Some(Usage {
                prompt_tokens: 5,
                cached_tokens: 3,
                completion_tokens: 9
            }),
            true
        )
    );
}
