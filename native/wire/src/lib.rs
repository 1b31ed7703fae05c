//! What the filter inside Envoy and the Python module must agree on, byte for byte.
//!
//! Problem: a request body of some megabytes arrives in arbitrary pieces, and a decision needs a few numbers of it; the same
//! numbers must come out in Envoy, in the picker's ext_proc service and in tests. Model: push scanners that keep state and
//! offsets, never the body. Invariants: nothing here panics, blocks, does I/O or grows with the body. It knows nothing of
//! Envoy or Python.

pub mod blocks;
pub mod ending;
pub mod json;
pub mod protocol;
pub mod request;
pub mod splice;
mod tools;
pub mod usage;
pub mod withhold;
mod xxh3;
