"""Each feature right between two turns of our plain path.

Problem: the machine's speed drifts by more than the five per cent that are asked about, within the
half minute that a round of all arms takes. Model: a feature is measured between two measurements of
the plain path (A B A) and compared with their mean; the figure is the median over the rounds. A
mirrored copy is a request that the gateway serves as well, so the copies of an arm count.
"""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING

from bench.overhead.features import COPIES
from bench.overhead.load import Case, Sample, summary, wrk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.overhead.arms import Arm


def measure_pairs(
    plain: Arm, features: Sequence[Arm], cases: Sequence[Case], rounds: int, work: Path
) -> dict[str, dict[str, object]]:
    """case → arm → figures; those of features have `to_plain`, requests and copies per second in
    relation to the plain path.
    """
    found: dict[str, dict[str, object]] = {}
    for case in cases:
        taken: dict[str, list[Sample]] = {arm.name: [] for arm in (plain, *features)}
        ratios: dict[str, list[float]] = {arm.name: [] for arm in features}
        for arm in (plain, *features):
            wrk(arm, case, work, seconds=1)
        for number in range(rounds):
            before = wrk(plain, case, work)
            for arm in features:
                sample, after = wrk(arm, case, work), wrk(plain, case, work)
                rate = statistics.mean((before.requests_per_s, after.requests_per_s))
                ratio = sample.requests_per_s * (1 + COPIES.get(arm.name, 0.0)) / rate
                taken[arm.name].append(sample)
                taken[plain.name].append(after)
                ratios[arm.name].append(ratio)
                before = after
                print(
                    f"round {number + 1}/{rounds}  {case.name:12} {arm.name:16}{ratio:6.2f}",
                    file=sys.stderr,
                    flush=True,
                )
        found[case.name] = {name: summary(samples) for name, samples in taken.items()}
        for name, of_arm in ratios.items():
            found[case.name][name] = {
                **summary(taken[name]),
                "to_plain": statistics.median(of_arm),
                "to_plain_range": [min(of_arm), max(of_arm)],
            }
    return found
