"""Laws of the adapter plan, for any configuration and any server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from inferway.adapters.config import SyncConfig, Unwanted, UnwantedAdapter, Wanted, WantedAdapter
from inferway.adapters.plan import Load, Present, Unload, conflicts, plan

if TYPE_CHECKING:
    from inferway.adapters.plan import Call

NAMES = st.sampled_from(["a", "b", "c", "d", "e", "base"])


@st.composite
def configs(draw: st.DrawFn) -> SyncConfig:
    wanted = draw(st.lists(NAMES, unique=True))
    unwanted = draw(st.lists(NAMES, unique=True))
    return SyncConfig(
        default_base_model=draw(st.none() | st.just("base")),
        ensure_exist=Wanted(
            models=tuple(WantedAdapter(id=name, source=f"/{name}") for name in wanted)
        ),
        ensure_not_exist=Unwanted(models=tuple(UnwantedAdapter(id=name) for name in unwanted)),
    )


@st.composite
def servers(draw: st.DrawFn) -> Present:
    names = draw(st.lists(NAMES.filter(lambda name: name != "base"), unique=True))
    roots = st.sampled_from(["", "/x"])
    return Present({name: draw(roots) for name in names}, frozenset({"base"}))


def after(present: Present, calls: tuple[Call, ...]) -> Present:
    """The server once it has done everything it was told."""
    adapters = dict(present.adapters)
    for call in calls:
        if isinstance(call, Load):
            assert call.adapter not in adapters, "the server would answer 400"
            adapters[call.adapter] = call.source
        else:
            del adapters[call.adapter]  # KeyError: the server would answer 404
    return Present(adapters, present.models)


@given(configs(), servers())
def test_one_plan_is_enough(config: SyncConfig, present: Present) -> None:
    first = plan(config, present)
    done = after(present, first.calls)
    second = plan(config, done)
    assert second.calls == ()
    never = {"base"} & {one.id for one in config.ensure_exist.models} - {*conflicts(config)}
    assert {name for name, good in second.satisfied.items() if not good} == never


@given(configs(), servers())
def test_only_what_the_configuration_names_is_touched(config: SyncConfig, present: Present) -> None:
    wanted = {one.id for one in config.ensure_exist.models}
    unwanted = {one.id for one in config.ensure_not_exist.models}
    found = plan(config, present)
    loads = [call.adapter for call in found.calls if isinstance(call, Load)]
    unloads = [call.adapter for call in found.calls if isinstance(call, Unload)]
    assert set(loads) <= wanted - unwanted
    assert set(unloads) <= unwanted - wanted
    assert len(found.calls) == len(set(loads)) + len(set(unloads)), "each adapter once"
    assert [*found.calls] == sorted(found.calls, key=lambda call: isinstance(call, Unload))
    assert set(found.satisfied) == (wanted | unwanted) - {*conflicts(config)}
    assert len(conflicts(config)) == sum("both" in one or "and in" in one for one in found.warnings)


@given(configs(), servers())
def test_satisfied_means_nothing_to_do(config: SyncConfig, present: Present) -> None:
    found = plan(config, present)
    to_do = {call.adapter for call in found.calls}
    assert to_do <= {name for name, good in found.satisfied.items() if not good}
    if all(found.satisfied.values()):
        assert not to_do
