"""What an engine needs for a token, in the terms of the marginal cost.

Problem: costs in seconds need the engine's speed, which no metric tells. Model: fixed constants of
one engine for all. They will be calibrated per endpoint class; until then a pool of unlike engines
is ranked as if they were alike.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineConstants:
    """Llama-3.1-8B in bf16 on one H100: the smallest engine in wide use.

    Derived from its published compute and bandwidth. The ranking bears errors of a factor of two
    in either direction, and the ratios that decide (prefill against step time against cache read)
    are alike on larger engines: Qwen3-32B on two H100 has 16.6k, 16 ms, 76 ns.
    """

    prefill_tokens_per_s: float = 31_000.0  # R
    attention_s: float = 1.3e-9  # a_q, per pair of tokens
    step_s: float = 7.7e-3  # t_f + t_w: one decode step of a batch of one
    context_token_s: float = 76e-9  # b_kv, per context token and step
    sequence_s: float = 8e-6  # b_seq, per sequence and step
    adapter_load_s: float = 0.02  # rank 16 from host memory: 1.5 ms + 32 MB at 2 GB/s
