"""What the upstream CRDs refuse is refused here: one row per rule, with the field and the words."""

import pytest

from inferway.resources.decode import decode
from inferway.resources.kinds import BY_KIND

SERVICE = "{name: s, port: 80}"
POOL = "{selector: {matchLabels: {a: b}}, targetPorts: [{number: 80}], endpointPickerRef: "


def problems(kind: str, spec: str, metadata: str = "name: one") -> list[tuple[str, str]]:
    version = BY_KIND[kind].api_versions[0]
    text = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"
    return [
        (problem.field, problem.message) for problem in decode(text.encode(), file="m").problems
    ]


def check(kind: str, spec: str, field: str, message: str) -> None:
    assert [
        (found, words)
        for found, words in problems(kind, spec)
        if found == field and message in words
    ], problems(kind, spec)
    assert len(problems(kind, spec)) == 1, problems(kind, spec)


@pytest.mark.parametrize(
    ("metadata", "field", "message"),
    [
        ("name: ''", "metadata.name", "must not be empty"),
        ("name: a_b", "metadata.name", "must be lower-case letters"),
        ("name: -a", "metadata.name", "must be lower-case letters"),
        (f"name: {'a' * 254}", "metadata.name", "must have at most 253 characters: 254"),
        ("name: a, namespace: b.c", "metadata.namespace", "must be lower-case letters"),
        (f"name: a, namespace: {'a' * 64}", "metadata.namespace", "at most 63 characters: 64"),
        ("name: a, labels: {'a b': c}", 'metadata.labels["a b"]', "[dns-prefix/]name"),
        ("name: a, labels: {A/b: c}", 'metadata.labels["A/b"]', "[dns-prefix/]name"),
        ("name: a, labels: {a: -b}", "metadata.labels.a", "up to 63 letters"),
        (f"name: a, labels: {{a: {'b' * 64}}}", "metadata.labels.a", "at most 63 characters: 64"),
        ("name: a, labels: {a: 1}", "metadata.labels.a", "must be a string, got a whole number: 1"),
        ("name: a, generation: -1", "metadata.generation", "must be from 0"),
        ("name: a, creationTimestamp: soon", "metadata.creationTimestamp", "a timestamp such as"),
        ("name: a, creationTimestamp: 2025-01-31T12:00:00", "metadata.creationTimestamp", "such"),
        ("name: a, creationTimestamp: 1738324800", "metadata.creationTimestamp", "a timestamp"),
        ("namespace: a", "metadata.name", "required field is missing"),
    ],
)
def test_metadata(metadata: str, field: str, message: str) -> None:
    [(found, words)] = problems("ModelServer", "{addresses: [{host: a}]}", metadata)
    assert found == field
    assert message in words


@pytest.mark.parametrize(
    "metadata",
    [
        "name: a.b-c.1",
        "name: a, labels: {example.com/a.B_c-1: ''}",
        "name: a, annotations: {a: 'any text: at all\\n'}",
    ],
)
def test_legal_metadata(metadata: str) -> None:
    assert problems("ModelServer", "{addresses: [{host: a}]}", metadata) == []


def test_a_gateway_class_has_no_namespace() -> None:
    [(field, message)] = problems(
        "GatewayClass", "{controllerName: a.b/c}", "name: a, namespace: b"
    )
    assert field == "metadata.namespace"
    assert "cluster-scoped" in message
    check("GatewayClass", "{controllerName: a.b}", "spec.controllerName", "a domain and a path")


def listeners(*entries: str) -> str:
    return f"{{gatewayClassName: c, listeners: [{', '.join(entries)}]}}"


HTTP = "{name: a, port: 80, protocol: HTTP}"


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (listeners(), "spec.listeners", "needs at least 1: 0"),
        (
            listeners(*(f"{{name: l{n}, port: {n + 1}, protocol: HTTP}}" for n in range(65))),
            "spec.listeners",
            "must have at most 64 entries: 65",
        ),
        (
            listeners("{name: a, port: 80, protocol: http, tls: {options: {a: b}}}"),
            "spec.listeners[0].tls",
            "tls is not allowed with protocol HTTP",
        ),
        (
            listeners("{name: a, port: 443, protocol: HTTPS, tls: {mode: Passthrough}}"),
            "spec.listeners[0].tls.mode",
            "needs tls mode Terminate",
        ),
        (
            listeners("{name: a, port: 443, protocol: HTTPS, tls: {}}"),
            "spec.listeners[0].tls.certificateRefs",
            "needs certificateRefs or options",
        ),
        (
            listeners("{name: a, port: 443, protocol: TLS}"),
            "spec.listeners[0].tls",
            "needs tls with a mode",
        ),
        (
            listeners("{name: a, port: 53, protocol: UDP, hostname: a.b}"),
            "spec.listeners[0].hostname",
            "hostname is not allowed",
        ),
        (
            listeners("{name: a, port: 80, protocol: HTTP, hostname: '*'}"),
            "spec.listeners[0].hostname",
            "a lower-case DNS name",
        ),
        (
            listeners(HTTP, "{name: a, port: 81, protocol: HTTP}"),
            "spec.listeners[1].name",
            "must be unique within the Gateway: a",
        ),
        (
            listeners(HTTP, "{name: b, port: 80, protocol: HTTP}"),
            "spec.listeners[1].port",
            "same as listener a",
        ),
        (
            listeners(HTTP)[:-1] + ", addresses: [{value: 10.0.0.1}, {value: 10.0.0.1}]}",
            "spec.addresses[1].value",
            "IPAddress values must be unique: 10.0.0.1",
        ),
        (
            listeners(HTTP)[:-1] + ", addresses: [{type: Hostname, value: A_b}]}",
            "spec.addresses[0].value",
            "a lower-case DNS name",
        ),
    ],
)
def test_gateway(spec: str, field: str, message: str) -> None:
    check("Gateway", spec, field, message)


@pytest.mark.parametrize(
    "spec",
    [
        listeners(HTTP, "{name: b, port: 80, protocol: HTTP, hostname: a.b}"),
        listeners("{name: a, port: 443, protocol: TLS, tls: {mode: Passthrough}}"),
        listeners("{name: a, port: 9, protocol: example.com/Own}"),
        listeners(HTTP)[:-1] + ", addresses: [{}, {}, {type: example.com/Pool, value: x}]}",
    ],
)
def test_legal_gateway(spec: str) -> None:
    assert problems("Gateway", spec) == []


def rule(text: str) -> str:
    return f"{{rules: [{{{text}}}]}}"


def path(text: str) -> str:
    return rule(f"matches: [{{path: {{{text}}}}}]")


def filters(*entries: str, more: str = "") -> str:
    return rule(f"filters: [{', '.join(entries)}]{more}")


REWRITE = (
    "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}"
)
REDIRECT = "{type: RequestRedirect, requestRedirect: {}}"
VALUE = "spec.rules[0].matches[0].path.value"


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (path("value: v1"), VALUE, "must start with '/'"),
        (path("type: Exact, value: /a//b"), VALUE, "must not contain '//'"),
        (path("value: /a/./b"), VALUE, "must not contain '/./'"),
        (path("value: /a/../b"), VALUE, "must not contain '/../'"),
        (path("value: /a%2Fb"), VALUE, "must not contain '%2F'"),
        (path("value: /a%2fb"), VALUE, "must not contain '%2f'"),
        (path("value: '/a#b'"), VALUE, "must not contain '#'"),
        (path("value: /a/.."), VALUE, "must not end with '/..'"),
        (path("value: /a/."), VALUE, "must not end with '/.'"),
        (path("value: '/a b'"), VALUE, "valid in a URL path"),
        (path("value: /a%zz"), VALUE, "valid in a URL path"),
        (path(f"value: /{'a' * 1024}"), VALUE, "at most 1024 characters: 1025"),
        (
            rule("matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}]"),
            "spec.rules[0].matches[0].headers[1].name",
            "must be unique: a",
        ),
        (
            rule("matches: [{headers: [{name: ':method', value: b}]}]"),
            "spec.rules[0].matches[0].headers[0].name",
            "an HTTP token",
        ),
        (
            rule("matches: [{queryParams: [{name: a, value: ''}]}]"),
            "spec.rules[0].matches[0].queryParams[0].value",
            "must not be empty",
        ),
        (
            rule("matches: [{method: post}]"),
            "spec.rules[0].matches[0].method",
            "must be one of GET, HEAD, POST",
        ),
        (rule(f"matches: [{', '.join(['{}'] * 65)}]"), "spec.rules[0].matches", "at most 64"),
        ("{rules: []}", "spec.rules", "needs at least 1: 0"),
        (f"{{rules: [{', '.join(['{}'] * 17)}]}}", "spec.rules", "at most 16 entries: 17"),
        (
            "{rules: [" + ", ".join(["{matches: [" + ", ".join(["{}"] * 43) + "]}"] * 3) + "]}",
            "spec.rules",
            "at most 128 matches are allowed over all rules: 129",
        ),
        ("{rules: [{name: a}, {name: a}]}", "spec.rules[1].name", "unique within the route: a"),
        ("{hostnames: [10.0.0.1, 'a.*.b']}", "spec.hostnames[1]", "a lower-case DNS name"),
        ("{parentRefs: [{name: a}, {name: a}]}", "spec.parentRefs[1]", "must be distinct: a"),
        (
            "{parentRefs: [{name: a, sectionName: x}, {name: a}]}",
            "spec.parentRefs[1]",
            "must set sectionName, or all port",
        ),
        (
            rule("backendRefs: [{name: a, port: 80, weight: 1000001}]"),
            "spec.rules[0].backendRefs[0].weight",
            "must be from 0 to 1000000: 1000001",
        ),
        (
            rule("backendRefs: [{name: a}]"),
            "spec.rules[0].backendRefs[0].port",
            "a reference to a Service needs a port",
        ),
        (
            rule("timeouts: {request: 1s, backendRequest: 1001ms}"),
            "spec.rules[0].timeouts.backendRequest",
            "cannot be longer than request: 1001ms > 1s",
        ),
        (
            rule("timeouts: {request: 1.5s}"),
            "spec.rules[0].timeouts.request",
            "a duration such as",
        ),
        (rule("retry: {codes: [399]}"), "spec.rules[0].retry.codes[0]", "from 400 to 599: 399"),
        (
            rule("sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}"),
            "spec.rules[0].sessionPersistence.absoluteTimeout",
            "must be set when",
        ),
        (
            filters("{type: URLRewrite}"),
            "spec.rules[0].filters[0].urlRewrite",
            "must be set when type is URLRewrite",
        ),
        (
            filters("{type: CORS, cors: {}, urlRewrite: {}}"),
            "spec.rules[0].filters[0].urlRewrite",
            "must not be set when type is CORS",
        ),
        (
            filters("{type: CORS, cors: {}}", "{type: CORS, cors: {}}"),
            "spec.rules[0].filters[0].type",
            "CORS filter cannot be repeated",
        ),
        (
            filters("{type: CORS, cors: {allowOrigins: ['*', 'http://a']}}"),
            "spec.rules[0].filters[0].cors.allowOrigins",
            "cannot hold '*' beside other entries",
        ),
        (
            filters("{type: CORS, cors: {allowHeaders: [a, a]}}"),
            "spec.rules[0].filters[0].cors.allowHeaders[1]",
            "must not repeat: a",
        ),
        (
            filters(REDIRECT, "{type: URLRewrite, urlRewrite: {}}"),
            "spec.rules[0].filters",
            "cannot be used together",
        ),
        (
            filters(REDIRECT, more=f", backendRefs: [{SERVICE}]"),
            "spec.rules[0].filters[0]",
            "RequestRedirect cannot be used together with backendRefs",
        ),
        (
            filters(REWRITE, more=", matches: [{path: {type: Exact, value: /}}]"),
            "spec.rules[0].filters[0]",
            "needs exactly one match of type PathPrefix",
        ),
        (
            rule(
                f"matches: [{{}}, {{}}], backendRefs: [{{name: s, port: 80, filters: [{REWRITE}]}}]"
            ),
            "spec.rules[0].backendRefs[0].filters[0]",
            "needs exactly one match of type PathPrefix",
        ),
        (
            filters(
                "{type: RequestMirror, requestMirror: "
                f"{{backendRef: {SERVICE}, percent: 1, fraction: {{numerator: 1}}}}}}"
            ),
            "spec.rules[0].filters[0].requestMirror.fraction",
            "only one of percent and fraction",
        ),
        (
            filters(
                "{type: RequestMirror, requestMirror: "
                f"{{backendRef: {SERVICE}, fraction: {{numerator: 101}}}}}}"
            ),
            "spec.rules[0].filters[0].requestMirror.fraction.numerator",
            "must be at most the denominator: 101 of 100",
        ),
        (
            filters("{type: RequestRedirect, requestRedirect: {statusCode: 304}}"),
            "spec.rules[0].filters[0].requestRedirect.statusCode",
            "must be one of 301, 302, 303, 307, 308: 304",
        ),
        (
            filters("{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath}}}"),
            "spec.rules[0].filters[0].requestRedirect.path.replaceFullPath",
            "must be set when type is ReplaceFullPath",
        ),
        (
            filters(
                "{type: RequestHeaderModifier, requestHeaderModifier: "
                "{set: [{name: a, value: b}, {name: a, value: c}]}}"
            ),
            "spec.rules[0].filters[0].requestHeaderModifier.set[1].name",
            "must be unique: a",
        ),
    ],
)
def test_http_route(spec: str, field: str, message: str) -> None:
    check("HTTPRoute", spec, field, message)


@pytest.mark.parametrize(
    "spec",
    [
        path("type: RegularExpression, value: '^v1//.*#$'"),
        path("value: '/v1/%20/~a!$&()*+,;=:@'"),
        path("value: /..a/.b./..."),
        "{parentRefs: [{name: a, sectionName: x}, {name: a, sectionName: y}]}",
        "{parentRefs: [{name: a}, {name: a, namespace: b}, {name: b}]}",
        rule("timeouts: {request: 0s, backendRequest: 10s}"),
        rule("backendRefs: [{name: a, port: 80, weight: 0}]"),
        filters(REWRITE),
        filters(REDIRECT),
        filters(*["{type: ExtensionRef, extensionRef: {group: g, kind: K, name: n}}"] * 2),
    ],
)
def test_legal_http_route(spec: str) -> None:
    assert problems("HTTPRoute", spec) == []


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (
            "{selector: {matchLabels: {}}, targetPorts: [{number: 80}]}",
            "spec.selector.matchLabels",
            "needs at least 1: 0",
        ),
        (
            "{selector: {matchLabels: {a: b}}, targetPorts: []}",
            "spec.targetPorts",
            "needs at least 1: 0",
        ),
        (
            "{selector: {matchLabels: {a: b}}, targetPorts: ["
            + ", ".join(f"{{number: {number}}}" for number in range(1, 10))
            + "]}",
            "spec.targetPorts",
            "must have at most 8 entries: 9",
        ),
        (
            "{selector: {matchLabels: {a: b}}, targetPorts: [{number: 80}, {number: 80}]}",
            "spec.targetPorts[1].number",
            "port number must be unique: 80",
        ),
        (POOL + "{name: e}}", "spec.endpointPickerRef.port", "port is required when kind is"),
        (POOL + "{port: {number: 1}}}", "spec.endpointPickerRef.name", "required field"),
        (
            POOL + "{name: e, port: {number: 1}, failureMode: FailClosed}}",
            "spec.endpointPickerRef.failureMode",
            "must be one of FailOpen, FailClose: FailClosed",
        ),
        (
            "{selector: {pool: gemma}, targetPorts: [{number: 80}]}",
            "spec.selector.matchLabels",
            "required field is missing",
        ),
    ],
)
def test_inference_pool(spec: str, field: str, message: str) -> None:
    assert any(
        found == field and message in words for found, words in problems("InferencePool", spec)
    ), problems("InferencePool", spec)


def test_a_picker_that_is_no_service_needs_no_port() -> None:
    assert problems("InferencePool", POOL + "{group: g, kind: Picker, name: e}}") == []


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ("{}", "spec.poolRef", "required field is missing"),
        (
            "{priority: 2147483648, poolRef: {name: p}}",
            "spec.priority",
            "must be from -2147483648 to 2147483647: 2147483648",
        ),
        (
            "{priority: 1.0, poolRef: {name: p}}",
            "spec.priority",
            "must be a whole number, got a number: 1.0",
        ),
    ],
)
def test_inference_objective(spec: str, field: str, message: str) -> None:
    check("InferenceObjective", spec, field, message)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ("{addresses: []}", "spec.addresses", "needs at least 1: 0"),
        (
            "{addresses: [" + ", ".join(f"{{host: h{n}}}" for n in range(65)) + "]}",
            "spec.addresses",
            "must have at most 64 entries: 65",
        ),
        ("{addresses: [{host: ''}]}", "spec.addresses[0].host", "must not be empty"),
        ("{addresses: [{host: '10.0.0.1:80'}]}", "spec.addresses[0].host", "not contain a port"),
        ("{addresses: [{host: '[::1]:80'}]}", "spec.addresses[0].host", "not contain a port"),
        ("{addresses: [{host: 'http://a'}]}", "spec.addresses[0].host", "must not be a URL"),
        ("{addresses: [{host: 10.0.0.256}]}", "spec.addresses[0].host", "not an IPv4 address"),
        ("{addresses: [{host: '1::2::3'}]}", "spec.addresses[0].host", "not an IPv6 address"),
        ("{addresses: [{host: 'fe80::1%eth0'}]}", "spec.addresses[0].host", "a zone"),
        ("{addresses: [{host: a_b}]}", "spec.addresses[0].host", "not an IP address or DNS name"),
        (
            f"{{addresses: [{{host: {'a' * 64}.b}}]}}",
            "spec.addresses[0].host",
            "not an IP address or DNS name",
        ),
        ("{addresses: [{host: a, port: 0}]}", "spec.addresses[0].port", "from 1 to 65535: 0"),
        (
            "{addresses: [{host: '::1'}, {host: '[0:0::1]'}]}",
            "spec.addresses[1].host",
            "address must be unique: ::1",
        ),
        ("{addresses: [{host: a}], engine: vLLM}", "spec.engine", "must be one of vllm, sglang"),
        ("{addresses: [{host: a}], metricsPath: m}", "spec.metricsPath", "a path such as"),
    ],
)
def test_model_server(spec: str, field: str, message: str) -> None:
    check("ModelServer", spec, field, message)
