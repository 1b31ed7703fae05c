//! What the filters need from Envoy, as a trait, and the implementation over the C ABI.
//!
//! The filters are written against the trait, so that their behaviour is tested without Envoy. Slices
//! that Envoy lends (headers, body pieces, attributes) are valid until the hook returns or a setter is
//! called; the methods therefore hand them to a closure, and nothing keeps them.
//!
//! Some calls may end the stream before they return, and with it the filter object: `send_response`,
//! `end_response`, `continue_decoding` and `recreate`. Others run hooks of this very stream before they
//! return: those that send headers or data, and `call_out`. Callers make them last, with no borrow of their own state held.

use crate::metrics::Counter;

/// A header as Envoy lends it: name in lower case, value in arbitrary bytes.
pub type HeaderRef<'a> = (&'a [u8], &'a [u8]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum HeadersStatus {
    Continue = 0,
    StopIteration = 1,
    StopAllAndWatermark = 4,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum BodyStatus {
    Continue = 0,
    StopAndBuffer = 1,
    StopNoBuffer = 3,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum TrailersStatus {
    Continue = 0,
    StopIteration = 1,
}

/// A complete answer made here instead of by a model server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalReply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Short reason for the access log (`%RESPONSE_CODE_DETAILS%`).
    pub details: &'static str,
}

/// Wakes one stream on its own worker; called from the link thread, dropped exactly once.
pub trait Wake: Send {
    fn wake(&self);
}

/// One HTTP stream, seen from one filter of its chain.
pub trait Stream {
    type Wake: Wake;

    fn request_headers<R>(&self, read: impl FnOnce(&[HeaderRef<'_>]) -> R) -> R;
    fn response_headers<R>(&self, read: impl FnOnce(&[HeaderRef<'_>]) -> R) -> R;
    /// Sets or (with `None`) removes every value of a request header.
    fn set_request_header(&self, name: &str, value: Option<&[u8]>);
    /// The pieces of the request body that arrived with this event.
    fn received_request_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R;
    /// The whole request body so far: what was buffered before and what arrived with this event.
    fn whole_request_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R;
    /// Replaces the pieces of the request body that arrived with this event: `make` is given part after
    /// part of at most so many bytes, and puts what shall stand for it.
    fn remake_request_body(
        &self,
        part_bytes_max: usize,
        make: impl FnMut(&[u8], &mut dyn FnMut(&[u8])),
    );
    /// Whether the pieces of this event are the body that an earlier filter had buffered.
    fn received_is_buffered(&self) -> bool;
    fn received_response_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R;
    /// Raises the buffer limit of this stream to at least so many bytes.
    fn raise_buffer_limit(&self, bytes: u64);
    fn clear_route_cache(&self);
    /// A value that other filters on the same stream can read.
    fn set_state(&self, key: &str, value: &[u8]) -> bool;
    fn state<R>(&self, key: &str, read: impl FnOnce(Option<&[u8]>) -> R) -> R;
    /// Servers that the request was sent to, so far.
    fn upstream_attempts(&self) -> usize;
    /// Adds to the end of the piece of the response body that arrived with this event.
    fn append_response_body(&self, bytes: &[u8]);
    /// Sends a piece of a response whose headers were sent. Not while a piece of it passes.
    fn send_response_data(&self, bytes: &[u8]);
    /// Begins a response whose pieces this filter sends.
    fn send_response_headers(&self, headers: &[HeaderRef<'_>]);
    /// As `send_response_data`, and the response is complete.
    fn end_response(&self, bytes: &[u8]);
    /// The request body that Envoy keeps while it is held.
    fn kept_request_body(&self) -> Vec<u8>;
    /// Sends a whole request to a cluster; what comes back arrives in hooks of its own. None: it was
    /// not sent. Without a limit of time.
    fn call_out(&self, cluster: &str, headers: &[HeaderRef<'_>], body: &[u8]) -> Option<u64>;
    fn reset_callout(&self, callout: u64);
    /// Replaces the pieces of the response body that arrived with this event.
    fn remake_response_body(&self, make: impl FnOnce(&[&[u8]], &mut dyn FnMut(&[u8])));
    /// Adds a response header besides others of its name.
    fn add_response_header(&self, name: &str, value: &[u8]);
    /// The addresses that another filter restricts this request to, with commas; None: it does not.
    fn subset_hint(&self) -> Option<String>;
    /// Bytes of the request body that Envoy keeps to send them again.
    fn kept_request_bytes(&self) -> u64;
    /// Starts the request anew, with new filters; true: this stream is over.
    fn recreate(&self) -> bool;
    fn upstream_address(&self) -> Option<String>;
    fn response_details(&self) -> Option<String>;
    fn waker(&self) -> Self::Wake;
    fn count(&self, counter: Counter, by: u64);
    fn send_response(&self, reply: &LocalReply);
    fn continue_decoding(&self);
}
