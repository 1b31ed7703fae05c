"""Our plugins keep the rules that others' have to keep, and the kit finds every breach."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.registry import PLUGINS
from inferway.testing import Excused, check, violations

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Random, Request

# Of plugins that need some.
PARAMETERS: dict[str, dict[str, object]] = {
    "header-label-affinity-scorer": {"headerName": "x-zone", "labelKey": "zone"},
    "endpoint-attribute-scorer": {
        "attributeKey": "custom",
        "algorithm": {"type": "linear_lower", "normalization": {"adaptiveRange": {}}},
    },
    "utilization-filter": {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
    "endpoint-attribute-filter": {
        "attribute": "custom",
        "algorithm": {"threshold": {"operator": "<", "value": 0.5}},
    },
    "by-label": {"label": "zone", "validValues": ["a"]},
    "label-selector-filter": {"matchLabels": {"zone": "a"}},
}
EXCUSED = {"round-robin": Excused(order=True)}


@pytest.mark.parametrize("name", PLUGINS)
def test_ours_conform(name: str) -> None:
    make = partial(made, PLUGINS[name], PARAMETERS.get(name, {}), name=name)  # type: ignore[arg-type]
    check(make, excused=EXCUSED.get(name, Excused()), rounds=3)


def test_the_documented_example_runs() -> None:
    page = Path(__file__).resolve().parents[4] / "docs" / "policies.md"
    (block,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    exec(block, {"__name__": "example"})  # noqa: S102 - it is our own page


class Good:
    """Few requests in flight; an unknown queue counts as a long one."""

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        waiting = np.nan_to_num(endpoints.waiting, nan=50.0)
        return 1.0 / (1.0 + waiting + endpoints.in_flight)


def test_a_good_plugin_breaks_nothing() -> None:
    assert violations(Good) == {}
    check(Good)


class TooHigh(Good):
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return 1.0 + endpoints.in_flight


class Shapeless(Good):
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return np.ones(4)


class Raises(Good):
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        raise LookupError("gpu")


class Writes(Good):
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        endpoints.waiting[np.isnan(endpoints.waiting)] = 0.0
        return super().score(request, endpoints)


class Counts(Good):
    calls = 0

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        self.calls += 1
        return np.full(len(endpoints), 1.0 / self.calls)


class KeepsTheFirst(Good):
    """Remembers what it made of the first state of each size."""

    def __init__(self) -> None:
        self.made: dict[int, Floats] = {}

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return self.made.setdefault(len(endpoints), super().score(request, endpoints))


class FirstRow(Good):
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return (np.arange(len(endpoints)) == 0).astype(np.float64)


class LearnsRows:
    def __init__(self) -> None:
        self.row = -1

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return (np.arange(len(endpoints)) == self.row).astype(np.float64)

    def placed(self, request: Request, endpoints: Endpoints, row: int) -> None:
        self.row = row


class Optimist(Good):
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return 1.0 / (1.0 + np.nan_to_num(endpoints.waiting, nan=0.0))


class CheapUnknown:
    def cost(self, request: Request, endpoints: Endpoints, sequence: int, rng: Random) -> Floats:
        return np.nan_to_num(endpoints.kv_usage_ratio, nan=0.0)


class LooksAtAll(Good):
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return endpoints.in_flight / (1.0 + endpoints.in_flight.max())


class Slow(Good):
    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return np.array([1.0 / (1.0 + in_flight) for in_flight in endpoints.in_flight])


class WrongRows:
    def choose(
        self, costs: Floats, candidates: Bools | None, rng: Random, *, count: int
    ) -> list[int]:
        return [0]


class Numbers:
    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        return endpoints.in_flight  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("make", "rule", "said"),
    [
        (TooHigh, "answers", "scores outside [0, 1]: rows 0"),
        (Shapeless, "answers", "shape (4,); want one value per endpoint"),
        (Raises, "answers", "raised LookupError: gpu"),
        (Writes, "answers", "read-only"),
        (Numbers, "answers", "want True or False"),
        (WrongRows, "answers", "no candidates"),
        (Counts, "pure", "asked twice, it answers otherwise"),
        (KeepsTheFirst, "pure", "asked about other states before, it answers otherwise"),
        (FirstRow, "order", "endpoints in another order get other values"),
        (LearnsRows, "order", "stays with the position, not with the address"),
        (Optimist, "unknown", "score is 1 without waiting"),
        (CheapUnknown, "unknown", "cost is 0 without kv_usage_ratio"),
        (LooksAtAll, "candidates", "changes the values of those that are"),
        (Slow, "cost", "at 10,000 endpoints; at most 1000 µs"),
    ],
)
def test_a_breach_is_found(make: type[Good], rule: str, said: str) -> None:
    found = violations(make)
    assert said in found[rule]
    with pytest.raises(AssertionError, match=f"^{rule}: |\n{rule}: "):
        check(make)


def test_a_plugin_may_be_excused() -> None:
    assert violations(FirstRow, excused=Excused(order=True)) == {}
    assert violations(Optimist, excused=Excused(unknown=True)) == {}
    assert violations(Slow, excused=Excused(cost=True)) == {}
