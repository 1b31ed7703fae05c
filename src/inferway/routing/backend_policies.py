"""HealthCheckPolicies and GCPBackendPolicies: which one counts for a backend, and what of it.

Problem: several policies may name one backend, or one that does not exist, and GKE's shapes hold
much that only Google's load balancers can do. Model: of the policies of one kind for one target the
oldest counts (then the first by name), the others are Conflicted; what has no effect here is
accepted and listed in a warning and in the status. Targets are InferencePools, Services and
ModelServers of the policy's own namespace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from inferway.resources import (
    GCPBackendPolicy,
    HealthCheckPolicy,
    InferencePool,
    ModelServer,
    Service,
)
from inferway.routing.health import DEFAULT_HEALTH_CHECK, CheckKind, HealthCheck
from inferway.routing.status import ObjectStatus, Refusal, RoutingWarning, verdict

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from pydantic import BaseModel

    from inferway.resources import ResourceSet
    from inferway.resources.health_check_policy import (
        CheckedPort,
        HealthCheckSettings,
        HttpCheck,
        PolicyTarget,
    )
    from inferway.routing.model import Pool, ServerGroup

_Policy = TypeVar("_Policy", HealthCheckPolicy, GCPBackendPolicy)
Backend = tuple[str, str]
"""Kind, and namespace/name."""

_TARGETS: tuple[type[InferencePool | Service | ModelServer], ...] = (
    InferencePool,
    Service,
    ModelServer,
)
_STATUS_OK_MAX = 299  # what a policy asks for is to be answered as it should
_FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BackendPolicies:
    """What the policies ask for, by backend, and what became of each policy."""

    health: Mapping[Backend, HealthCheck]
    timeouts_s: Mapping[Backend, float]
    statuses: tuple[ObjectStatus, ...]
    warnings: tuple[RoutingWarning, ...]

    def for_pool(self, pool: Pool) -> Pool:
        key = ("InferencePool", pool.name)
        return replace(
            pool,
            health=self.health.get(key, pool.health),
            backend_timeout_s=self.timeouts_s.get(key),
        )

    def for_group(self, group: ServerGroup) -> ServerGroup:
        key = _backend_of(group.name)
        return replace(
            group,
            health=self.health.get(key, group.health),
            backend_timeout_s=self.timeouts_s.get(key),
        )


def judge_backend_policies(resources: ResourceSet) -> BackendPolicies:
    """Total: any set of valid resources."""
    known = {(one.kind, one.qualified_name) for kind in _TARGETS for one in resources.of_kind(kind)}
    health: dict[Backend, HealthCheck] = {}
    timeouts_s: dict[Backend, float] = {}
    statuses: list[ObjectStatus] = []
    warnings: list[RoutingWarning] = []
    for check, target, mistaken in _judged(resources.of_kind(HealthCheckPolicy), known):
        refusal = mistaken or _https_refusal(check)
        if refusal is None:
            health[target] = health_check(check.spec.default)
        statuses.append(_status(check, refusal, warnings))
    for policy, target, refusal in _judged(resources.of_kind(GCPBackendPolicy), known):
        if refusal is None and policy.spec.default.timeout_sec is not None:
            timeouts_s[target] = float(policy.spec.default.timeout_sec)
        statuses.append(_status(policy, refusal, warnings))
    return BackendPolicies(health, timeouts_s, tuple(statuses), tuple(warnings))


def health_check(settings: HealthCheckSettings) -> HealthCheck:
    """The check that these settings describe; what they leave open is as without a policy."""
    base = DEFAULT_HEALTH_CHECK
    check = replace(
        base,
        interval_s=float(settings.check_interval_sec or base.interval_s),
        timeout_s=float(settings.timeout_sec or base.timeout_s),
        healthy_threshold=settings.healthy_threshold or base.healthy_threshold,
        unhealthy_threshold=settings.unhealthy_threshold or base.unhealthy_threshold,
    )
    config = settings.config
    if config is None:
        return check
    match config.type:
        case "TCP":
            return replace(check, kind=CheckKind.TCP, port=_port(config.tcp_health_check))
        case "GRPC":
            grpc = config.grpc_health_check
            service = grpc.grpc_service_name if grpc else ""
            return replace(check, kind=CheckKind.GRPC, service=service, port=_port(grpc))
        case "HTTP2":
            return replace(_http(check, config.http2_health_check), http2=True)
        case _:
            return _http(check, config.http_health_check)


def _http(check: HealthCheck, written: HttpCheck | None) -> HealthCheck:
    if written is None:
        return check
    check = replace(check, host=written.host or "", port=_port(written))
    if written.request_path is None:
        return check
    return replace(check, path=written.request_path, status_max=_STATUS_OK_MAX)


def _port(written: CheckedPort | None) -> int | None:
    if written is None or written.port_specification == "USE_SERVING_PORT":
        return None
    return written.port


def _judged(
    policies: Iterable[_Policy], known: Container[Backend]
) -> Iterator[tuple[_Policy, Backend, Refusal | None]]:
    """Every policy with its target, the one that counts first, and why another does not."""
    winners: dict[Backend, _Policy] = {}
    for policy in sorted(policies, key=_age):
        reference = policy.spec.target_ref
        target = (reference.kind, f"{policy.namespace}/{reference.name}")
        refusal = _target_refusal(reference, target, known)
        if refusal is None:
            winner = winners.setdefault(target, policy)
            if winner is not policy:
                words = f"{policy.kind} {winner.qualified_name} for the same target is older"
                refusal = Refusal("Conflicted", words)
        yield policy, target, refusal


def _age(policy: HealthCheckPolicy | GCPBackendPolicy) -> tuple[datetime, str]:
    """The oldest first; one without a time, which only files have, is the youngest."""
    return policy.metadata.creation_timestamp or _FOREVER, policy.qualified_name


def _target_refusal(
    reference: PolicyTarget, target: Backend, known: Container[Backend]
) -> Refusal | None:
    kinds = {kind.model_fields["kind"].default: _group(kind) for kind in _TARGETS}
    if kinds.get(reference.kind) != reference.group:
        shown = f"{reference.group}/{reference.kind}".removeprefix("/")
        words = f"kind {shown} is not supported; supported: {', '.join(kinds)}"
        return Refusal("InvalidKind", f"spec.targetRef: {words}")
    if target not in known:
        return Refusal("TargetNotFound", f"{target[0]} {target[1]} does not exist")
    return None


def _group(kind: type[BaseModel]) -> str:
    return str(kind.model_fields["api_version"].default).rpartition("/")[0]


def _https_refusal(policy: HealthCheckPolicy) -> Refusal | None:
    config = policy.spec.default.config
    if config is None or config.type != "HTTPS":
        return None
    words = "spec.default.config.type: HTTPS is not supported: endpoints serve without TLS"
    return Refusal("UnsupportedValue", words)


def _status(
    policy: HealthCheckPolicy | GCPBackendPolicy,
    refusal: Refusal | None,
    warnings: list[RoutingWarning],
) -> ObjectStatus:
    idle = tuple(_without_effect(policy.spec.default, "spec.default"))
    if refusal is not None:
        warnings.append(RoutingWarning(refusal.message, policy.key, "spec.targetRef"))
    elif idle:
        words = "accepted, but has no effect here"
        warnings += [RoutingWarning(words, policy.key, field) for field in idle]
    message = f"no effect here: {', '.join(idle)}" if idle else ""
    generation = policy.metadata.generation
    accepted = verdict("Accepted", refusal, generation=generation, message=message)
    return ObjectStatus(policy.key, (accepted,))


def _without_effect(settings: BaseModel, path: str) -> Iterator[str]:
    """Fields that are written and that their own description calls without effect."""
    for name, info in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name not in settings.model_fields_set or value is None:
            continue
        place = f"{path}.{info.alias or name}"
        if (info.description or "").startswith("no effect"):
            yield place
        elif hasattr(value, "model_fields_set"):
            yield from _without_effect(value, place)


def _backend_of(group: str) -> Backend:
    """The backend that a server group stands for, from its name."""
    name = group.partition(":")[0]
    kind, _, rest = name.partition("/")
    return ("Service", rest) if kind == "service" and "/" in rest else ("ModelServer", name)
