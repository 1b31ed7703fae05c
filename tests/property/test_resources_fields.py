"""Every field of every kind, wrong in turn: the problem must name exactly that field and its line.

The manifests below set every field that the models have; a test checks that they do, so a new field
cannot be forgotten. They are written out by `render`, which knows the line of every field.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from inferway.resources.decode import decode
from inferway.resources.kinds import BY_KIND, KINDS
from inferway.resources.problems import field_path

METADATA = {
    "name": "one",
    "namespace": "infra",
    "labels": {"app": "x"},
    "annotations": {"example.com/note": "y"},
    "generation": 3,
    "uid": "8a1c",
    "creationTimestamp": "2025-01-31T12:00:00Z",
}
SELECTOR = {
    "matchLabels": {"team": "a"},
    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}],
}
HEADERS = {
    "set": [{"name": "a", "value": "1"}],
    "add": [{"name": "b", "value": "2"}],
    "remove": ["c"],
}
SECRET = {"group": "", "kind": "Secret", "name": "cert", "namespace": "infra"}
BACKEND = {"group": "", "kind": "Service", "name": "svc", "namespace": "infra", "port": 80}

CHECKED_PORT = {
    "portSpecification": "USE_FIXED_PORT",
    "port": 8000,
    "portName": "http",
    "proxyHeader": "NONE",
}
BAND = {
    "maxBytes": 1000,
    "maxRequests": 10,
    "fairnessPolicyRef": "turns",
    "orderingPolicyRef": "fcfs",
    "requestTTL": "30s",
}
KV_EVENTS = {"port": 5557, "replayPort": 5657, "ranks": 2, "topic": "kv@"}
DATA_LAYER = {
    "injectDefaults": True,
    "sources": [{"pluginRef": "source", "extractors": [{"pluginRef": "extractor"}]}],
}
HTTP_CHECK = {**CHECKED_PORT, "requestPath": "/health", "host": "llm", "response": "ok"}

EXTRACTOR = {
    "engineLabelKey": "example.com/engine",
    "defaultEngine": "mine",
    "engineConfigs": [
        {
            "name": "mine",
            "queuedRequestsSpec": "mine_queue{state=waiting}",
            "runningRequestsSpec": "mine_queue{state=running}",
            "kvUsageSpec": "mine_usage",
            "loraSpec": "mine_lora",
            "cacheInfoSpec": "mine_cache",
            "cacheBlockSizeLabelName": "size",
            "cacheNumBlocksLabelName": "count",
            "cacheBlockSizeSpec": "mine_block_size",
            "cacheNumBlocksSpec": "mine_blocks",
            "customMetrics": [{"attributeKey": "heat", "metricSpec": "mine_heat"}],
        }
    ],
}
MANIFESTS: dict[str, dict[str, Any]] = {
    "GatewayClass": {
        "metadata": {key: value for key, value in METADATA.items() if key != "namespace"},
        "spec": {
            "controllerName": "inferway.dev/gateway",
            "description": "ours",
            "parametersRef": {
                "group": "inferway.dev",
                "kind": "GatewayParameters",
                "name": "p",
                "namespace": "infra",
            },
        },
    },
    "Gateway": {
        "metadata": METADATA,
        "spec": {
            "gatewayClassName": "inferway",
            "listeners": [
                {
                    "name": "https",
                    "hostname": "*.example.com",
                    "port": 443,
                    "protocol": "HTTPS",
                    "tls": {
                        "mode": "Terminate",
                        "certificateRefs": [SECRET],
                        "options": {"example.com/minimum": "1.3"},
                    },
                    "allowedRoutes": {
                        "namespaces": {"from": "Selector", "selector": SELECTOR},
                        "kinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
                    },
                }
            ],
            "addresses": [{"type": "IPAddress", "value": "10.0.0.1"}],
            "infrastructure": {
                "labels": {"a": "b"},
                "annotations": {"c": "d"},
                "parametersRef": {"group": "inferway.dev", "kind": "Parameters", "name": "p"},
            },
            "allowedListeners": {"namespaces": {"from": "Selector", "selector": SELECTOR}},
            "tls": {
                "backend": {"clientCertificateRef": SECRET},
                "frontend": {
                    "default": {
                        "validation": {
                            "caCertificateRefs": [{**SECRET, "kind": "ConfigMap"}],
                            "mode": "AllowInsecureFallback",
                        }
                    },
                    "perPort": [{"port": 8443, "tls": {}}],
                },
            },
        },
    },
    "HTTPRoute": {
        "metadata": METADATA,
        "spec": {
            "parentRefs": [
                {
                    "group": "gateway.networking.k8s.io",
                    "kind": "Gateway",
                    "namespace": "infra",
                    "name": "gw",
                    "sectionName": "https",
                    "port": 443,
                }
            ],
            "hostnames": ["example.com"],
            "rules": [
                {
                    "name": "forward",
                    "matches": [
                        {
                            "path": {"type": "PathPrefix", "value": "/v1"},
                            "headers": [{"type": "Exact", "name": "h", "value": "v"}],
                            "queryParams": [{"type": "Exact", "name": "q", "value": "v"}],
                            "method": "POST",
                        }
                    ],
                    "filters": [
                        {"type": "RequestHeaderModifier", "requestHeaderModifier": HEADERS},
                        {"type": "ResponseHeaderModifier", "responseHeaderModifier": HEADERS},
                        {
                            "type": "RequestMirror",
                            "requestMirror": {
                                "backendRef": BACKEND,
                                "fraction": {"numerator": 1, "denominator": 10},
                            },
                        },
                        {
                            "type": "RequestMirror",
                            "requestMirror": {"backendRef": BACKEND, "percent": 5},
                        },
                        {
                            "type": "URLRewrite",
                            "urlRewrite": {
                                "hostname": "inner.example.com",
                                "path": {
                                    "type": "ReplacePrefixMatch",
                                    "replacePrefixMatch": "/v2",
                                },
                            },
                        },
                        {
                            "type": "CORS",
                            "cors": {
                                "allowOrigins": ["https://example.com"],
                                "allowCredentials": True,
                                "allowMethods": ["GET"],
                                "allowHeaders": ["x-a"],
                                "exposeHeaders": ["x-b"],
                                "maxAge": 60,
                            },
                        },
                        {
                            "type": "ExtensionRef",
                            "extensionRef": {"group": "inferway.dev", "kind": "Guard", "name": "g"},
                        },
                    ],
                    "backendRefs": [
                        {
                            **BACKEND,
                            "weight": 90,
                            "filters": [
                                {"type": "RequestHeaderModifier", "requestHeaderModifier": HEADERS}
                            ],
                        }
                    ],
                    "timeouts": {"request": "300s", "backendRequest": "1m30s"},
                    "retry": {"codes": [503], "attempts": 2, "backoff": "100ms"},
                    "sessionPersistence": {
                        "sessionName": "s",
                        "absoluteTimeout": "1h",
                        "idleTimeout": "5m",
                        "type": "Cookie",
                        "cookieConfig": {"lifetimeType": "Permanent"},
                    },
                },
                {
                    "name": "redirect",
                    "filters": [
                        {
                            "type": "RequestRedirect",
                            "requestRedirect": {
                                "scheme": "https",
                                "hostname": "example.com",
                                "path": {"type": "ReplaceFullPath", "replaceFullPath": "/"},
                                "port": 443,
                                "statusCode": 301,
                            },
                        }
                    ],
                },
            ],
        },
    },
    "ReferenceGrant": {
        "metadata": METADATA,
        "spec": {
            "from": [
                {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "apps"}
            ],
            "to": [{"group": "", "kind": "Service", "name": "svc"}],
        },
    },
    "Namespace": {
        "metadata": {key: value for key, value in METADATA.items() if key != "namespace"},
        "spec": {"finalizers": ["kubernetes"]},
    },
    "Secret": {
        "metadata": METADATA,
        "type": "Opaque",
        "data": {"tls.crt": "YQ=="},
        "stringData": {"tls.key": "b"},
        "immutable": True,
    },
    "ConfigMap": {
        "metadata": METADATA,
        "data": {"notes": "any"},
        "binaryData": {"key": "AAAA"},
        "immutable": True,
    },
    "Service": {
        "metadata": METADATA,
        "spec": {
            "ports": [
                {
                    "name": "http",
                    "port": 80,
                    "protocol": "TCP",
                    "targetPort": "web",
                    "appProtocol": "kubernetes.io/h2c",
                    "nodePort": 30080,
                },
                {"name": "other", "port": 81},
            ],
            "selector": {"app": "x"},
            "type": "ClusterIP",
            "externalName": "elsewhere.example.com",
            "publishNotReadyAddresses": False,
            "clusterIP": "10.96.0.7",
            "clusterIPs": ["10.96.0.7"],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "internalTrafficPolicy": "Cluster",
            "externalTrafficPolicy": "Cluster",
            "trafficDistribution": "PreferClose",
            "allocateLoadBalancerNodePorts": True,
        },
    },
    "EndpointSlice": {
        "metadata": {**METADATA, "labels": {"kubernetes.io/service-name": "svc"}},
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.0.0.1"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "hostname": "pod-1",
                "targetRef": {
                    "kind": "Pod",
                    "namespace": "infra",
                    "name": "pod-1",
                    "uid": "8a1d",
                    "apiVersion": "v1",
                    "resourceVersion": "7",
                    "fieldPath": "spec",
                },
                "deprecatedTopology": {"kubernetes.io/hostname": "node-1"},
                "nodeName": "node-1",
                "zone": "a",
                "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "node-1"}]},
            }
        ],
        "ports": [
            {"name": "http", "protocol": "TCP", "port": 8000, "appProtocol": "kubernetes.io/h2c"}
        ],
    },
    "InferencePool": {
        "metadata": METADATA,
        "spec": {
            "selector": {"matchLabels": {"pool": "gemma"}},
            "targetPorts": [{"number": 8000}],
            "appProtocol": "kubernetes.io/h2c",
            "endpointPickerRef": {
                "group": "",
                "kind": "Service",
                "name": "epp",
                "port": {"number": 9002},
                "failureMode": "FailOpen",
            },
        },
    },
    "InferenceObjective": {
        "metadata": METADATA,
        "spec": {
            "priority": -1,
            "poolRef": {
                "group": "inference.networking.k8s.io",
                "kind": "InferencePool",
                "name": "gemma",
            },
        },
    },
    "InferenceModelRewrite": {
        "metadata": METADATA,
        "spec": {
            "poolRef": {
                "group": "inference.networking.k8s.io",
                "kind": "InferencePool",
                "name": "p",
            },
            "rules": [
                {
                    "matches": [{"model": {"type": "Exact", "value": "llm"}}],
                    "targets": [{"modelRewrite": "llm-v1", "weight": 90}],
                }
            ],
        },
    },
    "InferenceModel": {
        "metadata": METADATA,
        "spec": {
            "modelName": "llm",
            "criticality": "Standard",
            "poolRef": {"group": "g.example", "kind": "InferencePool", "name": "p"},
            "versions": [
                {
                    "modelName": "llm-v1",
                    "criticality": "Critical",
                    "weight": 90,
                    "poolRef": {"group": "g.example", "kind": "InferencePool", "name": "p"},
                }
            ],
        },
    },
    "HealthCheckPolicy": {
        "metadata": METADATA,
        "spec": {
            "targetRef": {
                "group": "inference.networking.k8s.io",
                "kind": "InferencePool",
                "name": "llm",
            },
            "default": {
                "checkIntervalSec": 5,
                "timeoutSec": 4,
                "healthyThreshold": 1,
                "unhealthyThreshold": 2,
                "logConfig": {"enabled": True},
                "config": {
                    "type": "HTTP",
                    "tcpHealthCheck": {**CHECKED_PORT, "request": "a", "response": "b"},
                    "httpHealthCheck": HTTP_CHECK,
                    "httpsHealthCheck": HTTP_CHECK,
                    "http2HealthCheck": HTTP_CHECK,
                    "grpcHealthCheck": {**CHECKED_PORT, "grpcServiceName": "s"},
                },
            },
        },
    },
    "GCPBackendPolicy": {
        "metadata": METADATA,
        "spec": {
            "targetRef": {"group": "", "kind": "Service", "name": "web"},
            "default": {
                "timeoutSec": 300,
                "logging": {"enabled": True, "sampleRate": 500000},
                "sessionAffinity": {"type": "CLIENT_IP", "cookieTtlSec": 50},
                "connectionDraining": {"drainingTimeoutSec": 60},
                "securityPolicy": "waf",
                "iap": {
                    "enabled": True,
                    "clientID": "c",
                    "oauth2ClientSecret": {"name": "s"},
                },
                "maxRatePerEndpoint": 10,
                "balancingMode": "CUSTOM_METRICS",
                "trafficDuration": "LONG",
                "customMetrics": [{"name": "m", "maxUtilizationPercent": 80, "dryRun": True}],
                "maxInFlightRequestsPerEndpoint": 20,
                "scopes": ["zone"],
            },
        },
    },
    "Rollout": {
        "metadata": METADATA,
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "chat", "rule": 0},
            "from": "llm",
            "to": "llm-new",
            "steps": [{"weight": 10, "interval": "2m"}, {"weight": 100, "interval": "1m"}],
            "interval": "5m",
            "intervalMax": "30m",
            "minimumSamples": 100,
            "confidence": "95%",
            "gates": [
                {"metric": "TTFT", "percentile": 90, "max": "2s", "maxIncrease": "20%"},
            ],
            "onInconclusive": "Pause",
            "paused": True,
            "action": "Promote",
            "attempt": 1,
        },
    },
    "EndpointPickerConfig": {
        "metadata": METADATA,
        "featureGates": ["flowControl"],
        "plugins": [
            {"name": "queue", "type": "queue-scorer", "parameters": {}},
            {"name": "turns", "type": "round-robin-fairness-policy"},
            {"name": "fcfs", "type": "fcfs-ordering-policy"},
            {"name": "limit", "type": "static-usage-limit-policy"},
            {"name": "sat", "type": "utilization-detector"},
            {"name": "parser", "type": "openai-parser"},
            {"name": "source", "type": "metrics-data-source"},
            {"name": "extractor", "type": "core-metrics-extractor", "parameters": EXTRACTOR},
        ],
        "schedulingProfiles": [
            {"name": "default", "plugins": [{"pluginRef": "queue", "weight": 2.5}]}
        ],
        "flowControl": {
            "maxBytes": 1000000,
            "maxRequests": 100,
            "defaultRequestTTL": "60s",
            "noEndpointRequestTTL": "10s",
            "defaultPriorityBand": BAND,
            "defaultNegativePriorityBand": BAND,
            "priorityBands": [{"priority": 10, **BAND}],
            "usageLimitPolicyPluginRef": "limit",
            "saturationDetector": {"pluginRef": "sat"},
            "mode": "gate",
            "maxSheddableWait": "2s",
            "maxRetryAfter": "90s",
            "keepAlive": "15s",
            "identityHeader": "x-client",
        },
        "dataLayer": DATA_LAYER,
        "kvEvents": KV_EVENTS,
        "data": DATA_LAYER,
        "requestHandler": {"parsers": [{"pluginRef": "parser"}]},
        "saturationDetector": {
            "pluginRef": "sat",
            "queueDepthThreshold": 5,
            "kvCacheUtilThreshold": 0.8,
            "metricsStalenessThreshold": "200ms",
        },
        "parser": {"pluginRef": "parser"},
        "health": {
            "ejection": True,
            "consecutiveFaults": 7,
            "window": "1m",
            "minRequests": 9,
            "faultRatio": 0.25,
            "ejectionTime": "2500ms",
            "maxEjectionTime": "5m",
            "probeTimeout": "4s",
            "panicRatio": 0.75,
            "maxRetryAfter": "10s",
            "backPressureFactor": 0.8,
            "backPressureRecovery": "3s",
            "minShare": 0.1,
        },
        "conduct": {
            "responseHeaders": True,
            "includeUsage": True,
            "firstTokenDeadline": "2s",
            "sessionCookie": "session",
            "retryBudget": {"percent": "20%", "concurrencyMin": 5},
        },
        "explain": {"recordEvery": 10},
    },
    "ModelServer": {
        "metadata": METADATA,
        "spec": {
            "addresses": [{"host": "10.0.0.1", "port": 8000}],
            "engine": "sglang",
            "metricsPath": "/metrics",
            "draining": True,
            "kvEvents": KV_EVENTS,
        },
    },
}

Path = tuple[str | int, ...]
FREE_PLACES = {
    ("Service", "spec", "selector"),
    ("ConfigMap", "data"),
    ("ConfigMap", "binaryData"),
    ("Secret", "data"),
    ("Secret", "stringData"),
}
FREE_MAPPINGS = ("labels", "annotations", "matchLabels", "options", "deprecatedTopology")


@dataclass
class Rendered:
    """YAML with one field per line; `lines` is where each stands."""

    text: list[str] = field(default_factory=list)
    lines: dict[Path, int] = field(default_factory=dict)

    def add(self, value: Any, path: Path, indent: int) -> None:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in entries:
            self.lines[(*path, key)] = len(self.text) + 1
            head = " " * indent + (f"{json.dumps(key)}:" if isinstance(value, dict) else "-")
            if isinstance(item, dict | list) and item:
                self.text.append(head)
                self.add(item, (*path, key), indent + 2)
            else:
                self.text.append(f"{head} {json.dumps(item)}")


def render(value: Any) -> Rendered:
    rendered = Rendered()
    rendered.add(value, (), 0)
    return rendered


def manifest(kind: str) -> dict[str, Any]:
    head = {"apiVersion": BY_KIND[kind].api_versions[0], "kind": kind}
    return {**head, **json.loads(json.dumps(MANIFESTS[kind]))}


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in entries:
            yield (*path, key), item
            yield from walk(item, (*path, key))


def parent_of(value: Any, path: Path) -> Any:
    for step in path[:-1]:
        value = value[step]
    return value


def problems_of(rendered: Rendered) -> list[tuple[str, int]]:
    decoded = decode("\n".join(rendered.text).encode(), file="m.yaml")
    return [(problem.field, problem.line) for problem in decoded.problems if problem.is_error]


def wrong(value: Any) -> Any:
    """A value of a type that no field of that type accepts."""
    if isinstance(value, str):
        return {}
    return "wrong"


def title(value: str | Path) -> str:
    return value if isinstance(value, str) else field_path(value)


ALL_FIELDS = [(info.kind, path) for info in KINDS for path, _value in walk(manifest(info.kind))]
KEYS = [(kind, path) for kind, path in ALL_FIELDS if isinstance(path[-1], str)]
# Fields of a model; in a free mapping any key is legal, and every value is a string.
NAMED = [
    (kind, path)
    for kind, path in KEYS
    if not any(step in FREE_MAPPINGS for step in path[:-1])
    and (kind, *path[:-1]) not in FREE_PLACES
]


@pytest.mark.parametrize("kind", [info.kind for info in KINDS])
def test_the_manifest_is_legal_and_has_every_field(kind: str) -> None:
    assert problems_of(render(manifest(kind))) == []
    written = {
        tuple(step for step in path if isinstance(step, str)) for path, _ in walk(manifest(kind))
    }
    missing = [path for path in model_fields(BY_KIND[kind].model) if path not in written]
    # Each of these is a second use of a model whose fields are all set at its first one, or (the
    # last) excluded by another field.
    again = ("perPort", "backendRefs", "urlRewrite", "requestRedirect", "targetModels")
    assert [path for path in missing if not any(step in again for step in path)] == []


def model_fields(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        place = (*path, info.alias or name)
        if place[-1] == "namespace" and model.__name__ == "ObjectMeta":
            continue  # cluster-scoped kinds have none
        yield place
        inner = model_in(info.annotation)
        if inner is not None:
            yield from model_fields(inner, place)


def model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(model_in, get_args(annotation))), None)


@pytest.mark.parametrize(("kind", "path"), ALL_FIELDS, ids=title)
def test_wrong_type(kind: str, path: Path) -> None:
    value = manifest(kind)
    parent = parent_of(value, path)
    parent[path[-1]] = wrong(parent[path[-1]])
    rendered = render(value)
    assert (field_path(path), rendered.lines[path]) in problems_of(rendered)


@pytest.mark.parametrize(("kind", "path"), KEYS, ids=title)
def test_duplicate(kind: str, path: Path) -> None:
    rendered = render(manifest(kind))
    line = rendered.lines[path]
    copy = rendered.text[line - 1]
    if copy.endswith(":"):
        copy += " {}"
    end = line
    indent = len(copy) - len(copy.lstrip())
    while end < len(rendered.text) and rendered.text[end].startswith(" " * (indent + 1)):
        end += 1
    rendered.text.insert(end, copy)
    assert problems_of(rendered) == [(field_path(path), end + 1)]


@pytest.mark.parametrize(("kind", "path"), NAMED, ids=title)
def test_unknown(kind: str, path: Path) -> None:
    """A misspelt neighbour of every field is named, with the field that was meant."""
    value = manifest(kind)
    parent = parent_of(value, path)
    misspelt = f"{path[-1]}x"
    parent[misspelt] = 1
    rendered = render(value)
    place = (*path[:-1], misspelt)
    assert problems_of(rendered) == [(field_path(place), rendered.lines[place])]
    decoded = decode("\n".join(rendered.text).encode(), file="m.yaml")
    (problem,) = [one for one in decoded.problems if one.is_error]
    assert problem.hint == f"did you mean {path[-1]}?"


# Parameters of plugins are kept as they are written, until their type reads them.
NULLED = [(kind, path) for kind, path in NAMED if "parameters" not in path[:-1]]


@pytest.mark.parametrize(("kind", "path"), NULLED, ids=title)
def test_null_is_the_same_as_absent(kind: str, path: Path) -> None:
    with_null, without = manifest(kind), manifest(kind)
    parent_of(with_null, path)[path[-1]] = None
    del parent_of(without, path)[path[-1]]
    first, second = (
        decode(json.dumps(value).encode(), file="m.json") for value in (with_null, without)
    )
    assert [entry.resource for entry in first.entries] == [
        entry.resource for entry in second.entries
    ]
    assert [problem.field for problem in first.problems] == [
        problem.field for problem in second.problems
    ]
