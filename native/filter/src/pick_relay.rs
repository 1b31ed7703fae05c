//! The filter `pick`, for streams that wait in the picker's queue: their clients hear comments.
//!
//! A comment needs headers, and a server's headers cannot follow them in the same stream. So a client that
//! has waited in silence for its pace gets headers from here, and its request goes on in another stream
//! (through the relay, a listener inside Envoy), which is in every way an ordinary one: it takes over what
//! was asked, with its place in the queue, and reports what comes of it. What stays here is `relay.rs`.
//! Requests that are placed at once, and those that are not for event streams, never come here.
//! Docs: docs/adr/0004-broken-streams.md.

use std::rc::Rc;

use inferway_wire::request::Kind;

use crate::clock::monotonic_ns;
use crate::envoy::{HeaderRef, HeadersStatus, Stream, Wake};
use crate::handover::{self, Handed, FORWARDED_FOR, RELAY_HEADER};
use crate::metrics::Counter;
use crate::pick::{Phase, PickFilter, PickShared};
use crate::relay::{Ending, Relay, Turn, PING};
use crate::reply;
use crate::response::Report;

const MS: u64 = 1_000_000;

impl PickFilter {
    /// The picker says that the request waits.
    pub(crate) fn queued<S: Stream>(
        &self,
        stream: &S,
        shared: &PickShared<S::Wake>,
        keepalive_ms: u32,
    ) {
        let mut picked = self.picked.borrow_mut();
        let picked = picked.as_mut().filter(|picked| picked.told.is_none());
        let Some(picked) = picked.filter(|_| shared.config.relay.is_some()) else {
            return;
        };
        picked.keepalive_ns = u64::from(keepalive_ms) * MS;
        picked.silent_until_ns = monotonic_ns() + picked.keepalive_ns;
        let (number, at_ns) = (picked.stream, picked.silent_until_ns);
        shared.link.set_alarm(number, at_ns, stream.waker());
    }

    /// There is no answer. When the silence has lasted long enough, the client gets headers and its
    /// first comment, and the request goes to the relay.
    pub(crate) fn keep_alive<S: Stream>(&self, stream: &S, shared: &PickShared<S::Wake>) {
        let now_ns = monotonic_ns();
        let waited = |until_ns: u64| until_ns != 0 && until_ns <= now_ns;
        let due =
            self.picked.borrow().as_ref().is_some_and(|picked| {
                picked.phase == Phase::Waiting && waited(picked.silent_until_ns)
            });
        let Some(cluster) = shared.config.relay.as_deref().filter(|_| due) else {
            return;
        };
        let Some(mut picked) = self.picked.take() else {
            return;
        };
        let number = picked.stream;
        let told = Rc::default();
        picked.told = Some(Rc::clone(&told));
        // A repetition would come in without what was handed over.
        picked.may_repeat = false;
        let new_cookie = picked.new_cookie.take();
        let relay = Relay::new(number, picked.kind, picked.keepalive_ns, now_ns, told);
        let ping_ns = relay.next_ping_ns();
        *self.relay.borrow_mut() = Some(Box::new(relay));
        stream.count(Counter::KeptAlive, 1);

        let mut headers: Vec<HeaderRef<'_>> = vec![
            (b":status", b"200"),
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
        ];
        if let Some(cookie) = &new_cookie {
            headers.push((b"set-cookie", cookie.as_bytes()));
        }
        stream.send_response_headers(&headers);
        stream.send_response_data(PING);

        let (forwarded_for, callout) = stream.request_headers(|headers| {
            let found = headers
                .iter()
                .find(|(name, _)| *name == FORWARDED_FOR.as_bytes());
            (found.map(|(_, value)| value.to_vec()), own(headers))
        });
        let handed = Handed {
            picked,
            forwarded_for,
        };
        handover::put(number, handed);
        let text = number.to_string();
        let mut headers: Vec<HeaderRef<'_>> = callout
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        headers.push((RELAY_HEADER.as_bytes(), text.as_bytes()));
        let body = stream.kept_request_body();
        let callout = stream.call_out(cluster, &headers, &body);
        if callout.is_none() {
            self.relayed_end(stream, Ending::Broken);
        } else if let Some(relay) = &mut *self.relay.borrow_mut() {
            relay.callout = callout.filter(|_| !relay.has_answer());
        }
        shared.link.set_alarm(number, ping_ns, stream.waker());
    }

    /// A turn of a stream that keeps a client. False: it does not.
    pub(crate) fn relay_turn<S: Stream>(&self, stream: &S, shared: &PickShared<S::Wake>) -> bool {
        let now_ns = monotonic_ns();
        let (turn, number, callout, ping_ns) = match &mut *self.relay.borrow_mut() {
            None => return false,
            Some(relay) => {
                let turn = relay.turn(now_ns);
                let ping_ns = relay.is_waiting().then(|| relay.next_ping_ns());
                (turn, relay.number, relay.callout, ping_ns)
            }
        };
        if let Some(ping_ns) = ping_ns {
            shared.link.set_alarm(number, ping_ns, stream.waker());
        }
        match turn {
            Turn::Nothing => {}
            Turn::Send(bytes) => stream.send_response_data(&bytes),
            Turn::End(bytes, ending) => {
                // What the other stream has not taken over ends here.
                self.end_handed(shared, |watch| watch.refused(503, now_ns));
                if let (Ending::Overflow, Some(callout)) = (ending, callout) {
                    stream.count(Counter::BrokenStreams, 1);
                    stream.reset_callout(callout);
                }
                stream.end_response(&bytes);
            }
        }
        true
    }

    pub fn relayed_headers(&self, headers: &[HeaderRef<'_>]) {
        if let Some(relay) = &mut *self.relay.borrow_mut() {
            relay.headers(headers);
        }
    }

    pub fn relayed_data<S: Stream>(&self, stream: &S, pieces: &[&[u8]]) {
        let (bytes, turn) = match &mut *self.relay.borrow_mut() {
            Some(relay) => relay.data(pieces),
            None => return,
        };
        if !bytes.is_empty() {
            stream.send_response_data(&bytes);
        }
        if turn {
            stream.waker().wake();
        }
    }

    /// The other stream is over.
    pub fn relayed_end<S: Stream>(&self, stream: &S, ending: Ending) {
        if let Some(relay) = &mut *self.relay.borrow_mut() {
            relay.answered(ending);
            stream.waker().wake();
        }
    }

    /// The client's connection takes nothing more, or something again.
    pub fn relay_blocked<S: Stream>(&self, stream: &S, blocked: bool) {
        // Sending may fill the connection, but nothing is sent with this borrow held.
        if let Some(relay) = &mut *self.relay.borrow_mut() {
            if relay.set_blocked(blocked) {
                stream.waker().wake();
            }
        }
    }

    /// Envoy is about to cut the client's stream.
    pub(crate) fn relay_cut<S: Stream>(&self, stream: &S) {
        let words = match &mut *self.relay.borrow_mut() {
            Some(relay) if !relay.is_over() => relay.cut(),
            _ => return,
        };
        stream.count(Counter::BrokenStreams, 1);
        stream.send_response_data(&words);
    }

    /// The client's stream is over.
    pub(crate) fn relay_over<W: Wake>(&self, shared: &PickShared<W>) {
        self.end_handed(shared, |watch| watch.cut(None, monotonic_ns()));
    }

    /// Ends a request that was handed over and that nobody took.
    fn end_handed<W: Wake>(
        &self,
        shared: &PickShared<W>,
        see: impl FnOnce(&mut crate::response::Watch) -> Report,
    ) {
        let number = self.relay.borrow().as_ref().map(|relay| relay.number);
        let Some(mut handed) = number.and_then(handover::take) else {
            return;
        };
        if let Report::Done(done) = see(&mut handed.picked.watch) {
            shared.link.end(&done);
        }
    }

    /// The relay's side: goes on with a request that another stream handed over.
    pub(crate) fn adopt<S: Stream>(
        &self,
        stream: &S,
        shared: &PickShared<S::Wake>,
    ) -> HeadersStatus {
        let number = stream.request_headers(|headers| {
            let found = headers
                .iter()
                .find(|(name, _)| *name == RELAY_HEADER.as_bytes());
            found.and_then(|(_, value)| crate::route::parse_length(value))
        });
        let Some(Handed {
            picked,
            forwarded_for,
        }) = number.and_then(handover::take)
        else {
            stream.send_response(&reply::internal_error(Kind::Other));
            return HeadersStatus::StopIteration;
        };
        stream.set_request_header(RELAY_HEADER, None);
        stream.set_request_header(FORWARDED_FOR, forwarded_for.as_deref());
        let number = picked.stream;
        *self.picked.borrow_mut() = Some(picked);
        shared.link.adopt(number, stream.waker());
        HeadersStatus::StopAllAndWatermark
    }

    pub(crate) fn set_told(&self) {
        if let Some(picked) = &*self.picked.borrow() {
            if let Some(told) = &picked.told {
                told.set(true);
            }
        }
    }
}

fn own(headers: &[HeaderRef<'_>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

#[cfg(test)]
#[path = "pick_relay_test.rs"]
mod tests;
