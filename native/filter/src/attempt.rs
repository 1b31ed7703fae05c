//! Attempts that failed, as Envoy logs them one by one.
//!
//! Envoy tries a request on the next endpoint by itself, so a filter sees the last attempt only. The
//! router's upstream log sees each; an access log filter lets through only those that failed, so good
//! attempts cost nothing here. What becomes of one: a FAULT to the picker, or nothing when it says
//! nothing about the server: a client that left, an answer that broke after its first byte (the stream
//! reports that itself), a request that never reached a server.

use inferway_wire::protocol::Fault;

use crate::duration::milliseconds;

const CONNECT_FAILURE: u8 = 1;
const RESET: u8 = 2;
const TIMEOUT: u8 = 3;
const STATUS: u8 = 4;

// Response flags of Envoy that blame the server.
const UPSTREAM_REQUEST_TIMEOUT: u64 = 0x4;
const UPSTREAM_REMOTE_RESET: u64 = 0x10;
const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
const UPSTREAM_CONNECTION_TERMINATION: u64 = 0x40;
const UPSTREAM_PROTOCOL_ERROR: u64 = 0x80_0000;

/// One ended attempt, as Envoy's access log sees it.
pub trait Attempt {
    fn cluster(&self) -> &[u8];
    /// `ip:port` of the server; empty when there was none.
    fn host(&self) -> &[u8];
    /// 0: no response came.
    fn status(&self) -> u16;
    fn flags(&self) -> u64;
    fn response_header(&self, name: &str) -> Option<&[u8]>;
}

/// What the picker has to know of it.
pub fn fault(attempt: &impl Attempt) -> Option<Fault> {
    let pool = attempt.cluster().strip_prefix(b"pool/")?;
    let endpoint = attempt.host();
    if endpoint.is_empty() {
        return None;
    }
    let status = attempt.status();
    let (cause, retry_after_ms) = match status {
        0 => (cause(attempt.flags())?, 0),
        408 | 429 | 500.. => (STATUS, retry_after_ms(attempt)),
        _ => return None,
    };
    Some(Fault {
        pool: String::from_utf8_lossy(pool).into_owned(),
        endpoint: String::from_utf8_lossy(endpoint).into_owned(),
        cause,
        status,
        retry_after_ms,
    })
}

fn cause(flags: u64) -> Option<u8> {
    const RESETS: u64 =
        UPSTREAM_REMOTE_RESET | UPSTREAM_CONNECTION_TERMINATION | UPSTREAM_PROTOCOL_ERROR;
    if flags & UPSTREAM_CONNECTION_FAILURE != 0 {
        Some(CONNECT_FAILURE)
    } else if flags & UPSTREAM_REQUEST_TIMEOUT != 0 {
        Some(TIMEOUT)
    } else if flags & RESETS != 0 {
        Some(RESET)
    } else {
        None
    }
}

fn retry_after_ms(attempt: &impl Attempt) -> u32 {
    match attempt.response_header("retry-after-ms").map(milliseconds) {
        Some(ms) if ms > 0 => ms,
        _ => attempt
            .response_header("retry-after")
            .map_or(0, |value| milliseconds(value).saturating_mul(1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Logged {
        cluster: &'static str,
        host: &'static str,
        status: u16,
        flags: u64,
        headers: &'static [(&'static str, &'static str)],
    }

    impl Attempt for Logged {
        fn cluster(&self) -> &[u8] {
            self.cluster.as_bytes()
        }
        fn host(&self) -> &[u8] {
            self.host.as_bytes()
        }
        fn status(&self) -> u16 {
            self.status
        }
        fn flags(&self) -> u64 {
            self.flags
        }
        fn response_header(&self, name: &str) -> Option<&[u8]> {
            let found = self.headers.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.as_bytes())
        }
    }

    fn logged(status: u16, flags: u64) -> Logged {
        Logged {
            cluster: "pool/ns/a",
            host: "10.0.0.1:8000",
            status,
            flags,
            headers: &[],
        }
    }

    fn told(attempt: &Logged) -> Option<(u8, u16, u32)> {
        fault(attempt).map(|fault| {
            assert_eq!(
                (fault.pool.as_str(), fault.endpoint.as_str()),
                ("ns/a", "10.0.0.1:8000")
            );
            (fault.cause, fault.status, fault.retry_after_ms)
        })
    }

    #[test]
    fn without_a_response_the_flags_tell() {
        for (flags, cause) in [
            (0x20, Some(CONNECT_FAILURE)),
            (0x40, Some(RESET)),
            (0x10, Some(RESET)),
            (0x80_0000, Some(RESET)),
            (0x4, Some(TIMEOUT)),
            (0x4 | 0x40, Some(TIMEOUT)),
            (0, None),
            (0x8, None),     // reset by Envoy itself
            (0x80, None),    // no room in Envoy's own queue
            (0x10_00, None), // the client left
        ] {
            assert_eq!(
                told(&logged(0, flags)),
                cause.map(|cause| (cause, 0, 0)),
                "{flags:#x}"
            );
        }
    }

    #[test]
    fn statuses_of_servers_and_of_busy_ones_are_told() {
        for status in [408, 429, 500, 501, 502, 503, 504, 529, 599] {
            assert_eq!(told(&logged(status, 0)), Some((STATUS, status, 0)));
        }
        for status in [200, 302, 400, 401, 404, 413, 422, 499] {
            assert_eq!(told(&logged(status, 0)), None);
        }
    }

    #[test]
    fn an_answer_that_broke_on_its_way_is_left_to_the_stream() {
        assert_eq!(told(&logged(200, 0x40)), None);
    }

    #[test]
    fn retry_after_is_passed_on() {
        for (headers, expected) in [
            (&[("retry-after", "7")][..], 7_000),
            (&[("retry-after-ms", "250"), ("retry-after", "1")][..], 250),
            (&[("retry-after", "soon")][..], 0),
            (&[("retry-after", "99999999999")][..], u32::MAX),
        ] {
            let attempt = Logged {
                headers,
                ..logged(503, 0)
            };
            assert_eq!(told(&attempt), Some((STATUS, 503, expected)));
        }
    }

    #[test]
    fn only_servers_of_pools_are_reported() {
        for (cluster, host) in [
            ("servers/ns/a", "10.0.0.1:8000"),
            ("", "10.0.0.1:8000"),
            ("pool/ns/a", ""),
        ] {
            let attempt = Logged {
                cluster,
                host,
                ..logged(500, 0)
            };
            assert_eq!(fault(&attempt), None);
        }
    }
}
