//! The Envoy dynamic module: everything that touches the bytes of a request, inside Envoy.
//!
//! Two HTTP filters live in one shared library. `route` reads the model out of the body so that Envoy
//! can choose a route by it; `pick` asks the picker, over one unix socket per process, which model
//! server shall serve the request, and reports how it went. Neither decides anything: bytes become
//! numbers here, numbers become headers. Configuration: docs/filter-config.md; the conversation with
//! the picker: docs/pick-protocol.md.
//!
//! `route.rs`, `pick.rs`, `response.rs`, `streams.rs` and `link.rs` hold the behaviour and know Envoy
//! only as a trait; `abi.rs`, `http_stream.rs` and `hooks.rs` are the border to C, left out of tests.

pub mod again;
pub mod attempt;
pub mod clock;
pub mod config;
pub mod duration;
pub mod envoy;
pub mod facts;
pub mod fallback;
pub mod handoff;
pub mod handover;
pub mod head;
pub mod kind;
pub mod link;
mod link_thread;
pub mod metrics;
pub mod pick;
mod pick_relay;
pub mod registry;
pub mod relay;
pub mod rename;
pub mod reply;
pub mod response;
pub mod route;
pub mod session;
pub mod socket;
pub mod streams;
pub mod writer;

#[cfg(not(test))]
mod abi;
#[cfg(not(test))]
mod attempt_hooks;
#[cfg(not(test))]
mod hooks;
#[cfg(not(test))]
mod hooks_unused;
#[cfg(not(test))]
mod http_stream;

#[cfg(test)]
mod fake_stream;
#[cfg(test)]
mod scripted_picker;
