//! One HTTP stream of Envoy: the `Stream` trait over the C ABI.

use std::ffi::c_void;

use crate::abi::{self, Buffer, Header};
use crate::envoy::{HeaderRef, LocalReply, Stream, Wake};
use crate::metrics::{Counter, CounterIds};

/// Envoy's filter object, valid for the duration of the hook that got it.
pub struct HttpStream<'a> {
    filter: *mut c_void,
    counters: &'a CounterIds,
}

/// Wakes a stream from any thread.
pub struct Scheduler(*mut c_void);

// SAFETY: Envoy documents commit as callable from any thread, and the pointer is owned here.
unsafe impl Send for Scheduler {}

impl Wake for Scheduler {
    fn wake(&self) {
        // SAFETY: the scheduler lives until it is dropped below. It holds the filter weakly.
        unsafe { abi::envoy_dynamic_module_callback_http_filter_scheduler_commit(self.0, 0) }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: created by scheduler_new, owned by this value alone, deleted only here.
        unsafe { abi::envoy_dynamic_module_callback_http_filter_scheduler_delete(self.0) }
    }
}

impl Buffer {
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            length: bytes.len(),
        }
    }

    pub const fn none() -> Self {
        Self {
            data: std::ptr::null(),
            length: 0,
        }
    }

    /// # Safety
    /// The memory must be valid for `'a`.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.data.is_null() || self.length == 0 {
            return &[];
        }
        // SAFETY: not null, and valid as the caller promises.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }
}

/// Where other filters say which endpoints are allowed, as the Endpoint Picker Protocol has it.
const SUBSET_NAMESPACE: &[u8] = b"envoy.lb.subset_hint";
const SUBSET_KEY: &[u8] = b"x-gateway-destination-endpoint-subset";

/// Places on the stack; more go to the heap.
const HEADERS_INLINE: usize = 40;
const PIECES_INLINE: usize = 8;

/// Lends headers to Envoy.
fn raw_headers(headers: &[HeaderRef<'_>]) -> Vec<Header> {
    let raw = |(name, value): &HeaderRef<'_>| Header {
        key: name.as_ptr(),
        key_length: name.len(),
        value: value.as_ptr(),
        value_length: value.len(),
    };
    headers.iter().map(raw).collect()
}

impl<'a> HttpStream<'a> {
    /// # Safety
    /// `filter` must be the filter object that Envoy gave to the running hook.
    pub unsafe fn new(filter: *mut c_void, counters: &'a CounterIds) -> Self {
        Self { filter, counters }
    }

    /// The module's per-route configuration object, or null.
    pub fn route_config(&self) -> *const c_void {
        // SAFETY: the filter object is valid (see `new`).
        unsafe { abi::envoy_dynamic_module_callback_get_most_specific_route_config(self.filter) }
    }

    fn headers<R>(&self, kind: u32, read: impl FnOnce(&[HeaderRef<'_>]) -> R) -> R {
        const EMPTY: Header = Header {
            key: std::ptr::null(),
            key_length: 0,
            value: std::ptr::null(),
            value_length: 0,
        };
        // SAFETY: the filter object is valid (see `new`).
        let count =
            unsafe { abi::envoy_dynamic_module_callback_http_get_headers_size(self.filter, kind) };
        let mut inline = [EMPTY; HEADERS_INLINE];
        let mut heap = Vec::new();
        let raw = if count <= HEADERS_INLINE {
            &mut inline[..count]
        } else {
            heap.resize(count, EMPTY);
            &mut heap[..]
        };
        // SAFETY: `raw` has room for as many headers as Envoy said there are.
        let got = unsafe {
            abi::envoy_dynamic_module_callback_http_get_headers(self.filter, kind, raw.as_mut_ptr())
        };
        if !got {
            return read(&[]);
        }
        let view = |header: &Header| {
            let key = Buffer {
                data: header.key,
                length: header.key_length,
            };
            let value = Buffer {
                data: header.value,
                length: header.value_length,
            };
            // SAFETY: Envoy keeps both until the hook ends or a setter runs; `read` outlives neither.
            unsafe { (key.bytes(), value.bytes()) }
        };
        with_views::<HEADERS_INLINE, _, HeaderRef<'_>, _>(raw, view, (&[], &[]), read)
    }

    /// The pieces of one or two bodies, one after the other.
    fn body<R>(&self, kinds: &[u32], read: impl FnOnce(&[&[u8]]) -> R) -> R {
        let mut inline = [Buffer::none(); PIECES_INLINE];
        let mut heap = Vec::new();
        let count = |kind| {
            // SAFETY: the filter object is valid (see `new`).
            unsafe {
                abi::envoy_dynamic_module_callback_http_get_body_chunks_size(self.filter, kind)
            }
        };
        let total: usize = kinds.iter().map(|kind| count(*kind)).sum();
        let raw = if total <= PIECES_INLINE {
            &mut inline[..total]
        } else {
            heap.resize(total, Buffer::none());
            &mut heap[..]
        };
        let mut start = 0;
        for kind in kinds {
            let pieces = count(*kind);
            if pieces == 0 {
                continue;
            }
            let part = &mut raw[start..start + pieces];
            // SAFETY: `part` has room for as many pieces as Envoy said there are.
            let got = unsafe {
                let out = part.as_mut_ptr();
                abi::envoy_dynamic_module_callback_http_get_body_chunks(self.filter, *kind, out)
            };
            if got {
                start += pieces;
            }
        }
        // SAFETY: Envoy keeps the pieces until the hook ends; `read` does not outlive it.
        with_views::<PIECES_INLINE, _, &[u8], _>(
            &raw[..start],
            |piece| unsafe { piece.bytes() },
            &[],
            read,
        )
    }

    fn append(&self, kind: u32, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let data = Buffer::of(bytes);
        // SAFETY: the filter object is valid (see `new`); Envoy copies the bytes to the end of the body,
        // into memory of its own that none of the lent pieces shares.
        unsafe { abi::envoy_dynamic_module_callback_http_append_body(self.filter, kind, data) };
    }

    /// Removes the beginning of a body: what follows it keeps its place in memory.
    fn drain(&self, kind: u32, bytes: usize) {
        // SAFETY: the filter object is valid (see `new`). Nobody reads the removed part again.
        unsafe { abi::envoy_dynamic_module_callback_http_drain_body(self.filter, kind, bytes) };
    }

    fn metadata_string(&self, index: Option<usize>) -> Option<String> {
        let (namespace, key) = (Buffer::of(SUBSET_NAMESPACE), Buffer::of(SUBSET_KEY));
        let source = abi::DYNAMIC_METADATA;
        let mut value = Buffer::none();
        // SAFETY: the filter object is valid (see `new`), and `value` is a place to write to.
        let got = unsafe {
            match index {
                None => abi::envoy_dynamic_module_callback_http_get_metadata_string(
                    self.filter,
                    source,
                    namespace,
                    key,
                    &mut value,
                ),
                Some(index) => abi::envoy_dynamic_module_callback_http_get_metadata_list_string(
                    self.filter,
                    source,
                    namespace,
                    key,
                    index,
                    &mut value,
                ),
            }
        };
        // SAFETY: Envoy keeps the value until the hook ends; it is copied here.
        got.then(|| String::from_utf8_lossy(unsafe { value.bytes() }).into_owned())
    }

    fn attribute(&self, attribute: u32) -> Option<String> {
        let mut value = Buffer::none();
        // SAFETY: the filter object is valid (see `new`), and `value` is a place to write to.
        let got = unsafe {
            abi::envoy_dynamic_module_callback_http_filter_get_attribute_string(
                self.filter,
                attribute,
                &mut value,
            )
        };
        // SAFETY: Envoy keeps the value until the hook ends; it is copied here.
        let value = unsafe { value.bytes() };
        (got && !value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
    }
}

/// Turns raw items into views, on the stack when they are few.
fn with_views<const N: usize, T, V: Copy, R>(
    raw: &[T],
    view: impl Fn(&T) -> V,
    empty: V,
    read: impl FnOnce(&[V]) -> R,
) -> R {
    let mut inline = [empty; N];
    if raw.len() > N {
        let views: Vec<V> = raw.iter().map(view).collect();
        return read(&views);
    }
    for (place, item) in inline.iter_mut().zip(raw) {
        *place = view(item);
    }
    read(&inline[..raw.len()])
}

impl Stream for HttpStream<'_> {
    type Wake = Scheduler;

    fn request_headers<R>(&self, read: impl FnOnce(&[HeaderRef<'_>]) -> R) -> R {
        self.headers(abi::REQUEST_HEADER, read)
    }

    fn response_headers<R>(&self, read: impl FnOnce(&[HeaderRef<'_>]) -> R) -> R {
        self.headers(abi::RESPONSE_HEADER, read)
    }

    fn set_request_header(&self, name: &str, value: Option<&[u8]>) {
        let value = value.map_or(Buffer::none(), Buffer::of);
        let key = Buffer::of(name.as_bytes());
        // SAFETY: the filter object is valid (see `new`); Envoy copies name and value.
        unsafe {
            abi::envoy_dynamic_module_callback_http_set_header(
                self.filter,
                abi::REQUEST_HEADER,
                key,
                value,
            )
        };
    }

    fn received_request_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R {
        self.body(&[abi::RECEIVED_REQUEST_BODY], read)
    }

    fn whole_request_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R {
        if self.received_is_buffered() {
            return self.body(&[abi::BUFFERED_REQUEST_BODY], read);
        }
        self.body(
            &[abi::BUFFERED_REQUEST_BODY, abi::RECEIVED_REQUEST_BODY],
            read,
        )
    }

    fn remake_request_body(
        &self,
        part_bytes_max: usize,
        mut make: impl FnMut(&[u8], &mut dyn FnMut(&[u8])),
    ) {
        const KIND: u32 = abi::RECEIVED_REQUEST_BODY;
        self.body(&[KIND], |pieces| {
            for part in pieces.iter().flat_map(|piece| piece.chunks(part_bytes_max)) {
                make(part, &mut |bytes| self.append(KIND, bytes));
                self.drain(KIND, part.len());
            }
        });
    }

    fn received_is_buffered(&self) -> bool {
        // SAFETY: the filter object is valid (see `new`).
        unsafe {
            abi::envoy_dynamic_module_callback_http_received_buffered_request_body(self.filter)
        }
    }

    fn received_response_body<R>(&self, read: impl FnOnce(&[&[u8]]) -> R) -> R {
        self.body(&[abi::RECEIVED_RESPONSE_BODY], read)
    }

    fn raise_buffer_limit(&self, bytes: u64) {
        // SAFETY: the filter object is valid (see `new`). 0 means that there is no limit.
        unsafe {
            let limit = abi::envoy_dynamic_module_callback_http_get_buffer_limit(self.filter);
            if limit != 0 && limit < bytes {
                abi::envoy_dynamic_module_callback_http_set_buffer_limit(self.filter, bytes);
            }
        }
    }

    fn clear_route_cache(&self) {
        // SAFETY: the filter object is valid (see `new`).
        unsafe { abi::envoy_dynamic_module_callback_http_clear_route_cache(self.filter) }
    }

    fn set_state(&self, key: &str, value: &[u8]) -> bool {
        let (key, value) = (Buffer::of(key.as_bytes()), Buffer::of(value));
        // SAFETY: the filter object is valid (see `new`); Envoy copies key and value.
        unsafe {
            abi::envoy_dynamic_module_callback_http_set_filter_state_bytes(self.filter, key, value)
        }
    }

    fn state<R>(&self, key: &str, read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let mut value = Buffer::none();
        // SAFETY: the filter object is valid (see `new`), and `value` is a place to write to.
        let got = unsafe {
            let key = Buffer::of(key.as_bytes());
            abi::envoy_dynamic_module_callback_http_get_filter_state_bytes(
                self.filter,
                key,
                &mut value,
            )
        };
        // SAFETY: Envoy keeps the value until the hook ends; `read` does not outlive it.
        read(got.then(|| unsafe { value.bytes() }))
    }

    fn upstream_attempts(&self) -> usize {
        // SAFETY: the filter object is valid (see `new`).
        unsafe {
            abi::envoy_dynamic_module_callback_http_get_upstream_hosts_attempted_size(self.filter)
        }
    }

    fn append_response_body(&self, bytes: &[u8]) {
        self.append(abi::RECEIVED_RESPONSE_BODY, bytes);
    }

    fn send_response_data(&self, bytes: &[u8]) {
        let data = Buffer::of(bytes);
        // SAFETY: the filter object is valid (see `new`); Envoy copies the bytes.
        unsafe {
            abi::envoy_dynamic_module_callback_http_send_response_data(self.filter, data, false)
        }
    }

    fn send_response_headers(&self, headers: &[HeaderRef<'_>]) {
        let headers = raw_headers(headers);
        // SAFETY: the filter object is valid (see `new`); Envoy copies names and values.
        unsafe {
            abi::envoy_dynamic_module_callback_http_send_response_headers(
                self.filter,
                headers.as_ptr(),
                headers.len(),
                false,
            );
        }
    }

    fn end_response(&self, bytes: &[u8]) {
        let data = Buffer::of(bytes);
        // SAFETY: the filter object is valid (see `new`); Envoy copies the bytes.
        unsafe {
            abi::envoy_dynamic_module_callback_http_send_response_data(self.filter, data, true)
        }
    }

    fn kept_request_body(&self) -> Vec<u8> {
        self.body(&[abi::BUFFERED_REQUEST_BODY], |pieces| pieces.concat())
    }

    fn call_out(&self, cluster: &str, headers: &[HeaderRef<'_>], body: &[u8]) -> Option<u64> {
        let headers = raw_headers(headers);
        let mut callout = 0;
        // SAFETY: the filter object is valid (see `new`), and `callout` is a place to write to; Envoy
        // copies everything else. 0 stands for success.
        let result = unsafe {
            abi::envoy_dynamic_module_callback_http_filter_start_http_stream(
                self.filter,
                &mut callout,
                Buffer::of(cluster.as_bytes()),
                headers.as_ptr(),
                headers.len(),
                Buffer::of(body),
                true,
                0,
            )
        };
        (result == 0).then_some(callout)
    }

    fn reset_callout(&self, callout: u64) {
        // SAFETY: the filter object is valid (see `new`); an unknown number is ignored.
        unsafe {
            abi::envoy_dynamic_module_callback_http_filter_reset_http_stream(self.filter, callout)
        }
    }

    fn remake_response_body(&self, make: impl FnOnce(&[&[u8]], &mut dyn FnMut(&[u8]))) {
        const KIND: u32 = abi::RECEIVED_RESPONSE_BODY;
        self.body(&[KIND], |pieces| {
            make(pieces, &mut |bytes| self.append(KIND, bytes));
            self.drain(KIND, pieces.iter().map(|piece| piece.len()).sum());
        });
    }

    fn add_response_header(&self, name: &str, value: &[u8]) {
        let (name, value) = (Buffer::of(name.as_bytes()), Buffer::of(value));
        // SAFETY: the filter object is valid (see `new`); Envoy copies name and value.
        unsafe {
            abi::envoy_dynamic_module_callback_http_add_header(
                self.filter,
                abi::RESPONSE_HEADER,
                name,
                value,
            )
        };
    }

    fn subset_hint(&self) -> Option<String> {
        let source = abi::DYNAMIC_METADATA;
        // SAFETY: the filter object is valid (see `new`).
        let namespaces = unsafe {
            abi::envoy_dynamic_module_callback_http_get_metadata_namespaces_count(
                self.filter,
                source,
            )
        };
        if namespaces == 0 {
            return None;
        }
        let (namespace, key) = (Buffer::of(SUBSET_NAMESPACE), Buffer::of(SUBSET_KEY));
        let mut size = 0;
        // SAFETY: the filter object is valid (see `new`), and `size` is a place to write to.
        let is_list = unsafe {
            abi::envoy_dynamic_module_callback_http_get_metadata_list_size(
                self.filter,
                source,
                namespace,
                key,
                &mut size,
            )
        };
        if !is_list {
            return self.metadata_string(None);
        }
        let members: Vec<String> = (0..size)
            .filter_map(|index| self.metadata_string(Some(index)))
            .collect();
        Some(members.join(","))
    }

    fn kept_request_bytes(&self) -> u64 {
        self.body(&[abi::BUFFERED_REQUEST_BODY], |pieces| {
            pieces.iter().map(|piece| piece.len() as u64).sum()
        })
    }

    fn recreate(&self) -> bool {
        // SAFETY: the filter object is valid (see `new`). Without headers nothing is read.
        unsafe {
            abi::envoy_dynamic_module_callback_http_filter_recreate_stream(
                self.filter,
                std::ptr::null(),
                0,
            )
        }
    }

    fn upstream_address(&self) -> Option<String> {
        self.attribute(abi::ATTRIBUTE_UPSTREAM_ADDRESS)
    }

    fn response_details(&self) -> Option<String> {
        self.attribute(abi::ATTRIBUTE_RESPONSE_CODE_DETAILS)
    }

    fn waker(&self) -> Scheduler {
        // SAFETY: the filter object is valid (see `new`); the result is owned by this module.
        Scheduler(unsafe {
            abi::envoy_dynamic_module_callback_http_filter_scheduler_new(self.filter)
        })
    }

    fn count(&self, counter: Counter, by: u64) {
        if let Some(id) = self.counters.get(counter) {
            // SAFETY: the filter object is valid (see `new`), and the id is of its configuration.
            unsafe {
                let labels = std::ptr::null();
                abi::envoy_dynamic_module_callback_http_filter_increment_counter(
                    self.filter,
                    id,
                    labels,
                    0,
                    by,
                )
            };
        }
    }

    fn send_response(&self, reply: &LocalReply) {
        let request_id = self.request_headers(|headers| {
            let found = headers.iter().find(|(name, _)| *name == b"x-request-id");
            found.map(|(_, value)| value.to_vec())
        });
        let request_id = request_id
            .as_deref()
            .map(|value| (b"x-request-id".as_slice(), value));
        let named = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let headers: Vec<HeaderRef<'_>> = named.chain(request_id).collect();
        let headers = raw_headers(&headers);
        // SAFETY: the filter object is valid (see `new`); Envoy copies everything before it returns.
        unsafe {
            abi::envoy_dynamic_module_callback_http_send_response(
                self.filter,
                u32::from(reply.status),
                headers.as_ptr(),
                headers.len(),
                Buffer::of(&reply.body),
                Buffer::of(reply.details.as_bytes()),
            );
        }
    }

    fn continue_decoding(&self) {
        // SAFETY: the filter object is valid (see `new`).
        unsafe { abi::envoy_dynamic_module_callback_http_filter_continue_decoding(self.filter) }
    }
}
