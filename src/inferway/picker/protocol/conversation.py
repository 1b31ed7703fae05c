"""One filter's conversation with the picker (docs/pick-protocol.md).

Frames in, what is to be done out.

Problem: charges must be released exactly once however a stream or a connection ends, and frames
come from another process, which may be older, newer, restarted or broken. Model: a state machine
per connection that admits frames in their order: it checks the version, knows which streams are
alive, and drops what does not fit (a second DONE, a FIRST of nobody), so that whoever applies the
admitted frames may trust them. Invariants: nothing is admitted before a HELLO of our major
version; per stream the admitted frames are (PICK | OPEN) FIRST? DONE?, and a repeated PICK comes
after a DONE-like release; a FAULT belongs to no stream and is always admitted; after `close`
nothing is admitted. It does not decide, account, keep time or touch a socket.

It stands on the hot path: one loop, one dictionary look-up per frame, one result object per
batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from inferway._native import Done, Fault, First, Hello, Open, Pick, encode_welcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway._native import Frame

MAJOR: Final = 1

_WAITING: Final = 0  # placed or being placed, no byte of the response yet
_STREAMING: Final = 1  # FIRST was seen


@final
@dataclass(frozen=True, slots=True)
class Release:
    """A stream's earlier charge is void, because the filter asks again for it."""

    stream: int


Admitted = Pick | First | Done | Open | Fault | Release


@dataclass(slots=True)
class Actions:
    """What one batch of frames leads to. Not frozen, because that doubles what making one costs.

    `send` goes out before the answers to `apply`; a non-empty `close` ends the connection.
    """

    apply: list[Admitted]
    send: bytes = b""
    close: str = ""


class Conversation:
    """State of one connection.

    `dropped` counts frames that did not fit; `filter_id` is None before HELLO.
    """

    __slots__ = ("_epoch", "_heartbeat_ms", "_phases", "closed", "dropped", "filter_id")

    def __init__(self, *, epoch: int, heartbeat_ms: int) -> None:
        self._epoch = epoch
        self._heartbeat_ms = heartbeat_ms
        self._phases: dict[int, int] = {}
        self.filter_id: int | None = None
        self.closed = False
        self.dropped = 0

    def __len__(self) -> int:
        """Streams alive."""
        return len(self._phases)

    def receive(self, frames: Sequence[Frame]) -> Actions:
        """Admits the frames of one wake-up, in order."""
        if self.closed or not frames:
            return Actions([])
        send = b""
        if self.filter_id is None:
            hello = frames[0]
            if type(hello) is not Hello:
                return self._close([], f"the first frame is not HELLO: {type(hello).__name__}")
            if hello.major != MAJOR:
                return self._close(
                    [], f"protocol major version {hello.major}: this picker speaks {MAJOR}"
                )
            self.filter_id = hello.filter_id
            send = encode_welcome(self._epoch, self._heartbeat_ms)
            frames = frames[1:]
        apply: list[Admitted] = []
        broken = self._admit(frames, apply)
        if broken:
            return self._close(apply, broken, send)
        return Actions(apply, send)

    def _admit(self, frames: Sequence[Frame], apply: list[Admitted]) -> str:
        """Appends what fits to `apply`; returns what is wrong when the connection cannot go on."""
        phases = self._phases
        for frame in frames:
            if type(frame) is Pick:
                stream = frame.stream
                if stream in phases:
                    if not frame.repeated:
                        return f"stream {stream} was picked twice"
                    apply.append(Release(stream))
                phases[stream] = _WAITING
            elif type(frame) is Done:
                if phases.pop(frame.stream, None) is None:
                    self.dropped += 1
                    continue
            elif type(frame) is First:
                stream = frame.stream
                if phases.get(stream) != _WAITING:
                    self.dropped += 1
                    continue
                phases[stream] = _STREAMING
            elif type(frame) is Open:
                stream = frame.stream
                if stream in phases:
                    return f"stream {stream} was opened twice"
                phases[stream] = _STREAMING if frame.phase else _WAITING
            elif type(frame) is Hello:
                return "HELLO was sent twice"
            apply.append(frame)
        return ""

    def _close(self, apply: list[Admitted], reason: str, send: bytes = b"") -> Actions:
        self.closed = True
        self._phases.clear()
        return Actions(apply, send, reason)
