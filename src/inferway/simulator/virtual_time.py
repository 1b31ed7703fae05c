"""Drives one engine through a list of arrivals without waiting for anything.

Used by tests and by the replay: the same engine that the live server sleeps for, with time as a
number.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .engine import Engine
from .sequences import EngineRequest, FinishedRequest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client of the simulated engine would have seen; seconds."""

    finished: FinishedRequest
    time_to_first_token_s: float
    latency_s: float
    token_times_s: tuple[float, ...]
    """When each token left the engine."""


def simulate(
    engine: Engine, arrivals: Iterable[tuple[float, EngineRequest]], *, steps_max: int = 10_000_000
) -> list[Outcome]:
    """Runs all requests to their end, in order of arrival. RuntimeError after `steps_max` steps."""
    pending = sorted(arrivals, key=lambda arrival: arrival[0])
    times: dict[str, list[float]] = {}
    outcomes: list[Outcome] = []
    now_s = engine.now_s
    following = 0
    for _ in range(steps_max):
        if not engine.has_work:
            if following == len(pending):
                return outcomes
            now_s = max(now_s, pending[following][0])
        while following < len(pending) and pending[following][0] <= now_s:
            arrived_s, request = pending[following]
            engine.submit(request, arrived_s)
            times[request.request_id] = []
            following += 1
        result = engine.step(now_s)
        now_s = result.ended_s
        for request_id, count in result.tokens:
            times[request_id].extend([now_s] * count)
        outcomes.extend(
            _outcome(finished, times.pop(finished.request_id), engine.parameters.output_token_s)
            for finished in result.finished
        )
    raise RuntimeError(f"not finished after {steps_max} steps")


def _outcome(finished: FinishedRequest, times_s: list[float], sending_s: float) -> Outcome:
    return Outcome(
        finished=finished,
        time_to_first_token_s=finished.first_token_s - finished.arrived_s + sending_s,
        latency_s=finished.finished_s - finished.arrived_s + sending_s * finished.output_tokens,
        token_times_s=tuple(times_s),
    )
