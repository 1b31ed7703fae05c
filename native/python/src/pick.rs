//! One PICK frame as a Python object.
//!
//! Problem: every request makes one of these, and most of its texts are read for few requests only.
//! Model: what each decision reads (numbers, pool, model, objective, fairness id, hashes) is made at
//! once, texts that repeat as one Python string each time; the rest stays bytes until it is asked for.

use std::collections::HashMap;

use inferway_wire::protocol::{self, PickRef};
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::strings::{text, StringCache};

#[pyclass(frozen, module = "inferway._native")]
pub struct Pick {
    #[pyo3(get)]
    stream: u64,
    #[pyo3(get)]
    received_ns: u64,
    #[pyo3(get)]
    body_bytes: u32,
    #[pyo3(get)]
    prompt_bytes: u32,
    #[pyo3(get)]
    max_tokens: u32,
    #[pyo3(get)]
    priority: Option<i32>,
    #[pyo3(get)]
    kind: u8,
    flags: u8,
    #[pyo3(get)]
    pool: Py<PyString>,
    #[pyo3(get)]
    model: Py<PyString>,
    #[pyo3(get)]
    objective: Py<PyString>,
    #[pyo3(get)]
    fairness: Py<PyString>,
    #[pyo3(get)]
    hashes: Py<PyArray1<u64>>,
    #[pyo3(get)]
    slo_ttft_ms: u32,
    #[pyo3(get)]
    slo_tpot_ms: u32,
    #[pyo3(get)]
    ttl_ms: u32,
    #[pyo3(get)]
    session: String,
    #[pyo3(get)]
    request_id: String,
    #[pyo3(get)]
    user: String,
    #[pyo3(get)]
    exclude: String,
    subset: String,
    headers: Vec<(String, String)>,
}

#[pymethods]
impl Pick {
    #[new]
    #[pyo3(signature = (*, stream, received_ns, body_bytes, prompt_bytes, max_tokens, priority, kind,
        streamed, repeated, pool, model, objective, fairness, session, request_id, hashes,
        slo_ttft_ms=0, slo_tpot_ms=0, ttl_ms=0, user=None, subset=None, exclude=None, headers=None,
        tools=false, keeps_alive=false))]
    #[allow(clippy::too_many_arguments)] // one per field of the frame, keyword-only
    fn new(
        stream: u64,
        received_ns: u64,
        body_bytes: u32,
        prompt_bytes: u32,
        max_tokens: u32,
        priority: Option<i32>,
        kind: u8,
        streamed: bool,
        repeated: bool,
        pool: Py<PyString>,
        model: Py<PyString>,
        objective: Py<PyString>,
        fairness: Py<PyString>,
        session: &Bound<'_, PyString>,
        request_id: &Bound<'_, PyString>,
        hashes: Py<PyArray1<u64>>,
        slo_ttft_ms: u32,
        slo_tpot_ms: u32,
        ttl_ms: u32,
        user: Option<&Bound<'_, PyString>>,
        subset: Option<&Bound<'_, PyString>>,
        exclude: Option<&Bound<'_, PyString>>,
        headers: Option<HashMap<String, String>>,
        tools: bool,
        keeps_alive: bool,
    ) -> Self {
        let own = |string: &Bound<'_, PyString>| string.to_string_lossy().into_owned();
        let mut headers: Vec<_> = headers.unwrap_or_default().into_iter().collect();
        headers.sort_unstable();
        let flags = [
            (streamed, protocol::Pick::STREAM),
            (repeated, protocol::Pick::REPEATED),
            (subset.is_some(), protocol::Pick::SUBSET),
            (tools, protocol::Pick::TOOLS),
            (keeps_alive, protocol::Pick::KEEPS_ALIVE),
        ];
        Self {
            stream,
            received_ns,
            body_bytes,
            prompt_bytes,
            max_tokens,
            priority,
            kind,
            flags: flags.iter().map(|(set, bit)| u8::from(*set) * bit).sum(),
            pool,
            model,
            objective,
            fairness,
            session: own(session),
            request_id: own(request_id),
            hashes,
            slo_ttft_ms,
            slo_tpot_ms,
            ttl_ms,
            user: user.map(own).unwrap_or_default(),
            subset: subset.map(own).unwrap_or_default(),
            exclude: exclude.map(own).unwrap_or_default(),
            headers,
        }
    }

    #[getter]
    fn streamed(&self) -> bool {
        self.has(protocol::Pick::STREAM)
    }

    #[getter]
    fn repeated(&self) -> bool {
        self.has(protocol::Pick::REPEATED)
    }

    #[getter]
    fn tools(&self) -> bool {
        self.has(protocol::Pick::TOOLS)
    }

    #[getter]
    fn keeps_alive(&self) -> bool {
        self.has(protocol::Pick::KEEPS_ALIVE)
    }

    #[getter]
    fn subset(&self) -> Option<&str> {
        self.has(protocol::Pick::SUBSET).then_some(&self.subset)
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let headers = PyDict::new(py);
        for (name, value) in &self.headers {
            headers.set_item(name, value)?;
        }
        Ok(headers)
    }
}

impl Pick {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn from_wire(py: Python<'_>, pick: &PickRef<'_>, strings: &mut StringCache) -> Self {
        let hashes = pick.hashes();
        Self {
            stream: pick.stream,
            received_ns: pick.received_ns,
            body_bytes: pick.body_bytes,
            prompt_bytes: pick.prompt_bytes,
            max_tokens: pick.max_tokens,
            priority: pick.priority,
            kind: pick.kind,
            flags: pick.flags,
            pool: strings.get(py, pick.pool),
            model: strings.get(py, pick.model),
            objective: strings.get(py, pick.objective),
            fairness: strings.get(py, pick.fairness),
            session: pick.session.into(),
            request_id: pick.request_id.into(),
            hashes: PyArray1::from_iter(py, hashes).unbind(),
            slo_ttft_ms: pick.slo_ttft_ms,
            slo_tpot_ms: pick.slo_tpot_ms,
            ttl_ms: pick.ttl_ms,
            user: pick.user.into(),
            subset: pick.subset.into(),
            exclude: pick.exclude.into(),
            headers: pick
                .headers
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }

    pub fn to_wire(&self, py: Python<'_>) -> PyResult<protocol::Pick> {
        let hashes: PyReadonlyArray1<'_, u64> = self.hashes.bind(py).try_readonly()?;
        Ok(protocol::Pick {
            stream: self.stream,
            received_ns: self.received_ns,
            body_bytes: self.body_bytes,
            prompt_bytes: self.prompt_bytes,
            max_tokens: self.max_tokens,
            priority: self.priority,
            kind: self.kind,
            flags: self.flags,
            pool: text(py, &self.pool),
            model: text(py, &self.model),
            objective: text(py, &self.objective),
            fairness: text(py, &self.fairness),
            session: self.session.clone(),
            request_id: self.request_id.clone(),
            hashes: hashes.as_array().to_vec(),
            slo_ttft_ms: self.slo_ttft_ms,
            slo_tpot_ms: self.slo_tpot_ms,
            ttl_ms: self.ttl_ms,
            user: self.user.clone(),
            subset: self.subset.clone(),
            exclude: self.exclude.clone(),
            headers: self.headers.clone(),
        })
    }
}
