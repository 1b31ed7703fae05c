"""Manifests written in the tests, decoded as those of a user are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferway.resources import ResourceSet
from inferway.resources.decode import decode
from inferway.resources.resource_set import assemble

Load = Callable[[str], ResourceSet]


@pytest.fixture
def load() -> Load:
    def load_text(text: str) -> ResourceSet:
        decoded = decode(text.encode(), file="test.yaml")
        assert not decoded.has_errors
        resources, problems = assemble(decoded.entries)
        assert not problems
        return resources

    return load_text
