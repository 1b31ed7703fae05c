"""`inferway get` and `describe` against an admin API that answers as told, rightly and wrongly."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from inferway.resources.decode import decode

from .conftest import call

if TYPE_CHECKING:
    from .conftest import AdminApi

Document = dict[str, Any]


def condition(kind: str, status: str, reason: str, message: str = "") -> Document:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": "2025-01-01T00:00:00Z",
    }


def pool(name: str, **changes: Any) -> Document:
    accepted = condition("Accepted", "True", "Accepted")
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "targetPorts": [{"number": 8000}],
        },
        "status": {"parents": [{"parentRef": {"name": "entrance"}, "conditions": [accepted]}]},
        "origin": f"manifests/{name}[1].yaml:3",
        **changes,
    }


def endpoint(**changes: Any) -> Document:
    return {
        "address": "10.0.0.1:8000",
        "ready": True,
        "reachable": True,
        "age_s": 0.25,
        "models": ["llama"],
        "adapters": [],
        "in_flight": 2,
        "waiting": 1.0,
        "running": None,
        "kv_usage_ratio": 0.5,
        "picks": 7,
        **changes,
    }


def test_table(admin: AdminApi) -> None:
    refused = condition("ResolvedRefs", "False", "BackendNotFound")
    admin.resources(
        pool("chat"),
        pool("bad", status={"conditions": [refused]}),
        pool("lonely", status={}),
    )
    found = call("get", "--admin", admin.url)
    assert found.code == 0
    header, *rows = [line.split("  ") for line in found.out.splitlines()]
    assert [cell.strip() for cell in header if cell.strip()] == [
        *("KIND", "NAMESPACE", "NAME", "STATE", "WHY", "FROM"),
    ]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["InferencePool", "default", "chat", "Ready", "manifests/chat[1].yaml:3"],
        [
            *("InferencePool", "default", "bad", "NotReady"),
            *("ResolvedRefs: BackendNotFound", "manifests/bad[1].yaml:3"),
        ],
        [
            *("InferencePool", "default", "lonely", "Pending"),
            *("no route refers to it", "manifests/lonely[1].yaml:3"),
        ],
    ]


def test_a_row_is_one_line_when_nobody_looks(admin: AdminApi) -> None:
    admin.resources(pool("chat", origin="a/very/long/path/" * 30 + "pool.yaml:1"))
    assert len(call("get", "--admin", admin.url).out.splitlines()) == 2


def test_question_is_passed_on(admin: AdminApi) -> None:
    admin.resources(pool("chat"))
    call("get", "infpool", "chat", "-n", "a b", "--admin", admin.url + "/")
    assert admin.asked == ["/admin/resources?kind=infpool&name=chat&namespace=a+b"]


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_output_is_taken_as_manifests_again(admin: AdminApi, output: str) -> None:
    admin.resources(pool("chat"), pool("other"))
    found = call("get", "-o", output, "--admin", admin.url)
    decoded = decode(found.out.encode(), file=f"all.{output}")
    assert [str(problem) for problem in decoded.problems] == []
    assert [entry.resource.name for entry in decoded.entries] == ["chat", "other"]
    assert "status" in found.out


def test_json_of_none_one_and_several(admin: AdminApi) -> None:
    admin.resources()
    none = call("get", "-o", "json", "--admin", admin.url)
    assert none.code == 0
    assert json.loads(none.out) == {"apiVersion": "v1", "kind": "List", "items": []}

    admin.resources(pool("chat"))
    one = json.loads(call("get", "infpool", "chat", "-o", "json", "--admin", admin.url).out)
    assert (one["kind"], one["metadata"]["name"]) == ("InferencePool", "chat")
    listed = json.loads(call("get", "infpool", "-o", "json", "--admin", admin.url).out)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["chat"]

    admin.resources(pool("chat"), pool("chat", metadata={"name": "chat", "namespace": "two"}))
    both = json.loads(call("get", "infpool", "chat", "-o", "json", "--admin", admin.url).out)
    assert len(both["items"]) == 2, "one name in two namespaces"


def test_nothing_there(admin: AdminApi) -> None:
    admin.resources()
    found = call("get", "--admin", admin.url)
    assert (found.code, found.out, found.err) == (0, "", "no resources found\n")
    found = call("get", "-o", "yaml", "--admin", admin.url)
    assert (found.code, found.out) == (0, "")
    found = call("get", "infpool", "absent", "--admin", admin.url)
    assert (found.code, found.out, found.err) == (1, "", "not found: infpool absent\n")
    found = call("describe", "infpool", "--admin", admin.url)
    assert (found.code, found.err) == (1, "not found: infpool\n")


def test_unknown_kind(admin: AdminApi) -> None:
    admin.replies["/admin/resources"] = 404, b'{"error": "unknown kind: pods"}'
    found = call("get", "pods", "--admin", admin.url)
    assert (found.code, found.err) == (1, "unknown kind: pods\n")


@pytest.mark.parametrize(
    "reply",
    [
        (200, b"<html>Welcome to nginx</html>"),
        (200, b"[1, 2]"),
        (200, b'{"items": 3}'),
        (200, b"\xff\xfe"),
        (502, b"<html>Bad gateway</html>"),
        (500, b""),
    ],
)
def test_somebody_else_answers(admin: AdminApi, reply: tuple[int, bytes]) -> None:
    admin.replies["/admin/resources"] = reply
    for command in (["get"], ["describe", "pool"]):
        found = call(*command, "--admin", admin.url)
        assert (found.code, found.out) == (1, "")
        assert found.err == f"what answers at {admin.url} is not inferway's admin API\n"


def test_error_without_words(admin: AdminApi) -> None:
    admin.replies["/admin/resources"] = 500, b"{}"
    found = call("get", "--admin", admin.url)
    assert found.code == 1
    assert "500" in found.err


def test_what_answers_does_not_speak_http(admin: AdminApi) -> None:
    admin.replies["/admin/resources"] = 0, b"SSH-2.0-OpenSSH_9.6\r\n"
    found = call("get", "--admin", admin.url)
    assert found.code == 1
    assert f"no gateway answers at {admin.url}" in found.err


def test_nobody_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        found = call("get", "--admin", url)
    assert found.code == 1
    assert f"no gateway answers at {url}" in found.err
    assert "hint: start one with `inferway run`" in found.err


def test_address_without_scheme() -> None:
    found = call("get", "--admin", "127.0.0.1:9090")
    assert found.code == 2
    assert "not an http address: 127.0.0.1:9090" in found.err


def test_proxy_of_the_environment_is_not_asked(
    admin: AdminApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    admin.resources(pool("chat"))
    assert call("get", "--admin", admin.url).code == 0


SPEED = {"prefill_tokens_per_s": 9_700.4, "step_s": 0.0119, "first_token_s": 0.04}


def test_description(admin: AdminApi) -> None:
    refused = condition("Accepted", "False", "HTTPRouteNotAccepted", "the route is refused")
    admin.resources(
        pool("chat", status={"parents": [{"parentRef": {"name": "gw"}, "conditions": [refused]}]}),
        pool("other", status={}),
        pool("empty", status={}),
    )
    admin.pools(
        {
            "name": "default/chat",
            "endpoints": [
                endpoint(speed=SPEED),
                endpoint(address="[::1]:1", ready=False, reachable=False, age_s=None, models=[]),
                endpoint(reachable=None, waiting=None, kv_usage_ratio=None),
            ],
        },
        {"name": "default/empty", "endpoints": []},
    )
    found = call("describe", "pool", "--admin", admin.url)
    assert found.code == 0
    chat, other, empty = found.out.split("---\n")
    assert chat.splitlines()[:16] == [
        "InferencePool default/chat",
        "  from: manifests/chat[1].yaml:3",
        "  conditions:",
        "    Accepted (parent gw): False, HTTPRouteNotAccepted",
        "      the route is refused",
        "      since 2025-01-01T00:00:00Z",
        "  endpoints:",
        "    10.0.0.1:8000: reachable, scraped 0.2 s ago, 2 in flight",
        "      waiting 1, kv cache 0.5, 7 picks",
        "      learnt: prefill 9,700 tokens/s, step 11.9 ms, first token 40 ms + prefill",
        "      models: llama",
        "    [::1]:1: not reachable, UNHEALTHY (gets no picks), never scraped, 2 in flight",
        "      waiting 1, kv cache 0.5, 7 picks",
        "    10.0.0.1:8000: not tried, scraped 0.2 s ago, 2 in flight",
        "      7 picks",
        "      models: llama",
    ]
    spec = "\n".join(line[4:] for line in chat.partition("  spec:\n")[2].splitlines())
    assert yaml.safe_load(spec) == pool("chat")["spec"]
    assert "  conditions: none\n" in other
    assert "  endpoints: unknown, the picker has not told yet\n" in other
    assert "  endpoints: none\n" in empty
