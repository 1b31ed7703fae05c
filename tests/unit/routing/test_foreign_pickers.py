"""Who picks for a pool, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from inferway.resources import ResourceSet
from inferway.routing.foreign_pickers import PickerTls
from inferway.routing.picker_config import hosts_to_resolve
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate

if TYPE_CHECKING:
    from inferway.routing.foreign_pickers import ForeignPicker

Load = Callable[[str], ResourceSet]

MANIFESTS = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm, annotations: {ANNOTATIONS}}
spec:
  selector: {matchLabels: {app: llm}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: epp, port: {number: 9002}, failureMode: FailOpen}
---
apiVersion: v1
kind: Service
metadata: {name: epp}
spec: {selector: {app: epp}, ports: [{port: 9002, appProtocol: http2}]}
---
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: epp, labels: {app: epp}}
spec: {addresses: [{host: epp.internal}]}
"""


def translated(load: Load, annotations: str = "", *, text: str = MANIFESTS) -> Translation:
    return translate(load(text.replace("ANNOTATIONS", annotations)), settings=RoutingSettings())


def picker(translation: Translation) -> ForeignPicker | None:
    return translation.model.pools["default/llm"].picker


def warnings(translation: Translation) -> list[str]:
    return [one.message for one in translation.warnings if "icker" in one.field]


def test_a_service_of_the_manifests_picks(load: Load) -> None:
    translation = translated(load)
    found = picker(translation)
    assert found is not None
    assert [(one.host, one.port) for one in found.endpoints] == [("epp.internal", 9002)]
    assert (found.tls, found.server_name, found.timeout_s) == (
        PickerTls.SKIP_VERIFY,
        "epp.default.svc",
        5.0,
    )
    assert translation.model.pools["default/llm"].fail_open
    assert hosts_to_resolve(translation.model) == ("epp.internal",)
    assert warnings(translation) == []


def test_annotations_say_how_to_reach_it(load: Load) -> None:
    text = (
        "inferway.dev/picker-tls: verify, inferway.dev/picker-server-name: x.example, "
        "inferway.dev/picker-ca-file: /ca, inferway.dev/picker-timeout: 1s500ms"
    )
    found = picker(translated(load, text))
    assert found is not None
    assert (found.tls, found.server_name, found.ca_file, found.timeout_s) == (
        PickerTls.VERIFY,
        "x.example",
        "/ca",
        1.5,
    )


def test_mistaken_annotations_are_warnings(load: Load) -> None:
    text = "inferway.dev/picker-tls: maybe, inferway.dev/picker-timeout: '5'"
    translation = translated(load, text)
    found = picker(translation)
    assert found is not None
    assert (found.tls, found.timeout_s) == (PickerTls.SKIP_VERIFY, 5.0)
    assert [one.split(":")[0] for one in warnings(translation)] == [
        "unknown",
        "not a duration above zero such as 5s",
    ]


def test_without_the_service_ours_picks_with_a_warning(load: Load) -> None:
    translation = translated(load, text=MANIFESTS.partition("---")[0])
    assert picker(translation) is None
    [warning] = warnings(translation)
    assert "Service default/epp is not in the manifests: the built-in picker is used" in warning


def test_the_annotation_always_means_ours(load: Load) -> None:
    translation = translated(load, "inferway.dev/picker: built-in")
    assert picker(translation) is None
    assert warnings(translation) == []


@pytest.mark.parametrize(
    ("written", "wrong", "why"),
    [
        ("{port: 9002,", "{port: 9003,", "has no port 9002"),
        ("{name: epp, port: {number: 9002},", "{kind: Picker, name: epp,", "kind Picker is not"),
    ],
)
def test_a_reference_that_leads_nowhere_serves_nothing(
    load: Load, written: str, wrong: str, why: str
) -> None:
    translation = translated(load, text=MANIFESTS.replace(written, wrong))
    assert picker(translation) is None
    [parent] = next(one for one in translation.statuses if one.key.name == "llm").parents
    resolved = next(one for one in parent.conditions if one.type == "ResolvedRefs")
    assert (resolved.status.value, resolved.reason) == ("False", "InvalidExtensionRef")
    assert why in resolved.message
