"""Labels: keep endpoints by the labels of their ModelServers.

Source: label-selector-filter (a Kubernetes label selector), by-label-selector, by-label and the
filters by role, decode-, prefill- and encode-filter, of the reference picker. A role is a part of
the label `llm-d.ai/role`, such as `prefill-decode`; `both` is prefill and decode; decode accepts
endpoints without a role. Labels never change while a set of endpoints lasts, so each filter looks
once. When nobody is left the request is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferway.resources.picker_plugins.filters import ROLE_LABEL
from inferway.resources.references import LabelSelectorRequirement  # noqa: TC001 - read at run time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from inferway.picker.scheduling.contracts import Bools, Endpoints, Request

    Labels = Mapping[str, str]


class LabelFilter:
    required = True

    def __init__(self, matches: Callable[[Labels], bool]) -> None:
        self._matches = matches
        self._labels: tuple[Labels, ...] | None = None
        self._kept: Bools = np.zeros(0, dtype=np.bool_)

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        if endpoints.labels is not self._labels:
            self._labels = endpoints.labels
            self._kept = np.array([self._matches(one) for one in endpoints.labels], dtype=np.bool_)
            self._kept.flags.writeable = False
        return self._kept


def label_selector(
    match_labels: dict[str, str] | None = None,
    match_expressions: list[LabelSelectorRequirement] | None = None,
) -> LabelFilter:
    wanted, rules = match_labels or {}, match_expressions or []
    return LabelFilter(
        lambda labels: (
            wanted.items() <= labels.items() and all(_holds(rule, labels) for rule in rules)
        )
    )


def by_label(
    label: str,
    valid_values: list[str] | None = None,
    allows_no_label: bool = False,
) -> LabelFilter:
    values = frozenset(valid_values or ())
    return LabelFilter(
        lambda labels: labels[label] in values if label in labels else allows_no_label
    )


def decode_role() -> LabelFilter:
    return LabelFilter(lambda labels: not labels.get(ROLE_LABEL) or _has_role(labels, "decode"))


def prefill_role() -> LabelFilter:
    return LabelFilter(lambda labels: _has_role(labels, "prefill"))


def encode_role() -> LabelFilter:
    return LabelFilter(lambda labels: _has_role(labels, "encode"))


def _has_role(labels: Labels, role: str) -> bool:
    roles = labels.get(ROLE_LABEL, "").replace("both", "prefill-decode").split("-")
    return role in roles


def _holds(rule: LabelSelectorRequirement, labels: Labels) -> bool:
    """As Kubernetes reads it: NotIn holds where the label is missing."""
    value = labels.get(rule.key)
    match rule.operator:
        case "In":
            return value in rule.values
        case "NotIn":
            return value not in rule.values
        case "Exists":
            return value is not None
        case _:
            return value is None
