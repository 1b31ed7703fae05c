//! What `route` read out of a body, handed to `pick` on the same stream.
//!
//! Other filters may stand between the two and stop the stream, so the hand-over outlives a call. A
//! stream never leaves its worker thread, so it is a table per thread, and the stream carries only a
//! number (in Envoy's filter state). The entry goes when `pick` takes it or the stream ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use inferway_wire::request::{Kind, RequestFields};

/// Name of the number in Envoy's filter state.
pub const STATE_KEY: &str = "inferway.request";

pub struct Handoff {
    pub fields: RequestFields,
    pub kind: Kind,
    pub body_bytes: u32,
    pub received_ns: u64,
}

thread_local! {
    static TABLE: RefCell<HashMap<u64, Handoff>> = RefCell::new(HashMap::new());
    static NEXT: Cell<u64> = const { Cell::new(1) };
}

/// Held by the filter that put the entry there; dropping it removes what was not taken.
pub struct Ticket(u64);

impl Ticket {
    pub fn number(&self) -> u64 {
        self.0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // The table may be gone already when a thread ends.
        let _ = TABLE.try_with(|table| table.borrow_mut().remove(&self.0));
    }
}

pub fn put(handoff: Handoff) -> Ticket {
    let number = NEXT.with(|next| next.replace(next.get() + 1));
    TABLE.with(|table| table.borrow_mut().insert(number, handoff));
    Ticket(number)
}

pub fn take(number: u64) -> Option<Handoff> {
    TABLE.with(|table| table.borrow_mut().remove(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handoff(body_bytes: u32) -> Handoff {
        Handoff {
            fields: RequestFields::default(),
            kind: Kind::Other,
            body_bytes,
            received_ns: 0,
        }
    }

    #[test]
    fn taken_once() {
        let ticket = put(handoff(7));
        assert_eq!(take(ticket.number()).map(|taken| taken.body_bytes), Some(7));
        assert!(take(ticket.number()).is_none());
    }

    #[test]
    fn gone_with_the_stream() {
        let ticket = put(handoff(7));
        let number = ticket.number();
        drop(ticket);
        assert!(take(number).is_none());
    }

    #[test]
    fn other_threads_see_nothing() {
        let ticket = put(handoff(7));
        let number = ticket.number();
        let elsewhere = std::thread::spawn(move || take(number).is_none());
        assert!(elsewhere.join().expect("thread"));
        assert!(take(number).is_some());
    }
}
