"""`inferway rollout`: what it writes into manifests, what it refuses, and what it shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from inferway.resources.decode import decode

from .conftest import call

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import AdminApi

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  rules:
  - backendRefs:
    - {name: llm, kind: InferencePool, group: inference.networking.k8s.io, weight: 100} # old
    - {name: llm-new, kind: InferencePool, group: inference.networking.k8s.io, weight: 0}
"""
MODEL = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: sample}
spec:
  modelName: llm
  targetModels: [{name: v1, weight: 100}]
  poolRef: {name: llm}
"""
START = ("rollout", "node", "start", "route", "--from", "llm", "--to", "llm-new")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "route.yaml").write_text(ROUTE)
    (tmp_path / "model.yaml").write_text(MODEL)
    return tmp_path


def spec_in(file: Path) -> dict[str, Any]:
    """Of the Rollout in a file, which must be valid."""
    decoded = decode(file.read_bytes(), file=str(file))
    assert decoded.problems == ()
    return dict(yaml.safe_load(file.read_text())["spec"])


def test_start_writes_a_rollout_beside_the_route(folder: Path) -> None:
    result = call(*START, "--steps", "5,100", "--interval", "1m", "-f", str(folder))
    file = folder / "rollout-llm-new.yaml"
    assert (result.code, result.out) == (0, "")
    assert str(file) in result.err
    spec = spec_in(file)
    assert spec["targetRef"] == {"kind": "HTTPRoute", "name": "route"}
    assert (spec["from"], spec["to"]) == ("llm", "llm-new")
    assert spec["steps"] == [{"weight": 5}, {"weight": 100}]
    assert "gates" not in spec, "those of the kind"
    assert (folder / "route.yaml").read_text() == ROUTE, "control writes the weights"


def test_gates_in_short(folder: Path) -> None:
    gates = ("ErrorRate=1%", "TTFT.p99=800ms", "TPOT=+20%")
    options = [word for gate in gates for word in ("--gate", gate)]
    result = call(*START, *options, "--rule", "0", "--name", "x", "-f", str(folder))
    assert result.code == 0, result.err
    spec = spec_in(folder / "rollout-x.yaml")
    assert spec["gates"] == [
        {"metric": "ErrorRate", "max": "1%"},
        {"metric": "TTFT", "percentile": 99, "max": "800ms"},
        {"metric": "TPOT", "maxIncrease": "20%"},
    ]
    assert spec["targetRef"]["rule"] == 0
    assert call(*START, "--gate", "none", "--name", "y", "-f", str(folder)).code == 0
    assert spec_in(folder / "rollout-y.yaml")["gates"] == []


def test_start_of_an_adapter(folder: Path) -> None:
    words = ("rollout", "lora", "start", "sample", "--from", "v1", "--to", "v2")
    file = folder / "model.yaml"
    result = call(*words, "--file", str(file), "-f", str(folder))
    assert result.code == 0, result.err
    assert file.read_text().startswith(MODEL + "---\n")
    decoded = decode(file.read_bytes(), file="m.yaml")
    assert [entry.resource.kind for entry in decoded.entries] == ["InferenceModel", "Rollout"]
    result = call("rollout", "lora", "start", "absent", "--from", "a", "--to", "b", "-f", str(file))
    assert (result.code, "there is neither" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--steps", "50,10,100"), "spec.steps[1].weight: weights must grow"),
        (("--steps", "10,50"), "hint: add {weight: 100}"),
        (("--steps", "ten"), "--steps: not numbers: ten"),
        (("--gate", "ErrorRate"), "--gate: not METRIC[.pNN]=LIMIT: ErrorRate"),
        (("--gate", "ErrorRate.p50=1%"), "spec.gates[0].percentile: ErrorRate has no percentiles"),
        (("--gate", "Errors=1%"), "spec.gates[0].metric"),
        (("--interval", "1h"), "spec.intervalMax: must not be shorter"),
        (("--to", "absent"), "hint: add absent beside llm with weight: 0"),
        (("--rule", "3"), "rule 3 of HTTPRoute route"),
        (("--file", "x.json"), "written as YAML"),
        (("-n", "other"), "not found: HTTPRoute other/route"),
    ],
)
def test_start_refuses(folder: Path, words: tuple[str, ...], said: str) -> None:
    result = call(*START, *words, "-f", str(folder))
    assert result.code != 0
    assert said in result.said
    assert sorted(one.name for one in folder.iterdir()) == ["model.yaml", "route.yaml"]


def test_verbs_are_edits(folder: Path) -> None:
    assert call(*START, "-f", str(folder)).code == 0
    file = folder / "rollout-llm-new.yaml"
    before = file.read_text()

    def after(verb: str) -> str:
        result = call("rollout", verb, "llm-new", "-f", str(folder))
        assert result.code == 0, result.err
        assert str(file) in result.err
        return file.read_text()

    assert after("pause") == before + "  paused: true\n"
    assert after("resume") == before + "  paused: false\n"
    assert after("promote") == before + "  paused: false\n  action: Promote\n"
    assert after("abort") == before + "  paused: false\n  action: Rollback\n"
    result = call("rollout", "pause", "absent", "-f", str(folder))
    assert (result.code, "not found: Rollout default/absent" in result.err) == (1, True)


def test_start_again_is_a_new_attempt_but_only_when_it_is_over(folder: Path) -> None:
    assert call(*START, "-f", str(folder)).code == 0
    file = folder / "rollout-llm-new.yaml"
    status = "status: {{targetRef: {{kind: HTTPRoute, name: route}}, from: a, to: b, phase: {}}}\n"
    text = file.read_text() + "  action: Rollback\n"
    file.write_text(text + status.format("Progressing"))
    result = call(*START, "-f", str(folder))
    assert result.code == 1
    assert "is Progressing (hint: inferway rollout abort llm-new)" in result.err
    file.write_text(text + status.format("RolledBack"))
    assert call(*START, "--interval", "2m", "-f", str(folder)).code == 0
    spec = spec_in(file)
    assert (spec["attempt"], spec["interval"]) == (2, "2m")
    assert "action" not in spec
    assert "phase: RolledBack" in file.read_text(), "the status is control's"
    file.write_text(text + "status: {phase: 3}\n")
    assert "remove status to start over" in call(*START, "-f", str(folder)).err


def test_the_gateway_knows_where_the_files_are(folder: Path, admin: AdminApi) -> None:
    (folder / "ro.yaml").write_text(
        "apiVersion: inferway.dev/v1alpha1\nkind: Rollout\nmetadata: {name: ro}\nspec: {}\n"
    )
    admin.replies["/admin/status"] = 200, json.dumps({"directory": str(folder)}).encode()
    admin.resources(
        {
            "kind": "Rollout",
            "metadata": {"name": "ro", "namespace": "default"},
            "origin": "ro.yaml:1",
        }
    )
    result = call("rollout", "pause", "ro", "--admin", admin.url)
    assert result.code == 0, result.err
    assert "spec: {paused: true}" in (folder / "ro.yaml").read_text()


def test_a_base_model_without_its_adapters_is_refused(admin: AdminApi) -> None:
    def pool(name: str, *adapters: str) -> dict[str, Any]:
        return {"name": f"default/{name}", "endpoints": [{"adapters": list(adapters)}]}

    admin.pools(pool("llm", "a", "b"), pool("llm-new", "b"))
    words = ("rollout", "model", "start", "route", "--from", "llm", "--to", "llm-new")
    result = call(*words, "--admin", admin.url)
    assert result.code == 1
    assert "llm-new does not serve adapters that llm serves: a" in result.err


DOCUMENT: dict[str, Any] = {
    "metadata": {"name": "llm-new", "namespace": "default"},
    "spec": {
        "targetRef": {"kind": "HTTPRoute", "name": "route"},
        "from": "llm",
        "to": "llm-new",
        "steps": [{"weight": 25}, {"weight": 50}, {"weight": 100}],
    },
    "status": {
        "phase": "Progressing",
        "step": 1,
        "weights": {"old": 75, "new": 25},
        "history": [
            {
                "time": "2025-06-01T12:00:00Z",
                "attempt": 1,
                "event": "Started",
                "weights": {"old": 75, "new": 25},
                "message": "started with step 1: 25%",
            }
        ],
    },
    "live": {
        "error": "",
        "progress": "undecided",
        "interval_s": 300.0,
        "interval_max_s": 1800.0,
        "elapsed_s": 42.2,
        "samples": {
            "old": {"served": 750, "errors": 1, "shed": 0},
            "new": {"served": 250, "errors": 0, "shed": 2},
        },
        "gates": [{"outcome": "Pass", "text": "ErrorRate at most 1%: 0%, limit 1%, 250 samples"}],
    },
}


def show(admin: AdminApi, *words: str, **changes: Any) -> str:
    document = {**DOCUMENT, **changes}
    admin.replies["/admin/rollouts"] = 200, json.dumps({"items": [document]}).encode()
    result = call("rollout", *words, "--admin", admin.url)
    assert result.code == 0, result.err
    return result.out


def test_status_of_one_in_full(admin: AdminApi) -> None:
    shown = show(admin, "status", "llm-new")
    assert "default/llm-new  Progressing" in shown
    assert "HTTPRoute route: llm → llm-new" in shown
    assert "█" * 10 + "░" * 10 + "┊" + "░" * 19 + " 25%  weights 75/25" in shown
    assert "steps: 25, 50, 100; step 1 for 42 s, at least 300 s, at most 1800 s" in shown
    assert "new: 250 served, 0 errors, 2 shed" in shown
    assert "Pass          ErrorRate at most 1%: 0%, limit 1%, 250 samples" in shown
    assert "undecided" in shown


def test_status_before_and_between_steps(admin: AdminApi) -> None:
    fresh = {"status": {}, "live": {"error": "no such route", "progress": ""}}
    shown = show(admin, "status", "llm-new", **fresh)
    assert "Pending" in shown
    assert "not in a step" in shown
    assert "no such route" in shown
    waiting = show(admin, "status", "llm-new", live={"interval_s": 1.0})
    assert "step 1 waits for its weights to be in force" in waiting


def test_status_of_all_and_for_programs(admin: AdminApi) -> None:
    words = show(admin, "status").splitlines()[1].split()
    assert words == ["default", "llm-new", "Progressing", "1/3", "75/25", "undecided"]
    assert json.loads(show(admin, "status", "-o", "json"))["items"][0]["live"]["elapsed_s"] == 42.2
    assert json.loads(show(admin, "status", "llm-new", "-o", "json"))["status"]["step"] == 1
    assert yaml.safe_load(show(admin, "status", "-o", "yaml"))["spec"]["from"] == "llm"
    admin.replies["/admin/rollouts"] = 200, b'{"items": []}'
    assert "no roll-outs found" in call("rollout", "status", "--admin", admin.url).err
    assert call("rollout", "status", "absent", "--admin", admin.url).code == 1


def test_history(admin: AdminApi) -> None:
    lines = show(admin, "history", "llm-new").splitlines()
    assert lines[0].split() == ["TIME", "ATTEMPT", "EVENT", "WEIGHTS", "WHY"]
    assert lines[1].split() == (
        ["2025-06-01T12:00:00Z", "1", "Started", "75/25", "started", "with", "step", "1:", "25%"]
    )


@pytest.mark.parametrize(("phase", "code"), [("Completed", 0), ("RolledBack", 1)])
def test_watch_ends_with_the_roll_out(admin: AdminApi, phase: str, code: int) -> None:
    document = {**DOCUMENT, "status": {**DOCUMENT["status"], "phase": phase}}
    admin.replies["/admin/rollouts"] = 200, json.dumps({"items": [document]}).encode()
    result = call("rollout", "status", "llm-new", "--watch", "--admin", admin.url)
    assert result.code == code
    assert phase in result.out
    assert call("rollout", "status", "--watch", "--admin", admin.url).code == 2
