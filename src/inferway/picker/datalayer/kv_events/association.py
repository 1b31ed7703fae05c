"""Which of the runs that an engine stored was a certain prompt.

Problem: events carry token ids and the engine's own hashes; the picker knows a prompt by hashes of
its bytes, where it went and, at its end, how many tokens it had and when its first one came. Model:
the engine stores a prompt's last full block shortly before the first token, so candidates are the
runs that ended at exactly that many tokens within the time. Of these, one whose path carries this
prompt's own blocks (bound by earlier prompts) beats one that carries fewer; one that carries only
others' is another prompt. Invariant: what stays ambiguous is left alone, since a wrong binding
would evict what is there, and a missing one leaves the index as approximate as it is without
events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray


class Prompt(NamedTuple):
    """What a stream remembers of its prompt until it ends. Times count monotonic seconds."""

    placed_s: float
    hashes: NDArray[np.uint64]


class Candidate(NamedTuple):
    """A run that may be the prompt's end."""

    run: int
    tokens: int  # stored in one go
    own: int  # blocks of this prompt that are bound to its path
    others: int  # blocks of other prompts only


def choose(candidates: Iterable[Candidate]) -> tuple[Candidate | None, bool]:
    """The run, if it is certain enough; and whether there were several to choose from."""
    possible = [one for one in candidates if one.own or not one.others]
    most = max((one.own for one in possible), default=0)
    best = [one for one in possible if one.own == most]
    return (best[0] if len(best) == 1 else None), len(best) > 1
