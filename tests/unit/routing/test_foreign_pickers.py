"""Who picks for a pool, and what is said about it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from inferway.resources import ResourceSet
from inferway.routing.foreign_pickers import PickerTls
from inferway.routing.model import TargetKind
from inferway.routing.picker_config import hosts_to_resolve
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate
from tests.certificates import issue

if TYPE_CHECKING:
    from inferway.resources.conditions import Condition
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


OTHER_POOL = """---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: other}
spec: {selector: {matchLabels: {app: other}}, targetPorts: [{number: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: both}
spec:
  parentRefs: [{name: inferway}]
  rules:
  - backendRefs:
    - {group: inference.networking.k8s.io, kind: InferencePool, name: llm}
    - {group: inference.networking.k8s.io, kind: InferencePool, name: other}
"""


def config_map(text: str, name: str = "authorities", *, key: str = "ca.crt") -> str:
    data = json.dumps({key: text})
    return f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {data}\n"


def of_version_2(pem: str) -> str:
    """The certificate with a version that no library reads."""
    der = ssl.PEM_cert_to_DER_cert(pem)
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x01"))


def translated(
    load: Load, annotations: str = "", *, text: str = MANIFESTS, system_ca_file: str = ""
) -> Translation:
    settings = RoutingSettings(system_ca_file=system_ca_file)
    return translate(load(text.replace("ANNOTATIONS", annotations)), settings=settings)


def picker(translation: Translation) -> ForeignPicker | None:
    return translation.model.pools["default/llm"].picker


def resolved(translation: Translation, pool: str) -> Condition:
    status = next(
        one
        for one in translation.statuses
        if (one.key.kind, one.key.name) == ("InferencePool", pool)
    )
    [parent] = status.parents
    return next(one for one in parent.conditions if one.type == "ResolvedRefs")


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
        "inferway.dev/picker-ca: authorities, inferway.dev/picker-timeout: 1s500ms"
    )
    own, other = issue("a.example"), issue("b.example")
    authorities = config_map(f"of a\n{own.chain}{own.key}of b\n{other.chain}")
    found = picker(translated(load, text, text=MANIFESTS + authorities))
    assert found is not None
    assert (found.tls, found.server_name, found.timeout_s) == (PickerTls.VERIFY, "x.example", 1.5)
    assert found.authorities == own.chain + other.chain, "nothing but certificates"
    assert found.authorities_file == ""


def test_without_a_config_map_the_machine_says_who_may_sign(load: Load) -> None:
    text = "inferway.dev/picker-tls: verify"
    found = picker(translated(load, text, system_ca_file="/system.pem"))
    assert found is not None
    assert (found.authorities, found.authorities_file) == ("", "/system.pem")


@pytest.mark.parametrize("time", ["'5'", "0s", "1.5s", '"5s\\n"', f"{'9' * 4000}s"])
def test_a_mistaken_time_is_a_warning(load: Load, time: str) -> None:
    translation = translated(load, f"inferway.dev/picker-timeout: {time}")
    found = picker(translation)
    assert found is not None
    assert found.timeout_s == 5.0
    [warning] = warnings(translation)
    assert warning.startswith("not a duration above zero such as 5s: ")


def test_authorities_without_verification_are_a_warning(load: Load) -> None:
    translation = translated(load, "inferway.dev/picker-ca: authorities")
    assert picker(translation) is not None
    [warning] = warnings(translation)
    assert warning == "no effect: certificates are verified when inferway.dev/picker-tls is verify"


DAMAGED = """-----BEGIN CERTIFICATE-----
MIIB
-----END CERTIFICATE-----
"""


@pytest.mark.parametrize(
    ("annotations", "why"),
    [
        ("inferway.dev/picker-tls: maybe", "unknown: maybe; known: skip-verify, verify, off"),
        ("inferway.dev/picker-tls: verify", "this machine has no authorities of its own"),
        (
            "inferway.dev/picker-tls: verify, inferway.dev/picker-ca: none",
            "ConfigMap default/none does not exist",
        ),
        (
            "inferway.dev/picker-tls: verify, inferway.dev/picker-ca: empty",
            "ConfigMap default/empty has no data.ca.crt",
        ),
        *(
            (
                f"inferway.dev/picker-tls: verify, inferway.dev/picker-ca: {name}",
                f"ConfigMap default/{name}: ca.crt is no list of certificates in PEM form",
            )
            for name in ("words", "damaged", "half", "version-2")
        ),
        ("inferway.dev/picker-server-name: ''", "must be a DNS name"),
        ("inferway.dev/picker-server-name: EPP", "must be a DNS name"),
        ('inferway.dev/picker-server-name: "a\\n"', "must be a DNS name"),
        (f"inferway.dev/picker-server-name: {'a' * 254}", "must be a DNS name"),
    ],
)
def test_what_is_not_safe_is_refused_for_this_pool_alone(
    load: Load, annotations: str, why: str
) -> None:
    own = issue("a.example").chain
    text = MANIFESTS + "".join(
        (
            config_map("", "empty", key="other.crt"),
            config_map("words", "words"),
            config_map(DAMAGED, "damaged"),
            config_map(own + DAMAGED, "half"),
            config_map(of_version_2(own), "version-2"),
            OTHER_POOL,
        )
    )
    translation = translated(load, annotations, text=text)
    assert picker(translation) is None
    condition = resolved(translation, "llm")
    assert (condition.status.value, condition.reason) == ("False", "InvalidExtensionRef")
    assert why in condition.message
    assert resolved(translation, "other").status.value == "True"
    kinds = {
        target.name: target.kind
        for listener in translation.model.listeners
        for host in listener.hosts
        for route in host.routes
        for target in route.targets
    }
    assert kinds == {
        "InferencePool default/llm": TargetKind.ERROR,
        "default/other": TargetKind.POOL,
    }


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
    condition = resolved(translation, "llm")
    assert (condition.status.value, condition.reason) == ("False", "InvalidExtensionRef")
    assert why in condition.message
