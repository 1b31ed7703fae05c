"""A roll-out as `inferway rollout status` shows it: the manifest, its status, and the numbers that
it decides by at this moment, which are nowhere stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.resources.scalars import duration_s
from inferway.rollout.gates import samples_of

if TYPE_CHECKING:
    from datetime import datetime

    from inferway.control.rollouts import Live
    from inferway.rollout.gates import Verdict
    from inferway.rollout.measuring import Measurement


def report(live: Live, *, now: datetime) -> dict[str, object]:
    """For the admin API; JSON."""
    document = live.rollout.manifest()
    document["status"] = live.status.manifest() if live.status else {}
    document["live"] = _live(live, now)
    return document


def _live(live: Live, now: datetime) -> dict[str, object]:
    status, spec, plan = live.status, live.rollout.spec, live.plan
    found: dict[str, object] = {
        "error": live.error or (status.trouble if status else ""),
        "progress": plan.progress if plan else "",
    }
    if status is None or not 1 <= status.step <= len(spec.steps):
        return found
    step = spec.steps[status.step - 1]
    found["interval_s"] = duration_s(step.interval or spec.interval)
    found["interval_max_s"] = duration_s(spec.interval_max)
    if status.since is not None:
        found["elapsed_s"] = round((now - status.since).total_seconds(), 3)
    measurement = plan.measurement if plan else None
    if measurement is not None:
        found["gates"] = [_verdict(one) for one in measurement.verdicts]
        found["samples"] = _samples(live, measurement)
    return found


def _verdict(verdict: Verdict) -> dict[str, object]:
    return {
        "gate": verdict.gate,
        "outcome": verdict.outcome.value,
        "value": verdict.value,
        "old": verdict.old,
        "limit": verdict.limit,
        "unit": "s" if verdict.is_latency else "ratio",
        "samples": verdict.samples,
        "needed": verdict.needed,
        "text": verdict.text,
    }


def _samples(live: Live, measurement: Measurement) -> dict[str, dict[str, int]]:
    """Requests of both versions since the step began."""
    return {
        name: {
            "served": window.counts.served,
            "errors": window.counts.errors,
            "shed": window.counts.shed,
            "needed": live.rollout.spec.minimum_samples,
            **{gate.metric: samples_of(gate, window) for gate in live.rollout.spec.gates},
        }
        for name, window in (("old", measurement.old), ("new", measurement.new))
    }
