"""The plugin keeps the rules of every plugin, and does what it is for."""

import pytest
from tiers import Tiers

from inferway.testing import check, endpoints, request

SERVERS = [{"tier": "fast"}, {"tier": "cheap"}, {}]


def test_it_keeps_the_rules():
    check(Tiers)


@pytest.mark.parametrize(("priority", "scores"), [(10, [1, 0, 0]), (9, [0, 1, 0])])
def test_it_knows_who_is_important(priority, scores):
    scored = Tiers().score(request(3, priority=priority), endpoints(3, labels=SERVERS))
    assert scored.tolist() == scores
