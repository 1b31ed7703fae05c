"""A model server that does as it is told, with its troubles settable."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inferway.adapters.model_server import ServerError
from inferway.adapters.plan import Load, Present

if TYPE_CHECKING:
    from inferway.adapters.plan import Call


@dataclass
class FakeServer:
    """`troubles`: adapter to what a call about it raises."""

    up: bool = True
    adapters: dict[str, str] = field(default_factory=dict)
    troubles: dict[str, ServerError] = field(default_factory=dict)
    lists: int = 0
    asked_health_at_s: list[float] = field(default_factory=list)
    called: list[tuple[float, str]] = field(default_factory=list)
    hangs: bool = False

    def restart(self) -> None:
        self.adapters.clear()

    async def healthy(self) -> bool:
        self.asked_health_at_s.append(self._now_s())
        return self.up

    async def present(self) -> Present:
        self.lists += 1
        if not self.up:
            raise ServerError("GET /v1/models: refused")
        if self.hangs:
            await asyncio.Event().wait()
        return Present(dict(self.adapters), frozenset({"base"}))

    async def apply(self, call: Call) -> None:
        self.called.append((self._now_s(), str(call)))
        if call.adapter in self.troubles:
            raise self.troubles[call.adapter]
        if isinstance(call, Load):
            self.adapters[call.adapter] = call.source
        else:
            self.adapters.pop(call.adapter, None)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


@dataclass
class Counted:
    calls: list[tuple[str, str]] = field(default_factory=list)
    unhealthy_servers: int = 0

    def called(self, call: Call, result: str) -> None:
        self.calls.append((call.adapter, result))

    def unhealthy(self) -> None:
        self.unhealthy_servers += 1
