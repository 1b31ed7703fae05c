//! Sessions that a cookie names.
//!
//! A client that says nothing of a session, but keeps cookies, gets one with its first response: a random
//! id, which the picker is told from then on. The id means nothing and proves nothing.

use crate::socket;

/// The cookie's value, among others in a `cookie` header; None: it is not there, or empty.
pub fn in_cookie(header: &[u8], name: &str) -> Option<String> {
    header.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair
            .trim_ascii()
            .strip_prefix(name.as_bytes())?
            .strip_prefix(b"=")?;
        (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    })
}

/// 128 random bits.
pub fn new_id() -> String {
    format!("{:016x}{:016x}", socket::random_u64(), socket::random_u64())
}

/// For the browser session, out of reach of scripts.
pub fn set_cookie(name: &str, id: &str) -> String {
    format!("{name}={id}; Path=/; HttpOnly; SameSite=Lax")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_among_others() {
        for (header, value) in [
            ("s=1", Some("1")),
            ("a=2; s=x=y ;b=3", Some("x=y")),
            ("ss=1; xs=2", None),
            ("s=; s=3", Some("3")),
            ("s", None),
            ("", None),
        ] {
            assert_eq!(
                in_cookie(header.as_bytes(), "s").as_deref(),
                value,
                "{header}"
            );
        }
    }

    #[test]
    fn ids_are_long_and_differ() {
        let (one, other) = (new_id(), new_id());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
        assert!(set_cookie("s", &one).starts_with(&format!("s={one}; ")));
    }
}
