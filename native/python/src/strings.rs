//! Python strings for texts that come again and again (pools, models, endpoints).

use pyo3::prelude::*;
use pyo3::types::PyString;
use xxhash_rust::xxh3::xxh3_64;

const SLOTS: usize = 256;

/// Direct-mapped, so bounded: a text that falls on an occupied slot takes it over.
pub struct StringCache {
    slots: Vec<Option<(Box<str>, Py<PyString>)>>,
}

impl StringCache {
    pub fn new() -> Self {
        let mut slots = Vec::new();
        slots.resize_with(SLOTS, || None);
        Self { slots }
    }

    pub fn get(&mut self, py: Python<'_>, text: &str) -> Py<PyString> {
        let slot = &mut self.slots[xxh3_64(text.as_bytes()) as usize % SLOTS];
        match slot {
            Some((known, string)) if &**known == text => string.clone_ref(py),
            _ => {
                let string = PyString::new(py, text).unbind();
                *slot = Some((text.into(), string.clone_ref(py)));
                string
            }
        }
    }
}

/// Lone surrogates, which UTF-8 cannot carry, become U+FFFD.
pub fn text(py: Python<'_>, string: &Py<PyString>) -> String {
    string.bind(py).to_string_lossy().into_owned()
}
