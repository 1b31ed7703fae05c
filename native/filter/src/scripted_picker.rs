//! A picker for tests, on a real unix socket, that does what a test tells it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inferway_wire::protocol::{Endpoints, Frame, FrameBuffer, Welcome, VERSION_MAJOR};

const WAIT: Duration = Duration::from_secs(10);

/// A socket path that no other test uses; removed with the value.
pub struct SocketPath(PathBuf);

impl SocketPath {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("inferway-link-{}-{number}.sock", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // There may be nothing to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

pub struct ScriptedPicker {
    listener: UnixListener,
}

pub struct Connection {
    socket: UnixStream,
    frames: FrameBuffer,
}

impl ScriptedPicker {
    pub fn listen(path: &Path) -> Self {
        // There may be nothing to remove.
        let _ = std::fs::remove_file(path);
        Self {
            listener: UnixListener::bind(path).expect("bind"),
        }
    }

    /// The filter's next connection, after its HELLO.
    pub fn accept(&self) -> Connection {
        let (socket, _) = self.listener.accept().expect("accept");
        socket.set_read_timeout(Some(WAIT)).expect("timeout");
        let mut connection = Connection {
            socket,
            frames: FrameBuffer::new(),
        };
        assert!(matches!(connection.next(), Frame::Hello(_)));
        connection
    }

    pub fn accept_and_welcome(&self) -> Connection {
        let mut connection = self.accept();
        connection.send(&welcome(VERSION_MAJOR));
        connection
    }
}

pub fn welcome(major: u16) -> Frame {
    Frame::Welcome(Welcome {
        major,
        minor: 0,
        epoch: 1,
        heartbeat_ms: 1,
    })
}

pub fn endpoints(stream: u64) -> Frame {
    Frame::Endpoints(Endpoints {
        stream,
        charged_uncached: 1,
        charged_context: 2,
        endpoints: "1.2.3.4:5".to_owned(),
        ..Endpoints::default()
    })
}

impl Connection {
    pub fn next(&mut self) -> Frame {
        self.try_next().expect("the filter closed the connection")
    }

    /// None: the filter closed the connection.
    pub fn try_next(&mut self) -> Option<Frame> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.frames.next().expect("frames of the filter") {
                return Some(frame);
            }
            match self.socket.read(&mut buffer).expect("a frame in time") {
                0 => return None,
                bytes => self.frames.feed(&buffer[..bytes]),
            }
        }
    }

    pub fn send(&mut self, frame: &Frame) {
        let mut out = Vec::new();
        frame.encode(&mut out);
        self.send_bytes(&out);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("write");
    }
}
