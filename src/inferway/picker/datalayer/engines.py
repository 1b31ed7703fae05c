"""What each engine calls its metrics, and what a scraped page says in one vocabulary.

Problem: engines publish the same few facts under different names, some as samples, some as labels.
Model: one `EngineMetrics` per engine, and `read` maps a parsed page to a `Reading`. Invariants: a
fact that is absent, not finite or out of range is None, never zero; several samples of one name
(data-parallel ranks, several models) are summed, usage ratios averaged. Sources of the names:
Gateway API Inference Extension, model server protocol; llm-d-router core metrics extractor; vLLM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Samples = Sequence[tuple[dict[str, str], float]]


class Page(Protocol):
    """The part of `_native.MetricsPage` that is used here."""

    def labels(self, name: str) -> Samples: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A metric, narrowed to the samples that carry all of these labels."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def samples(self, page: Page) -> Samples:
        return _carrying(self.labels, page.labels(self.name))

    def finite(self, page: Page) -> list[float]:
        return [number for _, number in self.samples(page) if math.isfinite(number)]

    def read(self, page: Page) -> list[float]:
        return [number for number in self.finite(page) if number >= 0.0]


@dataclass(frozen=True, slots=True)
class Label:
    """A number that an engine publishes as the value of a label."""

    name: str
    label: str
    labels: tuple[tuple[str, str], ...] = ()

    def read(self, page: Page) -> list[float]:
        samples = _carrying(self.labels, page.labels(self.name))
        found = (_number(labels.get(self.label, "")) for labels, _ in samples)
        return [number for number in found if number is not None]


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Where an engine publishes what we read. Several entries: the first that is there counts."""

    waiting: Sample | None = None
    running: Sample | None = None
    kv_usage_ratio: tuple[Sample, ...] = ()
    block_size: Sample | Label | None = None
    num_blocks: Sample | Label | None = None
    lora: Sample | None = None  # gauge whose value is the time of its newest sample
    lora_loaded: str = ""  # gauge per adapter: 1 while it is loaded
    lora_slots: str = ""
    progress: str = ""  # counter that only a restart can lower
    attributes: tuple[tuple[str, Sample], ...] = ()  # further values, each with its key

    def names(self) -> list[str]:
        """Every metric name that `read` needs, sorted."""
        samples = (self.waiting, self.running, self.lora, *self.kv_usage_ratio)
        further = (sample for _, sample in self.attributes)
        sources = (*samples, self.block_size, self.num_blocks, *further)
        names = {source.name for source in sources if source is not None}
        others = {self.lora_loaded, self.lora_slots, self.progress, STARTED}
        return sorted((names | others) - {""})


STARTED = "process_start_time_seconds"
_TRITON_REQUESTS = "nv_trt_llm_request_metrics"
_TRITON_BLOCKS = "nv_trt_llm_kv_cache_block_metrics"
_BLOCK_TYPE = "kv_cache_block_type"

ENGINES: dict[str, EngineMetrics] = {
    "vllm": EngineMetrics(
        waiting=Sample("vllm:num_requests_waiting"),
        running=Sample("vllm:num_requests_running"),
        kv_usage_ratio=(
            Sample("vllm:kv_cache_usage_perc"),
            Sample("vllm:gpu_cache_usage_perc"),  # its name until vLLM 0.9
        ),
        block_size=Label("vllm:cache_config_info", "block_size"),
        num_blocks=Label("vllm:cache_config_info", "num_gpu_blocks"),
        lora=Sample("vllm:lora_requests_info"),
        lora_loaded="vllm:lora_adapter_loaded",  # newer versions
        lora_slots="vllm:max_gpu_lora_adapters",
        progress="vllm:prompt_tokens_total",
    ),
    "sglang": EngineMetrics(
        waiting=Sample("sglang:num_queue_reqs"),
        running=Sample("sglang:num_running_reqs"),
        kv_usage_ratio=(Sample("sglang:token_usage"),),
        block_size=Label("sglang:cache_config_info", "page_size"),
        num_blocks=Label("sglang:cache_config_info", "num_pages"),
    ),
    "trtllm-serve": EngineMetrics(
        waiting=Sample("trtllm_num_requests_waiting"),
        running=Sample("trtllm_num_requests_running"),
        kv_usage_ratio=(Sample("trtllm_kv_cache_utilization"),),
        block_size=Sample("trtllm_kv_cache_tokens_per_block"),
        num_blocks=Sample("trtllm_kv_cache_max_blocks"),
    ),
    "triton-tensorrt-llm": EngineMetrics(
        waiting=Sample(_TRITON_REQUESTS, (("request_type", "waiting"),)),
        running=Sample(_TRITON_REQUESTS, (("request_type", "scheduled"),)),
        kv_usage_ratio=(Sample(_TRITON_BLOCKS, ((_BLOCK_TYPE, "fraction"),)),),
        block_size=Sample(_TRITON_BLOCKS, ((_BLOCK_TYPE, "tokens_per"),)),
        num_blocks=Sample(_TRITON_BLOCKS, ((_BLOCK_TYPE, "max"),)),
    ),
    # Its executions are a counter of all since the start, so they do not tell what runs now.
    "triton": EngineMetrics(
        waiting=Sample("nv_inference_pending_request_count"),
        progress="nv_inference_exec_count",
    ),
}


@dataclass(frozen=True, slots=True)
class LoraReading:
    """Adapters with work on the engine. vLLM may repeat a running adapter among the waiting."""

    running: frozenset[str]
    waiting: frozenset[str]
    slots: int | None  # adapters that one batch can hold
    loaded: frozenset[str] | None = None  # on the accelerator; None: the engine does not tell


@dataclass(frozen=True, slots=True)
class Reading:
    """One good scrape. None = the page did not say."""

    waiting: float | None = None
    running: float | None = None
    kv_usage_ratio: float | None = None
    block_size: int | None = None
    num_blocks: int | None = None
    lora: LoraReading | None = None
    started_at_s: float | None = None  # Unix time of the engine's start
    progress: float | None = None  # falls only when the engine restarts
    attributes: Mapping[str, float] = field(default_factory=dict)  # further values that are known

    @property
    def cache_tokens(self) -> int | None:
        """Prompt tokens that the engine's prefix cache can keep."""
        if self.block_size is None or self.num_blocks is None:
            return None
        return self.block_size * self.num_blocks


def engine(name: str) -> EngineMetrics:
    """ValueError names the engines there are."""
    if name not in ENGINES:
        raise ValueError(f"engine: {name!r}; known: {', '.join(ENGINES)}")
    return ENGINES[name]


def read(metrics: EngineMetrics, page: Page) -> Reading:
    usage = next((found for s in metrics.kv_usage_ratio if (found := s.read(page))), [])
    ratio = sum(usage) / len(usage) if usage else None
    sizes = _read(metrics.block_size, page)
    return Reading(
        waiting=_total(_read(metrics.waiting, page)),
        running=_total(_read(metrics.running, page)),
        kv_usage_ratio=None if ratio is None or ratio > 1.0 else ratio,
        block_size=_whole(sizes[-1] if sizes else None),
        num_blocks=_whole(_total(_read(metrics.num_blocks, page))),
        lora=_lora(metrics.lora, metrics, page) if metrics.lora is not None else None,
        started_at_s=_total(Sample(STARTED).read(page)),
        progress=_total(Sample(metrics.progress).read(page)) if metrics.progress else None,
        attributes={
            key: sum(found) for key, sample in metrics.attributes if (found := sample.finite(page))
        },
    )


def _carrying(wanted: tuple[tuple[str, str], ...], samples: Samples) -> Samples:
    if not wanted:
        return samples
    return [one for one in samples if all(one[0].get(name) == value for name, value in wanted)]


def _read(source: Sample | Label | None, page: Page) -> list[float]:
    return [] if source is None else source.read(page)


def _lora(requests: Sample, metrics: EngineMetrics, page: Page) -> LoraReading | None:
    dated = [(at, labels) for labels, at in requests.samples(page) if math.isfinite(at)]
    loaded = _loaded(page.labels(metrics.lora_loaded)) if metrics.lora_loaded else None
    if not dated and loaded is None:
        return None
    labels = max(dated, key=lambda sample: sample[0])[1] if dated else {}
    slots = Sample(metrics.lora_slots).read(page) if metrics.lora_slots else []
    return LoraReading(
        running=_names(labels.get("running_lora_adapters", "")),
        waiting=_names(labels.get("waiting_lora_adapters", "")),
        slots=_whole(_number(labels.get("max_lora", ""))) or _whole(max(slots, default=None)),
        loaded=loaded,
    )


def _loaded(samples: Samples) -> frozenset[str] | None:
    """Adapters on the accelerator; those in host memory must be moved there first."""
    if not samples:
        return None
    return frozenset(
        labels["adapter_name"]
        for labels, value in samples
        if value == 1.0 and labels.get("adapter_name") and labels.get("level", "gpu") != "cpu"
    )


def _names(listed: str) -> frozenset[str]:
    return frozenset(name for part in listed.split(",") if (name := part.strip()))


def _total(numbers: list[float]) -> float | None:
    return sum(numbers) if numbers else None


def _whole(number: float | None) -> int | None:
    return int(number) if number is not None and number >= 1.0 else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0.0 else None
