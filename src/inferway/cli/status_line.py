"""What a person sees of a running gateway: where it listens, and one line that lives.

On a terminal the line is redrawn every second; elsewhere the addresses are printed once and the log
tells the rest. Everything goes to stderr, because stdout is for data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferway.cli.gateway import Gateway, GatewayOptions
    from inferway.picker.config import PoolStatus

REFRESH_PER_S = 1.0
RATE_INTERVAL_MIN_S = 0.5  # a redraw for another reason does not measure


class Rate:
    """Events per second, from a counter that somebody reads now and then."""

    def __init__(self) -> None:
        self._total = 0.0
        self._at_s: float | None = None
        self._rate = 0.0

    def update(self, total: float, now_s: float) -> float:
        """The rate since the last measurement. A counter that went back has started anew."""
        if self._at_s is None:
            self._total, self._at_s = total, now_s
        elapsed_s = now_s - self._at_s
        if elapsed_s >= RATE_INTERVAL_MIN_S:
            grown = total - self._total if total >= self._total else total
            self._rate = grown / elapsed_s
            self._total, self._at_s = total, now_s
        return self._rate


def pool_words(pools: Sequence[PoolStatus], picks_per_s: float) -> list[str]:
    """What the picker reports, in four phrases."""
    endpoints = [endpoint for pool in pools for endpoint in pool.endpoints]
    reachable = sum(endpoint.reachable is True for endpoint in endpoints)
    return [
        f"{len(pools)} pools",
        f"{reachable}/{len(endpoints)} endpoints",
        f"{sum(endpoint.in_flight for endpoint in endpoints)} in flight",
        f"{picks_per_s:.0f} picks/s",
    ]


class StatusLine:
    """`start` when the gateway is ready, `stop` at its end. `clock` counts seconds."""

    def __init__(
        self,
        options: GatewayOptions,
        *,
        clock: Callable[[], float],
        console: Console | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._rate = Rate()

    def start(self, gateway: Gateway) -> None:
        translation = gateway.reconciler.view.translation
        for listener in translation.model.listeners if translation else ():
            address = f"[{listener.address}]" if ":" in listener.address else listener.address
            self._say(f"listening on http://{address}:{listener.port}")
        self._say(
            f"admin and metrics on http://{self._options.admin_address}:{self._options.admin_port}"
        )
        for warning in translation.warnings if translation else ():
            self._say(f"warning: {warning.message}", style="yellow")
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=lambda: self.line(gateway),
                console=self._console,
                refresh_per_second=REFRESH_PER_S,
                transient=True,
            )
            self._live.start()

    def stop(self) -> None:
        if self._live:
            self._live.stop()

    def line(self, gateway: Gateway) -> Text:
        """One line about everything: endpoints, work, restarts, problems."""
        status = gateway.link.status
        pools = status.pools if status else ()
        picks = sum(endpoint.picks for pool in pools for endpoint in pool.endpoints)
        words = pool_words(pools, self._rate.update(picks, self._clock()))
        restarts = gateway.picker.restarts + gateway.envoy.restarts
        if restarts:
            words.append(f"{restarts} restarts")
        troubles = []
        if not gateway.link.connected:
            troubles.append("picker is away")
        errors = sum(problem.is_error for problem in gateway.reconciler.view.problems)
        if errors:
            troubles.append(f"{errors} manifest errors")
        style = "red" if troubles else "green"
        return Text("● ", style=style) + Text(" · ".join([*words, *troubles]), style="default")

    def _say(self, text: str, *, style: str = "") -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
