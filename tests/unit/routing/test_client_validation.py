"""Certificates of clients: which listeners ask for them, whom they believe, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from inferway.resources import ResourceSet
from inferway.routing.model import ClientValidation
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate
from tests.certificates import issue

Load = Callable[[str], ResourceSet]

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: inferway
  tls: {frontend: FRONTEND}
  listeners:
  - {name: a, port: 443, protocol: HTTPS, hostname: a.org, tls: TLS}
  - {name: b, port: 443, protocol: HTTPS, hostname: b.org, tls: TLS}
  - {name: other, port: 8443, protocol: HTTPS, tls: TLS}
  - {name: http, port: 80, protocol: HTTP}
---
""".replace("TLS", "{certificateRefs: [{name: cert}]}")
ONE = """{default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: one}]}}}"""
GRANT = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: certs}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}]
  to: [{group: "", kind: ConfigMap}]
---
"""
SECRET = issue("a.org").secret("cert", namespace="infra")
FIRST, SECOND = issue("first").chain, issue("second").chain


def config_map(text: str, name: str = "one", *, namespace: str = "infra") -> str:
    metadata = json.dumps({"name": name, "namespace": namespace})
    data = json.dumps({"ca.crt": text})
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\ndata: {data}\n---\n"


def translated(load: Load, frontend: str, *more: str) -> Translation:
    text = GATEWAY.replace("FRONTEND", frontend) + SECRET + "".join(more)
    return translate(load(text), settings=RoutingSettings())


def asked(translation: Translation) -> dict[str, ClientValidation | None]:
    """Listener to what it asks of its clients, of those that are served."""
    return {
        one.name.rpartition("/")[2]: one.tls.clients if one.tls else None
        for one in translation.model.listeners
    }


def conditions(translation: Translation, listener: str) -> dict[str, tuple[str, str, str]]:
    (gateway,) = [one for one in translation.statuses if one.key.kind == "Gateway"]
    found = next(
        (one.conditions for one in gateway.listeners if one.name == listener), gateway.conditions
    )
    return {one.type: (one.status.value, one.reason, one.message) for one in found}


def test_every_https_listener_asks(load: Load) -> None:
    found = asked(translated(load, ONE, config_map(FIRST)))
    assert found == {
        "http": None,
        "a": ClientValidation("clients/infra/edge:443", FIRST, required=True),
        "b": ClientValidation("clients/infra/edge:443", FIRST, required=True),
        "other": ClientValidation("clients/infra/edge:8443", FIRST, required=True),
    }


def test_a_port_may_have_its_own_rule(load: Load) -> None:
    """Another, or none, or the lenient mode, which the status tells."""
    two = ONE.replace("one}", "two}").removeprefix("{default: ").removesuffix("}")
    frontend = ONE.removesuffix("}") + f", perPort: [{{port: 8443, tls: {two}}}]}}"
    maps = (config_map(FIRST), config_map(SECOND, "two"))
    translation = translated(load, frontend, *maps)
    found = asked(translation)
    assert found["a"] == ClientValidation("clients/infra/edge:443", FIRST, required=True)
    assert found["other"] == ClientValidation("clients/infra/edge:8443", SECOND, required=True)
    assert "InsecureFrontendValidationMode" not in conditions(translation, "")

    lenient = frontend.replace("two}]", "two}], mode: AllowInsecureFallback")
    translation = translated(load, lenient, *maps)
    found = asked(translation)
    assert found["a"] == ClientValidation("clients/infra/edge:443", FIRST, required=True)
    assert found["other"] == ClientValidation("clients/infra/edge:8443", SECOND, required=False)
    status, reason, _words = conditions(translation, "")["InsecureFrontendValidationMode"]
    assert (status, reason) == ("True", "ConfigurationChanged")

    nobody = ONE.removesuffix("}") + ", perPort: [{port: 443, tls: {}}]}"
    found = asked(translated(load, nobody, *maps))
    assert (found["a"], found["b"]) == (None, None)
    assert found["other"] is not None


REFUSED = [
    ("{group: '', kind: ConfigMap, name: none}", "InvalidCACertificateRef", "does not exist"),
    ("{group: '', kind: ConfigMap, name: bad}", "InvalidCACertificateRef", "no list of certif"),
    ("{group: '', kind: Secret, name: one}", "InvalidCACertificateKind", "kind Secret is not"),
    (
        "{group: '', kind: ConfigMap, name: one, namespace: certs}",
        "RefNotPermitted",
        "no ReferenceGrant allows it",
    ),
]


@pytest.mark.parametrize(("reference", "reason", "words"), REFUSED)
@pytest.mark.parametrize("mode", ["AllowValidOnly", "AllowInsecureFallback"])
def test_without_any_authority_a_listener_is_closed(
    load: Load, reference: str, reason: str, words: str, mode: str
) -> None:
    frontend = f"{{default: {{validation: {{caCertificateRefs: [{reference}], mode: {mode}}}}}}}"
    maps = (config_map("x", "bad"), config_map(FIRST), config_map(FIRST, namespace="certs"))
    translation = translated(load, frontend, *maps)
    assert asked(translation) == {"http": None}, "clear text is nobody's business here"
    for listener in ("a", "b", "other"):
        found = conditions(translation, listener)
        assert found["Accepted"][:2] == ("False", "NoValidCACertificate")
        assert found["Programmed"][:2] == ("False", "Invalid")
        status, found_reason, message = found["ResolvedRefs"]
        assert (status, found_reason) == ("False", reason)
        assert words in message
        assert "spec.tls.frontend: caCertificateRefs[0]" in message


@pytest.mark.parametrize(("reference", "reason", "words"), REFUSED)
def test_with_some_of_them_those_count(load: Load, reference: str, reason: str, words: str) -> None:
    good = "{group: '', kind: ConfigMap, name: one}"
    frontend = f"{{default: {{validation: {{caCertificateRefs: [{reference}, {good}]}}}}}}"
    maps = (config_map("x", "bad"), config_map(FIRST), config_map(SECOND, namespace="certs"))
    translation = translated(load, frontend, *maps)
    expected = ClientValidation("clients/infra/edge:443", FIRST, required=True)
    assert asked(translation)["a"] == expected
    found = conditions(translation, "a")
    assert found["Accepted"][0] == "True"
    assert found["ResolvedRefs"][:2] == ("False", reason)
    assert words in found["ResolvedRefs"][2]


def test_another_namespace_may_allow_it(load: Load) -> None:
    frontend = ONE.replace("one}", "one, namespace: certs}")
    translation = translated(load, frontend, GRANT, config_map(SECOND, namespace="certs"))
    found = asked(translation)["a"]
    assert found is not None
    assert found.authorities == SECOND
    assert conditions(translation, "a")["ResolvedRefs"][0] == "True"
