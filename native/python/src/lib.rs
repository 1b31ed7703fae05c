//! The module `inferway._native`: bytes to numbers, for the Python side.
//!
//! Problem: hashing, frames, metric pages and the prefix index touch every byte of every request,
//! which Python cannot afford. Model: thin classes and functions over `inferway-wire` and over the
//! plain Rust modules here. Invariants: errors are `ValueError`; nothing blocks, does I/O, reads a
//! clock or starts a thread; importing does nothing. No decision is made here. What it offers is
//! written down in `src/inferway/_native.pyi`.

use pyo3::prelude::*;

mod bodies;
mod engine_blocks;
mod engine_cache;
mod frames;
mod index;
mod kv_events;
mod metrics;
mod page;
mod pick;
mod prefix_index;
mod strings;

#[pymodule]
mod _native {
    use pyo3::prelude::*;
    use pyo3::types::PyModule;

    /// `Frame`, the union of what a reader gives.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        let frame = py
            .get_type::<Pick>()
            .bitor(py.get_type::<First>())?
            .bitor(py.get_type::<Done>())?
            .bitor(py.get_type::<Open>())?
            .bitor(py.get_type::<Fault>())?
            .bitor(py.get_type::<Hello>())?;
        module.add("Frame", frame)
    }

    #[pymodule_export]
    use crate::bodies::{
        block_end_bytes, block_hashes, fixed_block_hashes, hash_seed, request_fields,
        response_usage, spliced, RequestFields, Usage,
    };
    #[pymodule_export]
    use crate::engine_cache::{Applied, EngineCache};
    #[pymodule_export]
    use crate::frames::{
        encode_endpoints, encode_frame, encode_heartbeat, encode_queued, encode_reject,
        encode_welcome, Done, Fault, First, FrameReader, Hello, Open,
    };
    #[pymodule_export]
    use crate::index::PrefixIndex;
    #[pymodule_export]
    use crate::page::{parse_metrics, MetricsPage};
    #[pymodule_export]
    use crate::pick::Pick;
}
