//! What a route may tell its clients about a request, in headers of the response.
//!
//! Opt-in, because an endpoint's address is nobody's business on an open gateway.

use crate::clock::elapsed_us;

/// How a request came to its endpoint.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Placement {
    pub queued_us: u32,
    /// 0: none.
    pub ttft_deadline_ms: u32,
    /// The picker's reason, in a few words; may be empty.
    pub reason: String,
}

/// Milliseconds with three digits after the point.
fn ms(us: u32) -> String {
    format!("{}.{:03}", us / 1_000, us % 1_000)
}

/// Names and values. `overhead` is what the gateway took before it sent the request on, without the queue.
pub fn headers(
    placement: &Placement,
    endpoint: &str,
    attempts: usize,
    (received_ns, sent_ns): (u64, u64),
) -> Vec<(&'static str, String)> {
    let overhead_us = elapsed_us(received_ns, sent_ns).saturating_sub(placement.queued_us);
    let mut headers = vec![
        ("x-inferway-endpoint", endpoint.to_owned()),
        ("x-inferway-queue-ms", ms(placement.queued_us)),
        ("x-inferway-overhead-ms", ms(overhead_us)),
        ("x-inferway-attempts", attempts.to_string()),
        ("x-inferway-reason", placement.reason.clone()),
    ];
    headers.retain(|(_, value)| !value.is_empty());
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_milliseconds_and_nothing_is_told_as_nothing() {
        let placement = Placement {
            queued_us: 12_034,
            ..Placement::default()
        };
        assert_eq!(
            headers(&placement, "1.2.3.4:5", 2, (1_000_000, 14_034_000)),
            [
                ("x-inferway-endpoint", "1.2.3.4:5".to_owned()),
                ("x-inferway-queue-ms", "12.034".to_owned()),
                ("x-inferway-overhead-ms", "1.000".to_owned()),
                ("x-inferway-attempts", "2".to_owned()),
            ]
        );
    }
}
