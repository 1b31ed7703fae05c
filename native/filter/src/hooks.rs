//! The functions that Envoy calls, with the names of its ABI.
//!
//! Each takes the raw pointers that Envoy passes, keeps the filter object alive for its own duration
//! (sending a reply or resuming a request may destroy the stream before the call returns), and lets no
//! panic out: a panic while a request is read answers 500, any other leaves the stream as it is.

use std::ffi::{c_char, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;

use inferway_wire::request::Kind;

use crate::abi::{self, Buffer, Header};
use crate::config::{PickConfig, PoolConfig, RouteConfig};
use crate::envoy::{BodyStatus, HeaderRef, HeadersStatus, Stream, TrailersStatus};
use crate::http_stream::{HttpStream, Scheduler};
use crate::link::Level;
use crate::metrics::{CounterIds, PANICS};
use crate::pick::{PickFilter, PickShared};
use crate::registry::Registry;
use crate::relay::Ending;
use crate::reply;
use crate::route::RouteFilter;

pub(crate) static LINKS: Registry<Scheduler> = Registry::new();

enum Configured {
    Route(RouteConfig),
    Pick(PickShared<Scheduler>),
    /// `pick` while Envoy only validates a configuration: no link, no streams.
    Validated,
}

struct Config {
    counters: CounterIds,
    filter: Configured,
}

enum Role {
    Route(RouteFilter),
    Pick(PickFilter),
    Idle,
}

struct Filter {
    config: Arc<Config>,
    role: Role,
}

pub(crate) fn log(level: u32, message: &str) {
    // SAFETY: Envoy copies the message during the call.
    unsafe { abi::envoy_dynamic_module_callback_log(level, Buffer::of(message.as_bytes())) }
}

pub(crate) fn log_link(level: Level, message: &str) {
    let level = match level {
        Level::Info => abi::LOG_INFO,
        Level::Warn => abi::LOG_WARN,
    };
    log(level, &format!("inferway: {message}"));
}

/// Runs a hook's work; a panic is counted and answered with the given value.
pub(crate) fn guarded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        PANICS.add();
        otherwise
    })
}

/// As `guarded`, for hooks that read the request: a panic answers 500.
fn guarded_request<T>(stream: &HttpStream<'_>, refused: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        PANICS.add();
        guarded((), || {
            stream.send_response(&reply::internal_error(Kind::Other))
        });
        refused
    })
}

/// The filter object behind a pointer that `filter_new` gave to Envoy.
///
/// # Safety
/// `filter` must be null or come from `filter_new`, and not have been given to `filter_destroy`.
unsafe fn filter(filter: *const c_void) -> Option<Rc<Filter>> {
    if filter.is_null() {
        return None;
    }
    let filter: *const Filter = filter.cast();
    // SAFETY: the pointer is of `Rc::into_raw` and alive; the count covers the value made of it.
    unsafe {
        Rc::increment_strong_count(filter);
        Some(Rc::from_raw(filter))
    }
}

fn new_config(envoy: *mut c_void, name: &[u8], json: &[u8]) -> Result<Config, String> {
    let filter = match name {
        b"route" => Configured::Route(RouteConfig::decode(json)?),
        b"pick" => {
            let config = PickConfig::decode(json)?;
            // SAFETY: called on Envoy's main thread, as the ABI asks.
            if unsafe { abi::envoy_dynamic_module_callback_is_validation_mode() } {
                Configured::Validated
            } else {
                let link = LINKS.link(&config.socket, Some(config.alive_ms_min), log_link);
                let link = link.map_err(|error| format!("socket: no link thread: {error}"))?;
                Configured::Pick(PickShared { config, link })
            }
        }
        other => {
            return Err(format!(
                "no filter of this name: {}",
                String::from_utf8_lossy(other)
            ))
        }
    };
    let counters = CounterIds::define(|name| {
        let mut id = 0;
        let name = Buffer::of(name.as_bytes());
        // SAFETY: `envoy` is the configuration object of the running hook; `id` is a place to write to.
        let result = unsafe {
            let labels = std::ptr::null();
            abi::envoy_dynamic_module_callback_http_filter_config_define_counter(
                envoy, name, labels, 0, &mut id,
            )
        };
        (result == 0).then_some(id)
    });
    Ok(Config { counters, filter })
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    abi::VERSION.as_ptr()
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    envoy: *mut c_void,
    name: Buffer,
    json: Buffer,
) -> *const c_void {
    guarded(std::ptr::null(), || {
        // SAFETY: Envoy lends both for the duration of the hook.
        let (name, json) = unsafe { (name.bytes(), json.bytes()) };
        match new_config(envoy, name, json) {
            Ok(config) => Arc::into_raw(Arc::new(config)).cast(),
            Err(error) => {
                let name = String::from_utf8_lossy(name);
                log(abi::LOG_ERROR, &format!("inferway: filter {name}: {error}"));
                std::ptr::null()
            }
        }
    })
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(config: *const c_void) {
    if config.is_null() {
        return;
    }
    // SAFETY: the pointer is of `config_new`, and Envoy gives it back once.
    let config = unsafe { Arc::from_raw(config.cast::<Config>()) };
    guarded((), || drop(config));
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
    name: Buffer,
    json: Buffer,
) -> *const c_void {
    guarded(std::ptr::null(), || {
        // SAFETY: Envoy lends both for the duration of the hook.
        let (name, json) = unsafe { (name.bytes(), json.bytes()) };
        let config = match name {
            b"pick" => PoolConfig::decode(json),
            _ => Err("takes no per-route configuration".to_owned()),
        };
        match config {
            Ok(config) => Arc::into_raw(Arc::new(config)).cast(),
            Err(error) => {
                let name = String::from_utf8_lossy(name);
                log(
                    abi::LOG_ERROR,
                    &format!("inferway: per route, filter {name}: {error}"),
                );
                std::ptr::null()
            }
        }
    })
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_destroy(config: *const c_void) {
    if config.is_null() {
        return;
    }
    // SAFETY: the pointer is of `per_route_config_new`, and Envoy gives it back once.
    let config = unsafe { Arc::from_raw(config.cast::<PoolConfig>()) };
    guarded((), || drop(config));
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_new(
    config: *const c_void,
    _envoy: *mut c_void,
) -> *const c_void {
    guarded(std::ptr::null(), || {
        let config: *const Config = config.cast();
        // SAFETY: the pointer is of `config_new` and alive; the count covers the value made of it.
        let config = unsafe {
            Arc::increment_strong_count(config);
            Arc::from_raw(config)
        };
        let role = match &config.filter {
            Configured::Route(_) => Role::Route(RouteFilter::default()),
            Configured::Pick(_) => Role::Pick(PickFilter::default()),
            Configured::Validated => Role::Idle,
        };
        Rc::into_raw(Rc::new(Filter { config, role })).cast()
    })
}

/// The shared pool configuration of the stream's route, if any.
fn pool(stream: &HttpStream<'_>) -> Option<Arc<PoolConfig>> {
    let config: *const PoolConfig = stream.route_config().cast();
    if config.is_null() {
        return None;
    }
    // SAFETY: the pointer is of `per_route_config_new`; the stream's route keeps it alive during this
    // hook, and the count covers the value made of it.
    unsafe {
        Arc::increment_strong_count(config);
        Some(Arc::from_raw(config))
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    envoy: *mut c_void,
    module: *const c_void,
    end: bool,
) -> HeadersStatus {
    // SAFETY: Envoy passes its filter object and the one that `filter_new` made for it.
    let Some(filter) = (unsafe { filter(module) }) else {
        return HeadersStatus::Continue;
    };
    // SAFETY: as above.
    let stream = unsafe { HttpStream::new(envoy, &filter.config.counters) };
    guarded_request(&stream, HeadersStatus::StopIteration, || {
        match (&filter.role, &filter.config.filter) {
            (Role::Route(route), Configured::Route(config)) => {
                route.request_headers(&stream, config, end)
            }
            (Role::Pick(pick), Configured::Pick(shared)) => {
                pick.request_headers(&stream, shared, pool(&stream).as_deref())
            }
            _ => HeadersStatus::Continue,
        }
    })
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    envoy: *mut c_void,
    module: *const c_void,
    end: bool,
) -> BodyStatus {
    // SAFETY: Envoy passes its filter object and the one that `filter_new` made for it.
    let Some(filter) = (unsafe { filter(module) }) else {
        return BodyStatus::Continue;
    };
    // SAFETY: as above.
    let stream = unsafe { HttpStream::new(envoy, &filter.config.counters) };
    guarded_request(&stream, BodyStatus::StopNoBuffer, || {
        match (&filter.role, &filter.config.filter) {
            (Role::Route(route), Configured::Route(config)) => {
                route.request_body(&stream, config, end)
            }
            (Role::Pick(pick), Configured::Pick(_)) => {
                pick.request_body(&stream);
                BodyStatus::Continue
            }
            _ => BodyStatus::Continue,
        }
    })
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
    envoy: *mut c_void,
    module: *const c_void,
) -> TrailersStatus {
    // SAFETY: Envoy passes its filter object and the one that `filter_new` made for it.
    let Some(filter) = (unsafe { filter(module) }) else {
        return TrailersStatus::Continue;
    };
    // SAFETY: as above.
    let stream = unsafe { HttpStream::new(envoy, &filter.config.counters) };
    guarded_request(&stream, TrailersStatus::StopIteration, || {
        match (&filter.role, &filter.config.filter) {
            (Role::Route(route), Configured::Route(config)) => {
                route.request_trailers(&stream, config)
            }
            _ => TrailersStatus::Continue,
        }
    })
}

/// Runs `work` when the filter is a `pick`; `otherwise` stands for its result when it is not.
///
/// # Safety
/// Both pointers must be those that Envoy passed to the running hook.
unsafe fn with_pick<R>(
    envoy: *mut c_void,
    module: *const c_void,
    otherwise: R,
    work: impl FnOnce(&PickFilter, &HttpStream<'_>, &PickShared<Scheduler>) -> R,
) -> R
where
    R: Copy,
{
    // SAFETY: as the caller promises.
    let Some(filter) = (unsafe { filter(module) }) else {
        return otherwise;
    };
    // SAFETY: as the caller promises.
    let stream = unsafe { HttpStream::new(envoy, &filter.config.counters) };
    if let (Role::Pick(pick), Configured::Pick(shared)) = (&filter.role, &filter.config.filter) {
        return guarded(otherwise, || work(pick, &stream, shared));
    }
    otherwise
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    envoy: *mut c_void,
    module: *const c_void,
    end: bool,
) -> HeadersStatus {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(
            envoy,
            module,
            HeadersStatus::Continue,
            |pick, stream, shared| pick.response_headers(stream, shared, end),
        )
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_response_body(
    envoy: *mut c_void,
    module: *const c_void,
    end: bool,
) -> BodyStatus {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(
            envoy,
            module,
            BodyStatus::Continue,
            |pick, stream, shared| pick.response_body(stream, shared, end),
        )
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_response_trailers(
    envoy: *mut c_void,
    module: *const c_void,
) -> TrailersStatus {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(envoy, module, (), |pick, _, shared| {
            pick.response_trailers(shared);
        })
    };
    TrailersStatus::Continue
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(
    envoy: *mut c_void,
    module: *const c_void,
) {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(envoy, module, (), |pick, stream, shared| {
            pick.over(shared, || stream.response_details());
        });
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(
    envoy: *mut c_void,
    module: *const c_void,
    _event: u64,
) {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(envoy, module, (), |pick, stream, shared| {
            pick.scheduled(stream, shared)
        })
    };
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_local_reply(
    envoy: *mut c_void,
    module: *const c_void,
    _status: u32,
    details: Buffer,
    _reset_imminent: bool,
) -> u32 {
    // SAFETY: the pointers are Envoy's, and it lends the details for the duration of the hook.
    unsafe {
        with_pick(envoy, module, (), |pick, stream, _| {
            pick.local_reply(stream, &String::from_utf8_lossy(details.bytes()));
        });
    }
    0
}

/// Headers as Envoy lends them to a hook.
///
/// # Safety
/// The array must be one that Envoy passed to the running hook.
unsafe fn lent_headers<'a>(headers: *const Header, length: usize) -> Vec<HeaderRef<'a>> {
    if headers.is_null() {
        return Vec::new();
    }
    // SAFETY: as the caller promises.
    let headers = unsafe { std::slice::from_raw_parts(headers, length) };
    let part = |data, length| {
        // SAFETY: as the caller promises.
        unsafe { Buffer { data, length }.bytes() }
    };
    headers
        .iter()
        .map(|header| {
            (
                part(header.key, header.key_length),
                part(header.value, header.value_length),
            )
        })
        .collect()
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_headers(
    envoy: *mut c_void,
    module: *const c_void,
    _callout: u64,
    headers: *const Header,
    headers_length: usize,
    _end: bool,
) {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        let headers = lent_headers(headers, headers_length);
        with_pick(envoy, module, (), |pick, _, _| {
            pick.relayed_headers(&headers);
        });
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_data(
    envoy: *mut c_void,
    module: *const c_void,
    _callout: u64,
    data: *const Buffer,
    data_length: usize,
    _end: bool,
) {
    if data.is_null() {
        return;
    }
    // SAFETY: the pointers are Envoy's, and it lends the pieces for the duration of the hook.
    unsafe {
        let pieces = std::slice::from_raw_parts(data, data_length);
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.bytes()).collect();
        with_pick(envoy, module, (), |pick, stream, _| {
            pick.relayed_data(stream, &pieces);
        });
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_complete(
    envoy: *mut c_void,
    module: *const c_void,
    _callout: u64,
) {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(envoy, module, (), |pick, stream, _| {
            pick.relayed_end(stream, Ending::Complete);
        });
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_http_stream_reset(
    envoy: *mut c_void,
    module: *const c_void,
    _callout: u64,
    _reason: u32,
) {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(envoy, module, (), |pick, stream, _| {
            pick.relayed_end(stream, Ending::Broken);
        });
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(
    envoy: *mut c_void,
    module: *const c_void,
) {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(envoy, module, (), |pick, stream, _| {
            pick.relay_blocked(stream, true);
        });
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(
    envoy: *mut c_void,
    module: *const c_void,
) {
    // SAFETY: the pointers are Envoy's.
    unsafe {
        with_pick(envoy, module, (), |pick, stream, _| {
            pick.relay_blocked(stream, false);
        });
    }
}

#[no_mangle]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(module: *const c_void) {
    if module.is_null() {
        return;
    }
    // SAFETY: the pointer is of `filter_new`, and Envoy gives it back once.
    let filter = unsafe { Rc::from_raw(module.cast::<Filter>()) };
    if let (Role::Pick(pick), Configured::Pick(shared)) = (&filter.role, &filter.config.filter) {
        guarded((), || pick.over(shared, || None));
    }
    guarded((), || drop(filter));
}
