"""Faults that a simulated server shows on demand, so that a gateway's conduct can be tested.

Rules are tried in order and the first that applies decides. Admin routes (/sim/…) are never
affected, except that nobody can reach a server that refuses connections: that fault is lifted
through another server of the same process, in process, or by its own `duration_s`.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self, get_args

FaultMode = Literal[
    "refuse",
    "reset",
    "hang",
    "unavailable",
    "slow_first_token",
    "cut_stream",
    "end_early",
    "error",
    "none",
]


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One fault.

    refuse: as if the process had died, no listening socket and every connection aborted. reset:
    RST instead of an answer. hang: no answer at all. unavailable: 503 with Retry-After.
    slow_first_token: headers at once, first token `seconds` later. cut_stream: connection closed
    after `after_chunks` chunks. end_early: the same, but ended cleanly, without finish_reason and
    [DONE]. error: `status` with an OpenAI-shaped body. Seconds here are real, whatever the speed.
    """

    mode: FaultMode
    path: str | None = None
    """Only this path; "*" means all, none means everything under /v1/."""
    probability: float = 1.0
    count: int | None = None
    """How many requests it hits; none: all."""
    seconds: float = 1.0
    status: int = 500
    retry_after_s: int = 1
    after_chunks: int = 3
    duration_s: float | None = None
    """Only for refuse: when the server comes back."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(FaultMode):
            raise ValueError(
                f"unknown fault mode: {self.mode} (known: {', '.join(get_args(FaultMode))})"
            )
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be 0 to 1: {self.probability}")
        if not 400 <= self.status <= 599:
            raise ValueError(f"status must be 400 to 599: {self.status}")
        for name in ("seconds", "retry_after_s", "after_chunks", "count", "duration_s"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative: {value}")

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Strict decoding. ValueError names the field."""
        if not isinstance(value, dict):
            raise ValueError(f"a fault is an object: {value!r}")
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise ValueError(f"unknown field: {unknown[0]} (known: {', '.join(sorted(known))})")
        if "mode" not in value:
            raise ValueError("missing field: mode")
        for name, given in value.items():
            text = name in ("mode", "path")
            if text and not isinstance(given, str | None):
                raise ValueError(f"{name} must be a string: {given!r}")
            if not text and (isinstance(given, bool) or not isinstance(given, int | float | None)):
                raise ValueError(f"{name} must be a number: {given!r}")
        return cls(**value)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The form of the command line: `mode` or `mode,field=value,…`."""
        mode, *settings = text.split(",")
        values: dict[str, object] = {"mode": mode}
        for setting in settings:
            name, _, raw = setting.partition("=")
            try:
                values[name] = raw if name == "path" else float(raw) if "." in raw else int(raw)
            except ValueError:
                raise ValueError(f"{name} must be a number: {raw}") from None
        return cls.from_json(values)

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def applies_to(self, path: str) -> bool:
        if self.path is None:
            return path.startswith("/v1/")
        return self.path in ("*", path)


class FaultPlan:
    """The rules of one server, with what is left of their counts."""

    __slots__ = ("_left", "_random", "hits", "rules")

    def __init__(self, rules: Iterable[FaultRule], *, seed: int) -> None:
        self.rules = tuple(rule for rule in rules if rule.mode != "none")
        self.hits = 0
        self._left: list[int | None] = [rule.count for rule in self.rules]
        self._random = random.Random(seed)  # noqa: S311 - reproducible faults, not a secret

    @property
    def refusal(self) -> FaultRule | None:
        """The rule that closes the listening socket."""
        return next((rule for rule in self.rules if rule.mode == "refuse"), None)

    def choose(self, path: str) -> FaultRule | None:
        """The fault that hits this request; counts it."""
        for index, rule in enumerate(self.rules):
            left = self._left[index]
            if rule.mode == "refuse" or left == 0 or not rule.applies_to(path):
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            if left is not None:
                self._left[index] = left - 1
            self.hits += 1
            return rule
        return None

    def to_json(self) -> Mapping[str, object]:
        return {
            "faults": [
                {**rule.to_json(), "left": left}
                for rule, left in zip(self.rules, self._left, strict=True)
            ],
            "hits": self.hits,
        }
