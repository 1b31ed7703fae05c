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
    from inferway.cli.gateway import Gateway, GatewayOptions

REFRESH_PER_S = 1.0


class StatusLine:
    """`start` when the gateway is ready, `stop` at its end."""

    def __init__(self, options: GatewayOptions) -> None:
        self._options = options
        self._gateway: Gateway | None = None
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._picks_before = 0.0

    def start(self, gateway: Gateway) -> None:
        self._gateway = gateway
        translation = gateway.reconciler.view.translation
        for listener in translation.model.listeners if translation else ():
            address = f"[{listener.address}]" if ":" in listener.address else listener.address
            self._console.print(
                f"listening on http://{address}:{listener.port}", highlight=False, soft_wrap=True
            )
        admin = f"http://{self._options.admin_address}:{self._options.admin_port}"
        self._console.print(f"admin and metrics on {admin}", highlight=False, soft_wrap=True)
        for warning in translation.warnings if translation else ():
            self._console.print(
                f"warning: {warning.message}", style="yellow", highlight=False, soft_wrap=True
            )
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.line,
                console=self._console,
                refresh_per_second=REFRESH_PER_S,
                transient=True,
            )
            self._live.start()

    def stop(self) -> None:
        if self._live:
            self._live.stop()

    def line(self) -> Text:
        """One line about everything: endpoints, work, restarts, problems."""
        if self._gateway is None:
            return Text("")
        status = self._gateway.link.status
        pools = status.pools if status else ()
        endpoints = [endpoint for pool in pools for endpoint in pool.endpoints]
        picks = sum(endpoint.picks for endpoint in endpoints)
        rate = max(picks - self._picks_before, 0.0) * REFRESH_PER_S
        self._picks_before = picks
        reachable = sum(endpoint.reachable is True for endpoint in endpoints)
        parts = [
            f"{len(pools)} pools",
            f"{reachable}/{len(endpoints)} endpoints",
            f"{sum(endpoint.in_flight for endpoint in endpoints)} in flight",
            f"{rate:.0f} picks/s",
        ]
        restarts = self._gateway.picker.restarts + self._gateway.envoy.restarts
        if restarts:
            parts.append(f"{restarts} restarts")
        errors = sum(problem.is_error for problem in self._gateway.reconciler.view.problems)
        if errors:
            parts.append(f"{errors} manifest errors")
        style = "red" if errors or not self._gateway.link.connected else "green"
        return Text("● ", style=style) + Text(" · ".join(parts), style="default")
