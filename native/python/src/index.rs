//! The prefix index as a Python class.

use crate::prefix_index;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Which endpoint probably holds which prompt blocks.
#[pyclass(module = "inferway._native")]
pub struct PrefixIndex(prefix_index::PrefixIndex);

fn checked(endpoint: usize) -> PyResult<usize> {
    if endpoint < prefix_index::ENDPOINTS_MAX {
        return Ok(endpoint);
    }
    Err(PyValueError::new_err(format!(
        "endpoint: {endpoint}; at most {}",
        prefix_index::ENDPOINTS_MAX - 1
    )))
}

#[pymethods]
impl PrefixIndex {
    #[new]
    fn new(blocks_max: usize) -> PyResult<Self> {
        if !(1..=prefix_index::BLOCKS_LIMIT).contains(&blocks_max) {
            return Err(PyValueError::new_err(format!(
                "blocks_max: {blocks_max}; 1 to {}",
                prefix_index::BLOCKS_LIMIT
            )));
        }
        Ok(Self(prefix_index::PrefixIndex::new(blocks_max)))
    }

    fn set_capacity(&mut self, endpoint: usize, bytes_max: u64) -> PyResult<()> {
        self.0.set_capacity(checked(endpoint)?, bytes_max);
        Ok(())
    }

    fn r#match<'py>(
        &mut self,
        py: Python<'py>,
        hashes: PyReadonlyArray1<'py, u64>,
        seed: u64,
        endpoints: usize,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let result = PyArray1::zeros(py, endpoints.min(prefix_index::ENDPOINTS_MAX), false);
        self.0.find(
            hashes.as_slice()?,
            seed,
            result.try_readwrite()?.as_slice_mut()?,
        );
        Ok(result)
    }

    fn insert(
        &mut self,
        endpoint: usize,
        hashes: PyReadonlyArray1<'_, u64>,
        seed: u64,
    ) -> PyResult<()> {
        self.0.insert(checked(endpoint)?, hashes.as_slice()?, seed);
        Ok(())
    }

    fn remove(&mut self, endpoint: usize, keys: PyReadonlyArray1<'_, u64>) -> PyResult<()> {
        self.0.remove(endpoint, keys.as_slice()?);
        Ok(())
    }

    fn clear(&mut self, endpoint: usize) {
        self.0.clear(endpoint);
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn endpoint_bytes(&self, endpoint: usize) -> u64 {
        self.0.endpoint_bytes(endpoint)
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}
