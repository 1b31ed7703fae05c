"""Which LoRA adapters are on the accelerator, and what it costs to bring one there.

Slots are few and shared by everything in a batch; an adapter that is not resident has to be loaded
first, from host memory or from storage, and evicts the least recently used one that no running
request uses.
"""

from collections import Counter, OrderedDict

from .parameters import EngineParameters

READY = "ready"
LOADING = "loading"
NO_SLOT = "no slot"


class AdapterSlots:
    """Residency, loading and use of adapters on one engine."""

    __slots__ = ("_host", "_loading", "_parameters", "_resident", "loads", "running", "waiting")

    def __init__(self, parameters: EngineParameters) -> None:
        self._parameters = parameters
        self._resident: OrderedDict[str, None] = OrderedDict()
        self._host: OrderedDict[str, None] = OrderedDict()
        self._loading: dict[str, float] = {}
        self.running: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.loads = 0

    @property
    def resident(self) -> tuple[str, ...]:
        """Adapters that can run now, least recently used first."""
        return tuple(self._resident)

    def request(self, adapter: str, now_s: float) -> str:
        """READY, LOADING (it is on its way, possibly since this call) or NO_SLOT."""
        if adapter in self._resident:
            self._resident.move_to_end(adapter)
            return READY
        if adapter in self._loading:
            return LOADING
        in_use = sum(1 for name in self._resident if self.running[name]) + len(self._loading)
        if in_use >= self._parameters.max_loras:
            return NO_SLOT
        if len(self._resident) + len(self._loading) >= self._parameters.max_loras:
            idle = next(name for name in self._resident if not self.running[name])
            del self._resident[idle]
        load_s = self._parameters.lora_load_s(in_host_memory=adapter in self._host)
        self._remember_on_host(adapter)
        self.loads += 1
        if load_s <= 0:
            self._resident[adapter] = None
            return READY
        self._loading[adapter] = now_s + load_s
        return LOADING

    def finish_loads(self, now_s: float) -> list[str]:
        """Makes resident what has arrived by now; returns the names."""
        if not self._loading:
            return []
        arrived = [name for name, ready_s in self._loading.items() if ready_s <= now_s]
        for name in arrived:
            del self._loading[name]
            self._resident[name] = None
        return arrived

    def next_arrival_s(self) -> float | None:
        """When the next load completes."""
        return min(self._loading.values(), default=None)

    def forget(self, adapter: str) -> None:
        """Drops an adapter that was unregistered; requests that run with it keep their slot until
        they end.
        """
        self._host.pop(adapter, None)
        if not self.running[adapter]:
            self._resident.pop(adapter, None)

    def _remember_on_host(self, adapter: str) -> None:
        self._host[adapter] = None
        self._host.move_to_end(adapter)
        while len(self._host) > self._parameters.max_cpu_loras:
            self._host.popitem(last=False)
