//! The part of Envoy's dynamic-module ABI (Envoy 1.40) that this module uses, declared by hand.
//!
//! Envoy loads the shared library into its own process and exchanges plain C structs with it by
//! value. Nothing here has behaviour; `envoy.rs` gives these functions a safe face.

use std::ffi::c_void;

/// Memory owned by Envoy, or by this module: both have the same layout.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Buffer {
    pub data: *const u8,
    pub length: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    pub key: *const u8,
    pub key_length: usize,
    pub value: *const u8,
    pub value_length: usize,
}

pub const REQUEST_HEADER: u32 = 0;
pub const RESPONSE_HEADER: u32 = 2;

pub const RECEIVED_REQUEST_BODY: u32 = 0;
pub const BUFFERED_REQUEST_BODY: u32 = 1;
pub const RECEIVED_RESPONSE_BODY: u32 = 2;

pub const ATTRIBUTE_RESPONSE_CODE: u32 = 15;
pub const ATTRIBUTE_RESPONSE_CODE_DETAILS: u32 = 16;
pub const ATTRIBUTE_UPSTREAM_ADDRESS: u32 = 41;

pub const DYNAMIC_METADATA: u32 = 0;

pub const LOG_INFO: u32 = 2;
pub const LOG_WARN: u32 = 3;
pub const LOG_ERROR: u32 = 4;

/// Newer Envoys accept the version string of an older one and log the difference.
pub const VERSION: &std::ffi::CStr = c"v0.2.0";

extern "C" {
    pub fn envoy_dynamic_module_callback_log(level: u32, message: Buffer);
    pub fn envoy_dynamic_module_callback_is_validation_mode() -> bool;
    pub fn envoy_dynamic_module_callback_http_filter_config_define_counter(
        config: *mut c_void,
        name: Buffer,
        label_names: *const Buffer,
        label_names_length: usize,
        id: *mut usize,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_increment_counter(
        filter: *mut c_void,
        id: usize,
        label_values: *const Buffer,
        label_values_length: usize,
        value: u64,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_get_headers_size(
        filter: *mut c_void,
        header_type: u32,
    ) -> usize;
    pub fn envoy_dynamic_module_callback_http_get_headers(
        filter: *mut c_void,
        header_type: u32,
        headers: *mut Header,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_set_header(
        filter: *mut c_void,
        header_type: u32,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_send_response(
        filter: *mut c_void,
        status: u32,
        headers: *const Header,
        headers_length: usize,
        body: Buffer,
        details: Buffer,
    );
    pub fn envoy_dynamic_module_callback_http_get_body_chunks_size(
        filter: *mut c_void,
        body_type: u32,
    ) -> usize;
    pub fn envoy_dynamic_module_callback_http_get_body_chunks(
        filter: *mut c_void,
        body_type: u32,
        chunks: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_append_body(
        filter: *mut c_void,
        body_type: u32,
        data: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_filter_recreate_stream(
        filter: *mut c_void,
        headers: *const Header,
        headers_length: usize,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_add_header(
        filter: *mut c_void,
        header_type: u32,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_get_metadata_namespaces_count(
        filter: *mut c_void,
        source: u32,
    ) -> usize;
    pub fn envoy_dynamic_module_callback_http_get_metadata_string(
        filter: *mut c_void,
        source: u32,
        namespace: Buffer,
        key: Buffer,
        value: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_get_metadata_list_size(
        filter: *mut c_void,
        source: u32,
        namespace: Buffer,
        key: Buffer,
        size: *mut usize,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_get_metadata_list_string(
        filter: *mut c_void,
        source: u32,
        namespace: Buffer,
        key: Buffer,
        index: usize,
        value: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_send_response_data(
        filter: *mut c_void,
        data: Buffer,
        end: bool,
    );
    pub fn envoy_dynamic_module_callback_http_send_response_headers(
        filter: *mut c_void,
        headers: *const Header,
        headers_length: usize,
        end: bool,
    );
    pub fn envoy_dynamic_module_callback_http_filter_start_http_stream(
        filter: *mut c_void,
        callout: *mut u64,
        cluster: Buffer,
        headers: *const Header,
        headers_length: usize,
        body: Buffer,
        end: bool,
        timeout_ms: u64,
    ) -> u32;
    pub fn envoy_dynamic_module_callback_http_filter_reset_http_stream(
        filter: *mut c_void,
        callout: u64,
    );
    pub fn envoy_dynamic_module_callback_http_get_upstream_hosts_attempted_size(
        filter: *mut c_void,
    ) -> usize;
    pub fn envoy_dynamic_module_callback_http_drain_body(
        filter: *mut c_void,
        body_type: u32,
        bytes: usize,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_received_buffered_request_body(
        filter: *mut c_void,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
        filter: *mut c_void,
        key: Buffer,
        value: Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
        filter: *mut c_void,
        key: Buffer,
        value: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_filter_scheduler_new(
        filter: *mut c_void,
    ) -> *mut c_void;
    pub fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
        scheduler: *mut c_void,
        event: u64,
    );
    pub fn envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler: *mut c_void);
    pub fn envoy_dynamic_module_callback_http_clear_route_cache(filter: *mut c_void);
    pub fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
        filter: *mut c_void,
        attribute: u32,
        value: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_http_filter_continue_decoding(filter: *mut c_void);
    pub fn envoy_dynamic_module_callback_get_most_specific_route_config(
        filter: *mut c_void,
    ) -> *const c_void;
    pub fn envoy_dynamic_module_callback_http_get_buffer_limit(filter: *mut c_void) -> u64;
    pub fn envoy_dynamic_module_callback_http_set_buffer_limit(filter: *mut c_void, limit: u64);
    pub fn envoy_dynamic_module_callback_access_logger_get_attribute_string(
        logged: *mut c_void,
        attribute: u32,
        value: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_access_logger_get_attribute_int(
        logged: *mut c_void,
        attribute: u32,
        value: *mut u64,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_access_logger_get_response_flags(
        logged: *mut c_void,
    ) -> u64;
    pub fn envoy_dynamic_module_callback_access_logger_get_upstream_cluster(
        logged: *mut c_void,
        value: *mut Buffer,
    ) -> bool;
    pub fn envoy_dynamic_module_callback_access_logger_get_header_value(
        logged: *mut c_void,
        header_type: u32,
        key: Buffer,
        value: *mut Buffer,
        index: usize,
        count: *mut usize,
    ) -> bool;
}
