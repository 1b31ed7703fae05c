"""The choice among costs equals a plain sort, up to the order of ties."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.picker.scheduling.registry import POLICIES, profile_of
from inferway.picker.scheduling.select import choose
from inferway.testing import endpoints, request

unknown_or = st.one_of(st.just(float("nan")), st.floats(0, 1e6))


@settings(deadline=None)
@given(
    costs=st.lists(st.integers(-5, 5) | st.integers(-100, 100), max_size=60),
    data=st.data(),
    count=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_choice_is_a_sort_of_the_ready_rows(
    costs: list[int], data: st.DataObject, count: int, seed: int
) -> None:
    ready = data.draw(st.lists(st.booleans(), min_size=len(costs), max_size=len(costs)))
    rows = choose(
        np.array(costs, dtype=float),
        np.array(ready, dtype=bool),
        np.random.default_rng(seed),
        count=count,
    )
    usable = sorted(cost for cost, is_ready in zip(costs, ready, strict=True) if is_ready)
    assert [costs[row] for row in rows] == usable[:count]
    assert len(set(rows)) == len(rows)
    assert all(ready[row] for row in rows)


@settings(deadline=None)
@given(data=st.data(), count=st.integers(1, 20), name=st.sampled_from(list(POLICIES)))
def test_costs_are_finite_for_any_state(data: st.DataObject, count: int, name: str) -> None:
    def column(elements: st.SearchStrategy[float]) -> list[float]:
        return data.draw(st.lists(elements, min_size=count, max_size=count))

    counts = st.floats(0, 1e9)
    state = endpoints(
        count,
        **{name: column(counts) for name in ("in_flight", "pending_tokens", "context_tokens")},
        waiting=column(unknown_or),
        running=column(unknown_or),
        kv_usage_ratio=column(st.one_of(st.just(float("nan")), st.floats(0, 1))),
        foreign_requests=column(unknown_or),
        metrics_age_s=column(st.floats(0)),
    )
    prompt = data.draw(st.floats(1, 1e9))
    asked = request(
        count,
        prompt_tokens=prompt,
        output_tokens=data.draw(st.floats(1, 1e6)),
        matched_tokens=[(prompt - 1.0) * share for share in column(st.floats(0, 1))],
        adapter_tier=data.draw(
            st.none() | st.builds(lambda: column(st.sampled_from([0.0, 1.0, 2.0, 3.0])))
        ),
    )
    costs, _ = profile_of(name).rate(
        asked, state, data.draw(st.integers(0, 2**40)), np.random.default_rng(1)
    )
    assert costs.shape == (count,)
    assert np.isfinite(costs).all()
