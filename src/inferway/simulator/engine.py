"""A continuously batching engine as a pure function of time.

The replay advances a virtual clock by what `step` returns and the live server sleeps it, so both
judge a routing policy by the same engine. Batches are formed as in vLLM v1: running sequences
first, then waiting ones in order with the head of the line blocking, prompts in chunks within one
token budget, preemption of the youngest by recomputation, prefix caching, LoRA slots. Durations
come from EngineParameters.step_s.

Invariants: every submitted request either finishes once, with exactly the tokens it asked for, or
is cancelled; referenced blocks never exceed the cache; time never goes back. No clock, no I/O; the
only randomness is the seeded jitter.

Not modelled: speculative decoding, priorities among waiting requests, disaggregated prefill, CPU
offload of the cache.
"""

import random
from collections import deque

from .adapters import NO_SLOT, READY, AdapterSlots
from .blocks import BlockCache
from .cache_journal import CacheJournal
from .counters import EngineCounters
from .parameters import EngineParameters
from .sequences import EngineRequest, Event, FinishedRequest, RunningSequence, StepResult


class _Batch:
    """What one step computes."""

    __slots__ = ("budget", "chunks", "decodes", "events", "preempted")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.decodes: list[tuple[RunningSequence, int]] = []
        self.chunks: list[tuple[RunningSequence, int]] = []
        self.events: list[Event] = []
        self.preempted = False


class Engine:
    """One simulated engine. Callers submit, step and cancel with times that never decrease.

    `journal` is told what happens in the block cache.
    """

    def __init__(
        self, parameters: EngineParameters, *, seed: int = 0, journal: CacheJournal | None = None
    ) -> None:
        self.parameters = parameters
        self.journal = journal
        self.blocks = BlockCache(parameters.num_blocks, journal)
        self.adapters = AdapterSlots(parameters)
        self.counters = EngineCounters(parameters.max_model_len)
        self._random = random.Random(seed)  # noqa: S311 - reproducible jitter, not a secret
        self._now_s = 0.0
        self._ingesting: deque[RunningSequence] = deque()
        self._waiting: deque[RunningSequence] = deque()
        self._running: list[RunningSequence] = []
        self._sequences: dict[str, RunningSequence] = {}

    @property
    def now_s(self) -> float:
        """End of the last step."""
        return self._now_s

    @property
    def has_work(self) -> bool:
        return bool(self._sequences)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that are not in a batch, those being ingested included."""
        return len(self._waiting) + len(self._ingesting)

    def submit(self, request: EngineRequest, now_s: float) -> None:
        """Queues a request. ValueError when it could never run, or its id is in use."""
        if request.request_id in self._sequences:
            raise ValueError(f"request id in use: {request.request_id}")
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError(
                f"request {request.request_id}: prompt and output need at least one token: "
                f"{request.prompt_tokens}, {request.output_tokens}"
            )
        tokens = request.prompt_tokens + request.output_tokens
        if tokens > self.parameters.max_model_len:
            raise ValueError(
                f"request {request.request_id}: {tokens} tokens exceed max_model_len "
                f"{self.parameters.max_model_len}"
            )
        sequence = RunningSequence(
            request=request,
            arrived_s=now_s,
            ready_s=now_s + self.parameters.ingest_s,
            prefill_target=request.prompt_tokens,
        )
        self._sequences[request.request_id] = sequence
        self._ingesting.append(sequence)
        if request.adapter is not None:
            self.adapters.waiting[request.adapter] += 1

    def cancel(self, request_id: str) -> bool:
        """Drops a request and frees its blocks; False when it is not (or no longer) known."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return False
        if sequence in self._running:
            self._running.remove(sequence)
            self._free(sequence)
            self._leave(self.adapters.running, sequence)
        else:
            queue = self._waiting if sequence in self._waiting else self._ingesting
            queue.remove(sequence)
            self._leave(self.adapters.waiting, sequence)
        self.counters.finished["abort"] += 1
        return True

    def step(self, now_s: float) -> StepResult:
        """Forms a batch at `now_s` and computes it.

        Without anything to compute, the step is idle: it lasts until the next request is ingested
        or adapter loaded, or 0 s when there is no work at all.
        """
        if now_s < self._now_s:
            raise ValueError(f"time goes back: {now_s} s after {self._now_s} s")
        batch = _Batch(self.parameters.max_num_batched_tokens)
        batch.events.extend(
            Event("adapter_ready", name) for name in self.adapters.finish_loads(now_s)
        )
        while self._ingesting and self._ingesting[0].ready_s <= now_s:
            self._waiting.append(self._ingesting.popleft())
        self._schedule_decodes(batch)
        self._schedule_chunks(batch)
        self._admit(batch, now_s)
        if not batch.decodes and not batch.chunks:
            duration_s = self._idle_s(now_s)
            self._now_s = now_s + duration_s
            return StepResult(now_s, duration_s, events=batch.events)
        duration_s, prefill_tokens = self._duration(batch)
        previous_s, self._now_s = self._now_s, now_s + duration_s
        tokens, finished = self._advance(batch, previous_s)
        decodes = len(batch.decodes)
        self.counters.iteration_tokens.observe(prefill_tokens + decodes)
        return StepResult(
            now_s, duration_s, tokens, finished, batch.events, prefill_tokens, decodes
        )

    # --- forming a batch ---------------------------------------------------------------------

    def _schedule_decodes(self, batch: _Batch) -> None:
        block_tokens = self.parameters.block_tokens
        per_step = self.parameters.decode_tokens_per_step
        running = self._running
        index = 0
        while index < len(running):
            sequence = running[index]
            index += 1
            if not sequence.decoding or batch.budget <= 0:
                continue
            count = 1
            if per_step > 1:
                left = sequence.request.output_tokens - sequence.emitted
                count = min(per_step, left, batch.budget)
            blocks = -(-(sequence.computed + count) // block_tokens)
            if blocks > sequence.blocks and not self._grow(sequence, blocks, batch):
                continue
            batch.budget -= count
            batch.decodes.append((sequence, count))

    def _grow(self, sequence: RunningSequence, blocks: int, batch: _Batch) -> bool:
        """Gives a sequence more blocks, preempting the youngest until they fit; False when that
        was itself.
        """
        extra = blocks - sequence.blocks
        while not self.blocks.grow(extra):
            victim = self._running[-1]
            self._preempt(victim, batch)
            if victim is sequence:
                return False
        sequence.blocks = blocks
        sequence.private_blocks += extra
        return True

    def _preempt(self, victim: RunningSequence, batch: _Batch) -> None:
        self._running.pop()
        self._free(victim)
        victim.reset()
        victim.preemptions += 1
        self._waiting.appendleft(victim)
        self._leave(self.adapters.running, victim)
        if victim.request.adapter is not None:
            self.adapters.waiting[victim.request.adapter] += 1
        self.counters.preemptions += 1
        batch.preempted = True
        batch.events.append(Event("preempted", victim.request.request_id))

    def _schedule_chunks(self, batch: _Batch) -> None:
        for sequence in self._running:
            if not sequence.decoding:
                self._add_chunk(sequence, batch)

    def _add_chunk(self, sequence: RunningSequence, batch: _Batch) -> None:
        chunk = min(batch.budget, sequence.prefill_target - sequence.computed)
        if self.parameters.long_prefill_threshold:
            chunk = min(chunk, self.parameters.long_prefill_threshold)
        if chunk > 0:
            batch.budget -= chunk
            batch.chunks.append((sequence, chunk))

    def _admit(self, batch: _Batch, now_s: float) -> None:
        """Takes waiting requests in order until one does not fit. Those without an adapter slot
        are passed over.
        """
        passed_over: list[RunningSequence] = []
        while (
            self._waiting
            and batch.budget > 0
            and not batch.preempted
            and len(self._running) < self.parameters.max_num_seqs
        ):
            sequence = self._waiting[0]
            if (adapter := sequence.request.adapter) is not None:
                loads = self.adapters.loads
                state = self.adapters.request(adapter, now_s)
                if self.adapters.loads > loads:
                    batch.events.append(Event("adapter_loading", adapter))
                if state == NO_SLOT:
                    passed_over.append(self._waiting.popleft())
                    continue
                if state != READY:
                    break
            if not self._place(sequence):
                break
            self._waiting.popleft()
            self._start(sequence, now_s, batch)
        self._waiting.extendleft(reversed(passed_over))

    def _place(self, sequence: RunningSequence) -> bool:
        """Reserves blocks for everything to prefill; at least one token is always computed."""
        block_tokens = self.parameters.block_tokens
        hashes = sequence.request.block_hashes
        hits = self.blocks.match(hashes, (sequence.prefill_target - 1) // block_tokens)
        blocks = -(-sequence.prefill_target // block_tokens)
        cached = list(hashes[:hits])
        if not self.blocks.acquire(cached, blocks - hits):
            return False
        sequence.shared = cached
        sequence.considered = hits
        sequence.computed = hits * block_tokens
        sequence.blocks = blocks
        sequence.private_blocks = blocks - hits
        return True

    def _start(self, sequence: RunningSequence, now_s: float, batch: _Batch) -> None:
        request = sequence.request
        self._running.append(sequence)
        if request.adapter is not None:
            self._leave(self.adapters.waiting, sequence)
            self.adapters.running[request.adapter] += 1
        if sequence.cached_tokens is None:
            sequence.cached_tokens = sequence.computed
            sequence.admitted_s = now_s
            self.counters.prefix_query_tokens += request.prompt_tokens
            self.counters.prefix_hit_tokens += sequence.computed
        batch.events.append(Event("admitted", request.request_id))
        self._add_chunk(sequence, batch)

    def _idle_s(self, now_s: float) -> float:
        wake_s = [sequence.ready_s for sequence in list(self._ingesting)[:1]]
        if (arrival_s := self.adapters.next_arrival_s()) is not None and self._waiting:
            wake_s.append(arrival_s)
        return max(0.0, min(wake_s) - now_s) if wake_s else 0.0

    # --- computing it ------------------------------------------------------------------------

    def _duration(self, batch: _Batch) -> tuple[float, int]:
        prefill_tokens = 0
        products = 0.0
        for sequence, chunk in batch.chunks:
            prefill_tokens += chunk
            products += chunk * (sequence.computed + chunk / 2)
        adapters = {sequence.request.adapter for sequence, _ in batch.decodes}
        adapters.update(sequence.request.adapter for sequence, _ in batch.chunks)
        adapters.discard(None)
        duration_s = self.parameters.step_s(
            prefill_tokens=prefill_tokens,
            decode_tokens=len(batch.decodes),
            attention_products=products,
            context_tokens=sum(sequence.computed for sequence, _ in batch.decodes),
            adapters=len(adapters),
        )
        if self.parameters.jitter_sigma:
            duration_s *= self._random.lognormvariate(0.0, self.parameters.jitter_sigma)
        return duration_s, prefill_tokens

    def _advance(
        self, batch: _Batch, previous_s: float
    ) -> tuple[list[tuple[str, int]], list[FinishedRequest]]:
        """Applies the batch as of its end, which is `self._now_s`."""
        end_s = self._now_s
        tokens: list[tuple[str, int]] = []
        finished: list[FinishedRequest] = []
        in_step = 0
        for sequence, count in batch.decodes:
            sequence.computed += count
            if sequence.last_token_s == previous_s:
                in_step += count
            else:
                gap_s = (end_s - sequence.last_token_s) / count
                self.counters.inter_token_s.observe(gap_s, count)
            self._emit(sequence, count, tokens, finished)
        if in_step:
            self.counters.inter_token_s.observe(end_s - previous_s, in_step)
        for sequence, chunk in batch.chunks:
            sequence.computed += chunk
            if sequence.computed < sequence.prefill_target:
                self._share_computed(sequence)
                continue
            sequence.decoding = True
            if not sequence.emitted:
                self._count_first_token(sequence)
            else:
                self.counters.inter_token_s.observe(end_s - sequence.last_token_s)
            self._emit(sequence, 1, tokens, finished)
        if finished:
            self._running = [entry for entry in self._running if entry.blocks]
        return tokens, finished

    def _emit(
        self,
        sequence: RunningSequence,
        count: int,
        tokens: list[tuple[str, int]],
        finished: list[FinishedRequest],
    ) -> None:
        sequence.emitted += count
        sequence.last_token_s = self._now_s
        self.counters.generation_tokens += count
        tokens.append((sequence.request.request_id, count))
        if sequence.computed // self.parameters.block_tokens > sequence.considered:
            self._share_computed(sequence)
        if sequence.emitted >= sequence.request.output_tokens:
            finished.append(self._finish(sequence))

    def _share_computed(self, sequence: RunningSequence) -> None:
        """Offers every block that is now full of computed tokens to the cache."""
        hashes = sequence.request.block_hashes
        full = min(sequence.computed // self.parameters.block_tokens, len(hashes))
        stored: list[int] = []
        for index in range(sequence.considered, full):
            if self.blocks.commit(hashes[index]):
                stored.append(index)
                sequence.shared.append(hashes[index])
                sequence.private_blocks -= 1
        sequence.considered = max(sequence.considered, full)
        if stored and self.journal is not None:
            self._write_stored(sequence.request, stored, self.journal)

    def _write_stored(
        self, request: EngineRequest, stored: list[int], journal: CacheJournal
    ) -> None:
        """One event for each piece of the sequence without a gap."""
        size, hashes = self.parameters.block_tokens, request.block_hashes
        first = 0
        for last, index in enumerate(stored):
            if last + 1 < len(stored) and stored[last + 1] == index + 1:
                continue
            start, end = stored[first], index + 1
            journal.stored(
                hashes[start:end],
                hashes[start - 1] if start else None,
                request.token_ids[start * size : end * size],
                size,
            )
            first = last + 1

    def _count_first_token(self, sequence: RunningSequence) -> None:
        sequence.first_token_s = self._now_s
        counters = self.counters
        counters.prompt_tokens += sequence.request.prompt_tokens
        counters.time_to_first_token_s.observe(
            self._now_s - sequence.arrived_s + self.parameters.output_token_s
        )

    def _finish(self, sequence: RunningSequence) -> FinishedRequest:
        now_s, request, counters = self._now_s, sequence.request, self.counters
        del self._sequences[request.request_id]
        self._free(sequence)
        sequence.blocks = 0
        self._leave(self.adapters.running, sequence)
        counters.finished[request.finish_reason] += 1
        sending_s = self.parameters.output_token_s * sequence.emitted
        counters.request_s.observe(now_s - sequence.arrived_s + sending_s)
        counters.queue_s.observe(sequence.admitted_s - sequence.arrived_s)
        counters.prefill_s.observe(sequence.first_token_s - sequence.admitted_s)
        counters.decode_s.observe(now_s - sequence.first_token_s)
        counters.inference_s.observe(now_s - sequence.admitted_s)
        counters.prompt_tokens_per_request.observe(request.prompt_tokens)
        counters.generation_tokens_per_request.observe(sequence.emitted)
        if request.max_tokens is not None:
            counters.max_tokens_per_request.observe(request.max_tokens)
        return sequence.finish(now_s)

    def _free(self, sequence: RunningSequence) -> None:
        self.blocks.release(reversed(sequence.shared), sequence.private_blocks)

    @staticmethod
    def _leave(counts: "dict[str, int]", sequence: RunningSequence) -> None:
        """Takes a sequence out of an adapter count; names with nothing left disappear."""
        adapter = sequence.request.adapter
        if adapter is None:
            return
        counts[adapter] -= 1
        if counts[adapter] <= 0:
            del counts[adapter]
