"""`inferway rollout node|model|lora start`: writes a Rollout into the manifests.

The three differ in what holds the weights. A Rollout of that name that is over is started again
with the new settings; one that runs is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferway.cli.get import ADMIN_URL, AdminOption, fetch
from inferway.cli.rollout.manifests import (
    ManifestsOption,
    NamespaceOption,
    Written,
    fail,
    find_manifests,
)

if TYPE_CHECKING:
    from inferway.resources.document import Json
    from inferway.resources.rollout import Rollout
    from inferway.resources.text_edit import ObjectName

FromOption = Annotated[str, typer.Option("--from", help="The old version.", show_default=False)]
ToOption = Annotated[str, typer.Option("--to", help="The new version.", show_default=False)]
NameOption = Annotated[
    str | None, typer.Option(help="Of the Rollout; that of the new version when left out.")
]
StepsOption = Annotated[str, typer.Option(help="Shares of the new version in per cent.")]
IntervalOption = Annotated[str, typer.Option(help="How long a step lasts at least.")]
IntervalMaxOption = Annotated[
    str, typer.Option(help="How long a step may wait for enough samples.")
]
GateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        help="A limit, such as ErrorRate=1%, TTFT.p90=800ms, TPOT.p50=+20% (above the old "
        "version); may be repeated. Replaces the default gates; 'none' for no gates.",
        metavar="METRIC[.pNN]=LIMIT",
        show_default="ErrorRate=+1%, ShedRate=+5%, TTFT.p90=+50%",
    ),
]
SamplesOption = Annotated[
    int, typer.Option("--min-samples", min=1, help="Per version, before a gate says anything.")
]
ConfidenceOption = Annotated[str, typer.Option(help="To call a limit exceeded.")]
InconclusiveOption = Annotated[
    str, typer.Option(help="When a step stays undecided: Pause, Continue or Rollback.")
]
RuleOption = Annotated[
    int | None, typer.Option(help="Index of the only rule to change; all that name both.")
]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="Where to write it; beside the route when left out.")
]


def node(
    route: Annotated[str, typer.Argument(help="The HTTPRoute with both pools.")],
    from_: FromOption,
    to: ToOption,
    name: NameOption = None,
    steps: StepsOption = "10,25,50,100",
    interval: IntervalOption = "5m",
    interval_max: IntervalMaxOption = "30m",
    gate: GateOption = None,
    minimum_samples: SamplesOption = 100,
    confidence: ConfidenceOption = "95%",
    on_inconclusive: InconclusiveOption = "Pause",
    rule: RuleOption = None,
    file: FileOption = None,
    manifests: ManifestsOption = None,
    namespace: NamespaceOption = "default",
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Move a route's traffic from one pool to another, step by step.

    Example: inferway rollout node start routes-to-llm --from llm --to llm-new --steps 10,50,100
    """
    spec = _spec(steps, interval, interval_max, gate, minimum_samples, confidence, on_inconclusive)
    target: dict[str, Json] = {"kind": "HTTPRoute", "name": route}
    if rule is not None:
        target["rule"] = rule
    written = find_manifests(manifests, admin)
    head: dict[str, Json] = {"targetRef": target, "from": from_, "to": to}
    _start(written, name or to, namespace, {**head, **spec}, file, admin, asked=not manifests)


def model(
    route: Annotated[str, typer.Argument(help="The HTTPRoute with both pools.")],
    from_: FromOption,
    to: ToOption,
    name: NameOption = None,
    steps: StepsOption = "10,25,50,100",
    interval: IntervalOption = "5m",
    interval_max: IntervalMaxOption = "30m",
    gate: GateOption = None,
    minimum_samples: SamplesOption = 100,
    confidence: ConfidenceOption = "95%",
    on_inconclusive: InconclusiveOption = "Pause",
    rule: RuleOption = None,
    file: FileOption = None,
    manifests: ManifestsOption = None,
    namespace: NamespaceOption = "default",
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Move a route's traffic to a pool with a new base model.

    Adapters that the old pool serves and the new one does not are named before anything is written.

    Example: inferway rollout model start routes-to-llm --from llm-pool --to llm-pool-version-2
    """
    if not manifests:
        _adapters_must_be_there(admin, namespace, from_, to)
    node(
        route,
        from_,
        to,
        name,
        steps,
        interval,
        interval_max,
        gate,
        minimum_samples,
        confidence,
        on_inconclusive,
        rule,
        file,
        manifests,
        namespace,
        admin,
    )


def lora(
    model_name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="The InferenceModel or InferenceModelRewrite with the weights."
        ),
    ],
    from_: FromOption,
    to: ToOption,
    name: NameOption = None,
    steps: StepsOption = "10,25,50,100",
    interval: IntervalOption = "5m",
    interval_max: IntervalMaxOption = "30m",
    gate: GateOption = None,
    minimum_samples: SamplesOption = 100,
    confidence: ConfidenceOption = "95%",
    on_inconclusive: InconclusiveOption = "Pause",
    file: FileOption = None,
    manifests: ManifestsOption = None,
    namespace: NamespaceOption = "default",
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Move an alias from one adapter to another.

    Example: inferway rollout lora start inferencemodel-sample --from llm-v1 --to llm-v2
    """
    from inferway.resources.text_edit import ObjectName

    spec = _spec(steps, interval, interval_max, gate, minimum_samples, confidence, on_inconclusive)
    written = find_manifests(manifests, admin)
    kinds = ("InferenceModel", "InferenceModelRewrite")
    found = [kind for kind in kinds if ObjectName(kind, namespace, model_name) in written.files]
    if len(found) != 1:
        what = "both of them are there" if found else "there is neither"
        fail(f"{' or '.join(kinds)} {namespace}/{model_name}: {what}")
    target: dict[str, Json] = {"kind": found[0], "name": model_name}
    head: dict[str, Json] = {"targetRef": target, "from": from_, "to": to}
    _start(written, name or to, namespace, {**head, **spec}, file, admin, asked=not manifests)


def _spec(
    steps: str,
    interval: str,
    interval_max: str,
    gates: list[str] | None,
    minimum_samples: int,
    confidence: str,
    on_inconclusive: str,
) -> dict[str, Json]:
    """The fields that all three share, as they stand in the manifest."""
    try:
        weights: list[Json] = [{"weight": int(step)} for step in steps.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--steps: not numbers: {steps}") from None
    spec: dict[str, Json] = {"steps": weights, "interval": interval, "intervalMax": interval_max}
    spec |= {"minimumSamples": minimum_samples, "confidence": confidence}
    if gates == ["none"]:
        spec["gates"] = []
    elif gates:
        spec["gates"] = [_gate(text) for text in gates]
    spec["onInconclusive"] = on_inconclusive
    return spec


def _gate(text: str) -> Json:
    """`TTFT.p90=+20%` as the manifest says it."""
    name, equals, limit = text.partition("=")
    metric, _, percentile = name.partition(".p")
    if not equals or (percentile and not percentile.isdigit()):
        raise typer.BadParameter(f"--gate: not METRIC[.pNN]=LIMIT: {text}")
    gate: dict[str, Json] = {"metric": metric}
    if percentile:
        gate["percentile"] = int(percentile)
    gate["maxIncrease" if limit.startswith("+") else "max"] = limit.removeprefix("+")
    return gate


def _start(
    written: Written,
    name: str,
    namespace: str,
    spec: dict[str, Json],
    file: Path | None,
    admin: str,
    *,
    asked: bool,
) -> None:
    """`asked`: a gateway runs, so that it can be told whether it took notice."""
    from inferway.resources.text_edit import ObjectName

    own = ObjectName("Rollout", namespace, name)
    rollout = _checked(own, spec)
    target = ObjectName(rollout.spec.target_ref.kind, namespace, rollout.spec.target_ref.name)
    _target_must_fit(written, target, rollout)
    if own in written.files:
        _start_again(written, own, spec)
        place = written.files[own]
    else:
        place = str(file or Path(written.files[target]).with_name(f"rollout-{name}.yaml"))
        _write_new(own, spec, Path(place))
    typer.echo(f"rollout {namespace}/{name} is written: {place}", err=True)
    if asked and not _is_noticed(admin, own):
        fail(f"the gateway does not read {place} (hint: give --file inside its manifests)")
    typer.echo(f"see: inferway rollout status {name} --watch", err=True)


def _checked(own: ObjectName, spec: dict[str, Json]) -> Rollout:
    """The Rollout as control will read it; ends with every mistake otherwise."""
    from inferway.resources.decode import decode
    from inferway.resources.rollout import Rollout

    decoded = decode(_text(own, spec).encode(), file="")
    found = [one.resource for one in decoded.entries if isinstance(one.resource, Rollout)]
    lines = [
        f"{problem.field}: {problem.message}{f' (hint: {problem.hint})' if problem.hint else ''}"
        for problem in decoded.problems
    ]
    if not found:
        fail("\n".join(lines))
    return found[0]


def _text(own: ObjectName, spec: dict[str, Json]) -> str:
    import yaml

    metadata = {"name": own.name}
    if own.namespace != "default":
        metadata["namespace"] = own.namespace
    head = {"apiVersion": "inferway.dev/v1alpha1", "kind": "Rollout", "metadata": metadata}
    return yaml.safe_dump({**head, "spec": spec}, sort_keys=False)


def _target_must_fit(written: Written, target: ObjectName, rollout: Rollout) -> None:
    from inferway.rollout.weights import TargetError, find_weights, total_for

    if target not in written.files:
        fail(f"not found: {target}")
    try:
        total_for(find_weights(written.read(target), rollout.spec), rollout.spec)
    except TargetError as error:
        fail(str(error))


def _start_again(written: Written, own: ObjectName, spec: dict[str, Json]) -> None:
    """A new attempt, unless the last one still runs."""
    from inferway.resources.edits import Put, value_at
    from inferway.rollout.status import UnreadableStatusError, read_status

    manifest = written.read(own)
    try:
        status = read_status(manifest)
    except UnreadableStatusError as error:
        fail(f"{own}: {error}")
    if status is not None and not status.is_over:
        fail(f"{own} is {status.phase.value} (hint: inferway rollout abort {own.name})")
    before = value_at(manifest, ("spec", "attempt"))
    attempt = (before if isinstance(before, int) else 1) + (status is not None)
    written.edit(own, [Put(("spec",), {**spec, "attempt": attempt})])


def _write_new(own: ObjectName, spec: dict[str, Json], place: Path) -> None:
    """A file of its own, or one more document in one that is there."""
    from inferway.resources.edits import ChangedMeanwhileError
    from inferway.sources.object_files import replace_file

    if place.suffix == ".json":
        fail(f"a new Rollout is written as YAML: {place}")
    try:
        before = place.read_bytes() if place.exists() else None
        parted = before.rstrip(b"\n") + b"\n---\n" if before and before.strip() else b""
        replace_file(place, before=before, after=parted + _text(own, spec).encode())
    except (OSError, ChangedMeanwhileError) as error:
        fail(f"{place}: cannot be written: {error}")


def _is_noticed(admin: str, own: ObjectName) -> bool:
    """Whether the running gateway knows the Rollout, within a few seconds."""
    import time

    query = {"kind": own.kind, "namespace": own.namespace, "name": own.name}
    for _ in range(100):
        if fetch(admin, "/admin/resources", query).get("items"):
            return True
        time.sleep(0.05)
    return False


def _adapters_must_be_there(admin: str, namespace: str, old: str, new: str) -> None:
    """Clients that use an adapter must find it in the new pool too."""
    pools = {pool["name"]: pool for pool in fetch(admin, "/admin/status", {}).get("pools", [])}

    def adapters(name: str) -> set[str]:
        endpoints = pools.get(f"{namespace}/{name}", {}).get("endpoints", [])
        return {adapter for one in endpoints for adapter in one["adapters"]}

    missing = sorted(adapters(old) - adapters(new))
    if missing:
        fail(f"pool {new} does not serve adapters that {old} serves: {', '.join(missing)}")
