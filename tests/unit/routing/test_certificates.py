"""Certificates of HTTPS listeners: which are served, why others are not, and their dates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretBytes

from inferway.resources import ResourceSet
from inferway.routing.certificate_dates import remarks, with_remarks
from inferway.routing.model import Certificate
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate
from tests.certificates import Issued, issue

Load = Callable[[str], ResourceSet]

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: inferway
  listeners:
  - {name: https, port: 443, protocol: HTTPS, hostname: a.org, tls: TLS}
  - {name: http, port: 80, protocol: HTTP}
---
"""
REFERENCE = "{certificateRefs: [{name: cert}]}"
ELSEWHERE = "{certificateRefs: [{name: cert, namespace: certs}]}"
GRANT = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: certs}
spec:
  from: [{group: gateway.networking.k8s.io, kind: FROM, namespace: infra}]
  to: [{group: "", kind: Secret}]
---
"""
GOOD = issue("a.org")
OTHER = issue("b.org")


def translated(load: Load, tls: str, *secrets: str) -> Translation:
    text = GATEWAY.replace("TLS", tls, 1) + "".join(secrets)
    return translate(load(text), settings=RoutingSettings())


def conditions(translation: Translation, listener: str = "https") -> dict[str, tuple[str, str]]:
    (gateway,) = [one for one in translation.statuses if one.key.kind == "Gateway"]
    (found,) = [one for one in gateway.listeners if one.name == listener]
    return {one.type: (one.status.value, one.reason) for one in found.conditions}


def message(translation: Translation) -> str:
    (gateway,) = [one for one in translation.statuses if one.key.kind == "Gateway"]
    (resolved,) = [one for one in gateway.listeners[0].conditions if one.type == "ResolvedRefs"]
    return resolved.message


def secret(issued: Issued = GOOD, *, namespace: str = "infra") -> str:
    return issued.secret("cert", namespace=namespace)


@pytest.mark.parametrize(
    ("tls", "secrets"),
    [
        (REFERENCE, (secret(),)),
        (REFERENCE, (GOOD.secret("cert", namespace="infra", plain=True),)),
        (REFERENCE, (secret(issue("a.org", kind="rsa-2048")),)),
        (REFERENCE, (secret(issue("a.org", kind="p384")),)),
        (ELSEWHERE, (secret(namespace="certs"), GRANT.replace("FROM", "Gateway"))),
        # Out of date is no reason to close the port.
        (REFERENCE, (secret(issue("a.org", starts=datetime(2020, 1, 1, tzinfo=UTC))),)),
    ],
    ids=["data", "stringData", "rsa", "p384", "granted", "expired"],
)
def test_good_certificates(load: Load, tls: str, secrets: tuple[str, ...]) -> None:
    translation = translated(load, tls, *secrets)
    assert conditions(translation) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("Unknown", "Pending"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Conflicted": ("False", "NoConflicts"),
    }
    listener = next(one for one in translation.model.listeners if one.port == 443)
    assert listener.tls is not None
    assert listener.tls.server_names == ("a.org",)
    assert listener.tls.certificates == tuple(translation.model.certificates)


@pytest.mark.parametrize(
    ("tls", "secrets", "reason", "words"),
    [
        (REFERENCE, (), "InvalidCertificateRef", "Secret infra/cert does not exist"),
        (
            REFERENCE,
            (secret().replace("kubernetes.io/tls", "Opaque"),),
            "InvalidCertificateRef",
            "type Opaque",
        ),
        (
            "{certificateRefs: [{kind: ConfigMap, name: cert}]}",
            (),
            "InvalidCertificateRef",
            "ConfigMap",
        ),
        (
            REFERENCE,
            (secret(Issued("nothing", GOOD.key)),),
            "InvalidCertificateRef",
            "tls.crt is not a certificate",
        ),
        (
            REFERENCE,
            (secret(Issued(GOOD.chain, "nothing")),),
            "InvalidCertificateRef",
            "tls.key is not a private key",
        ),
        (
            REFERENCE,
            (secret(Issued(GOOD.chain, OTHER.key)),),
            "InvalidCertificateRef",
            "does not belong",
        ),
        (
            REFERENCE,
            (secret(issue("a.org", password=b"x")),),
            "InvalidCertificateRef",
            "encrypted",
        ),
        (
            REFERENCE,
            (secret(issue("a.org", kind="rsa-1024")),),
            "InvalidCertificateRef",
            "RSA from 2048 bits",
        ),
        (
            REFERENCE,
            (secret(issue("a.org", kind="ed25519")),),
            "InvalidCertificateRef",
            "kind of key",
        ),
        (
            "{options: {networking.gke.io/cert-manager-certs: one}}",
            (),
            "InvalidCertificateRef",
            "networking.gke.io/cert-manager-certs means nothing",
        ),
        (ELSEWHERE, (secret(namespace="certs"),), "RefNotPermitted", "no ReferenceGrant"),
        # A grant for routes is none for Gateways.
        (
            ELSEWHERE,
            (secret(namespace="certs"), GRANT.replace("FROM", "HTTPRoute")),
            "RefNotPermitted",
            "no ReferenceGrant",
        ),
    ],
)
def test_what_cannot_be_shown(
    load: Load, tls: str, secrets: tuple[str, ...], reason: str, words: str
) -> None:
    """The listener is closed and says why; the other one serves."""
    translation = translated(load, tls, *secrets)
    assert conditions(translation) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("False", "Invalid"),
        "ResolvedRefs": ("False", reason),
        "Conflicted": ("False", "NoConflicts"),
    }
    assert words in message(translation)
    assert [one.port for one in translation.model.listeners] == [80]
    assert not translation.model.certificates
    (gateway,) = [one for one in translation.statuses if one.key.kind == "Gateway"]
    accepted = gateway.conditions[0]
    assert (accepted.status, accepted.reason) == ("True", "ListenersNotValid")
    for issued in (GOOD, OTHER):
        assert not [line for line in issued.key.splitlines()[1:-1] if line in repr(translation)]


def test_a_refusal_does_not_tell_whether_the_secret_exists(load: Load) -> None:
    there = translated(load, ELSEWHERE, secret(namespace="certs"))
    absent = translated(load, ELSEWHERE)
    assert message(there) == message(absent)
    assert there.statuses == absent.statuses


def test_one_good_certificate_of_several_serves(load: Load) -> None:
    tls = "{certificateRefs: [{name: missing}, {name: cert}]}"
    translation = translated(load, tls, secret())
    found = conditions(translation)
    assert found["ResolvedRefs"] == ("False", "InvalidCertificateRef")
    assert found["Programmed"] == ("Unknown", "Pending")
    assert "certificateRefs[0]" in message(translation)
    assert list(translation.model.certificates) == ["infra/cert"]


SHARED = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: inferway
  listeners:
  - {name: any, port: 443, protocol: HTTPS, tls: TLS}
  - {name: wild, port: 443, protocol: HTTPS, hostname: "*.a.org", tls: TLS}
  - {name: exact, port: 443, protocol: HTTPS, hostname: x.a.org, tls: TLS}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: infra}
spec:
  parentRefs: [{name: edge}]
  hostnames: [x.a.org, y.a.org, b.org]
---
"""


def test_listeners_with_tls_stay_apart_and_keep_their_hosts(load: Load) -> None:
    resources = load(SHARED.replace("TLS", REFERENCE) + secret())
    model = translate(resources, settings=RoutingSettings()).model
    found = {
        one.name: (
            one.tls.server_names if one.tls else None,
            sorted(host for each in one.hosts for host in each.hostnames),
            sorted(one.elsewhere),
        )
        for one in model.listeners
    }
    assert found == {
        "infra/edge/any": ((), ["*", "b.org"], ["*.a.org", "x.a.org"]),
        "infra/edge/wild": (("*.a.org",), ["*.a.org", "y.a.org"], ["*", "x.a.org"]),
        "infra/edge/exact": (("x.a.org",), ["x.a.org"], ["*", "*.a.org"]),
    }


NOW = datetime(2026, 5, 1, tzinfo=UTC)


def dated(*, left: timedelta, life: timedelta) -> Certificate:
    expires = NOW + left
    return Certificate("infra/cert", b"", SecretBytes(b""), expires - life, expires)


@pytest.mark.parametrize(
    ("left_d", "life_d", "words"),
    [
        (60, 90, None),
        (15, 90, None),
        (14, 90, "expires at"),
        (1, 90, "expires at"),
        (0, 90, "expired at"),
        (-30, 90, "expired at"),
        # A short life: its last third.
        (3, 6, None),
        (2, 6, "expires at"),
        (91, 90, "not valid before"),
    ],
)
def test_dates(left_d: int, life_d: int, words: str | None) -> None:
    one = dated(left=timedelta(days=left_d), life=timedelta(days=life_d))
    found = remarks([one], NOW)
    assert set(found) == (set() if words is None else {"infra/cert"})
    assert words is None or words in found["infra/cert"]


def test_dates_stand_in_the_status_of_the_listener_only(load: Load) -> None:
    translation = translated(load, REFERENCE, secret())
    said = with_remarks(translation.statuses, {"infra/cert": "soon"})
    (gateway,) = [one for one in said if one.key.kind == "Gateway"]
    messages = {
        one.name: {each.type: each.message for each in one.conditions} for one in gateway.listeners
    }
    assert messages["https"]["ResolvedRefs"] == "soon"
    assert messages["http"]["ResolvedRefs"] == ""
