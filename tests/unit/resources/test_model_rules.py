"""What an InferenceModel and an InferenceModelRewrite may say, in each of their spellings."""

import pytest

from inferway.resources import InferenceModel
from inferway.resources.decode import decode
from inferway.resources.kinds import BY_KIND

MODEL = "modelName: llm, poolRef: {name: p}"
REGEX = "{matches: [{model: {type: Regex, value: a}}], targets: [{modelRewrite: a}]}"
V1 = "{modelName: v1, poolRef: {name: p}}"


def text(kind: str, spec: str) -> bytes:
    version = BY_KIND[kind].api_versions[0]
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: n}}\nspec: {spec}\n".encode()


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ("{poolRef: {name: p}}", "spec.modelName", "required field is missing"),
        ("{modelName: llm}", "spec.poolRef", "required field is missing"),
        ("{modelName: '', poolRef: {name: p}}", "spec.modelName", "must not be empty"),
        (f"{{{MODEL}, criticality: critical}}", "spec.criticality", "Critical"),
        (
            f"{{{MODEL}, targetModels: [{{name: a, weight: 1}}, {{name: b}}]}}",
            "spec.targetModels[1].weight",
            "either all targets have one or none has",
        ),
        (
            f"{{{MODEL}, targetModels: [{{name: a, weight: 0}}]}}",
            "spec.targetModels[0].weight",
            "1",
        ),
        (
            f"{{{MODEL}, targetModels: [{{name: a, weight: 1000001}}]}}",
            "spec.targetModels[0].weight",
            "must be from 1 to 1000000",
        ),
        (f"{{{MODEL}, targetModels: [{'{name: a}, ' * 11}]}}", "spec.targetModels", "at most 10"),
        (
            f"{{targetModels: [{{name: a}}], versions: [{V1}]}}",
            "spec.targetModels",
            "excluded by versions",
        ),
        ("{versions: [{modelName: a}]}", "spec.versions[0].poolRef", "required field is missing"),
        (
            "{versions: [{modelName: a, weight: 0, poolRef: {name: p}}]}",
            "spec.versions",
            "at least one weight must be above 0",
        ),
        (
            f"{{versions: [{V1}, {{modelName: b, weight: 1, poolRef: {{name: p}}}}]}}",
            "spec.versions[0].weight",
            "either all targets have one or none has",
        ),
    ],
)
def test_inference_model(spec: str, field: str, message: str) -> None:
    problems = decode(text("InferenceModel", spec), file="m").problems
    [problem] = [one for one in problems if one.is_error]
    assert problem.field == field
    assert message in problem.message


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ("{rules: [{targets: [{modelRewrite: a}]}]}", "spec.poolRef", "required"),
        ("{poolRef: {name: p}, rules: []}", "spec.rules", "at least 1"),
        ("{poolRef: {name: p}, rules: [{targets: []}]}", "spec.rules[0].targets", "at least 1"),
        (
            f"{{poolRef: {{name: p}}, rules: [{REGEX}]}}",
            "spec.rules[0].matches[0].model.type",
            "Exact",
        ),
        (
            "{poolRef: {name: p}, rules: [{targets: [{modelRewrite: a, weight: 0}]}]}",
            "spec.rules[0].targets[0].weight",
            "must be from 1 to 1000000",
        ),
    ],
)
def test_inference_model_rewrite(spec: str, field: str, message: str) -> None:
    [problem] = decode(text("InferenceModelRewrite", spec), file="m").problems
    assert problem.field == field
    assert message in problem.message


@pytest.mark.parametrize(
    ("spec", "alias"),
    [
        (f"{{{MODEL}}}", "llm"),
        (f"{{versions: [{V1}]}}", "n"),
        (f"{{modelName: llm, versions: [{V1}]}}", "llm"),
    ],
)
def test_the_name_that_clients_ask_for(spec: str, alias: str) -> None:
    [entry] = decode(text("InferenceModel", spec), file="m").entries
    assert isinstance(entry.resource, InferenceModel)
    assert entry.resource.alias == alias
