//! Times that clients give in headers: `x-slo-ttft-ms: 250`, `x-llm-d-inference-ttl: 1m30s`.
//!
//! A value that cannot be read says nothing: it is a wish, and no reason to refuse a request.

/// A number of milliseconds, rounded up; 0 when there is none.
pub fn milliseconds(value: &[u8]) -> u32 {
    number(value).map_or(0, rounded_up)
}

/// A duration as Go writes it (`1h2m3.5s`, `250ms`), in milliseconds, rounded up; 0 when there is none.
pub fn go_duration_ms(value: &[u8]) -> u32 {
    let mut rest = value.trim_ascii();
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.iter().position(|byte| !is_of_number(*byte));
        let (digits, unit) = rest.split_at(digits.unwrap_or(rest.len()));
        let letters = unit.iter().position(|byte| is_of_number(*byte));
        let (unit, after) = unit.split_at(letters.unwrap_or(unit.len()));
        let (Some(count), Some(ms)) = (number(digits), unit_ms(unit)) else {
            return 0;
        };
        total += count * ms;
        rest = after;
    }
    rounded_up(total)
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'.'
}

fn number(value: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let plain = !text.is_empty() && text.bytes().all(is_of_number);
    plain.then(|| text.parse().ok()).flatten()
}

fn unit_ms(unit: &[u8]) -> Option<f64> {
    Some(match unit {
        b"ns" => 1e-6,
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => 1e-3,
        b"ms" => 1.0,
        b"s" => 1e3,
        b"m" => 60e3,
        b"h" => 3600e3,
        _ => return None,
    })
}

/// Saturating, as conversions from floating point are.
fn rounded_up(ms: f64) -> u32 {
    ms.ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_milliseconds() {
        for (text, ms) in [
            ("250", 250),
            (" 0.2 ", 1),
            ("1e3", 0),
            ("-5", 0),
            ("", 0),
            ("soon", 0),
            ("1.2.3", 0),
            ("99999999999", u32::MAX),
        ] {
            assert_eq!(milliseconds(text.as_bytes()), ms, "{text}");
        }
    }

    #[test]
    fn durations_of_go() {
        for (text, ms) in [
            ("1h2m3.5s", 3_723_500),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("10us", 1),
            ("5µs", 1),
            ("0s", 0),
            ("5", 0),
            ("s", 0),
            ("1s-1s", 0),
            ("-1s", 0),
            ("", 0),
        ] {
            assert_eq!(go_duration_ms(text.as_bytes()), ms, "{text}");
        }
    }
}
