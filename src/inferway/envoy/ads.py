"""The discovery server: a thin gRPC adapter around `Conversation`.

Problem: Envoy fetches its configuration from us over one long gRPC stream and reconnects when it
breaks. Model: one `Conversation` per stream; the server owns the wanted snapshot, the last one that
Envoy took in full. A new stream starts with the wanted snapshot, or with the last
good one while the wanted one stands refused, so that an Envoy that was restarted still serves. It
listens on a unix socket only: the configuration channel is never open to the network.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from inferway.envoy.conversation import Conversation, ProgrammingPhase, ProgrammingState
from inferway.envoy.messages import DiscoveryReply, DiscoveryRequest, read_request, write_reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from inferway.envoy.snapshot import Snapshot

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_METHOD = "StreamAggregatedResources"
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_TIMEOUT_S = 5
# How long streams may take to end when the server stops.
_STOP_GRACE_S = 0.2

_OPTIONS = (
    ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Envoy pings at the same pace; gRPC would by default take that for an attack.
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_INTERVAL_S * 500),
    ("grpc.http2.max_ping_strikes", 0),
    # One server per process and socket: never share it.
    ("grpc.so_reuseport", 0),
)


class _Session:
    """One stream: its conversation and what is to be sent."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        # At most one unanswered reply per type exists, so this never holds more than one of each.
        self.outbox: asyncio.Queue[DiscoveryReply] = asyncio.Queue()

    def send(self, replies: list[DiscoveryReply]) -> None:
        for reply in replies:
            self.outbox.put_nowait(reply)


class AdsServer:
    """Serves snapshots to Envoy and knows what became of them.

    `on_state` is called in the event loop after every change of `state`.
    """

    def __init__(
        self, *, on_state: Callable[[ProgrammingState], None] = lambda _state: None
    ) -> None:
        self._on_state = on_state
        self._target: Snapshot | None = None
        self._good: Snapshot | None = None
        self._refused: ProgrammingState | None = None
        self._sessions: list[_Session] = []
        self._state = ProgrammingState(ProgrammingPhase.DISCONNECTED)
        self._server: aio.Server | None = None

    @property
    def state(self) -> ProgrammingState:
        """Where the newest snapshot stands with the Envoy that connected last."""
        return self._state

    async def start(self, socket: Path) -> None:
        """Listens on a unix socket. Raises OSError when that is not possible."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve, request_deserializer=read_request, response_serializer=write_reply
        )
        server = aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: handler}),)
        )
        _listen(server, socket)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Ends all streams. Envoy keeps what it has."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(_STOP_GRACE_S)

    def offer(self, snapshot: Snapshot) -> None:
        """Makes this the wanted state. Sends only what changed; returns at once."""
        if self._target is not None and snapshot.version == self._target.version:
            return
        self._target = snapshot
        self._refused = None
        for session in self._sessions:
            session.send(session.conversation.offer(snapshot))
        self._review()

    async def _serve(
        self,
        requests: AsyncIterator[DiscoveryRequest],
        context: aio.ServicerContext[DiscoveryRequest, DiscoveryReply],
    ) -> None:
        session = _Session()
        start = self._good if self._refused is not None and self._good else self._target
        if start is not None:
            session.conversation.offer(start)
        self._sessions.append(session)
        self._review()
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(_write(session, context))
                async for request in requests:
                    session.send(session.conversation.receive(request))
                    self._review()
                writer.cancel()
        finally:
            self._sessions.remove(session)
            self._review()

    def _review(self) -> None:
        """Derives the state anew after any event and tells whoever wants to know."""
        state = self._newest_state()
        if state == self._state:
            return
        self._state = state
        if state.phase is ProgrammingPhase.PROGRAMMED:
            self._good = self._target
        elif state.phase is ProgrammingPhase.REJECTED:
            self._refused = state
        self._on_state(state)

    def _newest_state(self) -> ProgrammingState:
        version = self._target.version if self._target else ""
        if not self._sessions:
            return ProgrammingState(ProgrammingPhase.DISCONNECTED, version)
        state = self._sessions[-1].conversation.state
        if self._refused is not None and state.version != version:
            # It serves the last good snapshot; the wanted one stands refused.
            return self._refused
        return state


def _listen(server: aio.Server, socket: Path) -> None:
    socket.unlink(missing_ok=True)
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as error:
        raise OSError(f"cannot listen on the discovery socket: {socket}: {error}") from error
    socket.chmod(0o600)


async def _write(
    session: _Session, context: aio.ServicerContext[DiscoveryRequest, DiscoveryReply]
) -> None:
    while True:
        await context.write(await session.outbox.get())
