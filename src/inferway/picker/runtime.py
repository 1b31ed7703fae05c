"""What one configuration means for picks: pool name to scheduler, objectives to priorities.

Problem: a configuration must take effect between two picks, whole or not at all. Model: `Runtime`
is built from a `PickerConfig` and swapped by its owner (desk.py); what outlives it (endpoint
state, in-flight work, prefix index, estimates) belongs to the `DataLayer` and is carried over by
address and pool name. Invariants: everything that can be wrong is found before anything
changes; a runtime decides with its own configuration only. It answers one pick at a time and does
no I/O; the clock reading comes as an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inferway._native import encode_endpoints, hash_seed
from inferway.picker.flowcontrol.asked import Asked, Refusal
from inferway.picker.flowcontrol.waiting import Waiting
from inferway.picker.outcome import OUTCOMES, Outcome, reject
from inferway.picker.rewriting import Rewriter
from inferway.picker.scheduling.decide import PoolScheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway._native import Pick
    from inferway.picker.config import PickerConfig, PoolConfig
    from inferway.picker.datalayer.state import DataLayer, PoolData
    from inferway.picker.explain import Ring
    from inferway.picker.flowcontrol.asked import FlowRequest, Held
    from inferway.picker.flowcontrol.pool_flow import PoolFlow
    from inferway.picker.holding import Flows
    from inferway.picker.metrics import PickerMetrics, PoolCounters
    from inferway.picker.scheduling.contracts import Random
    from inferway.picker.scheduling.decide import Weighed
    from inferway.picker.scheduling.profile import Profile
    from inferway.picker.scheduling.profiles import Profiles

# Clients choose model names, so what is remembered of them is bounded.
MODELS_REMEMBERED_MAX: Final = 4_096
PICKED: Final = Outcome.PICKED  # reading it from the enum costs as much as a call
_PICKED_INDEX: Final = OUTCOMES.index(PICKED)
_NO_POOL: Final = Refusal(Outcome.POOL_NOT_FOUND)
_NO_MODEL: Final = Refusal(Outcome.MODEL_NOT_FOUND)
_NO_ENDPOINT: Final = Refusal(Outcome.NO_ENDPOINT)
_QUEUED_US_MAX: Final = 0xFFFF_FFFF  # the protocol carries u32


class Runtime:
    """Pools of one configuration. ValueError, and nothing changed, when it cannot be used."""

    def __init__(
        self,
        config: PickerConfig,
        layer: DataLayer,
        metrics: PickerMetrics,
        random_of: Callable[[str], Random],
        profiles: Profiles,
        ring: Ring,
        flows: Flows,
        now_s: float,
    ) -> None:
        names = [pool.name for pool in config.pools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"pools: listed twice: {', '.join(twice)}")
        built = profiles.build(config.pools)
        layer.configure(config.pools)
        profiles.keep(built)
        ring.configure(config.explain)
        self.config = config
        self._metrics = metrics
        self._ring = ring
        flows.keep(config.pools)
        self.pools = {
            pool.name: PoolRuntime(
                pool,
                self._scheduler(pool, layer.pools[pool.name], profiles[pool.name], random_of),
                layer,
                metrics,
                Rewriter(pool.rewrites, random_of(pool.name), hash_seed) if pool.rewrites else None,
                flows.pools[pool.name],
            )
            for pool in config.pools
        }
        for pool in config.pools:
            self.pools[pool.name].take_force(pool, random_of(pool.name), now_s)

    def _scheduler(
        self,
        pool: PoolConfig,
        data: PoolData,
        profile: Profile,
        random_of: Callable[[str], Random],
    ) -> PoolScheduler:
        rng = random_of(pool.name)
        recorder = self._ring.recorder(profile, rng, every=pool.explain.record_every)
        return PoolScheduler(data, profile, rng, recorder=recorder, reasons=pool.explain.reason)

    def pick(self, connection: int, pick: Pick, now_s: float) -> tuple[Outcome | None, bytes, str]:
        """Decides, charges, counts; returns what came of it, the frame that answers, and the model
        that shall serve. No outcome and no frame: the request waits, in `Flows`.
        """
        pool = self.pools.get(pick.pool)
        if pool is None:
            return Outcome.POOL_NOT_FOUND, self.refuse(_NO_POOL, pick), pick.model
        refusal, frame, model = pool.pick(connection, pick, now_s)
        if frame:
            return PICKED, frame, model
        if refusal is None:
            return None, b"", model
        return refusal.outcome, self.refuse(refusal, pick, model), model

    def refuse(
        self,
        refusal: Refusal,
        pick: FlowRequest,
        model: str = "",
        waiting_since_s: float | None = None,
    ) -> bytes:
        """The answer to a request that goes nowhere. `model`: that should have served."""
        outcome, retry_after_s, retry = refusal
        self._metrics.pool(pick.pool).outcomes[OUTCOMES.index(outcome)] += 1
        if self._metrics.versions.pools:
            self._count_refusal(outcome, pick, model or pick.model)
        pool = self.pools.get(pick.pool)
        priority = None if pool is None else pool.priority(pick.objective, pick.model)
        self._ring.refused(pick, model or pick.model, priority, outcome, waiting_since_s)
        return reject(
            outcome,
            stream=pick.stream,
            model=pick.model,
            pool=pick.pool,
            retry_after_s=retry_after_s,
            retry=retry,
        )

    def _count_refusal(self, outcome: Outcome, pick: FlowRequest, model: str) -> None:
        """A model that nobody serves is the client's mistake, unless the gateway chose it or a
        roll-out took the request away from where it is served.
        """
        versions = self._metrics.versions
        if outcome is Outcome.MODEL_NOT_FOUND and model == pick.model:
            measured = (self.pools.get(name) for name in versions.pools)
            if not any(pool.serves(model) for pool in measured if pool is not None):
                return
        versions.refused(pick.pool, model, outcome)


class PoolRuntime:
    """One pool of one configuration."""

    __slots__ = (
        "_counters",
        "_first_token_deadline_ms",
        "_known",
        "_known_revision",
        "_layer",
        "_metrics",
        "_objectives",
        "_rewriter",
        "_scheduler",
        "flow",
    )

    def __init__(
        self,
        config: PoolConfig,
        scheduler: PoolScheduler,
        layer: DataLayer,
        metrics: PickerMetrics,
        rewriter: Rewriter | None,
        flow: PoolFlow,
    ) -> None:
        self._scheduler = scheduler
        self._layer = layer
        self._metrics = metrics
        self._counters: PoolCounters = metrics.pool(config.name)
        self._objectives = config.objectives
        self._first_token_deadline_ms = config.first_token_deadline_ms
        self._rewriter = rewriter
        self._known: dict[str, bool | None] = {}
        self._known_revision = -1
        self.flow = flow

    def take_force(self, config: PoolConfig, random: Random, now_s: float) -> None:
        """From now on what waits goes by this configuration."""
        self.flow.bind(
            config.flow,
            self._layer.pools[config.name].table,
            self._scheduler,
            priorities=config.objectives.values(),
            placed=self._counters.priorities,
            random=random,
            now_s=now_s,
        )

    def priority(self, objective: str, model: str) -> int:
        """The objective that the header names, else the one named like the model, else 0.

        A header that names no objective of the pool is no way around the model's own.
        """
        objectives = self._objectives
        if not objectives:
            return 0
        priority = objectives.get(objective)
        return objectives.get(model, 0) if priority is None else priority

    def pick(self, connection: int, pick: Pick, now_s: float) -> tuple[Refusal | None, bytes, str]:
        """Why not, or the answer, and the model that shall serve; neither: the request waits.

        That model is chosen first, so that all the rest (is it served, where is its adapter, where
        is its prompt cached) is about what the server will see. Only the priority goes by the name
        that the client sent.
        """
        asked, known, rewriter = pick.model, self._known, self._rewriter
        model = asked if rewriter is None else rewriter.target(pick)
        if self._layer.catalog.revision != self._known_revision or model not in known:
            self._ask(model)
        if known[model] is False:
            return _NO_MODEL, b"", model
        priority = self.priority(pick.objective, asked) if self._objectives else 0
        scheduler, flow = self._scheduler, self.flow
        weighed = scheduler.weigh(pick, now_s, priority, model)
        if pick.slo_ttft_ms or pick.slo_tpot_ms:
            missed = flow.slo.refusal(weighed, now_s)
            if missed is not None:
                return missed, b"", model
        rows = scheduler.choose(weighed)
        if not (rows and flow.direct and flow.has_room(rows[0], priority, now_s)):
            request = Asked(connection, pick, model, priority)
            decided = flow.decide(request, weighed, rows, now_s)
            if isinstance(decided, Refusal):
                if rows:
                    scheduler.refused(weighed)
                return decided, b"", model
            if isinstance(decided, Waiting):
                return None, b"", model
            weighed, rows = decided
        return None, self._place(connection, pick, weighed, rows), model

    def send_on(self, item: Held, now_s: float) -> bytes | Refusal | None:
        """The answer to one that waited, if it goes now; None: it waits on."""
        connection, pick, model, priority = item.what
        weighed = self._scheduler.weigh(pick, now_s, priority, model)
        if weighed.candidates is not None and not weighed.candidates.any():
            self._scheduler.nobody(weighed)
            self.flow.refused(item, now_s)
            return _NO_ENDPOINT
        going = self.flow.going(item, weighed, now_s)
        if going is None:
            return None
        waited_s = self.flow.sent(item, now_s)
        return self._place(connection, pick, going.weighed, going.rows, waited_s)

    def _place(
        self,
        connection: int,
        pick: FlowRequest,
        weighed: Weighed,
        rows: list[int],
        waited_s: float = 0.0,
    ) -> bytes:
        """Charges and counts; returns the answer."""
        _, _, endpoints, uncached, context, prompt, reason = self._scheduler.place(
            weighed, rows, connection, waited_s
        )
        priority, model = weighed.request.priority, weighed.request.model
        counters = self._counters
        counters.outcomes[_PICKED_INDEX] += 1
        counters.priorities[priority] = counters.priorities.get(priority, 0) + 1
        if prompt < uncached:  # the charge is rounded, and at least 1
            prompt = float(uncached)
        matched = prompt - uncached
        counters.prompt_tokens += prompt
        counters.matched_tokens += matched
        self._metrics.hit_ratio.observe(matched / prompt)
        renamed = "" if model == pick.model else model
        queued_us = min(int(waited_s * 1e6), _QUEUED_US_MAX) if waited_s else 0
        deadline_ms = self._first_token_deadline_ms
        return encode_endpoints(
            pick.stream, uncached, context, endpoints, renamed, queued_us, deadline_ms, reason
        )

    def serves(self, model: str) -> bool:
        """Whether an endpoint is known to serve it."""
        return self._scheduler.knows(model) is True

    def _ask(self, model: str) -> None:
        """Remembers `PoolScheduler.knows`, because it looks at every endpoint."""
        revision, known = self._layer.catalog.revision, self._known
        if revision != self._known_revision or len(known) >= MODELS_REMEMBERED_MAX:
            known.clear()
            self._known_revision = revision
        if model not in known:
            # A request without a model (any path that is not OpenAI's) is for every server.
            known[model] = self._scheduler.knows(model) if model else None
