//! The streams that wait for a pick or run after one: the filter's truth about in-flight work.
//!
//! A pure state machine: frames and time come in, frames to send and streams to wake go out. The link
//! owns it behind one lock. Invariants:
//! - a stream has an entry from its pick until its end; after that nothing refers to it;
//! - its waker is used only while the entry is there, and given back for dropping exactly once;
//! - FIRST and DONE are written only to a connection that has seen the stream's PICK or OPEN.
//!
//! Replay: when the link comes up, every entry that this connection has not seen is announced, placed
//! streams with OPEN and waiting ones with a repeated PICK. This also covers streams that began while
//! a connected picker was silent.

use std::collections::{BTreeMap, HashMap};

use inferway_wire::protocol::{Done, Endpoints, Fault, First, Open, Pick, Queued, Reject};

use crate::envoy::Wake;
use crate::facts::Placement;

/// What a waiting stream is told.
#[derive(PartialEq, Eq, Debug)]
pub enum Answer {
    Endpoints {
        endpoints: String,
        model: String,
        placement: Placement,
    },
    Reject(Reject),
    /// No answer yet: it waits in the picker's queue, and its client should hear so at this pace.
    Queued {
        keepalive_ms: u32,
    },
    /// Nobody decides: go on without a destination.
    FailOpen,
    /// Nobody decides: refuse.
    FailClose,
}

/// How a pick began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// Wait for the picker's answer.
    Asked,
    /// Wait for the picker's return, at most until this instant.
    Held { until_ns: u64 },
    /// Go on at once, without a destination.
    FailedOpen,
}

struct Waiting<W> {
    pick: Pick,
    wake: W,
    fail_open: bool,
    hold_ns: u64,
    /// Set while the link is down.
    held_until_ns: Option<u64>,
}

struct Placed {
    pool: String,
    model: String,
    charged_uncached: u32,
    charged_context: u32,
    endpoint: String,
    first_seen: bool,
}

enum State<W> {
    Waiting(Box<Waiting<W>>),
    Placed(Placed),
    Refused,
}

struct Entry<W> {
    state: State<W>,
    /// The connection that has seen PICK or OPEN; 0: none.
    announced: u64,
    answer: Option<(Answer, W)>,
    /// The pace of news that was not taken yet; 0: none.
    keepalive_ms: u32,
    /// When it asked to be woken; 0: it did not.
    alarm_ns: u64,
}

pub struct Streams<W> {
    entries: HashMap<u64, Entry<W>>,
    /// Who is to be woken when, in order.
    alarms: BTreeMap<(u64, u64), W>,
    /// The current connection; 0: none.
    connection: u64,
    connections: u64,
    up: bool,
}

impl<W: Wake> Default for Streams<W> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            alarms: BTreeMap::new(),
            connection: 0,
            connections: 0,
            up: false,
        }
    }
}

impl<W: Wake> Entry<W> {
    /// Ends the wait: keeps the answer for the worker and wakes it.
    fn resolve(&mut self, answer: Answer, placed: impl FnOnce(&mut Pick) -> State<W>) {
        let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Refused) else {
            return;
        };
        let Waiting { mut pick, wake, .. } = *waiting;
        self.state = placed(&mut pick);
        let (_, wake) = self.answer.insert((answer, wake));
        wake.wake();
    }

    fn fail(&mut self, open: bool) {
        if open {
            self.resolve(Answer::FailOpen, |pick| {
                State::Placed(Placed::unanswered(pick))
            });
        } else {
            self.resolve(Answer::FailClose, |_| State::Refused);
        }
    }
}

impl Placed {
    fn unanswered(pick: &mut Pick) -> Self {
        Self {
            pool: std::mem::take(&mut pick.pool),
            model: std::mem::take(&mut pick.model),
            charged_uncached: 0,
            charged_context: 0,
            endpoint: String::new(),
            first_seen: false,
        }
    }
}

impl<W: Wake> Streams<W> {
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// A request needs an endpoint. `wake` is called only when it has to wait.
    pub fn begin(
        &mut self,
        mut pick: Pick,
        fail_open: bool,
        hold_ns: u64,
        now_ns: u64,
        wake: impl FnOnce() -> W,
        out: &mut Vec<u8>,
    ) -> Begun {
        let stream = pick.stream;
        let (state, announced, begun) = if self.up {
            pick.encode(out);
            (None, self.connection, Begun::Asked)
        } else if fail_open {
            let placed = Placed::unanswered(&mut pick);
            (Some(State::Placed(placed)), 0, Begun::FailedOpen)
        } else {
            (
                None,
                0,
                Begun::Held {
                    until_ns: now_ns.saturating_add(hold_ns),
                },
            )
        };
        let held_until_ns = match begun {
            Begun::Held { until_ns } => Some(until_ns),
            Begun::Asked | Begun::FailedOpen => None,
        };
        let state = state.unwrap_or_else(|| {
            let wake = wake();
            State::Waiting(Box::new(Waiting {
                pick,
                wake,
                fail_open,
                hold_ns,
                held_until_ns,
            }))
        });
        self.entries.insert(
            stream,
            Entry {
                state,
                announced,
                answer: None,
                keepalive_ms: 0,
                alarm_ns: 0,
            },
        );
        begun
    }

    /// The picker chose endpoints. False: nobody waits for this answer.
    pub fn endpoints(&mut self, frame: Endpoints) -> bool {
        let Some(entry) = self.waiting(frame.stream) else {
            return false;
        };
        let Endpoints {
            charged_uncached,
            charged_context,
            endpoints,
            model,
            queued_us,
            ttft_deadline_ms,
            reason,
            ..
        } = frame;
        let first = endpoints
            .split(',')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        let upstream_model = model.clone();
        let placement = Placement {
            queued_us,
            ttft_deadline_ms,
            reason,
        };
        let answer = Answer::Endpoints {
            endpoints,
            model,
            placement,
        };
        entry.resolve(answer, |pick| {
            let mut placed = Placed::unanswered(pick);
            if !upstream_model.is_empty() {
                placed.model = upstream_model;
            }
            State::Placed(Placed {
                charged_uncached,
                charged_context,
                endpoint: first,
                ..placed
            })
        });
        true
    }

    /// The picker refused. False: nobody waits for this answer.
    pub fn reject(&mut self, frame: Reject) -> bool {
        let Some(entry) = self.waiting(frame.stream) else {
            return false;
        };
        entry.resolve(Answer::Reject(frame), |_| State::Refused);
        true
    }

    /// The request waits in the picker's queue. False: nobody waits for it any more.
    pub fn queued(&mut self, frame: Queued) -> bool {
        let Some(entry) = self.waiting(frame.stream) else {
            return false;
        };
        if let (State::Waiting(waiting), true) = (&entry.state, frame.keepalive_ms > 0) {
            entry.keepalive_ms = frame.keepalive_ms;
            waiting.wake.wake();
        }
        true
    }

    /// From now on the answer wakes another stream, at once when it is there. The waker that is not
    /// used (any more) is given back.
    pub fn adopt(&mut self, stream: u64, wake: W) -> Option<W> {
        let Some(entry) = self.entries.get_mut(&stream) else {
            return Some(wake);
        };
        let place = match (&mut entry.state, &mut entry.answer) {
            (State::Waiting(waiting), _) => &mut waiting.wake,
            (_, Some((_, place))) => {
                wake.wake();
                place
            }
            _ => return Some(wake),
        };
        Some(std::mem::replace(place, wake))
    }

    fn waiting(&mut self, stream: u64) -> Option<&mut Entry<W>> {
        let connection = self.connection;
        self.entries.get_mut(&stream).filter(|entry| {
            matches!(entry.state, State::Waiting(_)) && entry.announced == connection
        })
    }

    /// The answer (or news) for a stream that was woken, and its waker to be dropped.
    pub fn take(&mut self, stream: u64) -> Option<(Answer, Option<W>)> {
        let entry = self.entries.get_mut(&stream)?;
        if let Some((answer, wake)) = entry.answer.take() {
            return Some((answer, Some(wake)));
        }
        let keepalive_ms = std::mem::take(&mut entry.keepalive_ms);
        (keepalive_ms > 0).then_some((Answer::Queued { keepalive_ms }, None))
    }

    /// The first byte of the response of a placed stream, and who serves it.
    pub fn first(&mut self, first: First, endpoint: &str, out: &mut Vec<u8>) {
        let Some(entry) = self.entries.get_mut(&first.stream) else {
            return;
        };
        if let State::Placed(placed) = &mut entry.state {
            placed.first_seen = true;
            endpoint.clone_into(&mut placed.endpoint);
        }
        if entry.announced != 0 && entry.announced == self.connection {
            first.encode(out);
        }
    }

    /// An attempt failed; it belongs to no stream, and is news only to a picker that is there.
    pub fn fault(&self, fault: &Fault, out: &mut Vec<u8>) {
        if self.up {
            fault.encode(out);
        }
    }

    /// A stream wants to be woken at an instant, and no more at an earlier wish. A waker that is not
    /// used (any more) is given back.
    pub fn set_alarm(&mut self, stream: u64, at_ns: u64, wake: W) -> Option<W> {
        let Some(entry) = self.entries.get_mut(&stream) else {
            return Some(wake);
        };
        let before = self.alarms.remove(&(entry.alarm_ns, stream));
        entry.alarm_ns = at_ns;
        self.alarms.insert((at_ns, stream), wake);
        before
    }

    pub fn next_alarm_ns(&self) -> u64 {
        self.alarms
            .keys()
            .next()
            .map_or(u64::MAX, |(at_ns, _)| *at_ns)
    }

    /// Wakes whose time has come; their wakers are to be dropped by the caller.
    pub fn ring(&mut self, now_ns: u64) -> Vec<W> {
        let mut rung = Vec::new();
        while let Some(alarm) = self.alarms.first_entry() {
            if alarm.key().0 > now_ns {
                break;
            }
            let wake = alarm.remove();
            wake.wake();
            rung.push(wake);
        }
        rung
    }

    /// The stream ended. The wakers, when they were not given out before, are to be dropped by the caller.
    pub fn end(&mut self, done: &Done, out: &mut Vec<u8>) -> [Option<W>; 2] {
        let Some(entry) = self.entries.remove(&done.stream) else {
            return [None, None];
        };
        let alarm = self.alarms.remove(&(entry.alarm_ns, done.stream));
        if entry.announced != 0 && entry.announced == self.connection {
            done.encode(out);
        }
        let wake = match (entry.state, entry.answer) {
            (State::Waiting(waiting), _) => Some(waiting.wake),
            (_, answer) => answer.map(|(_, wake)| wake),
        };
        [wake, alarm]
    }

    /// A connection was made; it is not up before the picker's WELCOME.
    pub fn connected(&mut self) {
        self.connections += 1;
        self.connection = self.connections;
    }

    /// The connection is gone: what it had seen counts no more.
    pub fn disconnected(&mut self, now_ns: u64) {
        self.connection = 0;
        self.silent(now_ns);
    }

    /// The picker no longer answers, or the connection is gone: waiting streams act per pool.
    pub fn silent(&mut self, now_ns: u64) {
        self.up = false;
        for entry in self.entries.values_mut() {
            if let State::Waiting(waiting) = &mut entry.state {
                if waiting.fail_open {
                    entry.fail(true);
                } else if waiting.held_until_ns.is_none() {
                    waiting.held_until_ns = Some(now_ns.saturating_add(waiting.hold_ns));
                }
            }
        }
    }

    /// The picker answers (again): announces what this connection has not seen.
    pub fn revived(&mut self, out: &mut Vec<u8>) {
        self.up = true;
        let mut picks = Vec::new();
        for (stream, entry) in &mut self.entries {
            let announced = entry.announced == self.connection;
            match &mut entry.state {
                State::Placed(placed) if !announced => placed.open(*stream).encode(out),
                State::Waiting(waiting) => {
                    waiting.held_until_ns = None;
                    if !announced {
                        waiting.pick.flags |= Pick::REPEATED;
                        picks.push(*stream);
                    }
                }
                State::Placed(_) | State::Refused => continue,
            }
            entry.announced = self.connection;
        }
        picks.sort_unstable();
        for stream in picks {
            if let Some(State::Waiting(waiting)) = self.entries.get(&stream).map(|e| &e.state) {
                waiting.pick.encode(out);
            }
        }
    }

    /// Refuses the streams that were held long enough; gives the next such instant.
    pub fn expire(&mut self, now_ns: u64) -> Option<u64> {
        if self.up {
            return None;
        }
        let mut next = None;
        for entry in self.entries.values_mut() {
            let State::Waiting(waiting) = &entry.state else {
                continue;
            };
            match waiting.held_until_ns {
                Some(until_ns) if until_ns <= now_ns => entry.fail(false),
                Some(until_ns) => {
                    next = Some(next.map_or(until_ns, |next: u64| next.min(until_ns)))
                }
                None => {}
            }
        }
        next
    }
}

impl Placed {
    fn open(&self, stream: u64) -> Open {
        Open {
            stream,
            charged_uncached: self.charged_uncached,
            charged_context: self.charged_context,
            phase: u8::from(self.first_seen),
            pool: self.pool.clone(),
            model: self.model.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

#[cfg(test)]
#[path = "streams_test.rs"]
mod tests;
