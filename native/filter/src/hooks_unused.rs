//! Functions that Envoy insists on finding and that this module has no use for.

use std::ffi::c_void;

use crate::abi::{Buffer, Header};

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    _envoy: *mut c_void,
    _config: *const c_void,
    _event: u64,
) {
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_http_callout_done(
    _envoy: *mut c_void,
    _module: *const c_void,
    _callout: u64,
    _result: u32,
    _headers: *const Header,
    _headers_length: usize,
    _body: *const Buffer,
    _body_length: usize,
) {
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_trailers(
    _envoy: *mut c_void,
    _module: *const c_void,
    _stream: u64,
    _trailers: *const Header,
    _trailers_length: usize,
) {
}
