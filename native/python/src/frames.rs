//! The picker's side of the pick protocol as Python objects (docs/pick-protocol.md).
//!
//! Every frame becomes one immutable object with plain attributes; a PICK is in `pick.rs`. Texts that
//! repeat are the same Python string each time.

use crate::pick::Pick;
use crate::strings::{text, StringCache};
use inferway_wire::protocol::{self, Frame, FrameBuffer, FrameRef};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

fn flag(set: bool, bit: u8) -> u8 {
    if set {
        bit
    } else {
        0
    }
}

/// One FIRST frame.
#[pyclass(frozen, get_all, module = "inferway._native")]
pub struct First {
    stream: u64,
    ttft_us: u32,
    status: u16,
}

#[pymethods]
impl First {
    #[new]
    #[pyo3(signature = (*, stream, ttft_us, status))]
    fn new(stream: u64, ttft_us: u32, status: u16) -> Self {
        Self {
            stream,
            ttft_us,
            status,
        }
    }
}

/// One DONE frame.
#[pyclass(frozen, get_all, module = "inferway._native")]
pub struct Done {
    stream: u64,
    end: u8,
    usage: bool,
    first_seen: bool,
    event_stream: bool,
    status: u16,
    ttft_us: u32,
    duration_us: u32,
    prompt_tokens: u32,
    cached_tokens: u32,
    completion_tokens: u32,
    endpoint: Py<PyString>,
    attempts: u8,
    retry_after_ms: u32,
    fault: u8,
    finish: u8,
}

#[pymethods]
impl Done {
    #[new]
    #[pyo3(signature = (*, stream, end, usage, first_seen, event_stream, status, ttft_us, duration_us,
        prompt_tokens, cached_tokens, completion_tokens, endpoint, attempts=1, retry_after_ms=0, fault=0,
        finish=0))]
    #[allow(clippy::too_many_arguments)] // one per field of the frame, keyword-only
    fn new(
        stream: u64,
        end: u8,
        usage: bool,
        first_seen: bool,
        event_stream: bool,
        status: u16,
        ttft_us: u32,
        duration_us: u32,
        prompt_tokens: u32,
        cached_tokens: u32,
        completion_tokens: u32,
        endpoint: Py<PyString>,
        attempts: u8,
        retry_after_ms: u32,
        fault: u8,
        finish: u8,
    ) -> Self {
        Self {
            stream,
            end,
            usage,
            first_seen,
            event_stream,
            status,
            ttft_us,
            duration_us,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            endpoint,
            attempts,
            retry_after_ms,
            fault,
            finish,
        }
    }
}

impl Done {
    fn to_wire(&self, py: Python<'_>) -> protocol::Done {
        protocol::Done {
            stream: self.stream,
            end: self.end,
            flags: flag(self.usage, protocol::Done::USAGE)
                | flag(self.first_seen, protocol::Done::FIRST)
                | flag(self.event_stream, protocol::Done::EVENT_STREAM),
            status: self.status,
            ttft_us: self.ttft_us,
            duration_us: self.duration_us,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            completion_tokens: self.completion_tokens,
            endpoint: text(py, &self.endpoint),
            attempts: self.attempts,
            retry_after_ms: self.retry_after_ms,
            fault: self.fault,
            finish: self.finish,
        }
    }
}

/// One OPEN frame.
#[pyclass(frozen, get_all, module = "inferway._native")]
pub struct Open {
    stream: u64,
    charged_uncached: u32,
    charged_context: u32,
    phase: u8,
    pool: Py<PyString>,
    model: Py<PyString>,
    endpoint: Py<PyString>,
}

#[pymethods]
impl Open {
    #[new]
    #[pyo3(signature = (*, stream, charged_uncached, charged_context, phase, pool, model, endpoint))]
    fn new(
        stream: u64,
        charged_uncached: u32,
        charged_context: u32,
        phase: u8,
        pool: Py<PyString>,
        model: Py<PyString>,
        endpoint: Py<PyString>,
    ) -> Self {
        Self {
            stream,
            charged_uncached,
            charged_context,
            phase,
            pool,
            model,
            endpoint,
        }
    }
}

impl Open {
    fn to_wire(&self, py: Python<'_>) -> protocol::Open {
        protocol::Open {
            stream: self.stream,
            charged_uncached: self.charged_uncached,
            charged_context: self.charged_context,
            phase: self.phase,
            pool: text(py, &self.pool),
            model: text(py, &self.model),
            endpoint: text(py, &self.endpoint),
        }
    }
}

/// One FAULT frame.
#[pyclass(frozen, get_all, module = "inferway._native")]
pub struct Fault {
    pool: Py<PyString>,
    endpoint: Py<PyString>,
    cause: u8,
    status: u16,
    retry_after_ms: u32,
}

#[pymethods]
impl Fault {
    #[new]
    #[pyo3(signature = (*, pool, endpoint, cause, status=0, retry_after_ms=0))]
    fn new(
        pool: Py<PyString>,
        endpoint: Py<PyString>,
        cause: u8,
        status: u16,
        retry_after_ms: u32,
    ) -> Self {
        Self {
            pool,
            endpoint,
            cause,
            status,
            retry_after_ms,
        }
    }
}

/// One HELLO frame.
#[pyclass(frozen, get_all, module = "inferway._native")]
pub struct Hello {
    major: u16,
    minor: u16,
    filter_id: u64,
}

#[pymethods]
impl Hello {
    #[new]
    #[pyo3(signature = (*, major, minor, filter_id))]
    fn new(major: u16, minor: u16, filter_id: u64) -> Self {
        Self {
            major,
            minor,
            filter_id,
        }
    }
}

/// Cuts a byte stream into frames.
#[pyclass(module = "inferway._native")]
pub struct FrameReader {
    buffer: FrameBuffer,
    strings: StringCache,
}

#[pymethods]
impl FrameReader {
    #[new]
    fn new() -> Self {
        Self {
            buffer: FrameBuffer::new(),
            strings: StringCache::new(),
        }
    }

    /// The frames that these bytes complete. Frames that only a picker sends are skipped.
    fn feed<'py>(&mut self, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = data.py();
        match data.cast::<PyBytes>() {
            Ok(bytes) => self.buffer.feed(bytes.as_bytes()),
            Err(_) => self.buffer.feed(&PyBuffer::<u8>::get(data)?.to_vec(py)?),
        }
        let frames = PyList::empty(py);
        let strings = &mut self.strings;
        while let Some(frame) = self
            .buffer
            .next_ref()
            .map_err(|error| PyValueError::new_err(error.to_string()))?
        {
            match frame {
                FrameRef::Pick(pick) => {
                    frames.append(Bound::new(py, Pick::from_wire(py, &pick, strings))?)?;
                }
                FrameRef::Other(frame) => append_other(&frames, frame, strings)?,
            }
        }
        Ok(frames)
    }
}

fn append_other(
    frames: &Bound<'_, PyList>,
    frame: Frame,
    strings: &mut StringCache,
) -> PyResult<()> {
    let py = frames.py();
    match frame {
        Frame::First(first) => frames.append(Bound::new(
            py,
            First::new(first.stream, first.ttft_us, first.status),
        )?),
        Frame::Done(done) => frames.append(Bound::new(
            py,
            Done {
                stream: done.stream,
                end: done.end,
                usage: done.flags & protocol::Done::USAGE != 0,
                first_seen: done.flags & protocol::Done::FIRST != 0,
                event_stream: done.flags & protocol::Done::EVENT_STREAM != 0,
                status: done.status,
                ttft_us: done.ttft_us,
                duration_us: done.duration_us,
                prompt_tokens: done.prompt_tokens,
                cached_tokens: done.cached_tokens,
                completion_tokens: done.completion_tokens,
                endpoint: strings.get(py, &done.endpoint),
                attempts: done.attempts,
                retry_after_ms: done.retry_after_ms,
                fault: done.fault,
                finish: done.finish,
            },
        )?),
        Frame::Open(open) => frames.append(Bound::new(
            py,
            Open {
                stream: open.stream,
                charged_uncached: open.charged_uncached,
                charged_context: open.charged_context,
                phase: open.phase,
                pool: strings.get(py, &open.pool),
                model: strings.get(py, &open.model),
                endpoint: strings.get(py, &open.endpoint),
            },
        )?),
        Frame::Hello(hello) => frames.append(Bound::new(
            py,
            Hello::new(hello.major, hello.minor, hello.filter_id),
        )?),
        Frame::Fault(fault) => frames.append(Bound::new(
            py,
            Fault::new(
                strings.get(py, &fault.pool),
                strings.get(py, &fault.endpoint),
                fault.cause,
                fault.status,
                fault.retry_after_ms,
            ),
        )?),
        Frame::Pick(_)
        | Frame::Welcome(_)
        | Frame::Endpoints(_)
        | Frame::Reject(_)
        | Frame::Heartbeat
        | Frame::Queued(_) => Ok(()),
    }
}

fn encoded(py: Python<'_>, write: impl FnOnce(&mut Vec<u8>)) -> Bound<'_, PyBytes> {
    let mut out = Vec::with_capacity(128);
    write(&mut out);
    PyBytes::new(py, &out)
}

#[pyfunction]
pub fn encode_welcome(py: Python<'_>, epoch: u64, heartbeat_ms: u32) -> Bound<'_, PyBytes> {
    let frame = protocol::Welcome {
        major: protocol::VERSION_MAJOR,
        minor: protocol::VERSION_MINOR,
        epoch,
        heartbeat_ms,
    };
    encoded(py, |out| frame.encode(out))
}

#[pyfunction]
#[pyo3(signature = (stream, charged_uncached, charged_context, endpoints, model, queued_us=0,
    ttft_deadline_ms=0, reason=""))]
#[allow(clippy::too_many_arguments)] // one per field of the frame
pub fn encode_endpoints<'py>(
    py: Python<'py>,
    stream: u64,
    charged_uncached: u32,
    charged_context: u32,
    endpoints: String,
    model: String,
    queued_us: u32,
    ttft_deadline_ms: u32,
    reason: &str,
) -> Bound<'py, PyBytes> {
    let frame = protocol::Endpoints {
        stream,
        charged_uncached,
        charged_context,
        endpoints,
        model,
        queued_us,
        ttft_deadline_ms,
        reason: reason.to_owned(),
    };
    encoded(py, |out| frame.encode(out))
}

#[pyfunction]
#[pyo3(signature = (stream, status, retry_after_ms, r#type, code, message, reason, retry=0))]
#[allow(clippy::too_many_arguments)] // one per field of the frame
pub fn encode_reject(
    py: Python<'_>,
    stream: u64,
    status: u16,
    retry_after_ms: u32,
    r#type: String,
    code: String,
    message: String,
    reason: String,
    retry: u8,
) -> Bound<'_, PyBytes> {
    let frame = protocol::Reject {
        stream,
        status,
        retry_after_ms,
        kind: r#type,
        code,
        message,
        reason,
        retry,
    };
    encoded(py, |out| frame.encode(out))
}

#[pyfunction]
pub fn encode_queued(py: Python<'_>, stream: u64, keepalive_ms: u32) -> Bound<'_, PyBytes> {
    let frame = protocol::Queued {
        stream,
        keepalive_ms,
    };
    encoded(py, |out| frame.encode(out))
}

#[pyfunction]
pub fn encode_heartbeat(py: Python<'_>) -> Bound<'_, PyBytes> {
    encoded(py, protocol::encode_heartbeat)
}

/// The filter's side of the codec, for tests and tools.
#[pyfunction]
pub fn encode_frame<'py>(frame: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = frame.py();
    let wire = if let Ok(pick) = frame.cast::<Pick>() {
        Frame::Pick(Box::new(pick.get().to_wire(py)?))
    } else if let Ok(first) = frame.cast::<First>() {
        let first = first.get();
        Frame::First(protocol::First {
            stream: first.stream,
            ttft_us: first.ttft_us,
            status: first.status,
        })
    } else if let Ok(done) = frame.cast::<Done>() {
        Frame::Done(done.get().to_wire(py))
    } else if let Ok(open) = frame.cast::<Open>() {
        Frame::Open(open.get().to_wire(py))
    } else if let Ok(fault) = frame.cast::<Fault>() {
        let fault = fault.get();
        Frame::Fault(protocol::Fault {
            pool: text(py, &fault.pool),
            endpoint: text(py, &fault.endpoint),
            cause: fault.cause,
            status: fault.status,
            retry_after_ms: fault.retry_after_ms,
        })
    } else if let Ok(hello) = frame.cast::<Hello>() {
        let hello = hello.get();
        Frame::Hello(protocol::Hello {
            major: hello.major,
            minor: hello.minor,
            filter_id: hello.filter_id,
        })
    } else {
        return Err(PyTypeError::new_err(
            "frame: not a Pick, First, Done, Open, Fault or Hello",
        ));
    };
    Ok(encoded(py, |out| wire.encode(out)))
}
