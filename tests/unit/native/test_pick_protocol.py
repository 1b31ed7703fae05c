"""The pick protocol against shared vectors, with a decoder written from the document alone.

`native/wire/tests/golden.rs` reads the same vectors, so both sides of the socket are held to them.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferway import _native

VECTORS = json.loads(
    (Path(__file__).parents[2] / "golden" / "pick_protocol.json").read_text("utf-8")
)
FRAMES = {vector["name"]: vector for vector in VECTORS["frames"]}

# docs/pick-protocol.md, one line per frame: type, then (field, struct code; s = str, h = hashes,
# p = pairs of str).
LAYOUT: dict[str, tuple[int, str]] = {
    "HELLO": (0x01, "magic:I major:H minor:H filter_id:Q"),
    "PICK": (
        0x02,
        (
            "stream:Q received_ns:Q body_bytes:I prompt_bytes:I max_tokens:I priority:i"
            " kind:B flags:B blocks:I pool:s model:s objective:s fairness:s session:s request_id:s"
            " hashes:h slo_ttft_ms:I slo_tpot_ms:I ttl_ms:I user:s subset:s exclude:s headers:p"
        ),
    ),
    "FIRST": (0x03, "stream:Q ttft_us:I status:H"),
    "DONE": (
        0x04,
        (
            "stream:Q end:B flags:B status:H ttft_us:I duration_us:I prompt_tokens:I"
            " cached_tokens:I completion_tokens:I endpoint:s"
            " attempts:B retry_after_ms:I fault:B finish:B"
        ),
    ),
    "OPEN": (
        0x05,
        "stream:Q charged_uncached:I charged_context:I phase:B pool:s model:s endpoint:s",
    ),
    "FAULT": (0x06, "pool:s endpoint:s cause:B status:H retry_after_ms:I"),
    "WELCOME": (0x81, "magic:I major:H minor:H epoch:Q heartbeat_ms:I"),
    "ENDPOINTS": (
        0x82,
        (
            "stream:Q charged_uncached:I charged_context:I endpoints:s model:s"
            " queued_us:I ttft_deadline_ms:I reason:s"
        ),
    ),
    "REJECT": (0x83, "stream:Q status:H retry_after_ms:I type:s code:s message:s reason:s retry:B"),
    "HEARTBEAT": (0x84, ""),
    "QUEUED": (0x85, "stream:Q keepalive_ms:I"),
}


def text(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<H", data, at)
    return data[at + 2 : at + 2 + length].decode(), at + 2 + length


def unpack(data: bytes) -> tuple[str, dict[str, Any]]:
    size, frame_type = struct.unpack_from("<IB", data)
    assert size == len(data) - 4
    name, layout = next(
        (name, layout) for name, (code, layout) in LAYOUT.items() if code == frame_type
    )
    at = 5
    fields: dict[str, Any] = {}
    for item in layout.split():
        field, code = item.split(":")
        if code == "s":
            fields[field], at = text(data, at)
        elif code == "p":
            (count,) = struct.unpack_from("<H", data, at)
            at += 2
            fields[field] = []
            for _ in range(count):
                header, at = text(data, at)
                value, at = text(data, at)
                fields[field].append([header, value])
        elif code == "h":
            count = fields["blocks"]
            fields[field] = list(struct.unpack_from(f"<{count}Q", data, at))
            at += 8 * count
        else:
            (fields[field],) = struct.unpack_from("<" + code, data, at)
            at += struct.calcsize(code)
    assert at == len(data)
    return name, fields


def read_one(data: bytes) -> _native.Frame:
    (frame,) = _native.FrameReader().feed(data)
    return frame


def as_wire(frame: _native.Frame) -> dict[str, Any]:
    """Fields of a native frame under the names and in the encoding of the document."""
    fields = {name: getattr(frame, name) for name in dir(frame) if not name.startswith("_")}
    match frame:
        case _native.Pick():
            fields["flags"] = (
                fields.pop("streamed")
                | fields.pop("repeated") << 1
                | (fields["subset"] is not None) << 2
                | fields.pop("tools") << 3
                | fields.pop("keeps_alive") << 4
            )
            fields["subset"] = fields["subset"] or ""
            fields["headers"] = [list(header) for header in fields["headers"].items()]
            fields["hashes"] = fields["hashes"].tolist()
            fields["blocks"] = len(fields["hashes"])
            if fields["priority"] is None:
                fields["priority"] = -(2**31)
        case _native.Done():
            fields["flags"] = (
                fields.pop("usage")
                | fields.pop("first_seen") << 1
                | fields.pop("event_stream") << 2
            )
        case _native.Hello():
            fields["magic"] = 0x59574649
        case _native.First() | _native.Open() | _native.Fault():
            pass
    return fields


@pytest.mark.parametrize("vector", FRAMES.values(), ids=FRAMES)
def test_vectors_say_what_the_document_says(vector: dict[str, Any]) -> None:
    assert unpack(bytes.fromhex(vector["hex"])) == (vector["type"], vector["fields"])


@pytest.mark.parametrize(
    "vector",
    [v for v in FRAMES.values() if LAYOUT[v["type"]][0] < 0x80],
    ids=lambda vector: str(vector["name"]),
)
def test_filter_frames_are_read_and_written(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    frame = read_one(data)
    assert type(frame).__name__.upper() == vector["type"]
    assert as_wire(frame) == vector["fields"]
    assert _native.encode_frame(frame) == data


@pytest.mark.parametrize(
    "vector",
    [v for v in FRAMES.values() if LAYOUT[v["type"]][0] >= 0x80],
    ids=lambda vector: str(vector["name"]),
)
def test_picker_frames_are_written_and_skipped_by_a_picker(vector: dict[str, Any]) -> None:
    fields = {
        name: value
        for name, value in vector["fields"].items()
        if name not in {"magic", "major", "minor"}
    }
    encode = getattr(_native, f"encode_{vector['type'].lower()}")
    assert encode(**fields).hex() == vector["hex"]
    assert _native.FrameReader().feed(bytes.fromhex(vector["hex"])) == []


@pytest.mark.parametrize(
    "vector", VECTORS["extended"] + VECTORS["older"], ids=lambda vector: str(vector["name"])
)
def test_another_minor_version_is_understood(vector: dict[str, Any]) -> None:
    names = [name for name in vector["reads_as"] if LAYOUT[FRAMES[name]["type"]][0] < 0x80]
    known = [bytes.fromhex(FRAMES[name]["hex"]) for name in names]
    frames = _native.FrameReader().feed(bytes.fromhex(vector["hex"]))
    assert [_native.encode_frame(frame) for frame in frames] == known


@pytest.mark.parametrize("vector", VECTORS["broken"], ids=lambda vector: str(vector["name"]))
def test_broken_frames_end_the_connection(vector: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="frame of type"):
        _native.FrameReader().feed(bytes.fromhex(vector["hex"]))


def test_any_cut_gives_the_same_frames() -> None:
    data = b"".join(bytes.fromhex(vector["hex"]) for vector in FRAMES.values())
    expected = [as_wire(frame) for frame in _native.FrameReader().feed(data)]
    reader = _native.FrameReader()
    frames: list[_native.Frame] = []
    for at in range(len(data)):
        frames += reader.feed(memoryview(data)[at : at + 1])
    assert [as_wire(frame) for frame in frames] == expected
    assert len(frames) == sum(LAYOUT[v["type"]][0] < 0x80 for v in FRAMES.values())


def test_repeated_texts_are_one_string() -> None:
    data = bytes.fromhex(FRAMES["pick"]["hex"])
    first, second = _native.FrameReader().feed(bytearray(data + data))
    assert isinstance(first, _native.Pick)
    assert isinstance(second, _native.Pick)
    assert first.pool is second.pool
    assert first.model is second.model


def test_frames_are_built_by_keyword_and_cannot_change() -> None:
    first = _native.First(stream=1, ttft_us=2, status=200)
    with pytest.raises(AttributeError):
        first.stream = 5
    with pytest.raises(OverflowError):
        _native.First(stream=-1, ttft_us=0, status=200)


def test_a_text_that_is_too_long_is_cut_between_characters() -> None:
    done = as_wire(read_one(bytes.fromhex(FRAMES["done"]["hex"])))
    frame = _native.Open(
        stream=done["stream"],
        charged_uncached=0,
        charged_context=0,
        phase=0,
        pool="é" * 40_000,
        model="\ud800",
        endpoint="",
    )
    back = read_one(_native.encode_frame(frame))
    assert isinstance(back, _native.Open)
    assert back.pool == "é" * 32_767
    assert back.model.strip("\ufffd") == ""
    assert back.model != ""


def test_a_chain_that_is_too_long_is_cut_to_its_beginning() -> None:
    pick = read_one(bytes.fromhex(FRAMES["pick"]["hex"]))
    assert isinstance(pick, _native.Pick)
    fields = {name: getattr(pick, name) for name in dir(pick) if not name.startswith("_")}
    long = _native.Pick(**{**fields, "hashes": np.arange(5000, dtype=np.uint64)})
    back = read_one(_native.encode_frame(long))
    assert isinstance(back, _native.Pick)
    assert back.hashes.tolist() == list(range(1168))
