"""Text to resources: documents, lists, anchors, and the exact words and places of mistakes."""

from inferway.resources import HTTPRoute, InferencePool, ModelServer
from inferway.resources.decode import PROBLEMS_PER_FILE_MAX, Decoded, decode
from inferway.resources.kinds import KINDS

SERVER = """\
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: {name}}}
spec: {{addresses: [{{host: 10.0.0.1}}]}}
"""


def read(text: str, file: str = "m.yaml") -> Decoded:
    return decode(text.encode(), file=file)


def words(text: str, file: str = "m.yaml") -> list[str]:
    return [str(problem) for problem in read(text, file).problems]


def names(decoded: Decoded) -> list[str]:
    return [entry.resource.name for entry in decoded.entries]


def test_every_mistake_of_a_file_at_once_with_its_place() -> None:
    text = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: Routes
  labels: {team: yes}
spec:
  hostnames: example.com
  rules:
  - matches:
    - path:
        type: Prefix
        value: v1
    - path: {value: /a//b}
      methd: POST
    backendRefs:
    - name: svc
    - name: gemma
      group: inference.networking.k8s.io
      kind: InferencePool
      weight: 2000000
    - kind: InferencePool
      group: inference.networking.k8s.io
      weight: "90"
    timeouts: {request: 10s, backendRequest: 1.5s}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: gemma}
spec:
  selector:
    matchLabels: {}
  targetPorts: [{number: 8000}, {number: 70000}]
  selector: {}
"""
    assert words(text, "routes.yaml") == [
        (
            "routes.yaml:4:9: error: metadata.name: must be lower-case letters, digits, '-' "
            "and '.', "
            "every part with a letter or digit at both ends: Routes"
        ),
        (
            "routes.yaml:5:18: error: metadata.labels.team: must be a string, got a boolean: true "
            "(hint: put it in quotes)"
        ),
        "routes.yaml:7:14: error: spec.hostnames: must be a list, got a string: example.com",
        (
            "routes.yaml:11:15: error: spec.rules[0].matches[0].path.type: must be one of Exact, "
            "PathPrefix, RegularExpression: Prefix (hint: did you mean PathPrefix?)"
        ),
        (
            "routes.yaml:13:21: error: spec.rules[0].matches[1].path.value: value of type "
            "PathPrefix "
            "must not contain '//': /a//b"
        ),
        (
            "routes.yaml:14:7: error: spec.rules[0].matches[1].methd: unknown field: methd "
            "(hint: did you mean method?)"
        ),
        (
            "routes.yaml:16:7: error: spec.rules[0].backendRefs[0].port: a reference to a Service "
            "needs a port (hint: set port, or group and kind when the backend is not a Service)"
        ),
        (
            "routes.yaml:20:15: error: spec.rules[0].backendRefs[1].weight: must be from 0 to "
            "1000000: 2000000"
        ),
        "routes.yaml:21:7: error: spec.rules[0].backendRefs[2].name: required field is missing",
        (
            "routes.yaml:23:15: error: spec.rules[0].backendRefs[2].weight: must be a whole "
            "number, "
            "got a string: 90 (hint: remove the quotes)"
        ),
        (
            "routes.yaml:24:46: error: spec.rules[0].timeouts.backendRequest: must be a "
            "duration such "
            "as 300s, 1m30s or 500ms: units h, m, s, ms, no fractions: 1.5s"
        ),
        "routes.yaml:31:5: error: spec.selector.matchLabels: needs at least 1: 0",
        "routes.yaml:32:42: error: spec.targetPorts[1].number: must be from 1 to 65535: 70000",
        (
            "routes.yaml:33:3: error: spec.selector: duplicate key: selector is already set "
            "at line 30 "
            "(hint: keep one of the two)"
        ),
    ]


def test_good_objects_beside_a_bad_one_are_decoded() -> None:
    decoded = read(SERVER.format(name="a") + "---\nkind: Nothing\n---\n" + SERVER.format(name="b"))
    assert names(decoded) == ["a", "b"]
    assert decoded.has_errors


def test_documents_that_are_empty_are_skipped() -> None:
    decoded = read("---\n# nothing\n---\n" + SERVER.format(name="a") + "---\n---\nnull\n")
    assert (names(decoded), decoded.problems) == (["a"], ())
    assert read("") == Decoded()


def test_the_origin_is_where_the_object_begins() -> None:
    decoded = read(
        "# comment\n---\n" + SERVER.format(name="a") + "---\n\n" + SERVER.format(name="b")
    )
    assert [str(entry.origin) for entry in decoded.entries] == ["m.yaml:3", "m.yaml:9"]


def test_items_of_a_list() -> None:
    text = """\
apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: inferway.dev/v1alpha1
  kind: ModelServer
  metadata: {name: a}
  spec: {addresses: [{host: 10.0.0.1}]}
- apiVersion: inferway.dev/v1alpha1
  kind: ModelServer
  metadata: {name: b}
  spec: {addresses: []}
"""
    assert names(read(text)) == ["a"]
    assert words(text) == ["m.yaml:12:10: error: items[1].spec.addresses: needs at least 1: 0"]
    assert words("kind: List\n") == ["m.yaml:1:1: error: items: a List needs a list of items"]


def test_output_of_kubectl_loads() -> None:
    text = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata:
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {"apiVersion":"inference.networking.k8s.io/v1"}
  creationTimestamp: "2025-09-01T10:00:00Z"
  deletionTimestamp: null
  finalizers: [example.com/x]
  generation: 7
  managedFields: [{manager: kubectl, fieldsV1: {"f:spec": {}}}]
  name: gemma
  namespace: genai
  ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: u}]
  resourceVersion: "4711"
  selfLink: /x
  uid: 0b2e
spec:
  selector: {matchLabels: {pool: gemma}}
  targetPorts: [{number: 8000}]
status:
  parents: [{anything: goes}]
"""
    decoded = read(text)
    assert decoded.problems == ()
    pool = decoded.entries[0].resource
    assert isinstance(pool, InferencePool)
    metadata = pool.metadata
    assert (metadata.uid, metadata.generation, pool.qualified_name) == ("0b2e", 7, "genai/gemma")
    assert metadata.creation_timestamp is not None
    assert metadata.creation_timestamp.isoformat() == "2025-09-01T10:00:00+00:00"


def test_anchors_and_merge_keys() -> None:
    text = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  rules:
  - backendRefs:
    - &pool {group: inference.networking.k8s.io, kind: InferencePool, name: a, weight: 90}
    - {<<: *pool, name: b, weight: 10}
  - backendRefs: [*pool]
"""
    decoded = read(text)
    route = decoded.entries[0].resource
    assert isinstance(route, HTTPRoute)
    refs = [
        (ref.kind, ref.name, ref.weight) for rule in route.spec.rules for ref in rule.backend_refs
    ]
    assert refs == [
        ("InferencePool", "a", 90),
        ("InferencePool", "b", 10),
        ("InferencePool", "a", 90),
    ]
    assert words("a: *missing") == [
        "m.yaml:1:1: error: kind: required field is missing",
        "m.yaml:1:4: error: a: alias of an anchor that is not defined before: missing",
    ]


def test_json_with_tabs() -> None:
    text = (
        '{\n\t"apiVersion":\t"inferway.dev/v1alpha1",\n\t"kind": "ModelServer",\n'
        '\t"metadata": {"name": "a", "annotations": {"note": "\\ud83d\\ude00\\t\\/"}},\n'
        '\t"spec": {"addresses": [{"host": "10.0.0.1", "prt": 1}]}\n}\n'
    )
    assert words(text, "m.json") == [
        "m.json:5:46: error: spec.addresses[0].prt: unknown field: prt (hint: did you mean port?)"
    ]
    good = read(text.replace("prt", "port"), "m.json").entries[0].resource
    assert good.metadata.annotations == {"note": "😀\t/"}


def test_keys_must_be_strings() -> None:
    text = SERVER.format(name="a").replace("name: a", "name: a, labels: {1: x, yes: y}")
    assert words(text) == [
        "m.yaml:3:30: error: metadata.labels: key must be a string: 1 (hint: quote the key)",
        "m.yaml:3:36: error: metadata.labels: key must be a string: true (hint: quote the key)",
    ]


def test_unknown_kinds_and_versions() -> None:
    known = ", ".join(info.kind for info in KINDS)
    assert words("apiVersion: v1\nkind: TLSRoute\n") == [
        f"m.yaml:2:7: error: kind: kind TLSRoute is not supported; supported kinds: {known}"
    ]
    assert words("kind: httpRoute\n")[0].endswith("(hint: did you mean HTTPRoute?)")
    assert words("kind: [Gateway]\n") == ["m.yaml:1:1: error: kind: must be a string, got a list"]
    assert words("apiVersion: v1\n") == ["m.yaml:1:1: error: kind: required field is missing"]
    assert words("kind: ModelServer\n") == [
        (
            "m.yaml:1:1: error: apiVersion: required field is missing "
            "(hint: add apiVersion: inferway.dev/v1alpha1)"
        )
    ]
    assert words("kind: Gateway\napiVersion: networking.k8s.io/v1\n") == [
        (
            "m.yaml:2:13: error: apiVersion: not an apiVersion of kind Gateway: "
            "networking.k8s.io/v1; "
            "accepted: gateway.networking.k8s.io/v1, gateway.networking.k8s.io/v1beta1"
        )
    ]
    assert words("- a\n") == [
        "m.yaml:1:1: error: must be a Kubernetes object (a mapping), got a list"
    ]


def test_two_objects_of_one_name_in_a_file() -> None:
    text = SERVER.format(name="a") + "---\n" + SERVER.format(name="a")
    assert words(text) == [
        (
            "m.yaml:6:1: error: metadata.name: ModelServer default/a is already defined at "
            "m.yaml:1 "
            "(hint: rename or remove one of the two)"
        )
    ]
    elsewhere = text.replace("{name: a}", "{name: a, namespace: other}", 1)
    assert words(elsewhere) == []


def test_python_names_are_not_manifest_names() -> None:
    text = SERVER.format(name="a").replace("spec: {", "spec: {metrics_path: /m, ")
    assert words(text) == [
        (
            "m.yaml:4:8: error: spec.metrics_path: unknown field: metrics_path "
            "(hint: did you mean metricsPath?)"
        )
    ]


def test_text_that_is_not_yaml() -> None:
    assert words("a: [1\nb: 2\n")[0].startswith("m.yaml:2:2: error: syntax error: ")
    assert decode(b"a: 1\nb: \xff\n", file="m.yaml").problems[0].line == 2
    assert words("a: 1\nb: \x01\n")[0].startswith("m.yaml:2:4: error: syntax error: ")
    assert words("kind: !secret x\n")[0] == (
        "m.yaml:1:7: error: kind: YAML tag is not supported: !secret (hint: remove the tag)"
    )


def test_nesting_is_bounded() -> None:
    [problem] = read("[" * 100_000).problems
    assert (problem.line, problem.column) == (1, 65)
    assert "nested too deeply: at most 64" in problem.message


def test_problems_are_bounded_and_errors_go_first() -> None:
    fields = "".join(f"  x{number}: 1\n" for number in range(150))
    decoded = read(SERVER.format(name="a").replace("spec: {", "spec:\n" + fields + "  y: {"))
    assert len(decoded.problems) == PROBLEMS_PER_FILE_MAX + 1
    assert decoded.problems[-1].message == "52 more problems"


def test_an_object_that_is_decoded_is_typed() -> None:
    server = read(SERVER.format(name="a")).entries[0].resource
    assert isinstance(server, ModelServer)
    assert server.spec.addresses[0].host == "10.0.0.1"
