"""What engines call their metrics, where a configuration says it: `core-metrics-extractor`.

Problem: engines that nobody here knows, and values that only some installation publishes. Model:
a mapping per engine, each fact with the metric that tells it, written `name{label=value}`. Fields
are the reference's. Invariant: what is decoded can be read; `metric_of` splits it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, NamedTuple, Self, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from inferway.resources.explain import nearest, shown
from inferway.resources.meta import Model
from inferway.resources.model_server import Engine
from inferway.resources.scalars import LABEL_KEY_PATTERN, ObjectName
from inferway.resources.violations import Path, Violation, reject

from .sessions import AttributeName

BUILT_IN_ENGINES: Final[tuple[str, ...]] = get_args(Engine)

_LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
_PAIR = rf'\s*({_LABEL})\s*=\s*("[^"\\]*"|[^\s,{{}}"=]+)\s*'
_SPEC = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({_PAIR}(?:,{_PAIR})*)\}})?")
_PAIRS = re.compile(_PAIR)


class Metric(NamedTuple):
    """Samples of this name that carry all these labels."""

    name: str
    labels: tuple[tuple[str, str], ...]


def metric_of(spec: str) -> Metric:
    """Of a spec: `name`, `name{label=value}`, `name{one=value,other="any text"}`."""
    found = _SPEC.fullmatch(spec)
    if found is None:
        hint = "NAME, or NAME{LABEL=VALUE}; further labels after a comma"
        reject([Violation(f"not a metric: {shown(spec)}", (), hint)])
        raise AssertionError  # reject has raised
    pairs = tuple((one[1], one[2].strip('"')) for one in _PAIRS.finditer(found[2] or ""))
    twice = next((label for label in dict(pairs) if sum(label == one for one, _ in pairs) > 1), "")
    if twice:
        reject([Violation(f"label must be there once: {twice}: {shown(spec)}")])
    return Metric(found[1], pairs)


def _checked(spec: str) -> str:
    if spec:
        metric_of(spec)
    return spec


MetricSpec = Annotated[str, StringConstraints(max_length=1024), AfterValidator(_checked)]
LabelName = Annotated[str, StringConstraints(max_length=256, pattern=rf"^({_LABEL})?$")]


class CustomMetric(Model):
    """A value that filters and scorers find by its key."""

    attribute_key: AttributeName
    metric_spec: Annotated[
        str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_checked)
    ]


class EngineMapping(Model):
    """Where an engine tells what. An unset or empty spec: as the built-in engine of that name, and
    without one it is not known.
    """

    name: ObjectName
    queued_requests_spec: MetricSpec = ""
    running_requests_spec: MetricSpec = ""
    kv_usage_spec: MetricSpec = Field(default="", description="1 is full")
    lora_spec: MetricSpec = Field(default="", description="a gauge like vllm:lora_requests_info")
    cache_info_spec: MetricSpec = Field(default="", description="its labels tell of the cache")
    cache_block_size_label_name: LabelName = Field(default="", description="unset: block_size")
    cache_num_blocks_label_name: LabelName = Field(default="", description="unset: num_gpu_blocks")
    cache_block_size_spec: MetricSpec = Field(default="", description="before the label")
    cache_num_blocks_spec: MetricSpec = Field(default="", description="before the label")
    custom_metrics: Annotated[tuple[CustomMetric, ...], Field(max_length=32)] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        found = [
            Violation(f"{field} is a label of cacheInfoSpec, which is not set", (field,))
            for field, value in (
                ("cacheBlockSizeLabelName", self.cache_block_size_label_name),
                ("cacheNumBlocksLabelName", self.cache_num_blocks_label_name),
            )
            if value and not self.cache_info_spec
        ]
        keys = (one.attribute_key for one in self.custom_metrics)
        found += _twice(keys, "customMetrics", "attributeKey")
        reject(found)
        return self


class CoreExtractor(Model):
    """`core-metrics-extractor`"""

    engine_label_key: (
        Annotated[str, StringConstraints(max_length=317, pattern=LABEL_KEY_PATTERN)] | None
    ) = Field(default=None, description="label of a ModelServer that names its engine")
    default_engine: ObjectName | None = Field(
        default=None, description="of servers that do not say theirs"
    )
    engine_configs: Annotated[tuple[EngineMapping, ...], Field(max_length=64)] = Field(
        default=(), description="the engines' metrics"
    )

    @property
    def engine_names(self) -> tuple[str, ...]:
        """Every engine that a server can have, the own ones last."""
        return tuple(dict.fromkeys((*BUILT_IN_ENGINES, *(one.name for one in self.engine_configs))))

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        found = list(_twice((one.name for one in self.engine_configs), "engineConfigs", "name"))
        wanted, known = self.default_engine, self.engine_names
        if wanted is not None and wanted not in known:
            close = nearest(wanted, list(known))
            hint = f"did you mean {close}?" if close else f"known: {', '.join(known)}"
            found.append(Violation(f"unknown engine: {shown(wanted)}", ("defaultEngine",), hint))
        reject(found)
        return self


def _twice(names: Iterable[str], place: str, field: str) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            path: Path = (place, index, field)
            yield Violation(f"{field} must be unique: {shown(name)}", path)
        seen.add(name)
