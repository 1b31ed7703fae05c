//! The functions that Envoy calls for the router's upstream log, with the names of its ABI.
//!
//! Envoy calls them on the worker that made the attempt. Everything it lends is valid until the hook
//! returns. No panic leaves a hook; it is counted, and the attempt goes unreported.

use std::ffi::c_void;
use std::sync::Arc;

use crate::abi::{self, Buffer};
use crate::attempt::{fault, Attempt};
use crate::config::AttemptsConfig;
use crate::hooks::{guarded, log, log_link, LINKS};
use crate::http_stream::Scheduler;
use crate::link::Link;

/// `None` while Envoy only validates a configuration.
struct Logger(Option<Arc<Link<Scheduler>>>);

/// Envoy's access log context, valid for the duration of the hook that got it.
struct Logged(*mut c_void);

impl Logged {
    /// What a getter of the ABI lends, or nothing.
    fn lent(&self, get: impl FnOnce(*mut c_void, *mut Buffer) -> bool) -> Option<&[u8]> {
        let mut buffer = Buffer::none();
        // SAFETY: what Envoy lends lives as long as the hook, and so as `self`.
        get(self.0, &mut buffer).then(|| unsafe { buffer.bytes() })
    }
}

impl Attempt for Logged {
    fn cluster(&self) -> &[u8] {
        self.lent(|logged, value| {
            // SAFETY: `logged` is the context of the running hook, `value` a place to write to.
            unsafe {
                abi::envoy_dynamic_module_callback_access_logger_get_upstream_cluster(logged, value)
            }
        })
        .unwrap_or_default()
    }

    fn host(&self) -> &[u8] {
        self.lent(|logged, value| {
            // SAFETY: as above.
            unsafe {
                abi::envoy_dynamic_module_callback_access_logger_get_attribute_string(
                    logged,
                    abi::ATTRIBUTE_UPSTREAM_ADDRESS,
                    value,
                )
            }
        })
        .unwrap_or_default()
    }

    fn status(&self) -> u16 {
        let mut status = 0;
        // SAFETY: as above.
        let known = unsafe {
            abi::envoy_dynamic_module_callback_access_logger_get_attribute_int(
                self.0,
                abi::ATTRIBUTE_RESPONSE_CODE,
                &mut status,
            )
        };
        if known {
            u16::try_from(status).unwrap_or(0)
        } else {
            0
        }
    }

    fn flags(&self) -> u64 {
        // SAFETY: as above.
        unsafe { abi::envoy_dynamic_module_callback_access_logger_get_response_flags(self.0) }
    }

    fn response_header(&self, name: &str) -> Option<&[u8]> {
        let mut count = 0;
        self.lent(|logged, value| {
            // SAFETY: as above; Envoy reads the name during the call.
            unsafe {
                abi::envoy_dynamic_module_callback_access_logger_get_header_value(
                    logged,
                    abi::RESPONSE_HEADER,
                    Buffer::of(name.as_bytes()),
                    value,
                    0,
                    &mut count,
                )
            }
        })
    }
}

fn new_logger(name: &[u8], json: &[u8]) -> Result<Logger, String> {
    if name != b"attempts" {
        let name = String::from_utf8_lossy(name);
        return Err(format!("no access logger of this name: {name}"));
    }
    let config = AttemptsConfig::decode(json)?;
    // SAFETY: called on Envoy's main thread, as the ABI asks.
    if unsafe { abi::envoy_dynamic_module_callback_is_validation_mode() } {
        return Ok(Logger(None));
    }
    let link = LINKS.link(&config.socket, None, log_link);
    let link = link.map_err(|error| format!("socket: no link thread: {error}"))?;
    Ok(Logger(Some(link)))
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_access_logger_config_new(
    _envoy: *mut c_void,
    name: Buffer,
    json: Buffer,
) -> *const c_void {
    guarded(std::ptr::null(), || {
        // SAFETY: Envoy lends both for the duration of the hook.
        let (name, json) = unsafe { (name.bytes(), json.bytes()) };
        match new_logger(name, json) {
            Ok(logger) => Box::into_raw(Box::new(logger)).cast_const().cast(),
            Err(error) => {
                log(abi::LOG_ERROR, &format!("inferway: access logger: {error}"));
                std::ptr::null()
            }
        }
    })
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_access_logger_config_destroy(config: *const c_void) {
    if config.is_null() {
        return;
    }
    // SAFETY: the pointer is of `config_new`, and Envoy gives it back once, after all loggers.
    let logger = unsafe { Box::from_raw(config.cast_mut().cast::<Logger>()) };
    guarded((), || drop(logger));
}

/// There is nothing per worker: the logger is its configuration.
#[no_mangle]
extern "C" fn envoy_dynamic_module_on_access_logger_new(
    config: *const c_void,
    _envoy: *mut c_void,
) -> *const c_void {
    config
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_access_logger_destroy(_logger: *const c_void) {}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_access_logger_log(
    envoy: *mut c_void,
    logger: *const c_void,
    _kind: u32,
) {
    // SAFETY: the pointer is of `config_new`, which outlives its loggers; only shared references to
    // it are ever made.
    let Some(Logger(Some(link))) = (unsafe { logger.cast::<Logger>().as_ref() }) else {
        return;
    };
    guarded((), || {
        if let Some(fault) = fault(&Logged(envoy)) {
            link.fault(&fault);
        }
    });
}
