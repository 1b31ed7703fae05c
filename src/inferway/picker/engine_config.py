"""What the engines of a pool call their metrics, beyond those that datalayer/engines.py knows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MetricConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    labels: dict[str, str] = Field(
        default_factory=dict, description="only samples that carry all of these"
    )
    value_of: str = Field(
        default="", description="the label whose value is the number; empty: the sample's own"
    )


class EngineConfig(BaseModel):
    """None: as the built-in engine of that name, else not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    waiting: MetricConfig | None = None
    running: MetricConfig | None = None
    kv_usage_ratio: MetricConfig | None = None
    lora: MetricConfig | None = None
    block_size: MetricConfig | None = None
    num_blocks: MetricConfig | None = None
    attributes: dict[str, MetricConfig] = Field(
        default_factory=dict, description="further values, by what filters and scorers call them"
    )
