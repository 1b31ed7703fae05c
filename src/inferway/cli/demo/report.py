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

BAR_WIDTH = 30


@dataclass(frozen=True, slots=True)
class Affinity:
    """One run of the shared-document load under one policy."""

    policy: str
    hit_ratio: float
    ttft_mean_s: float
    ttft_p50_s: float
    errors: int


def affinity(policy: str, seen: Sequence[Seen]) -> Affinity:
    good = [s for s in seen if s.status == 200]
    prompt_tokens = sum(s.prompt_tokens for s in good)
    ttfts = [s.ttft_s for s in good] or [float("nan")]
    return Affinity(
        policy=policy,
        hit_ratio=sum(s.cached_tokens for s in good) / max(prompt_tokens, 1),
        ttft_mean_s=statistics.fmean(ttfts),
        ttft_p50_s=statistics.median(ttfts),
        errors=len(seen) - len(good),
    )


def bar(value: float, largest: float) -> Text:
    filled = round(BAR_WIDTH * value / largest) if largest else 0
    return Text("█" * filled + "·" * (BAR_WIDTH - filled))


def traffic_table(title: str, seen: Sequence[Seen]) -> Table:
    """Requests per model server, with the share of cached prompt tokens."""
    requests = Counter(s.server or f"HTTP {s.status}" for s in seen)
    table = Table(title=title, title_justify="left")
    table.add_column("model server")
    table.add_column("requests", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    table.add_column("prompt cached", justify="right")
    for server, count in sorted(requests.items()):
        here = [s for s in seen if s.server == server]
        prompt_tokens = sum(s.prompt_tokens for s in here)
        cached = sum(s.cached_tokens for s in here) / prompt_tokens if prompt_tokens else 0.0
        table.add_row(
            server,
            str(count),
            f"{count / len(seen):.0%}",
            bar(count, max(requests.values())),
            f"{cached:.0%}",
        )
    return table


def policy_table(runs: Sequence[Affinity]) -> Table:
    table = Table(
        title="Questions about shared documents, the same load twice", title_justify="left"
    )
    table.add_column("policy")
    table.add_column("prompt cached", justify="right")
    table.add_column("mean TTFT", justify="right")
    table.add_column("p50 TTFT", justify="right")
    table.add_column("mean TTFT, as a bar")
    longest = max(run.ttft_mean_s for run in runs)
    for run in runs:
        table.add_row(
            run.policy,
            f"{run.hit_ratio:.0%}",
            f"{run.ttft_mean_s * 1000:.0f} ms",
            f"{run.ttft_p50_s * 1000:.0f} ms",
            bar(run.ttft_mean_s, longest),
        )
    return table
