"""What a request of a model is likely to cost: bytes per prompt token and output tokens.

Problem: decisions count in tokens, but only the engine tokenises, and nobody knows an answer's
length before it ends. Model: per model an exponentially weighted mean, fed by the usage of finished
requests. Values outside what text can be are garbage (images as base64, broken usage) and are
dropped; the number of models is bounded, further ones share the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

# Mean output lengths of public traces: Azure code 28, Mooncake synthetic 149, Azure conversation
# 211, Mooncake conversation 343. The policy is insensitive: half or five times the true mean moves
# mean latency by a few per cent.
OUTPUT_TOKENS = 200.0
# The rule of thumb for English text, also the reference picker's estimate.
BYTES_PER_TOKEN = 4.0
# Shorter prompts are mostly chat template, which the engine adds and we do not see.
_PROMPT_TOKENS_MIN = 32
_BYTES_PER_TOKEN_MIN, _BYTES_PER_TOKEN_MAX = 0.5, 32.0
_OUTPUT_TOKENS_MAX = 1_000_000
_WEIGHT = 0.05  # remembers about the last forty requests
_MODELS_MAX = 1024


@dataclass(slots=True)
class Estimate:
    """Running means of one model; read-only for everyone but `Estimates`."""

    output_tokens: float = OUTPUT_TOKENS
    bytes_per_token: float = BYTES_PER_TOKEN


class Estimates:
    def __init__(self, *, models_max: int = _MODELS_MAX) -> None:
        self._models: dict[str, Estimate] = {}
        self._models_max = models_max
        self._default = Estimate()
        self.overall = Estimate()  # over all models: what sizes an engine's cache in bytes

    def of(self, model: str) -> Estimate:
        return self._models.get(model, self._default)

    def observe(
        self, model: str, *, prompt_bytes: int, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """Takes the usage of a request that ended complete. `prompt_bytes` 0: not known."""
        estimate, overall = self._models.get(model), self.overall
        if estimate is None:
            if len(self._models) >= self._models_max:
                return
            estimate = self._models[model] = Estimate()
        if 1 <= completion_tokens <= _OUTPUT_TOKENS_MAX:
            estimate.output_tokens += _WEIGHT * (completion_tokens - estimate.output_tokens)
            overall.output_tokens += _WEIGHT * (completion_tokens - overall.output_tokens)
        if prompt_tokens >= _PROMPT_TOKENS_MIN:
            ratio = prompt_bytes / prompt_tokens
            if _BYTES_PER_TOKEN_MIN <= ratio <= _BYTES_PER_TOKEN_MAX:
                estimate.bytes_per_token += _WEIGHT * (ratio - estimate.bytes_per_token)
                overall.bytes_per_token += _WEIGHT * (ratio - overall.bytes_per_token)
