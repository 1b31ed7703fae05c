"""Why the winner won, in a few words.

For the response header of pools that ask for it, and as the first line of an explanation. What is
compared is the winner with the next one of the list: the term of the profile that separates them
most is the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.picker.scheduling.decide import Weighed
    from inferway.picker.scheduling.profile import Profile

_TIE: Final = 1e-9  # as in scheduling/select.py
_PREFIX_SHOWN_MIN: Final = 0.05
_SECOND_MS: Final = 1_000.0


def cost_unit(profile: Profile) -> str:
    """Of the total; empty where it has none, as with scores."""
    return getattr(profile.costs[0][1], "unit", "") if profile.costs else ""


def margin(weighed: Weighed, winner: int, other: int) -> float:
    """Cost of the other less that of the winner, by row."""
    return float(weighed.costs.item(other) - weighed.costs.item(winner))


def reason(profile: Profile, weighed: Weighed, rows: Sequence[int]) -> str:
    """`rows`: those chosen, best first, as rows of `weighed`. Empty: there are none."""
    if not rows:
        return ""
    if len(rows) == 1:
        return "only candidate"
    winner, other = rows[0], rows[1]
    gap = margin(weighed, winner, other)
    if abs(gap) <= _TIE * abs(weighed.costs.item(winner)):
        return "drawn among equals"
    if gap < 0:
        return f"drawn by {getattr(profile.picker, 'name', type(profile.picker).__name__)}"
    if len(weighed.terms) == 1:
        return _prefix(weighed, winner, other) + _least(gap, cost_unit(profile))
    return _term(profile, weighed, winner, other)


def _prefix(weighed: Weighed, winner: int, other: int) -> str:
    matched = weighed.request.matched_tokens
    ratio = matched.item(winner) / weighed.request.prompt_tokens
    if ratio < _PREFIX_SHOWN_MIN or matched.item(winner) <= matched.item(other):
        return ""
    return f"prefix {ratio:.0%}, "


def _least(gap: float, unit: str) -> str:
    if unit == "s":
        return f"least cost by {gap * _SECOND_MS:.3g} ms"
    return f"least cost by {gap:.3g}{' ' if unit else ''}{unit}"


def _term(profile: Profile, weighed: Weighed, winner: int, other: int) -> str:
    """The term that the winner gains most by."""
    best, said = 0.0, ""
    costs = len(profile.costs)
    for number, (term, raw) in enumerate(zip(profile.terms, weighed.terms, strict=False)):
        if raw is None:
            continue
        mine, theirs = raw.item(winner), raw.item(other)
        gain = (theirs - mine if number < costs else mine - theirs) * term.weight
        if gain > best:
            best, said = gain, f"{term.name} {mine:.3g} against {theirs:.3g}"
    return said
