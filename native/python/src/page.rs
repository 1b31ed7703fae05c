//! A metrics page as a Python class.

use crate::metrics::{self, Sample};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// The samples of one Prometheus text page that a set of names selects.
#[pyclass(frozen, module = "inferway._native")]
pub struct MetricsPage {
    names: Vec<String>,
    samples: Vec<Vec<Sample>>,
}

impl MetricsPage {
    fn samples(&self, name: &str) -> &[Sample] {
        self.names
            .iter()
            .position(|known| known == name)
            .map_or(&[], |index| &self.samples[index])
    }
}

#[pymethods]
impl MetricsPage {
    fn value(&self, name: &str) -> Option<f64> {
        let last = self.samples(name).last()?.value;
        (!last.is_nan()).then_some(last)
    }

    fn labels<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Vec<(Bound<'py, PyDict>, f64)>> {
        self.samples(name)
            .iter()
            .map(|sample| {
                let labels = PyDict::new(py);
                for (label, value) in &sample.labels {
                    labels.set_item(label, value)?;
                }
                Ok((labels, sample.value))
            })
            .collect()
    }
}

/// Reads only the samples whose metric name is listed.
#[pyfunction]
pub fn parse_metrics(page: &Bound<'_, PyBytes>, names: Vec<String>) -> MetricsPage {
    let samples = metrics::parse(page.as_bytes(), &names);
    MetricsPage { names, samples }
}
