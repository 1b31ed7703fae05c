"""A plain-Python reader of Prometheus text, in place of `_native.parse_metrics`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class TextPage:
    def __init__(self, page: bytes, names: list[str]) -> None:
        self.samples: list[tuple[str, dict[str, str], float]] = []
        for line in page.decode().splitlines():
            found = SAMPLE.match(line.strip())
            if found and found[1] in names:
                labels = dict(LABEL.findall(found[2] or ""))
                self.samples.append((found[1], labels, float(found[3])))

    def labels(self, name: str) -> list[tuple[dict[str, str], float]]:
        return [(labels, value) for found, labels, value in self.samples if found == name]


@pytest.fixture
def parse() -> Callable[[bytes, list[str]], TextPage]:
    return TextPage
