"""The discovery conversation, word by word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inferway.envoy.conversation import Conversation, ProgrammingPhase, Rejection
from inferway.envoy.messages import DiscoveryReply, DiscoveryRequest, Resource, ResourceType
from inferway.envoy.snapshot import ResourceSet, Snapshot

CLUSTER, ENDPOINTS = ResourceType.CLUSTER, ResourceType.ENDPOINTS
LISTENER, ROUTES = ResourceType.LISTENER, ResourceType.ROUTES
SECRET = ResourceType.SECRET
EXTENSION = ResourceType.EXTENSION


def resources(kind: ResourceType, contents: dict[str, str]) -> ResourceSet:
    return ResourceSet.of(Resource(kind, name, text.encode()) for name, text in contents.items())


def snapshot(
    clusters: dict[str, str],
    *,
    endpoints: dict[str, str] | None = None,
    listeners: dict[str, str] | None = None,
    routes: dict[str, str] | None = None,
    extensions: dict[str, str] | None = None,
) -> Snapshot:
    """Every cluster has endpoints unless said otherwise; one listener with one route table."""
    return Snapshot(
        resources(CLUSTER, clusters),
        resources(ENDPOINTS, dict.fromkeys(clusters, "e1") if endpoints is None else endpoints),
        resources(LISTENER, {"l": "l1"} if listeners is None else listeners),
        resources(ROUTES, {"r": "r1"} if routes is None else routes),
        extensions=resources(EXTENSION, extensions or {}),
    )


class Envoy:
    """Plays Envoy's part: what it holds, in which order it was told, and how it answers.

    As the real one, it acknowledges new or changed clusters only when it has their endpoints.
    """

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.held: dict[ResourceType, dict[str, bytes]] = {kind: {} for kind in ResourceType}
        self.log: list[tuple[ResourceType, tuple[str, ...]]] = []
        self.refuse: dict[ResourceType, str] = {}
        self.nonces = dict.fromkeys(ResourceType, "")
        self.warming: set[str] = set()
        self.unacknowledged: str | None = None
        self.routes_wanted = frozenset({"r"})

    def offer(self, wanted: Snapshot) -> None:
        self.take(self.conversation.offer(wanted))

    def connect(self) -> None:
        self.send(CLUSTER)

    def send(self, kind: ResourceType, error: str | None = None) -> None:
        names: frozenset[str] = frozenset()
        if kind is ENDPOINTS:
            names = frozenset(self.held[CLUSTER])
        elif kind is ROUTES:
            names = self.routes_wanted
        elif kind is EXTENSION:
            names = frozenset({"f"})
        request = DiscoveryRequest(kind, self.nonces[kind], names, error)
        self.take(self.conversation.receive(request))

    def take(self, replies: list[DiscoveryReply]) -> None:
        for reply in replies:
            self.log.append((reply.type, tuple(one.name for one in reply.resources)))
            self.nonces[reply.type] = reply.nonce
            self.apply(reply)

    def apply(self, reply: DiscoveryReply) -> None:
        kind = reply.type
        if kind in self.refuse:
            self.send(kind, self.refuse[kind])
            return
        content = {one.name: one.body for one in reply.resources}
        before = self.held[kind]
        if kind in (CLUSTER, LISTENER):
            self.held[kind] = content
        else:
            self.held[kind] = {**before, **content}
        if kind is CLUSTER:
            self.warming = {name for name in content if before.get(name) != content[name]}
            self.unacknowledged = reply.nonce
            if content.keys() != before.keys():
                self.send(ENDPOINTS)
        elif kind is ENDPOINTS:
            self.warming -= content.keys()
            self.send(ENDPOINTS)
        else:
            self.send(kind)
        if kind is LISTENER and not before:
            self.send(ROUTES)
        if self.unacknowledged and not self.warming:
            self.unacknowledged = None
            self.send(CLUSTER)
            if not self.nonces[LISTENER]:
                self.send(LISTENER)


@pytest.fixture
def envoy() -> Envoy:
    return Envoy()


def test_first_configuration_goes_out_in_order(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1", "b": "c1"}))
    assert envoy.log == []
    envoy.connect()
    assert envoy.log == [
        (CLUSTER, ("a", "b")),
        (ENDPOINTS, ("a", "b")),
        (LISTENER, ("l",)),
        (ROUTES, ("r",)),
    ]
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_envoy_may_connect_before_there_is_anything(envoy: Envoy) -> None:
    envoy.connect()
    assert envoy.log == []
    assert envoy.conversation.state.phase is ProgrammingPhase.PENDING
    envoy.offer(snapshot({"a": "c1"}))
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_empty_configuration_is_programmed(envoy: Envoy) -> None:
    """No manifests: empty whole types are sent, and nobody asks for the others."""
    envoy.offer(snapshot({}, listeners={}, routes={}))
    envoy.connect()
    assert envoy.log == [(CLUSTER, ()), (LISTENER, ())]
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_a_filter_s_configuration_goes_by_itself(envoy: Envoy) -> None:
    """Traffic follows only when it is there; later nothing else is sent with it."""
    envoy.offer(snapshot({"a": "c1"}, extensions={"f": "f1"}))
    envoy.connect()
    assert envoy.conversation.state.phase is ProgrammingPhase.PENDING
    envoy.send(EXTENSION)
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED
    envoy.log.clear()
    envoy.offer(snapshot({"a": "c1"}, extensions={"f": "f2"}))
    assert envoy.log == [(EXTENSION, ("f",))]
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_same_snapshot_again_sends_nothing(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1"}))
    envoy.connect()
    envoy.log.clear()
    envoy.offer(snapshot({"a": "c1"}))
    assert envoy.log == []
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_only_what_changed_is_sent(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1", "b": "c1"}))
    envoy.connect()
    envoy.log.clear()
    envoy.offer(snapshot({"a": "c1", "b": "c1"}, endpoints={"a": "e1", "b": "e2"}))
    assert envoy.log == [(ENDPOINTS, ("b",))]
    envoy.log.clear()
    envoy.offer(
        snapshot({"a": "c1", "b": "c1"}, endpoints={"a": "e1", "b": "e2"}, routes={"r": "r2"})
    )
    assert envoy.log == [(ROUTES, ("r",))]


def test_replaced_cluster_goes_after_the_routes(envoy: Envoy) -> None:
    envoy.offer(snapshot({"old": "c1"}))
    envoy.connect()
    envoy.log.clear()
    envoy.offer(snapshot({"new": "c1"}, routes={"r": "r2"}))
    assert envoy.log == [
        (CLUSTER, ("new", "old")),
        (ENDPOINTS, ("new",)),
        (ROUTES, ("r",)),
        (CLUSTER, ("new",)),
    ]
    assert envoy.held[CLUSTER].keys() == {"new"}
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_changed_cluster_gets_its_endpoints_again(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1", "b": "c1"}))
    envoy.connect()
    envoy.log.clear()
    envoy.offer(snapshot({"a": "c2", "b": "c1"}))
    assert envoy.log == [(CLUSTER, ("a", "b")), (ENDPOINTS, ("a",))]
    assert not envoy.warming


def test_snapshot_that_arrives_in_the_middle_replaces_the_wanted_one(envoy: Envoy) -> None:
    conversation = envoy.conversation
    conversation.offer(snapshot({"a": "c1"}))
    (first,) = conversation.receive(DiscoveryRequest(CLUSTER))
    assert conversation.offer(snapshot({"b": "c1"})) == []
    (endpoints,) = conversation.receive(DiscoveryRequest(ENDPOINTS, "", frozenset({"a", "b"})))
    assert [one.name for one in endpoints.resources] == ["b"]
    (second,) = conversation.receive(DiscoveryRequest(CLUSTER, first.nonce))
    assert [one.name for one in second.resources] == ["a", "b"]


def test_rejected_clusters_stop_the_routes_but_not_the_endpoints(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1"}))
    envoy.connect()
    envoy.log.clear()
    envoy.refuse[CLUSTER] = "bad cluster b"
    wanted = snapshot({"a": "c1", "b": "c1"}, endpoints={"a": "e2", "b": "e1"}, routes={"r": "r2"})
    envoy.offer(wanted)
    assert envoy.log == [(CLUSTER, ("a", "b")), (ENDPOINTS, ("a",))]
    state = envoy.conversation.state
    assert state.phase is ProgrammingPhase.REJECTED
    assert state.version == wanted.version
    assert state.rejections == (Rejection(CLUSTER, wanted.clusters.version, "bad cluster b"),)
    assert envoy.held[ROUTES] == {"r": b"r1"}


def test_rejected_snapshot_is_not_sent_again_and_a_good_one_heals(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1"}))
    envoy.connect()
    envoy.refuse[ROUTES] = "bad regex"
    bad = snapshot({"a": "c1"}, routes={"r": "bad"})
    envoy.offer(bad)
    envoy.log.clear()
    envoy.offer(bad)
    envoy.send(ROUTES)
    assert envoy.log == []
    envoy.refuse.clear()
    envoy.offer(snapshot({"a": "c1"}, routes={"r": "r3"}))
    assert envoy.log == [(ROUTES, ("r",))]
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED
    assert envoy.conversation.state.rejections == ()


def test_return_to_the_last_good_snapshot_sends_nothing(envoy: Envoy) -> None:
    good = snapshot({"a": "c1"})
    envoy.offer(good)
    envoy.connect()
    envoy.refuse[ROUTES] = "bad regex"
    envoy.offer(snapshot({"a": "c1"}, routes={"r": "bad"}))
    envoy.log.clear()
    envoy.offer(good)
    assert envoy.log == []
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_rejected_routes_keep_the_old_cluster(envoy: Envoy) -> None:
    """The old routes go on, so what they lead to must stay."""
    envoy.offer(snapshot({"old": "c1"}))
    envoy.connect()
    envoy.refuse[ROUTES] = "bad regex"
    envoy.offer(snapshot({"new": "c1"}, routes={"r": "bad"}))
    assert envoy.held[CLUSTER].keys() == {"new", "old"}


def test_rejected_listener_does_not_stop_routes(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1"}))
    envoy.connect()
    envoy.log.clear()
    envoy.refuse[LISTENER] = "port taken"
    wanted = snapshot({"b": "c1"}, listeners={"l": "l1", "m": "m1"}, routes={"r": "r2"})
    envoy.offer(wanted)
    assert envoy.log[2:] == [(LISTENER, ("l", "m")), (ROUTES, ("r",))]
    assert envoy.held[ROUTES] == {"r": b"r2"}
    assert envoy.held[CLUSTER].keys() == {"a", "b"}
    assert envoy.conversation.state.phase is ProgrammingPhase.REJECTED


def test_new_names_are_answered_with_only_these(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1"}, routes={"r": "r1", "s": "s1"}))
    envoy.connect()
    assert envoy.log[-1] == (ROUTES, ("r",))
    assert envoy.conversation.state.phase is ProgrammingPhase.PENDING
    envoy.routes_wanted = frozenset({"r", "s"})
    envoy.send(ROUTES)
    assert envoy.log[-1] == (ROUTES, ("s",))
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_what_envoy_let_go_of_is_sent_again_when_it_asks_again(envoy: Envoy) -> None:
    """A listener that goes takes its subscription along; the next one starts from nothing."""
    envoy.offer(snapshot({"a": "c1"}, routes={"r": "r1", "s": "s1"}))
    envoy.routes_wanted = frozenset({"r", "s"})
    envoy.connect()
    envoy.routes_wanted = frozenset({"r"})
    envoy.send(ROUTES)
    envoy.log.clear()
    envoy.routes_wanted = frozenset({"r", "s"})
    envoy.send(ROUTES)
    assert envoy.log == [(ROUTES, ("s",))]


def test_certificates_are_part_of_what_listeners_need() -> None:
    conversation = Conversation()
    secrets = resources(SECRET, {"ns/cert": "s1"})
    wanted = replace(snapshot({}, routes={}), secrets=secrets)
    conversation.offer(wanted)
    (clusters,) = conversation.receive(DiscoveryRequest(CLUSTER))
    conversation.receive(DiscoveryRequest(CLUSTER, clusters.nonce))
    (listeners,) = conversation.receive(DiscoveryRequest(LISTENER))
    conversation.receive(DiscoveryRequest(LISTENER, listeners.nonce))
    assert conversation.state.phase is ProgrammingPhase.PENDING, "the listener waits for it"
    names = frozenset({"ns/cert"})
    (first,) = conversation.receive(DiscoveryRequest(SECRET, "", names))
    assert conversation.receive(DiscoveryRequest(SECRET, first.nonce, names)) == []
    assert conversation.state.phase is ProgrammingPhase.PROGRAMMED
    # A new certificate is all that is sent.
    (second,) = conversation.offer(replace(wanted, secrets=resources(SECRET, {"ns/cert": "s2"})))
    assert (second.type, [one.name for one in second.resources]) == (SECRET, ["ns/cert"])
    conversation.receive(DiscoveryRequest(SECRET, second.nonce, names, "bad key"))
    assert conversation.state.phase is ProgrammingPhase.REJECTED


def test_names_that_do_not_exist_are_left_out(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1"}))
    envoy.routes_wanted = frozenset({"r", "gone"})
    envoy.connect()
    assert envoy.log[-1] == (ROUTES, ("r",))
    assert envoy.conversation.state.phase is ProgrammingPhase.PROGRAMMED


def test_answer_to_an_older_reply_is_not_an_acknowledgement() -> None:
    conversation = Conversation()
    conversation.offer(snapshot({"a": "c1"}, endpoints={}))
    (reply,) = conversation.receive(DiscoveryRequest(CLUSTER))
    assert conversation.receive(DiscoveryRequest(CLUSTER, "0")) == []
    assert conversation.receive(DiscoveryRequest(LISTENER)) == []
    (listeners,) = conversation.receive(DiscoveryRequest(CLUSTER, reply.nonce))
    assert listeners.type is LISTENER


def test_one_reply_per_type_is_unanswered_at_most() -> None:
    conversation = Conversation()
    sent = list(conversation.receive(DiscoveryRequest(CLUSTER)))
    for number in range(5):
        sent += conversation.offer(snapshot({"a": f"c{number}"}))
    assert len(sent) == 1


def test_nonces_are_never_used_twice(envoy: Envoy) -> None:
    seen: list[str] = []
    take = envoy.take

    def noting(replies: list[DiscoveryReply]) -> None:
        seen.extend(reply.nonce for reply in replies)
        take(replies)

    envoy.take = noting  # type: ignore[method-assign]
    envoy.offer(snapshot({"a": "c1"}))
    envoy.connect()
    envoy.offer(snapshot({"b": "c1"}, routes={"r": "r2"}))
    assert len(seen) == len(set(seen)) == 8


def test_unknown_type_gets_no_answer(envoy: Envoy) -> None:
    envoy.offer(snapshot({"a": "c1"}))
    assert envoy.conversation.receive(DiscoveryRequest(None)) == []


def test_reconnected_envoy_is_told_everything_again(envoy: Envoy) -> None:
    """A new stream is a new conversation; Envoy subscribes to all types at once."""
    wanted = snapshot({"a": "c1"})
    envoy.offer(wanted)
    envoy.connect()
    again = Conversation()
    again.offer(wanted)
    (clusters,) = again.receive(DiscoveryRequest(CLUSTER))
    (endpoints,) = again.receive(DiscoveryRequest(ENDPOINTS, "", frozenset({"a"})))
    assert again.receive(DiscoveryRequest(LISTENER)) == []
    assert again.receive(DiscoveryRequest(ROUTES, "", frozenset({"r"}))) == []
    assert again.receive(DiscoveryRequest(ENDPOINTS, endpoints.nonce, frozenset({"a"}))) == []
    rest = again.receive(DiscoveryRequest(CLUSTER, clusters.nonce))
    assert [reply.type for reply in rest] == [LISTENER, ROUTES]
    for reply in rest:
        names = frozenset({"r"}) if reply.type is ROUTES else frozenset()
        again.receive(DiscoveryRequest(reply.type, reply.nonce, names))
    assert again.state.phase is ProgrammingPhase.PROGRAMMED
