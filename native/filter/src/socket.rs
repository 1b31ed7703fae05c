//! The few system calls of the link: a unix stream socket that never blocks, a wake-up, and `poll`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn checked_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A connected socket.
pub struct Socket(OwnedFd);

impl Socket {
    /// Connects without waiting: a full backlog is an error, as the standard library's call is not.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let path = path.as_os_str().as_bytes();
        // SAFETY: sockaddr_un is plain data, for which all zeros is a valid value.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        if path.len() >= address.sun_path.len() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path.iter_mut().zip(path) {
            *to = *from as libc::c_char;
        }
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers are passed.
        let raw = checked(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
        // SAFETY: `raw` was just opened and belongs to nobody else.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(raw) });
        let length = std::mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a valid address of `length` bytes for the call.
        checked(unsafe { libc::connect(raw, (&raw const address).cast(), length) })?;
        Ok(socket)
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the pointer and length are those of a live slice.
        checked_size(unsafe { libc::send(self.raw(), bytes.as_ptr().cast(), bytes.len(), flags) })
    }

    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads what is there; 0 at the end of the stream.
pub fn receive(raw: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a live, exclusively borrowed slice.
    checked_size(unsafe {
        libc::recv(
            raw,
            into.as_mut_ptr().cast(),
            into.len(),
            libc::MSG_DONTWAIT,
        )
    })
}

/// Wakes the link thread out of `wait`.
pub struct Signal(OwnedFd);

impl Signal {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let raw = checked(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        // SAFETY: `raw` was just opened and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    pub fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the pointer and length are those of a live array. A counter that is full is raised.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the pointer and length are those of a live array. A counter at zero is clear.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

/// Sleeps until the signal is raised, the socket is readable (or writable, if asked), or time is up.
/// True: the socket is readable or broken.
pub fn wait(signal: &Signal, socket: Option<RawFd>, writable: bool, timeout_ns: u64) -> bool {
    let events = libc::POLLIN | if writable { libc::POLLOUT } else { 0 };
    let mut polled = [
        libc::pollfd {
            fd: signal.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        },
        // A negative descriptor is ignored by poll.
        libc::pollfd {
            fd: socket.unwrap_or(-1),
            events,
            revents: 0,
        },
    ];
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout_ns / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: the pointers and the length are those of live values; no signal mask is given. An
    // interrupted call returns early, which the caller cannot tell from a wake-up.
    unsafe {
        let count = polled.len() as libc::nfds_t;
        libc::ppoll(polled.as_mut_ptr(), count, &timeout, std::ptr::null());
    }
    if polled[0].revents != 0 {
        signal.clear();
    }
    polled[1].revents & !libc::POLLOUT != 0
}

/// Signals belong to Envoy's own threads.
pub fn block_signals() {
    // SAFETY: `all` is initialised by sigfillset before it is used; the null pointer asks for no copy.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
}

/// A number that no other process has.
pub fn random_u64() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the pointer and length are those of a live array.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == 8 {
        return u64::from_ne_bytes(bytes);
    }
    crate::clock::monotonic_ns() ^ (u64::from(std::process::id()) << 32)
}
