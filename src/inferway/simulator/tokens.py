"""Text to tokens and back, without a tokeniser.

Four bytes are one token, so lengths are about those of English text and every number follows from
the body alone. Output words are exactly one token long (a space and three letters): the answer
that a client sends back in its next turn hashes to the blocks that the engine computed for it, as
with a real model. Token ids count as one token each.
"""

import json
import math
import random
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferway import _native

TOKEN_BYTES = 4
_FILLER_TOKENS = 16_384
_WORDS = (
    *("the", "and", "for", "are", "but", "not", "you", "all", "any", "can"),
    *("had", "her", "was", "one", "our", "out", "day", "get", "has", "him"),
    *("his", "how", "man", "new", "now", "old", "see", "two", "way", "who"),
    *("boy", "did", "its", "let", "put", "say", "she", "too", "use"),
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the engine prefills."""

    data: bytes

    @property
    def tokens(self) -> int:
        return max(1, -(-len(self.data) // TOKEN_BYTES))

    @property
    def fingerprint(self) -> int:
        """32 bits that make the answer to one prompt always the same."""
        return zlib.crc32(self.data)


def text_prompt(text: str) -> Prompt:
    return Prompt(text.encode("utf-8", "surrogatepass"))


def token_prompt(ids: Sequence[int]) -> Prompt:
    """ValueError when an id does not fit into 32 bits."""
    try:
        return Prompt(array("I", ids).tobytes())
    except (OverflowError, TypeError) as error:
        raise ValueError(f"not a token id: {error}") from error


def chat_prompt(messages: Sequence[Mapping[str, object]], tools: object = None) -> Prompt:
    """Renders messages as a chat template does: a marker with the role before each, and one for
    the answer.
    """
    pieces: list[str] = []
    if tools:
        pieces.append(json.dumps(tools, separators=(",", ":")))
    for message in messages:
        pieces.append(f"<|{message.get('role', 'user')}|>")
        pieces.append(_content_text(message.get("content")))
        if calls := message.get("tool_calls"):
            pieces.append(json.dumps(calls, separators=(",", ":")))
    pieces.append("<|assistant|>")
    return text_prompt("".join(pieces))


def _content_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content)
    return json.dumps(content)


def _part_text(part: object) -> str:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    return part if isinstance(part, str) else json.dumps(part)


def cache_seed(model: str, adapter: str | None, salt: str) -> int:
    """Start of the hash chain: blocks are shared only within one model, adapter and salt."""
    return _native.hash_seed("\0".join((model, adapter or "", salt)))


def block_hashes(data: bytes, *, block_tokens: int, seed: int) -> list[int]:
    """Chained hashes of the full blocks."""
    hashes: list[int] = _native.fixed_block_hashes(data, block_tokens * TOKEN_BYTES, seed).tolist()
    return hashes


class Filler:
    """An endless text of one-token words; an answer is a piece of it."""

    __slots__ = ("_text",)

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)  # noqa: S311 - reproducible text, not a secret
        self._text = b"".join(b" " + w.encode() for w in source.choices(_WORDS, k=_FILLER_TOKENS))

    def text(self, start: int, tokens: int) -> bytes:
        """`tokens` words from position `start` on, wrapping around."""
        offset = start % _FILLER_TOKENS * TOKEN_BYTES
        end = offset + tokens * TOKEN_BYTES
        source = self._text if end <= len(self._text) else self._text * (1 + end // len(self._text))
        return source[offset:end]


def natural_length(mean_tokens: float, *, seed: int, sigma: float = 0.8) -> int:
    """How long an answer gets when nobody limits it: lognormal with the given mean."""
    source = random.Random(seed)  # noqa: S311 - reproducible length, not a secret
    mu = math.log(mean_tokens) - sigma * sigma / 2
    return max(1, round(source.lognormvariate(mu, sigma)))
