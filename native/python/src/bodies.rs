//! Request and response bodies, and block hashes, as Python sees them.

use inferway_wire::request::{Kind, RequestScanner};
use inferway_wire::splice::{Edit, Splice};
use inferway_wire::usage::UsageScanner;
use inferway_wire::{blocks, request};
use numpy::{PyArray1, ToPyArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What a decision needs from a request body.
#[pyclass(frozen, get_all, module = "inferway._native")]
pub struct RequestFields {
    model: Option<String>,
    model_range: Option<(usize, usize)>,
    model_not_string: bool,
    stream: bool,
    max_tokens: u32,
    priority: Option<i32>,
    cache_salt: Option<String>,
    user: Option<String>,
    server_tools: bool,
    usage_edit: Option<(usize, usize, String)>,
    prompt_bytes: u32,
    hashes: Py<PyArray1<u64>>,
}

fn kind_of(kind: u8) -> PyResult<Kind> {
    [
        Kind::Other,
        Kind::Chat,
        Kind::Completions,
        Kind::Embeddings,
        Kind::Responses,
        Kind::Messages,
    ]
    .into_iter()
    .find(|known| *known as u8 == kind)
    .ok_or_else(|| PyValueError::new_err(format!("kind: {kind}; known are 0 to 5")))
}

/// Reads a request body given in arbitrary pieces.
#[pyfunction]
pub fn request_fields(
    py: Python<'_>,
    chunks: Vec<Bound<'_, PyBytes>>,
    kind: u8,
) -> PyResult<RequestFields> {
    let pieces: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
    let mut scanner = RequestScanner::new(kind_of(kind)?);
    let error =
        |malformed: request::Malformed| PyValueError::new_err((malformed.reason, malformed.offset));
    for piece in &pieces {
        scanner.feed(piece).map_err(error)?;
    }
    let fields = scanner.finish(&pieces).map_err(error)?;
    Ok(RequestFields {
        model: fields.model,
        model_range: fields.model_range.map(|range| (range.start, range.end)),
        model_not_string: fields.model_not_string,
        stream: fields.stream,
        max_tokens: fields.max_tokens,
        priority: fields.priority,
        cache_salt: fields.cache_salt,
        user: fields.user,
        server_tools: fields.server_tools,
        usage_edit: fields.usage_edit.map(|edit| {
            let text = String::from_utf8_lossy(&edit.text).into_owned();
            (edit.range.start, edit.range.end, text)
        }),
        prompt_bytes: fields.prompt_bytes,
        hashes: fields.hashes.to_pyarray(py).unbind(),
    })
}

/// A body, given in arbitrary pieces, with another string in the place of the bytes from `start` to `end`.
#[pyfunction]
pub fn spliced<'py>(
    py: Python<'py>,
    chunks: Vec<Bound<'py, PyBytes>>,
    start: usize,
    end: usize,
    text: &str,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    if start > end {
        return Err(PyValueError::new_err(format!(
            "start: {start}; at most end: {end}"
        )));
    }
    let mut splice = Splice::new(vec![Edit::string(start..end, text)]);
    let pieces = chunks.iter().map(|chunk| {
        let mut piece = Vec::with_capacity(chunk.as_bytes().len());
        splice.cut(chunk.as_bytes(), |bytes| piece.extend_from_slice(bytes));
        piece
    });
    Ok(pieces.map(|piece| PyBytes::new(py, &piece)).collect())
}

/// Token usage that a response reported.
#[pyclass(frozen, get_all, module = "inferway._native")]
pub struct Usage {
    prompt_tokens: u32,
    cached_tokens: u32,
    completion_tokens: u32,
}

/// Token usage of a response body given in arbitrary pieces.
#[pyfunction]
pub fn response_usage(chunks: Vec<Bound<'_, PyBytes>>, event_stream: bool) -> Option<Usage> {
    let mut scanner = UsageScanner::new(event_stream);
    for chunk in &chunks {
        scanner.feed(chunk.as_bytes());
    }
    scanner.finish().map(|usage| Usage {
        prompt_tokens: usage.prompt_tokens,
        cached_tokens: usage.cached_tokens,
        completion_tokens: usage.completion_tokens,
    })
}

/// 64-bit xxh3 of the name: the model's part of an index key.
#[pyfunction]
pub fn hash_seed(name: &str) -> u64 {
    blocks::hash_seed(name.as_bytes())
}

/// Chained block hashes with the block schedule of docs/pick-protocol.md.
#[pyfunction]
pub fn block_hashes<'py>(
    py: Python<'py>,
    prompt: &Bound<'py, PyBytes>,
    seed: u64,
) -> Bound<'py, PyArray1<u64>> {
    let mut hasher = blocks::BlockHasher::new(seed);
    hasher.feed(prompt.as_bytes());
    hasher.finish().0.to_pyarray(py)
}

/// Chained xxh3 over full blocks of one size, as an engine's own block cache does.
#[pyfunction]
pub fn fixed_block_hashes<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
    block_bytes: usize,
    seed: u64,
) -> PyResult<Bound<'py, PyArray1<u64>>> {
    if block_bytes == 0 {
        return Err(PyValueError::new_err("block_bytes: 0; at least 1"));
    }
    Ok(blocks::fixed_block_hashes(data.as_bytes(), block_bytes, seed).to_pyarray(py))
}

/// Bytes that the first `blocks` blocks of a prompt cover.
#[pyfunction]
pub fn block_end_bytes(blocks: usize) -> usize {
    blocks::block_end(blocks)
}
