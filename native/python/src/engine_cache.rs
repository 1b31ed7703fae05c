//! `EngineBlocks` as a Python class.

use crate::engine_blocks::{self, Candidate, EngineBlocks};
use crate::prefix_index::BLOCKS_LIMIT;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// One engine's cached blocks, as its events tell them.
#[pyclass(module = "inferway._native")]
pub struct EngineCache(EngineBlocks);

/// What one batch of events did.
#[pyclass(module = "inferway._native", frozen)]
pub struct Applied(engine_blocks::Applied);

#[pymethods]
impl EngineCache {
    #[new]
    fn new(blocks_max: usize) -> PyResult<Self> {
        if !(1..=BLOCKS_LIMIT).contains(&blocks_max) {
            return Err(PyValueError::new_err(format!(
                "blocks_max: {blocks_max}; 1 to {BLOCKS_LIMIT}"
            )));
        }
        Ok(Self(EngineBlocks::new(blocks_max)))
    }

    fn apply(&mut self, batch: &[u8], now_s: f64) -> PyResult<Applied> {
        let applied = self.0.apply(batch, now_s);
        let wrong = || PyValueError::new_err("not a batch of KV cache events of this rank");
        applied.map(Applied).ok_or_else(wrong)
    }

    fn candidates(
        &self,
        tokens: u32,
        since_s: f64,
        until_s: f64,
        keys: PyReadonlyArray1<'_, u64>,
    ) -> PyResult<Vec<Candidate>> {
        let keys = keys.as_slice()?;
        Ok(self.0.candidates(tokens, since_s, until_s, keys))
    }

    fn bind(
        &mut self,
        run: u64,
        keys: PyReadonlyArray1<'_, u64>,
        tokens: u32,
        prompt_bytes: u64,
    ) -> PyResult<usize> {
        Ok(self.0.bind(run, keys.as_slice()?, tokens, prompt_bytes))
    }

    fn unbound<'py>(
        &self,
        py: Python<'py>,
        keys: PyReadonlyArray1<'py, u64>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        Ok(PyArray1::from_vec(py, self.0.unbound(keys.as_slice()?)))
    }

    fn clear<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        PyArray1::from_vec(py, self.0.clear())
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    #[getter]
    fn tokens(&self) -> u64 {
        self.0.tokens()
    }

    #[getter]
    fn bound(&self) -> usize {
        self.0.bound()
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

#[pymethods]
impl Applied {
    #[getter]
    fn stored(&self) -> u32 {
        self.0.stored
    }

    #[getter]
    fn removed(&self) -> u32 {
        self.0.removed
    }

    #[getter]
    fn orphans(&self) -> u32 {
        self.0.orphans
    }

    #[getter]
    fn ignored(&self) -> u32 {
        self.0.ignored
    }

    #[getter]
    fn unread(&self) -> u32 {
        self.0.unread
    }

    #[getter]
    fn cleared(&self) -> bool {
        self.0.cleared
    }

    #[getter]
    fn lost<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        PyArray1::from_slice(py, &self.0.lost)
    }
}
