"""The plan for examples; tests/property/test_adapters_plan.py has its laws."""

from __future__ import annotations

import pytest

from inferway.adapters.config import SyncConfig, Unwanted, UnwantedAdapter, Wanted, WantedAdapter
from inferway.adapters.plan import Load, Present, Unload, conflicts, plan


def config(
    *wanted: tuple[str, ...], unwanted: tuple[str, ...] = (), base: str | None = None
) -> SyncConfig:
    models = tuple(
        WantedAdapter(id=one[0], source=one[1], base_model=one[2] if len(one) > 2 else None)
        for one in wanted
    )
    gone = tuple(UnwantedAdapter(id=name) for name in unwanted)
    return SyncConfig(
        default_base_model=base,
        ensure_exist=Wanted(models=models),
        ensure_not_exist=Unwanted(models=gone),
    )


def test_load_before_unload_and_base_models() -> None:
    wanted = config(("b", "/b"), ("a", "/a", "own"), unwanted=("old",), base="base")
    found = plan(wanted, Present({"old": "/old", "foreign": "/f"}, frozenset({"base"})))
    assert found.calls == (Load("b", "/b", "base"), Load("a", "/a", "own"), Unload("old"))
    assert found.satisfied == {"b": False, "a": False, "old": False}
    assert found.warnings == ()
    assert [str(call) for call in found.calls[1:]] == ["load a from /a", "unload old"]


def test_both_lists() -> None:
    wanted = config(("a", "/a"), ("b", "/b"), unwanted=("a", "c"))
    assert conflicts(wanted) == ("a",)
    for present in (Present(), Present({"a": "/a"})):
        found = plan(wanted, present)
        assert found.calls == (Load("b", "/b"),)
        assert found.satisfied == {"b": False, "c": True}
        assert found.warnings == ("a is in ensureExist and in ensureNotExist; left alone",)


@pytest.mark.parametrize(("root", "warns"), [("/new", False), ("", False), ("/old", True)])
def test_another_source_is_said_and_nothing_is_done(root: str, warns: bool) -> None:
    found = plan(config(("a", "/new")), Present({"a": root}))
    assert found.calls == ()
    assert found.satisfied == {"a": True}
    assert bool(found.warnings) == warns
    assert all("give a new version a new id" in one for one in found.warnings)


def test_the_name_of_a_base_model_is_not_loaded() -> None:
    found = plan(config(("base", "/a")), Present({}, frozenset({"base"})))
    assert found.calls == ()
    assert found.satisfied == {"base": False}
    assert "name of a model of the server" in found.warnings[0]
