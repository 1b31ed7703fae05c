"""The tables of `inferway top`.

Model: pure functions from two readings of the admin API's status to tables of rich. Counters become
rates, histograms of the interval become percentiles; what is not known is a dash, never a zero. A
counter that went back belongs to a picker that started anew, and counts from zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inferway.picker.datalayer.readiness import Unready
from inferway.picker.metrics import FIRST_TOKEN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

    from inferway.cli.conditions import Document

_Number = TypeVar("_Number", int, float)
NOTHING: Final = "-"
PICKED: Final = "picked"
POOL_TITLES: Final = (
    *("POOL", "READY", "IN FLIGHT", "PENDING", "WAIT", "RUN", "KV"),
    *("PICKS/S", "REFUSED/S", "HITS", "TTFT p50", "p95", "QUEUE", "SATURATION"),
)
ENDPOINT_TITLES: Final = (
    *("ENDPOINT", "STATE", "IN FLIGHT", "PENDING", "WAIT", "RUN", "KV"),
    *("PICKS/S", "SHARE", "AGE"),
)
SORTED_BY: Final = {
    "in-flight": "in_flight",
    "pending": "pending_tokens",
    "waiting": "waiting",
    "running": "running",
    "kv": "kv_usage_ratio",
}


class Reading(NamedTuple):
    at_s: float | None  # the picker's own time; None while it has not reported
    pools: list[Document]


def frame(
    before: Reading, now: Reading, sort: str, *, lines_max: int | None = None
) -> RenderableType:
    """All pools in one table, then the endpoints of each; so many lines at most."""
    elapsed_s = (now.at_s or 0.0) - (before.at_s or 0.0)
    if elapsed_s <= 0.0:  # another picker
        before, elapsed_s = Reading(0.0, []), now.at_s or 1.0
    earlier = {pool["name"]: pool for pool in before.pools}
    if not now.pools:
        return Text("no pools")
    parts: list[RenderableType] = [pools_table(now.pools, earlier, elapsed_s)]
    rows_max = None
    if lines_max is not None:  # a head of the pools; of each an empty line, a title, a head, a rest
        rows_max = max((lines_max - 1 - len(now.pools)) // len(now.pools) - 4, 1)
    for pool in now.pools:
        was = earlier.get(pool["name"], {})
        parts += ["", endpoints_table(pool, was, elapsed_s, sort, rows_max)]
        hidden = len(pool["endpoints"]) - (rows_max or len(pool["endpoints"]))
        if hidden > 0:
            parts.append(Text(f"and {hidden} more", style="dim"))
    return Group(*parts)


def pools_table(pools: list[Document], earlier: dict[str, Document], elapsed_s: float) -> Table:
    rows = _table(POOL_TITLES)
    for pool in pools:
        endpoints, traffic = pool["endpoints"], pool["traffic"]
        was = earlier.get(pool["name"], {}).get("traffic", {})
        outcomes, outcomes_were = traffic["outcomes"], was.get("outcomes", {})
        refused = sum(
            _grown(outcomes_were.get(name, 0), count)
            for name, count in outcomes.items()
            if name != PICKED
        )
        prompt = _grown(was.get("prompt_tokens", 0.0), traffic["prompt_tokens"])
        matched = _grown(was.get("matched_tokens", 0.0), traffic["matched_tokens"])
        ttft = _interval(was.get("ttft", []), traffic["ttft"])
        rows.add_row(
            pool["name"],
            _readiness(pool),
            str(sum(one["in_flight"] for one in endpoints)),
            _tokens(sum(one["pending_tokens"] for one in endpoints)),
            _total(one["waiting"] for one in endpoints),
            _total(one["running"] for one in endpoints),
            _percent(_mean(one["kv_usage_ratio"] for one in endpoints)),
            _rate(_grown(outcomes_were.get(PICKED, 0), outcomes.get(PICKED, 0)), elapsed_s),
            Text(_rate(refused, elapsed_s), style="red" if refused else ""),
            _percent(matched / prompt if prompt else None),
            _seconds(percentile(ttft, 0.5)),
            _seconds(percentile(ttft, 0.95)),
            _queue(pool["flow"]["bands"]),
            _percent(pool["flow"]["saturation"]),
        )
    return rows


def endpoints_table(
    pool: Document, was: Document, elapsed_s: float, sort: str, rows_max: int | None
) -> Table:
    rows = _table(ENDPOINT_TITLES, title=pool["name"])
    earlier = {one["address"]: one["picks"] for one in was.get("endpoints", [])}
    picks = {
        one["address"]: _grown(earlier.get(one["address"], one["picks"]), one["picks"])
        for one in pool["endpoints"]
    }
    total = sum(picks.values())
    for one in sorted(pool["endpoints"], key=_order(sort, picks))[:rows_max]:
        share = picks[one["address"]] / total if total else None
        age_s = one["age_s"]
        rows.add_row(
            one["address"],
            _state(one),
            str(one["in_flight"]),
            _tokens(one["pending_tokens"]),
            _known(one["waiting"]),
            _known(one["running"]),
            _percent(one["kv_usage_ratio"]),
            _rate(picks[one["address"]], elapsed_s),
            _percent(share),
            "never" if age_s is None else f"{age_s:.1f} s",
        )
    return rows


def percentile(counts: list[tuple[float | None, int]], part: float) -> float | None:
    """Of values counted in buckets of `FIRST_TOKEN_SECONDS`, upper bound and count. Inside a bucket
    they are taken as evenly spread, beyond the last bound as that bound. None without any value.
    """
    wanted = part * sum(count for _, count in counts)
    reached = 0
    for bound, count in counts:
        reached += count
        if not count or reached < wanted:
            continue
        if bound is None:
            return FIRST_TOKEN_SECONDS[-1]
        place = FIRST_TOKEN_SECONDS.index(bound)
        lower = FIRST_TOKEN_SECONDS[place - 1] if place else 0.0
        return bound - (reached - wanted) / count * (bound - lower)
    return None


def _interval(was: list[list[float]], now: list[list[float]]) -> list[tuple[float | None, int]]:
    """What a histogram counted in between. Empty buckets are not in the readings."""
    before: dict[float | None, int] = {bound: int(count) for bound, count in was}
    return [(bound, _grown(before.get(bound, 0), int(count))) for bound, count in now]


def _order(sort: str, picks: dict[str, int]) -> Callable[[Document], float]:
    """Most first; the order of the configuration where nothing else is asked for."""
    if sort == "picks":
        return lambda one: -picks[one["address"]]
    field = SORTED_BY.get(sort)
    if field is None:
        return lambda _: 0.0
    return lambda one: -1.0 * (one[field] if one[field] is not None else -1.0)


def _queue(bands: list[Document]) -> str:
    """How many wait, by priority."""
    waiting = [band for band in bands if band["requests"]]
    return ", ".join(f"{band['priority']}: {band['requests']}" for band in waiting) or "0"


def _readiness(pool: Document) -> Text:
    endpoints = pool["endpoints"]
    ready = sum(one["ready"] for one in endpoints)
    text = Text(f"{ready}/{len(endpoints)}", style="" if ready == len(endpoints) else "yellow")
    if pool["panic"]:
        text.append(" panic", style="red")
    return text


def _state(one: Document) -> Text:
    health = one["health"]
    if health != "active":
        health = f"{health}: {one['cause']}"
        if one["until_s"] is not None:
            health += f", {one['until_s']:.0f} s"
    if not one["ready"]:
        ejected = one["unready"] == Unready.EJECTED
        return Text(health if ejected else one["unready"] or "not ready", style="red")
    if one["health"] != "active":
        return Text(health, style="yellow")
    if one["reachable"] is False:
        return Text("not scraped", style="yellow")
    if one["weight"] < 1.0:
        left = "" if one["until_s"] is None else f", {one['until_s']:.0f} s"
        return Text(f"held back to {one['weight']:.0%}{left}", style="yellow")
    return Text("ready", style="green")


def _grown(was: _Number, now: _Number) -> _Number:
    return now - was if now >= was else now


def _total(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known):g}" if known else NOTHING


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _known(value: float | None) -> str:
    return NOTHING if value is None else f"{value:g}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def _rate(count: float, elapsed_s: float) -> str:
    rate = count / elapsed_s
    return f"{rate:.0f}" if rate >= 10 or not rate else f"{rate:.1f}"


def _tokens(count: int) -> str:
    return f"{count / 1000:.1f}k" if count >= 10_000 else str(count)


def _seconds(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value * 1000:.0f} ms" if value < 1.0 else f"{value:.2f} s"


def _table(titles: tuple[str, ...], *, title: str | None = None) -> Table:
    rows = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for number, name in enumerate(titles):
        rows.add_column(name, no_wrap=True, justify="left" if number < 2 else "right")
    return rows
