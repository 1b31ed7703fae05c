"""How fast a simulated engine is, and how much it holds.

A routing decision can only be judged against engines whose prefill disturbs decode and whose cache
fills up, so every set is derived from the accelerator's peak numbers and the model's shape instead
of being typed in: prefill from compute, decode from memory bandwidth, KV capacity from what the
weights leave over. The efficiency factors (1.36, 1.95, 32 µs per layer) are those published for
BLIS (inference-sim); the rest are common vLLM defaults.

All times are seconds of simulated time. Sizes are decimal bytes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_WEIGHT_READ_FACTOR = 1.36  # measured over ideal time to stream the weights once
_KV_READ_FACTOR = 1.95  # the same for scattered KV blocks
_LAYER_S = 32e-6  # kernel launches and norms, per layer and step
_STEP_OVERHEAD_S = 0.13e-3  # scheduler and sampler, per step
_PARALLEL_FACTOR = 1.3  # collectives of tensor parallelism
_ATTENTION_EFFICIENCY = 0.4  # share of peak that prefill attention reaches
_MEMORY_SHARE = 0.9  # vLLM's gpu_memory_utilization
_ACTIVATION_BYTES = 2e9  # activations and graphs, per accelerator
_MODEL_LENGTH_TOKENS = 131_072


def _require_positive(name: str, field: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name}: {field} must be above 0: {value}")


@dataclass(frozen=True, slots=True)
class EngineParameters:
    """One engine's cost model, limits and cache size."""

    name: str
    prefill_tokens_per_s: float
    step_fixed_s: float
    weight_read_s: float
    attention_s: float
    """Prefill attention, seconds per chunk token and context token."""
    kv_read_s: float
    """Decode attention, seconds per context token."""
    sequence_s: float
    """Sampling and bookkeeping, seconds per decoding sequence and step."""
    num_blocks: int
    max_model_len: int
    ingest_s: float = 15e-3
    """Tokenising and admission before a request can be scheduled."""
    output_token_s: float = 46e-6
    """Detokenising and sending, seconds per token; delays the client, not the engine."""
    block_tokens: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    long_prefill_threshold: int = 0
    """Most prompt tokens of one request in one step; 0: only the batch's budget."""
    jitter_sigma: float = 0.03
    """Sigma of the lognormal factor on every step; 0: none."""
    decode_tokens_per_step: int = 1
    """Tokens per sequence and step; above 1 the engine is not like vLLM, only cheap to run."""
    max_loras: int = 4
    """Adapters that one batch can use, which is also the number of slots on the accelerator."""
    max_cpu_loras: int = 16
    """Adapters kept in host memory."""
    lora_rank: int = 16
    lora_load_fixed_s: float = 1.5e-3
    lora_bytes_per_rank: float = 2e6
    lora_storage_bytes_per_s: float = 2e9
    lora_host_bytes_per_s: float = 25e9
    """Host memory to accelerator; our estimate for PCIe 5 (BLIS has one tier only)."""
    lora_step_s: float = 50e-6
    """Extra kernels per distinct adapter in a step; our estimate for ranks up to 16."""

    def __post_init__(self) -> None:
        for field in ("num_blocks", "max_model_len", "block_tokens", "max_num_seqs"):
            _require_positive(self.name, field, getattr(self, field))
        for field in ("max_num_batched_tokens", "decode_tokens_per_step", "max_loras"):
            _require_positive(self.name, field, getattr(self, field))
        _require_positive(self.name, "prefill_tokens_per_s", self.prefill_tokens_per_s)
        if self.max_model_len > self.capacity_tokens:
            raise ValueError(
                f"{self.name}: max_model_len {self.max_model_len} exceeds the KV capacity of "
                f"{self.capacity_tokens} tokens: such a request could never run"
            )

    @property
    def capacity_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self.num_blocks * self.block_tokens

    def step_s(
        self,
        *,
        prefill_tokens: int,
        decode_tokens: int,
        attention_products: float = 0.0,
        context_tokens: int = 0,
        adapters: int = 0,
    ) -> float:
        """Duration of one step without jitter.

        `attention_products` is Σ chunk·(done + chunk/2) over the prefill chunks, `context_tokens`
        the sum of the decoding sequences' contexts. Weights are read while tokens are computed, so
        the larger of both counts.
        """
        compute_s = (prefill_tokens + decode_tokens) / self.prefill_tokens_per_s
        return (
            self.step_fixed_s
            + max(self.weight_read_s, compute_s)
            + self.attention_s * attention_products
            + self.kv_read_s * context_tokens
            + self.sequence_s * decode_tokens
            + self.lora_step_s * adapters
        )

    def lora_load_s(self, *, in_host_memory: bool) -> float:
        """Time until an adapter can be used; shorter when its weights are in host memory."""
        bandwidth = self.lora_host_bytes_per_s if in_host_memory else self.lora_storage_bytes_per_s
        return self.lora_load_fixed_s + self.lora_bytes_per_rank * self.lora_rank / bandwidth


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Peak numbers of one device: dense bf16 FLOP/s, memory bandwidth, usable memory."""

    name: str
    flops: float
    bytes_per_s: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a dense transformer costs: weights in bf16, KV heads after grouping."""

    name: str
    parameters: float
    layers: int
    heads: int
    kv_heads: int
    head_size: int = 128

    @property
    def weight_bytes(self) -> float:
        return 2 * self.parameters

    @property
    def kv_bytes_per_token(self) -> int:
        return 2 * 2 * self.layers * self.kv_heads * self.head_size


H100 = Accelerator("h100", flops=989e12, bytes_per_s=3.35e12, memory_bytes=85e9)
A100 = Accelerator("a100", flops=312e12, bytes_per_s=2.039e12, memory_bytes=85e9)
L4 = Accelerator("l4", flops=121e12, bytes_per_s=0.3e12, memory_bytes=24.15e9)

LLAMA_3_8B = ModelShape("llama-3-8b", parameters=8.03e9, layers=32, heads=32, kv_heads=8)
QWEN3_32B = ModelShape("qwen3-32b", parameters=32.8e9, layers=64, heads=64, kv_heads=8)
LLAMA_3_70B = ModelShape("llama-3-70b", parameters=70.6e9, layers=80, heads=64, kv_heads=8)


def derive(
    model: ModelShape,
    accelerator: Accelerator,
    *,
    devices: int,
    prefill_efficiency: float,
    weight_read_factor: float = _WEIGHT_READ_FACTOR,
) -> EngineParameters:
    """The parameters of `model` on `devices` accelerators with tensor parallelism."""
    flops = accelerator.flops * devices
    bandwidth = accelerator.bytes_per_s * devices
    kv_bytes = model.kv_bytes_per_token
    fixed_s = _LAYER_S * model.layers + _STEP_OVERHEAD_S
    left_bytes = (
        _MEMORY_SHARE * accelerator.memory_bytes * devices
        - model.weight_bytes
        - _ACTIVATION_BYTES * devices
    )
    num_blocks = int(left_bytes / kv_bytes) // 16
    count = f"{devices}x" if devices > 1 else ""
    return EngineParameters(
        name=f"{model.name}-{count}{accelerator.name}",
        prefill_tokens_per_s=prefill_efficiency * flops / (2 * model.parameters),
        step_fixed_s=fixed_s * (_PARALLEL_FACTOR if devices > 1 else 1.0),
        weight_read_s=model.weight_bytes / bandwidth * weight_read_factor,
        attention_s=4
        * model.layers
        * model.heads
        * model.head_size
        / (_ATTENTION_EFFICIENCY * flops),
        kv_read_s=kv_bytes / bandwidth * _KV_READ_FACTOR,
        sequence_s=8e-6,
        num_blocks=num_blocks,
        max_model_len=min(_MODEL_LENGTH_TOKENS, num_blocks * 16),
    )


INSTANT = EngineParameters(
    name="instant",
    prefill_tokens_per_s=math.inf,
    step_fixed_s=0.0,
    weight_read_s=0.0,
    attention_s=0.0,
    kv_read_s=0.0,
    sequence_s=0.0,
    num_blocks=131_072,
    max_model_len=2_097_152,
    ingest_s=0.0,
    output_token_s=0.0,
    max_num_seqs=4096,
    max_num_batched_tokens=4_194_304,
    jitter_sigma=0.0,
    decode_tokens_per_step=65_536,
    lora_load_fixed_s=0.0,
    lora_bytes_per_rank=0.0,
    lora_step_s=0.0,
)
"""Answers at once: for measuring what stands in front of it."""


def _table() -> Mapping[str, EngineParameters]:
    derived = (
        derive(LLAMA_3_8B, H100, devices=1, prefill_efficiency=0.5),
        derive(LLAMA_3_8B, A100, devices=1, prefill_efficiency=0.5),
        # A small device is limited by bandwidth alone: the published 60 ms mean a factor of 1.1.
        derive(LLAMA_3_8B, L4, devices=1, prefill_efficiency=0.45, weight_read_factor=1.1),
        derive(QWEN3_32B, H100, devices=2, prefill_efficiency=0.55),
        derive(QWEN3_32B, A100, devices=2, prefill_efficiency=0.5),
        derive(LLAMA_3_70B, H100, devices=4, prefill_efficiency=0.5),
        derive(LLAMA_3_70B, H100, devices=8, prefill_efficiency=0.4),
        derive(LLAMA_3_70B, A100, devices=4, prefill_efficiency=0.5),
    )
    return MappingProxyType({entry.name: entry for entry in (*derived, INSTANT)})


PARAMETER_SETS: Mapping[str, EngineParameters] = _table()
"""The named sets that `--engine` accepts."""


def parameters_named(name: str) -> EngineParameters:
    """The set of that name. ValueError lists the known ones."""
    found = PARAMETER_SETS.get(name)
    if found is None:
        raise ValueError(f"unknown engine: {name} (known: {', '.join(PARAMETER_SETS)})")
    return found
