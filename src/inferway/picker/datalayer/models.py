"""Which endpoint says it serves which model.

Problem: during a roll-out endpoints of one pool serve different adapters, and a name that nobody
serves must be answered 404 here and not by some engine. Model: the last good `/v1/models` answer of
every address; `serving` is the union over a pool. Invariants: not told is not the same as not
served, so a name is only unknown when everyone who can be asked has told; a list is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NAMES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Served:
    """One answer of `/v1/models`."""

    models: tuple[str, ...] = ()  # models and adapters, as listed
    adapters: tuple[str, ...] = ()  # those of them that are LoRA adapters
    parents: tuple[tuple[str, str], ...] = ()  # each adapter with its base model, as told


def served(cards: Iterable[object]) -> Served:
    """Reads the `data` list of a `/v1/models` answer; entries without an id are skipped.

    An adapter has a `parent`, or (older engines) a `root` that is another listed model. A root that
    merely differs from the id says nothing: a base model's root is its path.
    """
    entries: dict[str, Mapping[object, object]] = {}
    for card in cards:
        if isinstance(card, dict) and isinstance(name := card.get("id"), str) and name:
            entries[name] = card
            if len(entries) >= _NAMES_MAX:
                break
    parents = tuple(
        (name, parent)
        for name, card in entries.items()
        if (parent := _parent(name, card, entries)) is not None
    )
    return Served(tuple(entries), tuple(name for name, _ in parents), parents)


def _parent(name: str, card: Mapping[object, object], entries: Mapping[str, object]) -> str | None:
    """The base model of an adapter; None: it is none."""
    parent, root = card.get("parent"), card.get("root")
    if isinstance(parent, str) and parent:
        return parent
    return root if isinstance(root, str) and root != name and root in entries else None


class ModelCatalog:
    """Answers of all addresses. `revision` counts changes, for whoever keeps what it derived."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._unreachable: set[str] = set()
        self._adapters: frozenset[str] = frozenset()
        self.revision = 0

    def rebind(self, addresses: Iterable[str]) -> None:
        """Forgets every address that is not among these."""
        wanted = frozenset(addresses)
        self._served = {a: s for a, s in self._served.items() if a in wanted}
        self._unreachable &= wanted
        self._changed()

    def record(self, address: str, answer: Served) -> None:
        if self._served.get(address) != answer:
            self._served[address] = answer
            self._changed()

    def set_reachable(self, address: str, reachable: bool) -> None:
        """An unreachable endpoint that never told does not keep a name possible."""
        if reachable == (address in self._unreachable):
            (self._unreachable.discard if reachable else self._unreachable.add)(address)
            self.revision += 1

    def at(self, address: str) -> Served | None:
        return self._served.get(address)

    def is_adapter(self, model: str) -> bool:
        return model in self._adapters

    def knows(self, model: str, addresses: Sequence[str]) -> bool | None:
        """Whether one of the addresses serves the model; None while that cannot be said."""
        told = [s for address in addresses if (s := self._served.get(address)) is not None]
        if any(model in answer.models for answer in told):
            return True
        silent = any(a not in self._served and a not in self._unreachable for a in addresses)
        return None if silent or not told else False

    def serving(self, model: str, addresses: Sequence[str]) -> list[bool]:
        """Per address: may it be sent requests for the model? All True when none lists it."""
        known = [self._served.get(address) for address in addresses]
        if not any(answer is not None and model in answer.models for answer in known):
            return [True] * len(addresses)
        return [answer is None or model in answer.models for answer in known]

    def _changed(self) -> None:
        self._adapters = frozenset(a for answer in self._served.values() for a in answer.adapters)
        self.revision += 1
