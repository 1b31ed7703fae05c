"""A data layer with a plain-Python prefix index, and picks to decide."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pytest

from inferway.picker.config import EndpointConfig, PoolConfig
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.scheduling.decide import PoolScheduler
from inferway.picker.scheduling.registry import profile_of

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK_BYTES = 256


class IndexOracle:
    """Every block is 256 bytes; nothing is ever evicted."""

    def __init__(self) -> None:
        self.held: dict[int, set[int]] = {}

    def set_capacity(self, endpoint: int, bytes_max: int) -> None:
        self.held.setdefault(endpoint, set())

    def match(self, hashes: np.ndarray, seed: int, endpoints: int) -> np.ndarray:
        found = np.zeros(endpoints)
        for endpoint in range(endpoints):
            held = self.held.get(endpoint, set())
            for value in hashes.tolist():
                if value ^ seed not in held:
                    break
                found[endpoint] += BLOCK_BYTES
        return found

    def insert(self, endpoint: int, hashes: np.ndarray, seed: int) -> None:
        self.held.setdefault(endpoint, set()).update(v ^ seed for v in hashes.tolist())

    def clear(self, endpoint: int) -> None:
        self.held[endpoint] = set()


@dataclass
class FakePick:
    stream: int
    prompt_bytes: int = 0
    max_tokens: int = 0
    model: str = "llama"
    session: str = ""
    fairness: str = ""
    received_ns: int = 0
    streamed: bool = True
    user: str = ""
    exclude: str = ""
    subset: str | None = None
    slo_ttft_ms: int = 0
    slo_tpot_ms: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))


@pytest.fixture
def pick() -> Callable[..., FakePick]:
    """`prompt`: one letter per block of 256 bytes; two prompts share their common beginning."""
    streams = count(1)

    def make(prompt: str = "", **fields: object) -> FakePick:
        hashes = [crc32(prompt[: i + 1].encode()) for i in range(len(prompt))]
        made = FakePick(next(streams), prompt_bytes=len(prompt) * BLOCK_BYTES)
        made.hashes = np.array(hashes, dtype=np.uint64)
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    return make


@pytest.fixture
def layer() -> DataLayer:
    return DataLayer(IndexOracle(), len)


@pytest.fixture
def scheduler(layer: DataLayer) -> Callable[..., PoolScheduler]:
    def make(
        endpoints: int = 4, policy_name: str = "marginal-cost", seed: int = 1
    ) -> PoolScheduler:
        addresses = [f"10.0.0.{i + 1}:8000" for i in range(endpoints)]
        config = PoolConfig(
            name="ns/pool",
            endpoints=tuple(EndpointConfig(address=a, server=f"ns/s{a}") for a in addresses),
        )
        layer.configure([config])
        return PoolScheduler(
            layer.pools["ns/pool"], profile_of(policy_name), np.random.default_rng(seed)
        )

    return make
