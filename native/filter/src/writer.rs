//! Which stream of a worker writes out the link's queue at the end of the event loop's turn.
//!
//! Problem: one system call per pick costs more than everything else that a pick costs. A wake-up that a
//! stream schedules on its own worker comes after everything that the event loop has to do in this turn;
//! the first stream that asks in a turn therefore takes the duty to write, and the others rely on it.
//! A stream that dies first does its duty when it is destroyed.

use std::cell::Cell;

thread_local! {
    /// The link (by address) and the stream that has the duty.
    static DUTY: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duty {
    /// Taken by this stream: it has to wake itself.
    Mine,
    /// Another stream will write for this one.
    Others,
    /// The worker is bound to another link in this turn: write at once.
    Elsewhere,
}

fn address<L>(link: &L) -> usize {
    std::ptr::from_ref(link) as usize
}

/// Takes the duty for a link when nobody has it.
pub fn take<L>(link: &L, stream: u64) -> Duty {
    match DUTY.get() {
        None => {
            DUTY.set(Some((address(link), stream)));
            Duty::Mine
        }
        Some((other, _)) if other == address(link) => Duty::Others,
        Some(_) => Duty::Elsewhere,
    }
}

/// Ends the duty. True: the stream had it.
pub fn release<L>(link: &L, stream: u64) -> bool {
    let mine = DUTY.get() == Some((address(link), stream));
    if mine {
        DUTY.set(None);
    }
    mine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stream_at_a_time_has_the_duty() {
        let (link, other_link) = (1u8, 2u8);
        assert_eq!(take(&link, 1), Duty::Mine);
        assert_eq!(take(&link, 2), Duty::Others);
        assert_eq!(take(&other_link, 1), Duty::Elsewhere);
        assert!(!release(&link, 2));
        assert!(!release(&other_link, 1));
        assert!(release(&link, 1));
        assert!(!release(&link, 1));
        assert_eq!(take(&other_link, 1), Duty::Mine);
        assert!(release(&other_link, 1));
    }
}
