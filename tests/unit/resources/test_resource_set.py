"""Order, look-up and conflicts of a set; the kinds registry; the schema of every kind."""

import pytest
from pydantic import ValidationError

from inferway.resources import Entry, Gateway, ModelServer, ObjectMeta, Origin, ResourceSet
from inferway.resources.kinds import KINDS, KindInfo, find_kind
from inferway.resources.model_server import ModelServerSpec, ServerAddress
from inferway.resources.old_pools import OLD_POOL_VERSIONS
from inferway.resources.problems import Problem, Severity, field_path
from inferway.resources.resource_set import assemble
from inferway.resources.schema import json_schema


def entry(name: str, *, host: str = "10.0.0.1", namespace: str = "default", line: int = 1) -> Entry:
    spec = ModelServerSpec(addresses=(ServerAddress(host=host),))
    server = ModelServer(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec)
    return Entry(server, Origin("f.yaml", line))


def test_order_is_that_of_the_entries() -> None:
    resources, problems = assemble([entry("b"), entry("a"), entry("a", namespace="x")])
    assert [resource.qualified_name for resource in resources] == ["default/b", "default/a", "x/a"]
    assert resources.model_servers == tuple(resources)
    assert (len(resources), problems) == (3, ())


def test_the_first_of_two_wins() -> None:
    first, second = entry("a"), entry("a", host="10.0.0.2", line=9)
    resources, [problem] = assemble([first, second])
    assert list(resources) == [first.resource]
    assert str(problem) == (
        "f.yaml:9:1: error: metadata.name: ModelServer default/a is already defined at f.yaml:1 "
        "(hint: rename or remove one of the two)"
    )


def test_look_up() -> None:
    resources, _ = assemble([entry("a"), entry("a", namespace="x", line=7)])
    found = resources.find(ModelServer, namespace="x", name="a")
    assert found is not None
    assert str(resources.origin(found)) == "f.yaml:7"
    assert found.key in resources
    assert resources.find(ModelServer, namespace="y", name="a") is None
    assert resources.find(Gateway, namespace="x", name="a") is None
    assert resources.gateways == ()
    assert resources.http_routes == ()
    assert resources.pools == ()
    assert resources.objectives == ()
    assert resources.gateway_classes == ()
    assert len(ResourceSet()) == 0


def test_nothing_can_be_changed() -> None:
    resources, _ = assemble([entry("a")])
    with pytest.raises(TypeError):
        resources.entries[entry("b").resource.key] = entry("b")  # type: ignore[index]
    with pytest.raises(ValidationError):
        next(iter(resources)).metadata.name = "b"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gw", "Gateway"),
        ("GATEWAYS", "Gateway"),
        ("infpool", "InferencePool"),
        ("inferencepool", "InferencePool"),
        ("httproutes", "HTTPRoute"),
        ("ModelServer", "ModelServer"),
        ("gc", "GatewayClass"),
        ("infobj", "InferenceObjective"),
    ],
)
def test_kinds_are_found_by_any_name(name: str, kind: str) -> None:
    info = find_kind(name)
    assert info is not None
    assert info.kind == kind


def test_names_of_kinds_are_unique() -> None:
    names = [name.lower() for info in KINDS for name in (info.kind, info.plural, *info.short_names)]
    assert len(names) == len(set(names))
    assert find_kind("pods") is None


# Pools of the old group become pools of v1 before validation; its objectives stay what they are.
READ_AS_OTHERS = {("InferencePool", version) for version in OLD_POOL_VERSIONS}


@pytest.mark.parametrize("info", KINDS, ids=lambda info: info.kind)
def test_registry_and_model_agree(info: KindInfo) -> None:
    schema = json_schema(info)
    properties = schema["properties"]
    assert isinstance(properties, dict)
    versions = properties["apiVersion"]
    own = tuple(one for one in info.api_versions if (info.kind, one) not in READ_AS_OTHERS)
    assert tuple(versions.get("enum", [versions.get("const")])) == own
    assert properties["kind"]["const"] == info.kind
    assert schema["additionalProperties"] is False
    assert properties.keys() > {"apiVersion", "kind", "metadata"}


def test_schema_has_limits_and_descriptions() -> None:
    text = str(json_schema(next(info for info in KINDS if info.kind == "ModelServer")))
    assert "'maximum': 65535" in text
    assert "'maxItems': 64" in text
    assert "which metric names and admin routes the server has" in text


def test_problems_print_like_compiler_messages() -> None:
    problem = Problem(Severity.WARNING, "a.yaml", 3, 7, "spec.x", "odd: 1", "even")
    assert str(problem) == "a.yaml:3:7: warning: spec.x: odd: 1 (hint: even)"
    assert str(Problem(Severity.ERROR, "a", 1, 1, "", "gone")) == "a:1:1: error: gone"


def test_field_paths() -> None:
    path = ("spec", "rules", 0, "labels", "example.com/a", "x_y", 1)
    assert field_path(path) == 'spec.rules[0].labels["example.com/a"].x_y[1]'
    assert field_path(()) == ""
    assert field_path((0, "a")) == "[0].a"
    assert field_path(("",)) == '[""]'
