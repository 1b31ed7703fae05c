//! A request that starts anew inside Envoy, because its server was too slow with the first token.
//!
//! Envoy makes a new stream of the same request, with new filters. What the new `pick` cannot read out of the
//! request again is kept here meanwhile, by request id. Envoy starts the new stream before it returns to the old
//! one, on the same thread, so an entry lives for that moment only.

use std::cell::RefCell;
use std::collections::HashMap;

use inferway_wire::protocol::Pick;

/// So often a request may start anew.
pub const TIMES_MAX: u8 = 2;

/// What is kept of a request.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Again {
    pub received_ns: u64,
    /// Servers not to be chosen again, with commas.
    pub exclude: String,
    pub times: u8,
    pub objective: String,
    pub fairness: String,
    pub session: String,
    pub new_cookie: Option<String>,
    pub added_usage: bool,
}

thread_local! {
    static TABLE: RefCell<HashMap<String, Again>> = RefCell::new(HashMap::new());
}

pub fn put(request_id: &str, again: Again) {
    TABLE.with(|table| table.borrow_mut().insert(request_id.to_owned(), again));
}

pub fn take(request_id: &str) -> Option<Again> {
    TABLE.with(|table| {
        let mut table = table.borrow_mut();
        if table.is_empty() {
            return None;
        }
        table.remove(request_id)
    })
}

impl Again {
    /// After another server was too slow.
    pub fn after(mut self, endpoint: &str) -> Self {
        if !self.exclude.is_empty() && !endpoint.is_empty() {
            self.exclude.push(',');
        }
        self.exclude.push_str(endpoint);
        self.times += 1;
        self
    }

    /// The question to the picker is that of the first time, and who was too slow.
    pub fn apply(&self, pick: &mut Pick) {
        pick.received_ns = self.received_ns;
        pick.exclude.clone_from(&self.exclude);
        pick.objective.clone_from(&self.objective);
        pick.fairness.clone_from(&self.fairness);
        pick.session.clone_from(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_once_by_its_own_id() {
        put("a", Again::default().after("1.1.1.1:1").after("2.2.2.2:2"));
        assert!(take("b").is_none());
        let again = take("a").expect("kept");
        assert_eq!(
            (again.exclude.as_str(), again.times),
            ("1.1.1.1:1,2.2.2.2:2", 2)
        );
        assert!(take("a").is_none());
    }
}
