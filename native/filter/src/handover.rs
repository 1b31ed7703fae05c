//! A request that goes on in another stream of the same process.
//!
//! The stream of the client keeps it company (`relay.rs`); the one that serves it comes in through a
//! listener inside Envoy, on the same worker thread. What is known of the request waits here meanwhile,
//! under its number, which the inner stream carries in a header. The entry goes when the inner stream
//! takes it, or the client's one when it ends first.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::pick::Picked;

/// Carries the number; read only where nothing but this process can send.
pub const RELAY_HEADER: &str = "x-inferway-relay";
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether the client was told that its stream broke. Both streams hold it.
pub type Told = Rc<Cell<bool>>;

pub struct Handed {
    pub picked: Box<Picked>,
    /// As it was before Envoy counted itself as one more proxy.
    pub forwarded_for: Option<Vec<u8>>,
}

thread_local! {
    static TABLE: RefCell<HashMap<u64, Handed>> = RefCell::new(HashMap::new());
}

pub fn put(number: u64, handed: Handed) {
    TABLE.with(|table| table.borrow_mut().insert(number, handed));
}

pub fn take(number: u64) -> Option<Handed> {
    // The table may be gone already when a thread ends.
    let taken = TABLE.try_with(|table| table.borrow_mut().remove(&number));
    taken.ok().flatten()
}
