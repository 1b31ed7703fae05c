"""The conversation with one Envoy over the aggregated discovery service, as a pure state machine.

Problem: a configuration change must reach Envoy in an order in which no request ever meets a route
whose cluster is not there, and a refused change must leave the last good one working. Model: the
wanted snapshot and, per type, what Envoy subscribed to and what it acknowledged. After every event
the stages below are gone through from the top; the first that is not acknowledged in full sends
what is missing and ends the round:

1. clusters: the wanted ones and those that are there already (nothing is removed yet), with their
   endpoints; these also again for every cluster that changed, because Envoy warms it anew;
2. listeners, and what they name (routes, certificates, filter configurations): now traffic follows
   the new configuration;
3. clusters: without the ones that nothing refers to any more.

Invariants: at most one reply per type is unanswered, so a slow Envoy bounds our memory; what Envoy
has is not sent again; a refused resource is not sent again until it, or the snapshot, changes.
Refused clusters or endpoints stop stages 2 and 3, a refused listener or route stops stage 3. Input
in, replies out: no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from inferway.envoy.messages import DiscoveryReply, DiscoveryRequest, Resource, ResourceType
from inferway.envoy.snapshot import ResourceSet

if TYPE_CHECKING:
    from inferway.envoy.snapshot import Snapshot

# Envoy asks for these types as a whole; for the others it names the resources it needs.
_WHOLE = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER})
# What listeners name; Envoy asks for it once it has them.
_NAMED_BY_LISTENERS = (ResourceType.ROUTES, ResourceType.SECRET, ResourceType.EXTENSION)


class ProgrammingPhase(StrEnum):
    """Where the wanted configuration stands."""

    DISCONNECTED = "disconnected"  # no Envoy is listening
    PENDING = "pending"  # sent in part, not all acknowledged
    PROGRAMMED = "programmed"  # traffic follows it
    REJECTED = "rejected"  # Envoy refused some of it; the last good state goes on


@dataclass(frozen=True, slots=True)
class Rejection:
    """A type of resource that Envoy refused, and why, in Envoy's words."""

    type: ResourceType
    version: str
    message: str


@dataclass(frozen=True, slots=True)
class ProgrammingState:
    """What status reports of the wanted configuration. `version` is empty before there is one."""

    phase: ProgrammingPhase
    version: str = ""
    rejections: tuple[Rejection, ...] = ()


class _StepResult(StrEnum):
    DONE = "done"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(slots=True)
class _Channel:
    """What we know of one resource type on this stream."""

    subscribed: bool = False
    names: frozenset[str] = frozenset()
    nonce: str = ""
    version: str = ""  # of the last reply
    sent: dict[str, Resource] | None = None  # unanswered reply
    held: dict[str, Resource] | None = None  # acknowledged; None before the first
    refused: dict[str, Resource] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)  # acknowledged, and yet to be sent again


class Conversation:
    """One stream. Feed it requests and snapshots; send what it answers, in order."""

    def __init__(self) -> None:
        self._channels = {kind: _Channel() for kind in ResourceType}
        self._target: Snapshot | None = None
        self._rejections: dict[ResourceType, Rejection] = {}
        self._nonces = 0
        self._programmed = False

    @property
    def state(self) -> ProgrammingState:
        """Where the newest snapshot stands on this stream."""
        rejections = tuple(self._rejections.values())
        if rejections:
            phase = ProgrammingPhase.REJECTED
        elif self._programmed:
            phase = ProgrammingPhase.PROGRAMMED
        else:
            phase = ProgrammingPhase.PENDING
        return ProgrammingState(phase, self._target.version if self._target else "", rejections)

    def offer(self, snapshot: Snapshot) -> list[DiscoveryReply]:
        """A new wanted state. One that equals the current one changes nothing."""
        if self._target is not None and snapshot.version == self._target.version:
            return []
        self._target = snapshot
        self._programmed = False
        self._rejections.clear()
        for channel in self._channels.values():
            channel.refused = {}
        return self._advance()

    def receive(self, request: DiscoveryRequest) -> list[DiscoveryReply]:
        """A subscription, an acknowledgement or a rejection. Unknown types get no answer."""
        if request.type is None:
            return []
        channel = self._channels[request.type]
        if request.nonce and request.nonce != channel.nonce:
            # Sent before our last reply reached Envoy; its answer to that one follows.
            return []
        channel.subscribed = True
        channel.names = request.names
        if request.type not in _WHOLE and channel.held is not None:
            # Envoy forgets what it no longer asks for, and needs it again when it asks again.
            held = channel.held.items()
            channel.held = {name: one for name, one in held if name in channel.names}
        if request.nonce and channel.sent is not None:
            self._settle(request.type, request.error, channel, channel.sent)
        return self._advance()

    def _settle(
        self, kind: ResourceType, error: str | None, channel: _Channel, sent: dict[str, Resource]
    ) -> None:
        channel.sent = None
        if error is not None:
            channel.refused.update(sent)
            self._rejections[kind] = Rejection(kind, channel.version, error)
        elif kind in _WHOLE:
            channel.held = sent
        else:
            channel.held = {**(channel.held or {}), **sent}

    def _advance(self) -> list[DiscoveryReply]:
        target = self._target
        replies: list[DiscoveryReply] = []
        if target is None:
            return replies
        added = self._step(ResourceType.CLUSTER, self._with_present_clusters(target), replies)
        # Not after the answer: Envoy acknowledges clusters only once they have their endpoints.
        placed = self._step(ResourceType.ENDPOINTS, target.endpoints, replies)
        if placed is not _StepResult.DONE or added is not _StepResult.DONE:
            return replies
        kinds = (ResourceType.LISTENER, *_NAMED_BY_LISTENERS)
        opened = [self._step(kind, target.of(kind), replies) for kind in kinds]
        if all(one is _StepResult.DONE for one in opened):
            self._programmed = True
            self._step(ResourceType.CLUSTER, target.clusters, replies)
        return replies

    def _with_present_clusters(self, target: Snapshot) -> ResourceSet:
        present = self._channels[ResourceType.CLUSTER].held or {}
        if present.keys() <= target.clusters.resources.keys():
            return target.clusters
        return ResourceSet.of({**present, **target.clusters.resources}.values())

    def _step(
        self, kind: ResourceType, wanted: ResourceSet, replies: list[DiscoveryReply]
    ) -> _StepResult:
        channel = self._channels[kind]
        if not channel.subscribed:
            # Envoy asks for the other types only when something needs them.
            needless = kind not in _WHOLE and not wanted.resources
            return _StepResult.DONE if needless else _StepResult.WAITING
        if channel.sent is not None:
            return _StepResult.WAITING
        missing = self._missing(kind, channel, wanted)
        if missing is not None:
            replies.append(self._reply(kind, channel, missing, wanted.version))
            return _StepResult.WAITING
        if any(wanted.resources.get(name) == one for name, one in channel.refused.items()):
            return _StepResult.REFUSED
        if kind not in _WHOLE and not wanted.resources.keys() <= channel.names:
            return _StepResult.WAITING
        return _StepResult.DONE

    def _missing(
        self, kind: ResourceType, channel: _Channel, wanted: ResourceSet
    ) -> dict[str, Resource] | None:
        """What must be sent now; None when nothing must. An empty reply is one, too."""
        if kind in _WHOLE:
            whole = dict(wanted.resources)
            known = (channel.held, channel.refused or None)
            return None if whole in known else whole
        held = channel.held or {}
        missing = {
            name: one
            for name, one in wanted.resources.items()
            if name in channel.names
            and channel.refused.get(name) != one
            and (held.get(name) != one or name in channel.stale)
        }
        return missing or None

    def _reply(
        self, kind: ResourceType, channel: _Channel, resources: dict[str, Resource], version: str
    ) -> DiscoveryReply:
        if kind is ResourceType.CLUSTER:
            held = channel.held or {}
            changed = {name for name, one in resources.items() if held.get(name) != one}
            self._channels[ResourceType.ENDPOINTS].stale |= changed
        self._nonces += 1
        channel.nonce = str(self._nonces)
        channel.version = version
        channel.sent = resources
        channel.stale.difference_update(resources)
        return DiscoveryReply(kind, version, channel.nonce, tuple(resources.values()))
