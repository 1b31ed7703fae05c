"""InferencePools: who belongs to them, who picks, and what happens when the picker is gone.

Problem: a pool says which servers it wants (labels) and on which ports; the picker and Envoy need
addresses. Model: a label index over ModelServers gives each pool its members, in order of their
name; every address with a port of its own is one endpoint, every other is one endpoint per target
active target port of the pool (active_ports.py). Invariant: endpoints of a pool are unique and
their order does not depend on files.

Who picks (foreign_pickers.py): the built-in picker, or the Service that `endpointPickerRef` names.
A reference that cannot be honoured is refused, and the pool then serves nothing.

When the picker is gone: a pool with an `endpointPickerRef` gets its failureMode, FailClose unless
it says otherwise, because that is what the API promises whoever wrote it. A pool without one uses
the built-in picker, which runs beside the gateway; there the default is FailOpen, since answering
from a randomly good server beats not answering, and the annotation `inferway.dev/failure-mode`
changes it.

Cost: O(servers * labels) for the index; per pool the members of its rarest label.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.resources.picker_plugins.registry import is_file_type
from inferway.routing.active_ports import active_ports
from inferway.routing.engines import BUILT_IN, engine_of, engines_of
from inferway.routing.model import Endpoint, KvEvents, Pool
from inferway.routing.picker_configs import CONFIG_ANNOTATION
from inferway.routing.status import ObjectStatus, Refusal, RoutingWarning, verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from inferway.resources import EndpointPickerConfig, InferencePool, ModelServer
    from inferway.routing.engines import Engines
    from inferway.routing.foreign_pickers import Pickers
    from inferway.routing.model import Rewrite
    from inferway.routing.picker_configs import PickerConfigs
    from inferway.routing.settings import RoutingSettings

POLICY_ANNOTATION = "inferway.dev/policy"
FAILURE_MODE_ANNOTATION = "inferway.dev/failure-mode"
_FAILURE_MODES = ("FailOpen", "FailClose")
_NO_POOL = Refusal("NoMatchingPool", "no InferencePool of this namespace selects its labels")
_PLAIN_BACKEND = Refusal(
    "PlainBackend", "in no InferencePool; routes name it, or a Service that selects it"
)


@dataclass(frozen=True, slots=True)
class BuiltPool:
    """A pool of the model, and what its status has to say."""

    resource: InferencePool
    pool: Pool
    members: tuple[str, ...]  # namespace/name of ModelServers
    refusal: Refusal | None  # its endpointPickerRef cannot be honoured: it serves nothing
    remark: str  # what a person should know although the pool is accepted


class ServerIndex:
    """ModelServers by label. Built once per translation."""

    def __init__(self, servers: Iterable[ModelServer]) -> None:
        self._by_label: defaultdict[tuple[str, str, str], list[ModelServer]] = defaultdict(list)
        for server in sorted(servers, key=lambda one: one.qualified_name):
            for key, value in server.metadata.labels.items():
                self._by_label[server.namespace, key, value].append(server)

    def select(self, *, namespace: str, labels: Mapping[str, str]) -> list[ModelServer]:
        """The servers of a namespace that carry all these labels (at least one), by name."""
        lists = [self._by_label.get((namespace, *label), []) for label in labels.items()]
        wanted = labels.items()
        rarest = min(lists, key=len)
        return [one for one in rarest if wanted <= one.metadata.labels.items()]


def server_endpoints(
    server: ModelServer,
    default_ports: Sequence[int],
    active: Collection[int] | None = None,
    engines: Engines = BUILT_IN,
) -> Iterator[Endpoint]:
    """The endpoints of a server whose addresses without port take these, or only those of them that
    are active.
    """
    labels = tuple(sorted(server.metadata.labels.items()))
    engine, _ = engine_of(server, engines)
    events = server.spec.kv_events
    kv_events = None
    if events is not None:
        kv_events = KvEvents(events.port, events.replay_port, events.ranks, events.topic)
    places: Counter[str] = Counter()
    for address in server.spec.addresses:
        for port in default_ports if address.port is None else (address.port,):
            place = places[address.host]
            places[address.host] += 1
            if address.port is None and active is not None and port not in active:
                continue
            yield Endpoint(
                host=address.host,
                port=port,
                server=server.qualified_name,
                engine=engine,
                metrics_path=server.spec.metrics_path,
                labels=labels,
                draining=server.spec.draining,
                kv_events=kv_events,
                place=place,
            )


def build_pools(
    pools: Sequence[InferencePool],
    servers: ServerIndex,
    objectives: Mapping[str, tuple[tuple[str, int], ...]],
    rewrites: Mapping[str, tuple[Rewrite, ...]],
    pickers: Pickers,
    configs: PickerConfigs,
    settings: RoutingSettings,
) -> tuple[dict[str, BuiltPool], tuple[RoutingWarning, ...]]:
    """Every pool by namespace/name, in that order."""
    built: dict[str, BuiltPool] = {}
    warnings: list[RoutingWarning] = []
    for resource in sorted(pools, key=lambda one: one.qualified_name):
        members = servers.select(
            namespace=resource.namespace, labels=resource.spec.selector.match_labels
        )
        config, config_remark = configs.of(resource)
        engines = engines_of(config)
        endpoints = _unique(_member_endpoints(resource, members, engines, warnings))
        policy, remark = _policy(resource, config, settings)
        fail_open, mode_remark = _fail_open(resource)
        picks = pickers.who_picks(resource)
        name = resource.qualified_name
        remarks = [
            *((remark, f"metadata.annotations[{POLICY_ANNOTATION}]"),),
            *((config_remark, f"metadata.annotations[{CONFIG_ANNOTATION}]"),),
            *((mode_remark, f"metadata.annotations[{FAILURE_MODE_ANNOTATION}]"),),
            *picks.remarks,
            *(("" if members else "no ModelServer matches the selector", "spec.selector"),),
        ]
        said = [(text, field) for text, field in remarks if text]
        warnings += [RoutingWarning(text, resource.key, field) for text, field in said]
        built[name] = BuiltPool(
            resource=resource,
            pool=Pool(
                name=name,
                endpoints=endpoints,
                h2c=resource.spec.app_protocol == "kubernetes.io/h2c",
                fail_open=fail_open,
                policy=policy,
                objectives=objectives.get(name, ()),
                rewrites=rewrites.get(name, ()),
                picker=picks.foreign,
                picker_config=config,
            ),
            members=tuple(server.qualified_name for server in members),
            refusal=picks.refusal,
            remark="; ".join(text for text, _ in said),
        )
    return built, tuple(warnings)


def server_statuses(
    servers: Iterable[ModelServer], pools: Iterable[BuiltPool], plain: Collection[str]
) -> tuple[ObjectStatus, ...]:
    """Accepted (a ModelServer is valid by itself), and Selected with the pools it belongs to.
    `plain` are the servers, by namespace/name, that routes name directly.
    """
    selected: defaultdict[str, list[str]] = defaultdict(list)
    for pool in pools:
        for member in pool.members:
            selected[member].append(pool.pool.name)
    statuses = []
    for server in servers:
        generation = server.metadata.generation
        name = server.qualified_name
        refusal = None
        if name not in selected:
            refusal = _PLAIN_BACKEND if name in plain else _NO_POOL
        by = f"by {', '.join(selected.get(name, ()))}"
        conditions = (
            verdict("Accepted", None, generation=generation),
            verdict("Selected", refusal, generation=generation, message=by),
        )
        statuses.append(ObjectStatus(server.key, conditions))
    return tuple(statuses)


def _member_endpoints(
    pool: InferencePool,
    members: Iterable[ModelServer],
    engines: Engines,
    warnings: list[RoutingWarning],
) -> Iterator[Endpoint]:
    ports = [port.number for port in pool.spec.target_ports]
    for server in members:
        active, wrong_ports = active_ports(server)
        _, wrong_engine = engine_of(server, engines)
        for warning in (wrong_ports, wrong_engine):
            if warning is not None and warning not in warnings:
                warnings.append(warning)
        yield from server_endpoints(server, ports, active, engines)


def _unique(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The first endpoint of every host and port."""
    by_address: dict[tuple[str, int], Endpoint] = {}
    for one in endpoints:
        by_address.setdefault((one.host, one.port), one)
    return tuple(by_address.values())


def _policy(
    resource: InferencePool, config: EndpointPickerConfig | None, settings: RoutingSettings
) -> tuple[str, str]:
    """The pool's policy, which a profile in its configuration overrides, and a remark when the one
    that it asks for does not exist.
    """
    asked = resource.metadata.annotations.get(POLICY_ANNOTATION)
    if asked in settings.policies:
        return asked, ""
    is_file = asked is not None and is_file_type(asked)
    if asked is not None and is_file and settings.plugin_files:
        return asked, ""
    is_foreign = config is not None and not config.is_ours
    default = settings.reference_policy if is_foreign else settings.default_policy
    if asked is None:
        return default, ""
    if is_file:
        return default, f"{asked}: plugins from files need --plugin-dir; {default} is used"
    known = ", ".join(settings.policies)
    return default, f"unknown policy: {asked}; {default} is used; known: {known}"


def _fail_open(resource: InferencePool) -> tuple[bool, str]:
    reference = resource.spec.endpoint_picker_ref
    if reference is not None:
        return reference.failure_mode == "FailOpen", ""
    asked = resource.metadata.annotations.get(FAILURE_MODE_ANNOTATION, "FailOpen")
    if asked in _FAILURE_MODES:
        return asked == "FailOpen", ""
    known = " or ".join(_FAILURE_MODES)
    return True, f"unknown failure mode: {asked}; FailOpen is used; known: {known}"
