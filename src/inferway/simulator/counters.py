"""What an engine counts: the numbers behind vLLM's metric names.

Histograms keep one count per bucket; rendering sums them up. Latencies are in simulated seconds,
so a server that runs ten times faster than real time still reports what the real one would.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

TIME_TO_FIRST_TOKEN_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
INTER_TOKEN_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
REQUEST_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
ITERATION_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def one_two_five(value_max: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50 … up to the maximum: vLLM's buckets for token counts."""
    bounds: list[int] = []
    decade = 1
    while True:
        for mantissa in (1, 2, 5):
            if mantissa * decade > value_max:
                return tuple(bounds)
            bounds.append(mantissa * decade)
        decade *= 10


class Histogram:
    """Counts per bucket, sum and number of observations."""

    __slots__ = ("bounds", "count", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.count = 0
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Counts a value; an upper bound belongs to its bucket, as Prometheus defines `le`."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.count += times
        self.total += value * times

    def cumulative(self) -> list[int]:
        """Observations at or below each bound, the last entry being all of them."""
        return list(accumulate(self.counts))


class EngineCounters:
    """Totals since start of one engine."""

    __slots__ = (
        "decode_s",
        "finished",
        "generation_tokens",
        "generation_tokens_per_request",
        "inference_s",
        "inter_token_s",
        "iteration_tokens",
        "max_tokens_per_request",
        "preemptions",
        "prefill_s",
        "prefix_hit_tokens",
        "prefix_query_tokens",
        "prompt_tokens",
        "prompt_tokens_per_request",
        "queue_s",
        "request_s",
        "time_to_first_token_s",
    )

    def __init__(self, max_model_len: int) -> None:
        token_bounds = one_two_five(max_model_len)
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.prefix_query_tokens = 0
        self.prefix_hit_tokens = 0
        self.preemptions = 0
        self.finished: dict[str, int] = {"stop": 0, "length": 0, "abort": 0}
        self.time_to_first_token_s = Histogram(TIME_TO_FIRST_TOKEN_S)
        self.inter_token_s = Histogram(INTER_TOKEN_S)
        self.request_s = Histogram(REQUEST_S)
        self.queue_s = Histogram(REQUEST_S)
        self.inference_s = Histogram(REQUEST_S)
        self.prefill_s = Histogram(REQUEST_S)
        self.decode_s = Histogram(REQUEST_S)
        self.prompt_tokens_per_request = Histogram(token_bounds)
        self.generation_tokens_per_request = Histogram(token_bounds)
        self.max_tokens_per_request = Histogram(token_bounds)
        self.iteration_tokens = Histogram(ITERATION_TOKENS)
