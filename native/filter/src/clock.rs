//! The one clock of the filter: CLOCK_MONOTONIC, which the picker on the same machine reads as well.

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec for the call; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Microseconds from one monotonic instant to a later one, saturating at both ends.
pub fn elapsed_us(from_ns: u64, to_ns: u64) -> u32 {
    u32::try_from(to_ns.saturating_sub(from_ns) / 1_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_saturates() {
        assert_eq!(elapsed_us(5_000, 12_999), 7);
        assert_eq!(elapsed_us(12_000, 5_000), 0);
        assert_eq!(elapsed_us(0, u64::MAX), u32::MAX);
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let first = monotonic_ns();
        assert!(monotonic_ns() >= first && first > 0);
    }
}
