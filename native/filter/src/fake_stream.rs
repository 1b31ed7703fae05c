//! An HTTP stream for tests: keeps what filters set and count, lends what a test put in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::mpsc::Sender;

use crate::envoy::{HeaderRef, LocalReply, Stream, Wake};
use crate::metrics::Counter;

/// Tells a test that a stream was woken.
pub struct SendWake(pub Sender<u64>, pub u64);

impl Wake for SendWake {
    fn wake(&self) {
        // A test that no longer listens does not care.
        let _ = self.0.send(self.1);
    }
}

fn owned(headers: &[HeaderRef<'_>]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// A request that a filter sent.
pub struct Callout {
    pub cluster: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub struct FakeStream {
    pub request: RefCell<Vec<(String, Vec<u8>)>>,
    pub response: RefCell<Vec<(String, Vec<u8>)>>,
    pub received: RefCell<Vec<Vec<u8>>>,
    pub buffered: RefCell<Vec<Vec<u8>>>,
    pub received_is_buffered: Cell<bool>,
    pub state: RefCell<HashMap<String, Vec<u8>>>,
    pub upstream: RefCell<Option<String>>,
    pub attempts: Cell<usize>,
    /// What was added to the response, and what was sent besides.
    pub added: RefCell<Vec<u8>>,
    pub sent: RefCell<Vec<u8>>,
    pub added_headers: RefCell<Vec<(String, String)>>,
    /// The headers of a response that the filter began, and whether it ended it.
    pub begun_headers: RefCell<Vec<(String, String)>>,
    pub ended: Cell<bool>,
    /// Cluster, headers and body of requests that the filter sent; whether it can.
    pub callouts: RefCell<Vec<Callout>>,
    pub can_call_out: Cell<bool>,
    pub callouts_reset: Cell<u32>,
    pub subset: RefCell<Option<String>>,
    pub kept: Cell<u64>,
    pub recreated: Cell<u32>,
    pub wakes: Sender<u64>,
    pub counted: RefCell<Vec<(Counter, u64)>>,
    pub replies: RefCell<Vec<LocalReply>>,
    pub resumed: Cell<u32>,
    pub rerouted: Cell<u32>,
    pub buffer_limit: Cell<u64>,
}

impl FakeStream {
    pub fn new(request: &[(&str, &str)], wakes: Sender<u64>) -> Self {
        let request = request
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        Self {
            request: RefCell::new(request),
            response: RefCell::default(),
            received: RefCell::default(),
            buffered: RefCell::default(),
            received_is_buffered: Cell::default(),
            state: RefCell::default(),
            upstream: RefCell::default(),
            attempts: Cell::default(),
            added: RefCell::default(),
            sent: RefCell::default(),
            added_headers: RefCell::default(),
            begun_headers: RefCell::default(),
            ended: Cell::default(),
            callouts: RefCell::default(),
            can_call_out: Cell::new(true),
            callouts_reset: Cell::default(),
            subset: RefCell::default(),
            kept: Cell::default(),
            recreated: Cell::default(),
            wakes,
            counted: RefCell::default(),
            replies: RefCell::default(),
            resumed: Cell::default(),
            rerouted: Cell::default(),
            buffer_limit: Cell::default(),
        }
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let request = self.request.borrow();
        let found = request.iter().find(|(other, _)| other == name)?;
        Some(String::from_utf8_lossy(&found.1).into_owned())
    }

    pub fn set_response(&self, response: &[(&str, &str)]) {
        *self.response.borrow_mut() = response
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
    }

    /// The next event brings these pieces; what came before is buffered.
    pub fn receive(&self, pieces: &[&[u8]]) {
        let mut received = self.received.borrow_mut();
        self.buffered.borrow_mut().append(&mut received);
        *received = pieces.iter().map(|piece| piece.to_vec()).collect();
    }
}

fn lend_headers<R>(headers: &[(String, Vec<u8>)], read: impl FnOnce(&[HeaderRef<'_>]) -> R) -> R {
    let lent: Vec<HeaderRef<'_>> = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_slice()))
        .collect();
    read(&lent)
}

fn lend_pieces<R>(pieces: &[Vec<u8>], read: impl FnOnce(&[&[u8]]) -> R) -> R {
    let lent: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    read(&lent)
}

impl Stream for FakeStream {
    type Wake = SendWake;

    fn request_headers<R>(&self, read: impl FnOnce(&[HeaderRef<'_>]) -> R) -> R {
        lend_headers(&self.request.borrow(), read)
    }

    fn response_headers<R>(&self, read: impl FnOnce(&[HeaderRef<'_>]) -> R) -> R {
        lend_headers(&self.response.borrow(), read)
    }

    fn set_request_header(&self, name: &str, value: Option<&[u8]>) {
        let mut request = self.request.borrow_mut();
        request.retain(|(other, _)| other != name);
        request.extend(value.map(|value| (name.to_owned(), value.to_vec())));
    }

    fn received_request_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R {
        lend_pieces(&self.received.borrow(), read)
    }

    fn whole_request_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R {
        if self.received_is_buffered.get() {
            return lend_pieces(&self.received.borrow(), read);
        }
        lend_pieces(
            &[
                self.buffered.borrow().clone(),
                self.received.borrow().clone(),
            ]
            .concat(),
            read,
        )
    }

    fn remake_request_body(
        &self,
        part_bytes_max: usize,
        mut make: impl FnMut(&[u8], &mut dyn FnMut(&[u8])),
    ) {
        let mut made = Vec::new();
        for piece in self.received.borrow().iter() {
            for part in piece.chunks(part_bytes_max) {
                make(part, &mut |bytes| made.extend_from_slice(bytes));
            }
        }
        *self.received.borrow_mut() = vec![made];
    }

    fn received_is_buffered(&self) -> bool {
        self.received_is_buffered.get()
    }

    fn received_response_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R {
        lend_pieces(&self.received.borrow(), read)
    }

    fn raise_buffer_limit(&self, bytes: u64) {
        self.buffer_limit.set(self.buffer_limit.get().max(bytes));
    }

    fn clear_route_cache(&self) {
        self.rerouted.set(self.rerouted.get() + 1);
    }

    fn set_state(&self, key: &str, value: &[u8]) -> bool {
        self.state
            .borrow_mut()
            .insert(key.to_owned(), value.to_vec())
            .is_none()
    }

    fn state<R>(&self, key: &str, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        read(self.state.borrow().get(key).map(Vec::as_slice))
    }

    fn upstream_attempts(&self) -> usize {
        self.attempts.get()
    }

    fn append_response_body(&self, bytes: &[u8]) {
        self.added.borrow_mut().extend_from_slice(bytes);
    }

    fn send_response_data(&self, bytes: &[u8]) {
        self.sent.borrow_mut().extend_from_slice(bytes);
    }

    fn send_response_headers(&self, headers: &[HeaderRef<'_>]) {
        *self.begun_headers.borrow_mut() = owned(headers);
    }

    fn end_response(&self, bytes: &[u8]) {
        self.send_response_data(bytes);
        assert!(!self.ended.replace(true), "ended twice");
    }

    fn kept_request_body(&self) -> Vec<u8> {
        self.buffered.borrow().concat()
    }

    fn call_out(&self, cluster: &str, headers: &[HeaderRef<'_>], body: &[u8]) -> Option<u64> {
        let mut callouts = self.callouts.borrow_mut();
        callouts.push(Callout {
            cluster: cluster.to_owned(),
            headers: owned(headers),
            body: body.to_vec(),
        });
        self.can_call_out.get().then_some(callouts.len() as u64)
    }

    fn reset_callout(&self, _callout: u64) {
        self.callouts_reset.set(self.callouts_reset.get() + 1);
    }

    fn remake_response_body(&self, make: impl FnOnce(&[&[u8]], &mut dyn FnMut(&[u8]))) {
        let mut made = Vec::new();
        lend_pieces(&self.received.borrow(), |pieces| {
            make(pieces, &mut |bytes| made.extend_from_slice(bytes));
        });
        *self.received.borrow_mut() = vec![made];
    }

    fn add_response_header(&self, name: &str, value: &[u8]) {
        let value = String::from_utf8_lossy(value).into_owned();
        self.added_headers
            .borrow_mut()
            .push((name.to_owned(), value));
    }

    fn subset_hint(&self) -> Option<String> {
        self.subset.borrow().clone()
    }

    fn kept_request_bytes(&self) -> u64 {
        self.kept.get()
    }

    fn recreate(&self) -> bool {
        self.recreated.set(self.recreated.get() + 1);
        true
    }

    fn upstream_address(&self) -> Option<String> {
        self.upstream.borrow().clone()
    }

    fn response_details(&self) -> Option<String> {
        None
    }

    fn waker(&self) -> SendWake {
        SendWake(self.wakes.clone(), 0)
    }

    fn count(&self, counter: Counter, by: u64) {
        self.counted.borrow_mut().push((counter, by));
    }

    fn send_response(&self, reply: &LocalReply) {
        self.replies.borrow_mut().push(reply.clone());
    }

    fn continue_decoding(&self) {
        self.resumed.set(self.resumed.get() + 1);
    }
}
