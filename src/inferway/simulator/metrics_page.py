"""The /metrics page under vLLM's names.

A gateway scrapes hundreds of servers several times a second, and here they share its processor:
the page is one format string, built once, filled in one operation.
"""

from collections.abc import Callable

from .counters import EngineCounters, Histogram
from .engine import Engine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LORA_SERIES_MAX = 16

Value = Callable[[Engine], float]

_GAUGES: tuple[tuple[str, str, Value], ...] = (
    ("num_requests_running", "Requests in the running batch.", lambda e: e.num_running),
    ("num_requests_waiting", "Requests waiting to be scheduled.", lambda e: e.num_waiting),
    ("kv_cache_usage_perc", "KV cache usage, 1 is full.", lambda e: e.blocks.usage_ratio),
    ("gpu_cache_usage_perc", "Older name of KV cache usage.", lambda e: e.blocks.usage_ratio),
)
_COUNTERS: tuple[tuple[str, str, Value], ...] = (
    ("num_preemptions", "Preemptions.", lambda e: e.counters.preemptions),
    ("prompt_tokens", "Prefill tokens.", lambda e: e.counters.prompt_tokens),
    ("generation_tokens", "Generated tokens.", lambda e: e.counters.generation_tokens),
    ("prefix_cache_queries", "Tokens looked up.", lambda e: e.counters.prefix_query_tokens),
    ("prefix_cache_hits", "Tokens found in the cache.", lambda e: e.counters.prefix_hit_tokens),
)
_HISTOGRAMS: tuple[tuple[str, Callable[[EngineCounters], Histogram]], ...] = (
    ("time_to_first_token_seconds", lambda c: c.time_to_first_token_s),
    ("inter_token_latency_seconds", lambda c: c.inter_token_s),
    ("time_per_output_token_seconds", lambda c: c.inter_token_s),
    ("e2e_request_latency_seconds", lambda c: c.request_s),
    ("request_queue_time_seconds", lambda c: c.queue_s),
    ("request_inference_time_seconds", lambda c: c.inference_s),
    ("request_prefill_time_seconds", lambda c: c.prefill_s),
    ("request_decode_time_seconds", lambda c: c.decode_s),
    ("request_prompt_tokens", lambda c: c.prompt_tokens_per_request),
    ("request_generation_tokens", lambda c: c.generation_tokens_per_request),
    ("request_params_max_tokens", lambda c: c.max_tokens_per_request),
    ("iteration_tokens_total", lambda c: c.iteration_tokens),
)


class MetricsPage:
    """Renders one engine's page."""

    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        self._labels = f'engine="0",model_name="{escape_label(model)}"'
        self._lora_series: dict[str, float] = {}
        self._template = self._build_template()

    def render(self, wall_s: float) -> bytes:
        """The page. `wall_s` is the time of day: vLLM gives it as the value of its LoRA series."""
        engine = self._engine
        values: list[float] = [value(engine) for _, _, value in _GAUGES]
        values.extend(value(engine) for _, _, value in _COUNTERS)
        values.extend(engine.counters.finished.values())
        for _, histogram_of in _HISTOGRAMS:
            histogram = histogram_of(engine.counters)
            values.extend(histogram.cumulative())
            values.append(histogram.count)
            values.append(histogram.total)
        page = self._template % tuple(values)
        return (page + self._lora_page(wall_s)).encode()

    def _build_template(self) -> str:
        labels = self._labels.replace("%", "%%")
        lines: list[str] = []
        for name, text, _ in _GAUGES:
            lines += _header(name, text, "gauge")
            lines.append(f"vllm:{name}{{{labels}}} %s")
        for name, text, _ in _COUNTERS:
            lines += _header(f"{name}_total", text, "counter")
            lines.append(f"vllm:{name}_total{{{labels}}} %d.0")
        lines += _header("request_success_total", "Requests that ended, by reason.", "counter")
        for reason in self._engine.counters.finished:
            series = labels.replace(",", f',finished_reason="{reason}",', 1)
            lines.append(f"vllm:request_success_total{{{series}}} %d.0")
        for name, histogram_of in _HISTOGRAMS:
            lines += _header(name, f"Histogram of {name}.", "histogram")
            bounds = [repr(float(b)) for b in histogram_of(self._engine.counters).bounds]
            for bound in (*bounds, "+Inf"):
                series = labels.replace(",", f',le="{bound}",', 1)
                lines.append(f"vllm:{name}_bucket{{{series}}} %d.0")
            lines.append(f"vllm:{name}_count{{{labels}}} %d.0")
            lines.append(f"vllm:{name}_sum{{{labels}}} %s")
        lines += _header("cache_config_info", "The cache's configuration.", "gauge")
        lines.append(self._cache_config().replace("%", "%%"))
        return "\n".join(lines) + "\n"

    def _cache_config(self) -> str:
        parameters = self._engine.parameters
        labels = (
            f'block_size="{parameters.block_tokens}",cache_dtype="auto",'
            f'enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.9",'
            f'num_gpu_blocks="{parameters.num_blocks}"'
        )
        return f"vllm:cache_config_info{{{labels}}} 1.0"

    def _lora_page(self, wall_s: float) -> str:
        """Absent until the first adapter is used; then vLLM never removes a combination, the
        newest one counts.
        """
        adapters = self._engine.adapters
        running, waiting = sorted(adapters.running), sorted(adapters.waiting)
        if not (adapters.loads or waiting or self._lora_series):
            return ""
        labels = (
            f'max_lora="{self._engine.parameters.max_loras}",'
            f'running_lora_adapters="{escape_label(",".join(running))}",'
            f'waiting_lora_adapters="{escape_label(",".join(waiting))}"'
        )
        self._lora_series[labels] = wall_s
        if len(self._lora_series) > _LORA_SERIES_MAX:
            oldest = min(self._lora_series, key=self._lora_series.__getitem__)
            del self._lora_series[oldest]
        lines = _header("lora_requests_info", "Running and waiting adapters.", "gauge")
        lines += [f"vllm:lora_requests_info{{{k}}} {v!r}" for k, v in self._lora_series.items()]
        return "\n".join(lines) + "\n"


def escape_label(text: str) -> str:
    """A label value in the exposition format."""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _header(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP vllm:{name} {text}", f"# TYPE vllm:{name} {kind}"]
