"""EndpointPickerConfig: references, profiles, and what is said of what is not served."""

from __future__ import annotations

import pytest

from inferway.resources import EndpointPickerConfig
from inferway.resources.decode import Decoded, decode
from inferway.resources.endpoint_picker_config import parameters_of
from inferway.resources.picker_plugins.registry import PLUGIN_TYPES
from inferway.resources.picker_plugins.scorers import PrefixCacheScorer
from inferway.resources.picker_plugins.sessions import SessionAffinity

APART = "prefill and decode on different servers are not supported"
ORDERED = "plugins: [{name: p, type: fcfs-ordering-policy}]"
HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def decoded(text: str, file: str = "picker.yaml") -> Decoded:
    return decode((HEAD + text).encode(), file=file)


def profile_of(reference: str) -> str:
    return f"schedulingProfiles: [{{name: p, plugins: [{{pluginRef: {reference}}}]}}]"


def config(text: str) -> EndpointPickerConfig:
    found = decoded(text)
    assert [str(one) for one in found.problems] == []
    [entry] = found.entries
    assert isinstance(entry.resource, EndpointPickerConfig)
    return entry.resource


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("picker.yaml", "picker"),
        ("/etc/epp/My_Config.v2.yaml", "my-config.v2"),
        ("-.yaml", "unnamed"),
    ],
)
def test_without_metadata_it_is_named_like_its_file(file: str, name: str) -> None:
    [entry] = decoded("plugins: []", file).entries
    assert entry.resource.qualified_name == f"default/{name}"


def test_metadata_count_when_they_are_there() -> None:
    assert config("metadata: {name: chat, namespace: llm}").qualified_name == "llm/chat"


@pytest.mark.parametrize(
    "version",
    ["inferway.dev/v1alpha1", "llm-d.ai/v1", "inference.networking.x-k8s.io/v1alpha1"],
)
def test_an_object_is_the_same_in_every_group(version: str) -> None:
    text = f"apiVersion: {version}\nkind: EndpointPickerConfig\n"
    [one] = decode(text.encode(), file="picker.yaml").entries
    assert one.resource.key == config("plugins: []").key
    assert one.resource.kind == "EndpointPickerConfig"


def test_without_profiles_every_plugin_that_can_be_in_one_is() -> None:
    found = config(
        "plugins: [{type: queue-scorer}, {type: utilization-detector}, {type: openai-parser},"
        " {type: max-score-picker}, {name: by-app, type: by-label, parameters: {label: app}}]"
    )
    assert [(one.plugin_ref, one.weight) for one in found.profile] == [
        ("queue-scorer", 1.0),
        ("max-score-picker", 1.0),
        ("by-app", 1.0),
    ]


def test_a_profile_says_who_takes_part_and_with_what_weight() -> None:
    found = config(
        "plugins: [{type: queue-scorer}, {type: random-picker}, {type: utilization-detector}]\n"
        "schedulingProfiles:\n"
        "- {name: p, plugins: [{pluginRef: utilization-detector},"
        " {pluginRef: queue-scorer, weight: 2.5}]}"
    )
    assert [(one.plugin_ref, one.weight) for one in found.profile] == [
        ("utilization-detector", 1.0),
        ("queue-scorer", 2.5),
    ]


def test_parameters_have_the_defaults_of_their_type() -> None:
    plugin = config("plugins: [{type: prefix-cache-scorer, parameters: {blockSize: 5}}]").plugins[0]
    found = parameters_of(plugin, PrefixCacheScorer)
    assert (found.match_length_weight, found.match_length_scale_tokens) == (0.0, 8192)


def test_our_sections_are_for_files_of_ours() -> None:
    section = "explain: {recordEvery: 10}"
    ours = f"apiVersion: inferway.dev/v1alpha1\nkind: EndpointPickerConfig\n{section}"
    assert decode(ours.encode(), file="picker.yaml").problems == ()
    [problem] = decoded(section).problems
    assert "explain" in str(problem)
    assert "is a field of inferway.dev/v1alpha1" in str(problem)


@pytest.mark.parametrize(
    ("gates", "on"),
    [
        ("[]", False),
        ("[flowControl]", True),
        ("[flowControl=true]", True),
        ("[flowControl=false]", False),
        ("[flowControl, flowControl=false]", False),
    ],
)
def test_feature_gates(gates: str, on: bool) -> None:
    assert config(f"featureGates: {gates}").gate("flowControl") is on


def test_what_has_no_effect_is_said() -> None:
    found = config(
        "featureGates: [dataLayer]\n"
        "plugins: [{type: prefix-cache-scorer, parameters: {hashBlockSize: 5}},"
        " {type: approx-prefix-cache-producer, parameters: {autoTune: true}}]"
    )
    assert [(path, text.partition(":")[0]) for path, text in found.remarks()] == [
        (("featureGates", 0), "no effect"),
        (("plugins", 0, "parameters", "hashBlockSize"), "no effect"),
    ]


@pytest.mark.parametrize(
    ("text", "field", "message", "hint"),
    [
        (
            "plugins: [{type: queue-scorrer}]",
            "plugins[0].type",
            "unknown plugin type: queue-scorrer",
            "did you mean queue-scorer?",
        ),
        (
            "plugins: [{type: pd-profile-handler, parameters: {threshold: 0}}]",
            "plugins[0].type",
            f"plugin type is not supported: pd-profile-handler: {APART}",
            "use one profile, without a handler",
        ),
        (
            "plugins: [{type: active-request-scorer, parameters: {idleTreshold: 2}}]",
            "plugins[0].parameters.idleTreshold",
            "unknown field: idleTreshold",
            "did you mean idleThreshold?",
        ),
        (
            "plugins: [{type: active-request-scorer, parameters: {maxBusyScore: 1.5}}]",
            "plugins[0].parameters.maxBusyScore",
            "must be from 0 to 1: 1.5",
            "",
        ),
        (
            "plugins: [{type: endpoint-attribute-scorer, parameters: {attributeKey: load}}]",
            "plugins[0].parameters.algorithm",
            "required field is missing",
            "",
        ),
        (
            "plugins: [{type: queue-scorer}, {name: queue-scorer, type: random-picker}]",
            "plugins[1].name",
            "plugin name must be unique: queue-scorer",
            "give one of the two a name",
        ),
        (
            f"plugins: [{{type: queue-scorer}}]\n{profile_of('queue-score')}",
            "schedulingProfiles[0].plugins[0].pluginRef",
            "no such plugin: queue-score",
            "did you mean queue-scorer?",
        ),
        (
            f"plugins: [{{type: openai-parser}}]\n{profile_of('openai-parser')}",
            "schedulingProfiles[0].plugins[0].pluginRef",
            "must be a cost or filter or picker or scorer: openai-parser",
            "",
        ),
        (
            f"{ORDERED}\nflowControl: {{defaultPriorityBand: {{fairnessPolicyRef: p}}}}",
            "flowControl.defaultPriorityBand.fairnessPolicyRef",
            "must be a fairness policy: p",
            "",
        ),
        (
            "plugins: [{type: max-score-picker}, {type: random-picker}]",
            "plugins",
            "a profile has one picker",
            "remove the others",
        ),
        (
            "schedulingProfiles: [{name: prefill}, {name: decode}]",
            "schedulingProfiles[1]",
            "one profile is supported: prefill and decode on different servers are not",
            "keep the profile that serves requests",
        ),
        (
            "dataLayer: {discovery: {pluginRef: files}}",
            "dataLayer.discovery",
            "not supported: discovery: endpoints are those of the manifests",
            "remove it",
        ),
        (
            "featureGates: [flowcontrol]",
            "featureGates[0]",
            "unknown feature gate: flowcontrol",
            "did you mean flowControl?",
        ),
        (
            "featureGates: [flowControl=yes]",
            "featureGates[0]",
            "must be flowControl=true or flowControl=false: flowControl=yes",
            "",
        ),
        (
            "flowControl: {maxBytes: 1.5Gi}",
            "flowControl.maxBytes",
            "must be a number of bytes such as 1048576, 512Mi or 1G",
            "",
        ),
        (
            "flowControl: {defaultRequestTTL: 60}",
            "flowControl.defaultRequestTTL",
            "must be a string, got a whole number: 60",
            "put it in quotes",
        ),
    ],
)
def test_mistakes(text: str, field: str, message: str, hint: str) -> None:
    [problem] = decoded(text).problems
    assert (problem.field, problem.message, problem.hint) == (field, message, hint)


def test_every_mistake_of_a_plugin_is_told() -> None:
    problems = decoded("plugins: [{type: load-aware-scorer, parameters: {threshold: 0, b: 1}}]")
    assert [one.field for one in problems.problems] == [
        "plugins[0].parameters.threshold",
        "plugins[0].parameters.b",
    ]


@pytest.mark.parametrize(
    ("written", "meant"), [("1048576", 1048576), ("512Mi", 2**29), ("1G", 10**9), ("0", 0)]
)
def test_bytes(written: str, meant: int) -> None:
    flow = config(f"flowControl: {{maxBytes: {written}}}").flow_control
    assert flow is not None
    assert flow.max_bytes == meant


def test_plugins_of_others_pass_with_any_parameters() -> None:
    found = config(
        "plugins: [{type: example.com/mine, parameters: {depth: [1]}}, {type: 'a.py:Mine'},"
        " {type: max-score-picker}]"
    )
    assert [one.plugin_ref for one in found.profile] == [
        "example.com/mine",
        "a.py:Mine",
        "max-score-picker",
    ]


def test_headers_that_the_profile_looks_at() -> None:
    session = "strategy: session_id, sessionIdConfig: {sources: [{header: X-Chat}]}"
    found = config(
        "plugins: [{type: session-affinity-scorer}, {type: queue-scorer},"
        f" {{type: session-affinity-filter, parameters: {{{session}}}}},"
        " {type: header-label-affinity-scorer, parameters: {headerName: X-Zone, labelKey: zone}},"
        " {name: other, type: header-label-affinity-scorer,"
        " parameters: {headerName: x-zone, labelKey: rack}}]"
    )
    assert found.request_headers == ("x-session-token", "x-chat", "x-zone")


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ("{header: X-Tenant}", ("x-tenant",)),
        ("{headers: [X-A, x-b], limit: 3}", ("x-a", "x-b")),
        ("{header: 3, headers: x-a}", ()),
        ("{}", ()),
    ],
)
def test_headers_of_plugins_of_others(parameters: str, names: tuple[str, ...]) -> None:
    found = config(f"plugins: [{{type: 'a.py:Mine', parameters: {parameters}}}]")
    assert found.request_headers == names


def test_sessions_by_the_header_of_their_producer() -> None:
    sources = "sessionIdConfig: {sources: [{attribute: session-id}, {header: x-other}]}"
    found = config(
        "plugins: [{type: session-id-producer, parameters: {headerName: X-Chat}},"
        f" {{type: session-affinity-scorer, parameters: {{strategy: session_id, {sources}}}}}]"
    )
    assert found.request_headers == ("x-chat", "x-other")
    [part] = found.profile
    told = parameters_of(found.part(part), SessionAffinity).session_id_config
    assert [one.header for one in told.sources] == ["X-Chat", "x-other"]
    assert found.session_cookie is None


@pytest.mark.parametrize(
    ("text", "cookie"),
    [
        ("plugins: [{type: session-id-producer, parameters: {cookieName: chat}}]", "chat"),
        ("plugins: [{type: session-id-producer}]", None),
        ("conduct: {sessionCookie: ours}", "ours"),
        ("plugins: []", None),
    ],
)
def test_sessions_by_a_cookie(text: str, cookie: str | None) -> None:
    version = "inferway.dev" if "conduct" in text else "llm-d.ai"
    head = f"apiVersion: {version}/v1alpha1\nkind: EndpointPickerConfig\n"
    [entry] = decode((head + text).encode(), file="picker.yaml").entries
    assert isinstance(entry.resource, EndpointPickerConfig)
    assert entry.resource.session_cookie == cookie


@pytest.mark.parametrize("name", sorted(PLUGIN_TYPES))
def test_a_type_is_served_or_says_why_not(name: str) -> None:
    found = PLUGIN_TYPES[name]
    assert found.name == name
    assert sum((found.is_served, bool(found.built_in), bool(found.refused))) == 1
    assert bool(found.refused) == bool(found.instead)
    fields = {field.alias for field in found.parameters.model_fields.values()}
    assert found.ignored.keys() <= fields


def test_what_the_reference_does_not_have_is_for_our_group() -> None:
    [problem] = decoded("health: {window: 10s}").problems
    assert "health is a field of inferway.dev/v1alpha1: llm-d.ai/v1alpha1" in str(problem)
    ours = HEAD.replace("llm-d.ai", "inferway.dev")
    assert not decode((ours + "health: {window: 10s}").encode(), file="p.yaml").problems


@pytest.mark.parametrize(
    "section",
    ["ejectionTime: 0s", "window: 0", "minShare: 0", "consecutiveFaults: 0", "panicRatio: 1.1"],
)
def test_health_out_of_range(section: str) -> None:
    ours = HEAD.replace("llm-d.ai", "inferway.dev")
    found = decode(f"{ours}health: {{{section}}}".encode(), file="p.yaml")
    [problem] = found.problems
    assert f"health.{section.partition(':')[0]}" in str(problem)
