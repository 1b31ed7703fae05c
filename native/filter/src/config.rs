//! The JSON that Envoy hands over when a filter is configured, decoded strictly.
//!
//! A bad value refuses the configuration, so that Envoy keeps the last good one and the control plane
//! sees the rejection. Fields, units and defaults are described in docs/filter-config.md.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fallback::Fallback;
use crate::reply;

/// A socket address longer than this does not fit into `sockaddr_un`.
const SOCKET_BYTES_MAX: usize = 107;

fn strip_headers_default() -> Vec<String> {
    [
        "x-gateway-model-name",
        "x-gateway-base-model-name",
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-served",
        "x-gateway-destination-endpoint-subset",
        "x-gateway-model-name-rewrite",
        "x-llm-d-model-name-rewrite",
    ]
    .map(String::from)
    .to_vec()
}

fn objective_headers_default() -> Vec<String> {
    [
        "x-gateway-inference-objective",
        "x-llm-d-inference-objective",
    ]
    .map(String::from)
    .to_vec()
}

fn fairness_headers_default() -> Vec<String> {
    [
        "x-gateway-inference-fairness-id",
        "x-llm-d-inference-fairness-id",
    ]
    .map(String::from)
    .to_vec()
}

fn session_headers_default() -> Vec<String> {
    [
        "x-session-id",
        "x-smg-routing-key",
        "x-dynamo-session-id",
        "x-claude-code-session-id",
        "session-id",
        "thread-id",
    ]
    .map(String::from)
    .to_vec()
}

fn body_bytes_max_default() -> u64 {
    33_554_432
}

fn hold_ms_default() -> u64 {
    1_000
}

/// A picker that was silent for so long is not waited for, whatever it promised.
pub const ALIVE_MS_MIN: u64 = 250;

fn alive_ms_min_default() -> u64 {
    ALIVE_MS_MIN
}

fn fail_open_default() -> bool {
    false
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    #[serde(default = "body_bytes_max_default")]
    pub body_bytes_max: u64,
    #[serde(default = "strip_headers_default")]
    pub strip_headers: Vec<String>,
    /// Model name to base model.
    #[serde(default)]
    pub base_models: HashMap<String, String>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct PickConfig {
    pub socket: PathBuf,
    #[serde(default = "hold_ms_default")]
    pub hold_ms: u64,
    #[serde(default = "alive_ms_min_default")]
    pub alive_ms_min: u64,
    #[serde(default = "objective_headers_default")]
    pub objective_headers: Vec<String>,
    #[serde(default = "fairness_headers_default")]
    pub fairness_headers: Vec<String>,
    #[serde(default = "session_headers_default")]
    pub session_headers: Vec<String>,
    /// Where a stream that waits for long is sent, so that its client can be kept: a cluster that leads to
    /// a listener with the same routes and a `pick` that is `relayed`.
    #[serde(default)]
    pub relay: Option<String>,
    /// Only requests that another `pick` of this process sends come in here.
    #[serde(default)]
    pub relayed: bool,
}

/// Configuration of the access logger `attempts`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct AttemptsConfig {
    pub socket: PathBuf,
}

/// Per-route configuration of `pick`: the pool that serves the route.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    pub pool: String,
    #[serde(default = "fail_open_default")]
    pub fail_open: bool,
    #[serde(default)]
    pub rewrites: Fallback,
    /// Request headers that the picker is told.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Whether responses tell how they came about.
    #[serde(default)]
    pub response_headers: bool,
    /// Whether servers are asked for usage that the client did not ask for.
    #[serde(default)]
    pub include_usage: bool,
    /// The cookie that names the session of a request without a session header.
    #[serde(default)]
    pub session_cookie: Option<String>,
    /// Whether a request that is sent through the relay takes this route again.
    #[serde(default)]
    pub relay: bool,
}

/// An absent configuration reads as an empty object.
fn decode<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    let json = if json.is_empty() {
        b"{}".as_slice()
    } else {
        json
    };
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

fn check_header_names(field: &str, names: &[String]) -> Result<(), String> {
    let bad = |name: &&String| {
        name.is_empty()
            || !name.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
            })
    };
    match names.iter().find(bad) {
        Some(name) => Err(format!(
            "{field}: not a header name in lower case: {name:?}"
        )),
        None => Ok(()),
    }
}

fn check_socket(path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().len();
    if bytes == 0 || bytes > SOCKET_BYTES_MAX {
        return Err(format!("socket: not 1 … {SOCKET_BYTES_MAX} bytes: {bytes}"));
    }
    Ok(())
}

impl RouteConfig {
    pub fn decode(json: &[u8]) -> Result<Self, String> {
        let config: Self = decode(json)?;
        if config.body_bytes_max == 0 || config.body_bytes_max > u64::from(u32::MAX) {
            return Err(format!(
                "body_bytes_max: not in 1 … 4294967295: {}",
                config.body_bytes_max
            ));
        }
        check_header_names("strip_headers", &config.strip_headers)?;
        let mut bases = config.base_models.values();
        if let Some(bad) = bases.find(|base| !reply::is_header_value(base.as_bytes())) {
            return Err(format!("base_models: not a header value: {bad:?}"));
        }
        Ok(config)
    }
}

impl PickConfig {
    pub fn decode(json: &[u8]) -> Result<Self, String> {
        let config: Self = decode(json)?;
        check_socket(&config.socket)?;
        if config.hold_ms > 60_000 {
            return Err(format!("hold_ms: not in 0 … 60000: {}", config.hold_ms));
        }
        if !(10..=60_000).contains(&config.alive_ms_min) {
            return Err(format!(
                "alive_ms_min: not in 10 … 60000: {}",
                config.alive_ms_min
            ));
        }
        check_header_names("objective_headers", &config.objective_headers)?;
        check_header_names("fairness_headers", &config.fairness_headers)?;
        check_header_names("session_headers", &config.session_headers)?;
        Ok(config)
    }
}

impl AttemptsConfig {
    pub fn decode(json: &[u8]) -> Result<Self, String> {
        let config: Self = decode(json)?;
        check_socket(&config.socket)?;
        Ok(config)
    }
}

impl PoolConfig {
    pub fn decode(json: &[u8]) -> Result<Self, String> {
        let config: Self = decode(json)?;
        if config.pool.is_empty() || config.pool.len() > 512 {
            return Err(format!("pool: not 1 … 512 bytes: {}", config.pool.len()));
        }
        config.rewrites.check()?;
        check_header_names("headers", &config.headers)?;
        let cookie = config.session_cookie.as_deref().unwrap_or("s");
        let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if cookie.is_empty() || cookie.len() > 64 || !cookie.bytes().all(in_token) {
            return Err(format!(
                "session_cookie: not 1 … 64 letters, digits, '-', '_' or '.': {cookie:?}"
            ));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_defaults_to_32_mib_and_the_trust_headers() {
        let config = RouteConfig::decode(b"").expect("defaults are valid");
        assert_eq!(config.body_bytes_max, 32 << 20);
        assert_eq!(config.strip_headers.len(), 7);
        assert!(config
            .strip_headers
            .contains(&"x-gateway-destination-endpoint".to_owned()));
    }

    #[test]
    fn pick_needs_a_socket_and_has_defaults_for_the_rest() {
        assert!(PickConfig::decode(b"{}")
            .expect_err("no socket")
            .contains("socket"));
        let config = PickConfig::decode(br#"{"socket": "/run/pick.sock"}"#).expect("valid");
        assert_eq!((config.hold_ms, config.alive_ms_min), (1000, 250));
        assert_eq!(config.session_headers[0], "x-session-id");
        assert_eq!(config.objective_headers[1], "x-llm-d-inference-objective");
        assert_eq!(
            config.fairness_headers[0],
            "x-gateway-inference-fairness-id"
        );
    }

    #[test]
    fn attempts_need_a_socket_and_take_nothing_else() {
        let config = AttemptsConfig::decode(br#"{"socket": "/run/pick.sock"}"#).expect("valid");
        assert_eq!(config.socket, Path::new("/run/pick.sock"));
        for json in ["{}", r#"{"socket": ""}"#, r#"{"socket": "/s", "x": 1}"#] {
            assert!(AttemptsConfig::decode(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn pool_fails_closed_unless_told_otherwise() {
        let config = PoolConfig::decode(br#"{"pool": "ns/a"}"#).expect("valid");
        assert_eq!(
            config,
            PoolConfig {
                pool: "ns/a".to_owned(),
                fail_open: false,
                rewrites: Fallback::default(),
                headers: Vec::new(),
                response_headers: false,
                include_usage: false,
                session_cookie: None,
                relay: false,
            }
        );
        assert!(PoolConfig::decode(br#"{"pool": "a", "session_cookie": "a b"}"#).is_err());
        assert!(PoolConfig::decode(br#"{"pool": "a", "session_cookie": ""}"#).is_err());
        assert!(PoolConfig::decode(br#"{"pool": "a", "rewrites": {"x": []}}"#).is_err());
        assert!(PoolConfig::decode(br#"{"pool": ""}"#).is_err());
        assert!(PoolConfig::decode(br#"{"pool": "a", "headers": ["X-A"]}"#).is_err());
    }

    #[test]
    fn unknown_fields_and_values_out_of_range_are_refused() {
        for json in [
            r#"{"body_bytes_max": 0}"#,
            r#"{"body_bytes_max": 4294967296}"#,
            r#"{"body_byte_max": 5}"#,
            r#"{"strip_headers": ["X-Upper"]}"#,
            r#"{"strip_headers": [""]}"#,
            r#"{"base_models": {"bot": "a\nb"}}"#,
            r#"{"base_models": {"bot": ""}}"#,
            "[",
        ] {
            assert!(RouteConfig::decode(json.as_bytes()).is_err(), "{json}");
        }
        let long = format!(r#"{{"socket": "/{}"}}"#, "x".repeat(107));
        for json in [
            long.as_str(),
            r#"{"socket": "/s", "hold_ms": 60001}"#,
            r#"{"socket": "/s", "alive_ms_min": 1}"#,
            r#"{"socket": "/s", "extra": 1}"#,
            r#"{"socket": "/s", "session_headers": ["a b"]}"#,
        ] {
            assert!(PickConfig::decode(json.as_bytes()).is_err(), "{json}");
        }
    }
}
