"""Which endpoint serves which model."""

from __future__ import annotations

import pytest

from inferway.picker.datalayer.models import ModelCatalog, Served, served


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ([], Served()),
        ([{"id": "llama", "root": "llama", "parent": None}], Served(("llama",))),
        # A base model's root is its path: no adapter.
        ([{"id": "llama", "root": "/models/llama-8b", "parent": None}], Served(("llama",))),
        (
            [{"id": "llama", "root": "llama"}, {"id": "tuned", "root": "/l/t", "parent": "llama"}],
            Served(("llama", "tuned"), ("tuned",), (("tuned", "llama"),)),
        ),
        # Older engines: no parent, the root is the base model.
        (
            [{"id": "llama", "root": "llama"}, {"id": "tuned", "root": "llama", "parent": None}],
            Served(("llama", "tuned"), ("tuned",), (("tuned", "llama"),)),
        ),
        ([{"id": 7}, "x", None, {}, {"id": ""}, {"id": "m"}, {"id": "m"}], Served(("m",))),
        ([{"id": "m", "root": ["unhashable"]}], Served(("m",))),
    ],
)
def test_reading_model_cards(cards: list[object], expected: Served) -> None:
    assert served(cards) == expected


def test_a_list_is_bounded() -> None:
    assert len(served({"id": f"m{i}"} for i in range(20_000)).models) == 10_000


@pytest.fixture
def catalog() -> ModelCatalog:
    made = ModelCatalog()
    made.rebind(["x", "y"])
    return made


def test_unknown_while_somebody_has_not_told(catalog: ModelCatalog) -> None:
    assert catalog.knows("m", ["x", "y"]) is None
    catalog.record("x", Served(("m",)))
    assert catalog.knows("m", ["x", "y"]) is True
    assert catalog.knows("n", ["x", "y"]) is None
    assert catalog.knows("n", ["x"]) is False
    catalog.record("y", Served(("n",)))
    assert catalog.knows("n", ["x", "y"]) is True
    assert catalog.knows("o", ["x", "y"]) is False
    assert catalog.knows("o", []) is None


def test_an_unreachable_endpoint_is_not_waited_for_but_what_it_told_stays(
    catalog: ModelCatalog,
) -> None:
    catalog.record("x", Served(("m",)))
    catalog.set_reachable("y", False)
    catalog.set_reachable("x", False)
    assert catalog.knows("n", ["x", "y"]) is False
    assert catalog.knows("m", ["x", "y"]) is True
    catalog.set_reachable("y", True)
    assert catalog.knows("n", ["x", "y"]) is None


def test_serving(catalog: ModelCatalog) -> None:
    assert catalog.serving("m", ["x", "y"]) == [True, True]
    catalog.record("x", Served(("m",)))
    assert catalog.serving("m", ["x", "y"]) == [True, True]
    assert catalog.serving("n", ["x", "y"]) == [True, True]
    catalog.record("y", Served(("n",)))
    assert catalog.serving("m", ["x", "y"]) == [True, False]
    assert catalog.serving("o", ["x", "y"]) == [True, True]


def test_adapters_are_those_that_any_endpoint_lists(catalog: ModelCatalog) -> None:
    catalog.record("x", Served(("m", "t"), ("t",)))
    assert (catalog.is_adapter("t"), catalog.is_adapter("m")) == (True, False)
    catalog.rebind(["y"])
    assert catalog.is_adapter("t") is False
    assert catalog.at("x") is None


def test_the_revision_counts_changes_only(catalog: ModelCatalog) -> None:
    before = catalog.revision
    catalog.record("x", Served(("m",)))
    assert catalog.revision == before + 1
    catalog.record("x", Served(("m",)))
    catalog.set_reachable("x", True)
    assert catalog.revision == before + 1
    catalog.set_reachable("x", False)
    assert catalog.revision == before + 2
