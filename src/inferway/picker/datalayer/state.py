"""All that one picker knows of its endpoints, wired together.

Problem: an address may stand in several pools, pools change while requests run, and each reading
concerns several of the stores. Model: `DataLayer` owns the stores; `configure` swaps in the pools
of a new configuration and keeps what is known of addresses that stay; `PoolData` is what the
scheduler of one pool works with. It is the `Sink` of the scraper. No I/O and no clock here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.picker.config import EndpointStatus, PoolStatus
from inferway.picker.datalayer.accounting import InFlight
from inferway.picker.datalayer.engine_mappings import attribute_keys, endpoint_metrics
from inferway.picker.datalayer.estimates import Estimates
from inferway.picker.datalayer.health_book import HealthBook
from inferway.picker.datalayer.kv_events.book import EventBook
from inferway.picker.datalayer.lora import LoraState, PoolLora
from inferway.picker.datalayer.models import ModelCatalog, Served
from inferway.picker.datalayer.prefix import BlockIndex, PoolPrefix, PrefixStore
from inferway.picker.datalayer.readiness import Unready
from inferway.picker.datalayer.speed_book import SpeedBook
from inferway.picker.datalayer.table import EndpointTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from inferway._native import Done
    from inferway.picker.config import PoolConfig
    from inferway.picker.datalayer.accounting import Charge
    from inferway.picker.datalayer.engines import EngineMetrics, Reading
    from inferway.picker.datalayer.faults import Cause, FaultClass
    from inferway.picker.health_config import HealthConfig
    from inferway.picker.scheduling.engine_constants import EngineConstants

# End reasons of DONE (docs/pick-protocol.md).
_COMPLETE = 0


@dataclass(frozen=True, slots=True, eq=False)
class PoolData:
    """The stores as one pool sees them; valid until the next `configure`."""

    table: EndpointTable
    prefix: PoolPrefix
    lora: PoolLora
    layer: DataLayer


class DataLayer:
    """`index` is a `_native.PrefixIndex`, `seed_of` is `_native.hash_seed`."""

    def __init__(self, index: BlockIndex, seed_of: Callable[[str], int]) -> None:
        self.estimates = Estimates()
        self.catalog = ModelCatalog()
        self.prefixes = PrefixStore(index, seed_of)
        self.kv_events = EventBook(lambda: self.prefixes)
        self.in_flight = InFlight(self._active_changed)
        self.health = HealthBook(self._health_changed)
        self.lora = LoraState(self.in_flight.models_at, self.catalog.is_adapter)
        self.speeds = SpeedBook(self._constants_changed)
        self.pools: dict[str, PoolData] = {}
        self.engines: dict[str, tuple[EngineMetrics, str]] = {}  # address: names, metrics path
        self._places: dict[str, list[tuple[EndpointTable, int]]] = {}
        self._reachable: dict[str, bool] = {}

    def configure(self, pools: Iterable[PoolConfig]) -> None:
        """Swaps in these pools. ValueError (and nothing changed) when an engine is not known."""
        configs = {pool.name: pool for pool in pools}
        engines = endpoint_metrics(configs.values())
        tables = [self._table(pool) for pool in configs.values()]
        self.engines = engines
        self._places = {}
        for table in tables:
            for address, row in table.rows.items():
                self._places.setdefault(address, []).append((table, row))
        self.prefixes.rebind(self._places)
        self.kv_events.configure(_ranks(configs.values()))
        self.catalog.rebind(self._places)
        self._reachable = {a: r for a, r in self._reachable.items() if a in self._places}
        loras = self.lora.rebind([table.addresses for table in tables])
        self.pools = {
            table.pool: PoolData(table, self.prefixes.pool(table.addresses), lora, self)
            for table, lora in zip(tables, loras, strict=True)
        }
        self.in_flight.rebind(tables)
        settings: dict[str, HealthConfig] = {}
        for pool in configs.values():
            for endpoint in pool.endpoints:
                settings.setdefault(endpoint.address, pool.health)
        self.health.configure(settings)
        for address in self.health.watched:
            self._health_changed(address)
        self.speeds.configure(configs.values())

    def observe_usage(
        self,
        model: str,
        *,
        end: int,
        prompt_bytes: int,
        prompt_tokens: int,
        completion_tokens: int,
    ) -> None:
        """The usage that a DONE carried; only complete answers teach anything."""
        if end == _COMPLETE:
            self.estimates.observe(
                model,
                prompt_bytes=prompt_bytes,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
            )

    def observe_latency(self, charge: Charge, done: Done, now_s: float) -> None:
        """How long a complete answer took."""
        self.speeds.learn(charge, done, now_s)

    def own_requests(self, address: str) -> float:
        places = self._places.get(address)
        return places[0][0].in_flight(places[0][1]) if places else 0.0

    def scraped(self, address: str, reading: Reading, own_requests: float, now_s: float) -> None:
        for table, row in self._places.get(address, ()):
            table.record(
                row,
                waiting=reading.waiting,
                running=reading.running,
                kv_usage_ratio=reading.kv_usage_ratio,
                own_requests=own_requests,
                now_s=now_s,
                attributes=reading.attributes,
            )
        if self.prefixes.record(address, reading, self.estimates.overall.bytes_per_token):
            self.lora.forget(address)
            self.speeds.forget(address)
            self.kv_events.restarted(address)
        self.lora.record(address, reading.lora)

    def models(self, address: str, answer: Served) -> None:
        if address in self._places:
            self.catalog.record(address, answer)

    def reachable(self, address: str, reachable: bool) -> None:
        if address in self._places:
            self._reachable[address] = reachable
            self.catalog.set_reachable(address, reachable)

    def status(self, pool: str, now_s: float) -> PoolStatus:
        """What the picker reports of a pool. KeyError when there is no such pool."""
        table = self.pools[pool].table
        table.refresh_ages(now_s)
        self.health.advance(now_s)
        return PoolStatus(
            name=pool,
            endpoints=tuple(self._endpoint(table, row, now_s) for row in range(len(table))),
            panic=table.readiness.panic,
        )

    def _endpoint(self, table: EndpointTable, row: int, now_s: float) -> EndpointStatus:
        address, columns = table.addresses[row], table.view()
        answer = self.catalog.at(address) or Served()
        age_s = float(columns.metrics_age_s[row])
        standing, counters = self.health.standing(address), self.health.counters.get(address)
        return EndpointStatus(
            address=address,
            ready=bool(columns.ready[row]),
            unready=table.readiness.reason(row) or "",
            health=standing.state.value,
            cause=standing.cause or "",
            until_s=None if standing.until_s is None else max(0.0, standing.until_s - now_s),
            weight=standing.share,
            faults=_by_name(counters.faults) if counters else {},
            ejections=_by_name(counters.ejections) if counters else {},
            reachable=self._reachable.get(address),
            age_s=age_s if age_s != float("inf") else None,
            models=answer.models,
            adapters=answer.adapters,
            parents=dict(answer.parents),
            in_flight=int(columns.in_flight[row]),
            pending_tokens=int(columns.pending_tokens[row]),
            waiting=_known(float(columns.waiting[row])),
            running=_known(float(columns.running[row])),
            kv_usage_ratio=_known(float(columns.kv_usage_ratio[row])),
            speed=self.speeds.status(address),
            picks=table.picks(row),
        )

    def _table(self, pool: PoolConfig) -> EndpointTable:
        endpoints = {endpoint.address: endpoint for endpoint in pool.endpoints}
        labels = {endpoint.address: endpoint.labels for endpoint in pool.endpoints}
        before = self.pools.get(pool.name)
        panic_ratio, keys = pool.health.panic_ratio, attribute_keys(pool)
        table = (
            EndpointTable(pool.name, endpoints, labels, panic_ratio=panic_ratio, attributes=keys)
            if before is None
            else before.table.rebuilt(endpoints, labels, panic_ratio=panic_ratio, attributes=keys)
        )
        table.set_all_unready(
            {
                Unready.CHECKS: [not one.ready for one in endpoints.values()],
                Unready.DRAINING: [one.draining for one in endpoints.values()],
            }
        )
        return table

    def _health_changed(self, address: str) -> None:
        standing = self.health.standing(address)
        for table, row in self._places.get(address, ()):
            table.set_unready(row, Unready.EJECTED, not standing.usable)
            table.set_weight(row, standing.share)

    def _constants_changed(self, changes: Mapping[str, EngineConstants]) -> None:
        by_table: dict[EndpointTable, list[tuple[int, EngineConstants]]] = {}
        for address, constants in changes.items():
            for table, row in self._places.get(address, ()):
                by_table.setdefault(table, []).append((row, constants))
        for table, rows in by_table.items():
            table.set_constants(rows)

    def _active_changed(self, address: str, model: str) -> None:
        self.lora.active_changed(address, model)


def _ranks(pools: Iterable[PoolConfig]) -> dict[str, int]:
    """Endpoints that publish KV events, with their data-parallel ranks."""
    endpoints = [endpoint for pool in pools for endpoint in pool.endpoints]
    return {one.address: one.kv_events.ranks for one in endpoints if one.kv_events is not None}


def _known(value: float) -> float | None:
    return None if value != value else value


def _by_name(counts: Mapping[FaultClass, int] | Mapping[Cause, int]) -> dict[str, int]:
    return {name.value: count for name, count in counts.items()}
