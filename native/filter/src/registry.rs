//! Links shared by everything in the process that names the same socket.
//!
//! Envoy creates a filter configuration anew on every listener update and for every listener; the
//! connection must outlive that. A link lives as long as a configuration or a stream uses it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::config::ALIVE_MS_MIN;
use crate::envoy::Wake;
use crate::link::{Level, Link};

pub struct Registry<W: Wake + 'static> {
    links: Mutex<Vec<(PathBuf, Weak<Link<W>>)>>,
}

impl<W: Wake + 'static> Default for Registry<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Wake + 'static> Registry<W> {
    pub const fn new() -> Self {
        Self {
            links: Mutex::new(Vec::new()),
        }
    }

    /// The link to a socket, started when it is the first of its path. `alive_ms_min` None: whatever
    /// another user of it says.
    pub fn link(
        &self,
        path: &Path,
        alive_ms_min: Option<u64>,
        log: fn(Level, &str),
    ) -> io::Result<Arc<Link<W>>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|(_, link)| link.strong_count() > 0);
        let known = links.iter().find(|(other, _)| other == path);
        if let Some(link) = known.and_then(|(_, link)| link.upgrade()) {
            if let Some(alive_ms_min) = alive_ms_min {
                link.set_alive_ms_min(alive_ms_min);
            }
            return Ok(link);
        }
        let link = Arc::new(Link::start(
            path,
            alive_ms_min.unwrap_or(ALIVE_MS_MIN),
            log,
        )?);
        links.push((path.to_owned(), Arc::downgrade(&link)));
        Ok(link)
    }
}
