"""Bytes to numbers, in Rust. Everything here is compared with a Python oracle in tests/property."""

from typing import Self, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Applied",
    "Done",
    "EngineCache",
    "Fault",
    "First",
    "Frame",
    "FrameReader",
    "Hello",
    "MetricsPage",
    "Open",
    "Pick",
    "PrefixIndex",
    "RequestFields",
    "Usage",
    "block_end_bytes",
    "block_hashes",
    "encode_endpoints",
    "encode_frame",
    "encode_heartbeat",
    "encode_queued",
    "encode_reject",
    "encode_welcome",
    "fixed_block_hashes",
    "hash_seed",
    "parse_metrics",
    "request_fields",
    "response_usage",
    "spliced",
]

@final
class RequestFields:
    """What a decision needs from a request body."""

    model: str | None
    model_range: tuple[int, int] | None  # where its JSON string stands, quotes included
    model_not_string: bool  # there is a model, but it is no string; model is None then
    stream: bool
    max_tokens: int
    priority: int | None
    cache_salt: str | None
    user: str | None
    server_tools: bool  # the server itself runs a tool
    usage_edit: tuple[int, int, str] | None  # start, end, text: makes a stream report usage
    prompt_bytes: int
    hashes: NDArray[np.uint64]

def request_fields(chunks: list[bytes], kind: int) -> RequestFields:
    """Reads a request body given in arbitrary pieces; `kind` is that of a PICK frame.

    ValueError (message, byte offset) when it is not legal JSON.
    """

def spliced(chunks: list[bytes], start: int, end: int, text: str) -> list[bytes]:
    """The chunks, with the text as a JSON string in the place of the bytes from `start` to `end`.

    ValueError when `start` is beyond `end`.
    """

@final
class Usage:
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

def response_usage(chunks: list[bytes], event_stream: bool) -> Usage | None:
    """Token usage of a response body (JSON, or server-sent events) given in arbitrary pieces."""

def hash_seed(name: str) -> int:
    """xxh3_64 of the name: the model's part of an index key."""

def block_hashes(prompt: bytes, seed: int) -> NDArray[np.uint64]:
    """Chained block hashes with the block schedule of docs/pick-protocol.md."""

def fixed_block_hashes(data: bytes, block_bytes: int, seed: int) -> NDArray[np.uint64]:
    """Chained xxh3 over full blocks of one size, as an engine's own block cache does."""

def block_end_bytes(blocks: int) -> int:
    """Bytes that the first `blocks` blocks of a prompt cover: where the next one begins."""

@final
class PrefixIndex:
    """Which endpoint probably holds which prompt blocks: one LRU per endpoint over one key table.

    Endpoints are small integers given by the caller. All together hold at most `blocks_max` blocks;
    beyond it the endpoint with the most bytes forgets its oldest.
    """

    def __new__(cls, blocks_max: int) -> Self: ...
    def set_capacity(self, endpoint: int, bytes_max: int) -> None:
        """Prompt bytes that the engine can keep; the oldest beyond it are forgotten.

        Unlimited until set.
        """
    def match(self, hashes: NDArray[np.uint64], seed: int, endpoints: int) -> NDArray[np.float64]:
        """Bytes of the longest known prefix on each endpoint below `endpoints`."""
    def insert(self, endpoint: int, hashes: NDArray[np.uint64], seed: int) -> None:
        """Records that this prompt was sent to the endpoint; refreshes blocks that were known."""
    def remove(self, endpoint: int, keys: NDArray[np.uint64]) -> None:
        """The endpoint does not hold these blocks any more. A key is a hash ^ its seed."""
    def clear(self, endpoint: int) -> None: ...
    def __len__(self) -> int: ...
    def endpoint_bytes(self, endpoint: int) -> int: ...
    def memory_bytes(self) -> int: ...

@final
class Applied:
    """What one batch of events did, in blocks; `orphans` and `unread` count events."""

    stored: int
    removed: int
    orphans: int
    """Stored after a block that is not known."""
    ignored: int
    """Of another tier or layer group, or more than `blocks_max`."""
    unread: int
    """Not understood."""
    cleared: bool
    lost: NDArray[np.uint64]
    """Keys that were bound to blocks that are gone."""

@final
class EngineCache:
    """The blocks that one engine has cached, as its events tell them, and the prompt blocks that
    are bound to them.
    """

    def __new__(cls, blocks_max: int) -> Self: ...
    def apply(self, batch: bytes, now_s: float) -> Applied:
        """Takes over a published batch. ValueError, and nothing changed, when it is none, or of
        another data-parallel rank than those before.
        """
    def candidates(
        self, tokens: int, since_s: float, until_s: float, keys: NDArray[np.uint64]
    ) -> list[tuple[int, int, int, int]]:
        """Runs stored within the time that end where a prompt of so many tokens has its last full
        block: (run, tokens stored at once, bound keys that are the prompt's, those that are not).
        """
    def bind(self, run: int, keys: NDArray[np.uint64], tokens: int, prompt_bytes: int) -> int:
        """The run was the end of this prompt. Returns how many of its blocks are cached."""
    def unbound(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Those of the keys that are bound to no block."""
    def clear(self) -> NDArray[np.uint64]:
        """Forgets everything; returns the keys that were bound."""
    def __len__(self) -> int: ...
    @property
    def tokens(self) -> int:
        """Of all blocks."""
    @property
    def bound(self) -> int:
        """Keys that are bound."""
    def memory_bytes(self) -> int: ...

@final
class Pick:
    """One PICK frame. From `session` on, attributes are made anew each time they are read."""

    stream: int
    received_ns: int
    body_bytes: int
    prompt_bytes: int
    max_tokens: int
    priority: int | None
    kind: int
    streamed: bool  # the client asked for a stream
    repeated: bool
    tools: bool  # the server runs a tool for it: not to be sent twice
    keeps_alive: bool  # the filter understands QUEUED
    pool: str
    model: str
    objective: str
    fairness: str
    hashes: NDArray[np.uint64]
    slo_ttft_ms: int  # 0: none, here and in the next two
    slo_tpot_ms: int
    ttl_ms: int
    session: str
    request_id: str
    user: str
    exclude: str  # addresses with commas
    @property
    def subset(self) -> str | None:
        """Addresses with commas; None: no hint was given."""
    @property
    def headers(self) -> dict[str, str]:
        """Those that the route asks for; of several of one name the last."""
    def __new__(
        cls,
        *,
        stream: int,
        received_ns: int,
        body_bytes: int,
        prompt_bytes: int,
        max_tokens: int,
        priority: int | None,
        kind: int,
        streamed: bool,
        repeated: bool,
        pool: str,
        model: str,
        objective: str,
        fairness: str,
        session: str,
        request_id: str,
        hashes: NDArray[np.uint64],
        slo_ttft_ms: int = 0,
        slo_tpot_ms: int = 0,
        ttl_ms: int = 0,
        user: str | None = None,
        subset: str | None = None,
        exclude: str | None = None,
        headers: dict[str, str] | None = None,
        tools: bool = False,
        keeps_alive: bool = False,
    ) -> Self: ...

@final
class First:
    stream: int
    ttft_us: int
    status: int

    def __new__(
        cls,
        *,
        stream: int,
        ttft_us: int,
        status: int,
    ) -> Self: ...

@final
class Done:
    stream: int
    end: int
    usage: bool
    first_seen: bool
    event_stream: bool
    status: int
    ttft_us: int
    duration_us: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    endpoint: str
    attempts: int
    retry_after_ms: int
    fault: int
    finish: int

    def __new__(
        cls,
        *,
        stream: int,
        end: int,
        usage: bool,
        first_seen: bool,
        event_stream: bool,
        status: int,
        ttft_us: int,
        duration_us: int,
        prompt_tokens: int,
        cached_tokens: int,
        completion_tokens: int,
        endpoint: str,
        attempts: int = 1,
        retry_after_ms: int = 0,
        fault: int = 0,
        finish: int = 0,
    ) -> Self: ...

@final
class Open:
    stream: int
    charged_uncached: int
    charged_context: int
    phase: int
    pool: str
    model: str
    endpoint: str

    def __new__(
        cls,
        *,
        stream: int,
        charged_uncached: int,
        charged_context: int,
        phase: int,
        pool: str,
        model: str,
        endpoint: str,
    ) -> Self: ...

@final
class Fault:
    """One FAULT frame: an attempt failed."""

    pool: str
    endpoint: str
    cause: int
    status: int
    retry_after_ms: int

    def __new__(
        cls,
        *,
        pool: str,
        endpoint: str,
        cause: int,
        status: int = 0,
        retry_after_ms: int = 0,
    ) -> Self: ...

@final
class Hello:
    major: int
    minor: int
    filter_id: int

    def __new__(
        cls,
        *,
        major: int,
        minor: int,
        filter_id: int,
    ) -> Self: ...

Frame = Pick | First | Done | Open | Fault | Hello

@final
class FrameReader:
    """Cuts a byte stream into frames. ValueError on a broken frame: the connection cannot go on."""

    def __new__(cls) -> Self: ...
    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """The frames that these bytes complete.

        Frames that only a picker sends, and those of unknown type, are skipped.
        """

def encode_welcome(epoch: int, heartbeat_ms: int) -> bytes: ...
def encode_endpoints(
    stream: int,
    charged_uncached: int,
    charged_context: int,
    endpoints: str,
    model: str,
    queued_us: int = 0,
    ttft_deadline_ms: int = 0,
    reason: str = "",
) -> bytes: ...
def encode_reject(
    stream: int,
    status: int,
    retry_after_ms: int,
    type: str,  # noqa: A002
    code: str,
    message: str,
    reason: str,
    retry: int = 0,
) -> bytes: ...
def encode_queued(stream: int, keepalive_ms: int) -> bytes: ...
def encode_heartbeat() -> bytes: ...
def encode_frame(frame: Frame) -> bytes:
    """The filter's side of the codec, for tests and tools."""

@final
class MetricsPage:
    """The samples of one Prometheus text page that a set of names selects."""

    def value(self, name: str) -> float | None:
        """The single (or last) sample of that name; None when it is absent or NaN."""
    def labels(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Every sample of that name with its labels, in order."""

def parse_metrics(page: bytes, names: list[str]) -> MetricsPage:
    """Reads only the samples whose metric name is listed; other lines cost a byte scan.

    Bad lines are skipped.
    """
