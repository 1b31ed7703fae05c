"""The demo's chart: where requests went, what the caches gave, what a policy changes."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.cli.demo.workload import Seen

BAR_WIDTH = 20  # the widest table then fits 80 columns


@dataclass(frozen=True, slots=True)
class Affinity:
    """One run of the shared-document load under one policy. None: no request succeeded."""

    policy: str
    hit_ratio: float | None
    ttft_mean_s: float | None
    ttft_p50_s: float | None
    errors: int


def affinity(policy: str, seen: Sequence[Seen]) -> Affinity:
    good = [s for s in seen if s.good]
    ttfts = [s.ttft_s for s in good]
    return Affinity(
        policy=policy,
        hit_ratio=cached_share(good),
        ttft_mean_s=statistics.fmean(ttfts) if ttfts else None,
        ttft_p50_s=statistics.median(ttfts) if ttfts else None,
        errors=len(seen) - len(good),
    )


def cached_share(seen: Sequence[Seen]) -> float | None:
    prompt_tokens = sum(s.prompt_tokens for s in seen)
    return sum(s.cached_tokens for s in seen) / prompt_tokens if prompt_tokens else None


def bar(value: float, largest: float) -> Text:
    filled = round(BAR_WIDTH * value / largest) if largest else 0
    return Text("█" * filled + "·" * (BAR_WIDTH - filled))


def percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"


def milliseconds(duration_s: float | None) -> str:
    return "unknown" if duration_s is None else f"{duration_s * 1000:.0f} ms"


def traffic_table(title: str, seen: Sequence[Seen]) -> Table:
    """Requests per model server, with the share of cached prompt tokens; those that nobody answered
    by their status.
    """
    requests = Counter(where(s) for s in seen)
    table = Table(title=title, title_justify="left")
    table.add_column("model server")
    table.add_column("requests", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    table.add_column("prompt cached", justify="right")
    for server, count in sorted(requests.items()):
        table.add_row(
            server,
            str(count),
            f"{count / len(seen):.0%}",
            bar(count, max(requests.values())),
            percent(cached_share([s for s in seen if where(s) == server])),
        )
    return table


def where(seen: Seen) -> str:
    if seen.server:
        return seen.server
    return f"HTTP {seen.status}" if seen.status else "no answer"


def policy_table(runs: Sequence[Affinity]) -> Table:
    table = Table(
        title="Questions about shared documents, the same load twice", title_justify="left"
    )
    table.add_column("policy")
    table.add_column("prompt cached", justify="right")
    table.add_column("mean TTFT", justify="right")
    table.add_column("p50 TTFT", justify="right")
    table.add_column("", no_wrap=True)
    longest = max(run.ttft_mean_s or 0.0 for run in runs)
    for run in runs:
        table.add_row(
            run.policy,
            percent(run.hit_ratio),
            milliseconds(run.ttft_mean_s),
            milliseconds(run.ttft_p50_s),
            bar(run.ttft_mean_s or 0.0, longest),
        )
    return table
