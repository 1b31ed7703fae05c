"""The kinds that this version understands, and what people call them on the command line."""

from dataclasses import dataclass

from .config_map import ConfigMap
from .endpoint_picker_config import EndpointPickerConfig
from .endpoint_slice import EndpointSlice
from .gateway import Gateway
from .gateway_class import GatewayClass
from .gcp_backend_policy import GCPBackendPolicy
from .health_check_policy import GKE_NETWORKING, HealthCheckPolicy
from .http_route import HTTPRoute
from .inference_model import InferenceModel
from .inference_model_rewrite import InferenceModelRewrite
from .inference_objective import InferenceObjective
from .inference_pool import InferencePool
from .model_server import ModelServer
from .namespace import Namespace
from .old_pools import OLD_POOL_VERSIONS
from .reference_grant import ReferenceGrant
from .references import GATEWAY_GROUP, INFERENCE_GROUP
from .resource_set import Resource
from .rollout import Rollout
from .secret import Secret
from .service import Service


@dataclass(frozen=True, slots=True)
class KindInfo:
    """`api_versions` are group/version, the preferred one first."""

    kind: str
    api_versions: tuple[str, ...]
    plural: str
    short_names: tuple[str, ...]
    namespaced: bool
    model: type[Resource]


KINDS = (
    KindInfo(
        "GatewayClass",
        (f"{GATEWAY_GROUP}/v1", f"{GATEWAY_GROUP}/v1beta1"),
        "gatewayclasses",
        ("gc",),
        namespaced=False,
        model=GatewayClass,
    ),
    KindInfo(
        "Gateway",
        (f"{GATEWAY_GROUP}/v1", f"{GATEWAY_GROUP}/v1beta1"),
        "gateways",
        ("gtw", "gw"),
        namespaced=True,
        model=Gateway,
    ),
    KindInfo(
        "HTTPRoute",
        (f"{GATEWAY_GROUP}/v1", f"{GATEWAY_GROUP}/v1beta1"),
        "httproutes",
        ("route",),
        namespaced=True,
        model=HTTPRoute,
    ),
    KindInfo(
        "ReferenceGrant",
        (f"{GATEWAY_GROUP}/v1", f"{GATEWAY_GROUP}/v1beta1"),
        "referencegrants",
        ("refgrant",),
        namespaced=True,
        model=ReferenceGrant,
    ),
    KindInfo("Namespace", ("v1",), "namespaces", ("ns",), namespaced=False, model=Namespace),
    KindInfo("Secret", ("v1",), "secrets", (), namespaced=True, model=Secret),
    KindInfo("ConfigMap", ("v1",), "configmaps", ("cm",), namespaced=True, model=ConfigMap),
    KindInfo("Service", ("v1",), "services", ("svc",), namespaced=True, model=Service),
    KindInfo(
        "EndpointSlice",
        ("discovery.k8s.io/v1",),
        "endpointslices",
        ("epslice",),
        namespaced=True,
        model=EndpointSlice,
    ),
    KindInfo(
        "InferencePool",
        (f"{INFERENCE_GROUP}/v1", *OLD_POOL_VERSIONS),
        "inferencepools",
        ("infpool", "pool"),
        namespaced=True,
        model=InferencePool,
    ),
    KindInfo(
        "InferenceObjective",
        ("inference.networking.x-k8s.io/v1alpha2", "llm-d.ai/v1alpha2"),
        "inferenceobjectives",
        ("infobj", "objective"),
        namespaced=True,
        model=InferenceObjective,
    ),
    KindInfo(
        "InferenceModelRewrite",
        ("inference.networking.x-k8s.io/v1alpha2", "llm-d.ai/v1alpha2"),
        "inferencemodelrewrites",
        ("infmodelrw", "rewrite"),
        namespaced=True,
        model=InferenceModelRewrite,
    ),
    KindInfo(
        "InferenceModel",
        ("inference.networking.x-k8s.io/v1alpha2", "inference.networking.x-k8s.io/v1alpha1"),
        "inferencemodels",
        ("infmodel",),
        namespaced=True,
        model=InferenceModel,
    ),
    KindInfo(
        "ModelServer",
        ("inferway.dev/v1alpha1",),
        "modelservers",
        ("ms", "server"),
        namespaced=True,
        model=ModelServer,
    ),
    KindInfo(
        "HealthCheckPolicy",
        (GKE_NETWORKING,),
        "healthcheckpolicies",
        ("hcp",),
        namespaced=True,
        model=HealthCheckPolicy,
    ),
    KindInfo(
        "GCPBackendPolicy",
        (GKE_NETWORKING,),
        "gcpbackendpolicies",
        ("gcpbp",),
        namespaced=True,
        model=GCPBackendPolicy,
    ),
    KindInfo(
        "EndpointPickerConfig",
        (
            "inferway.dev/v1alpha1",
            "llm-d.ai/v1alpha1",
            "llm-d.ai/v1",
            "inference.networking.x-k8s.io/v1alpha1",
        ),
        "endpointpickerconfigs",
        ("epc", "pickerconfig"),
        namespaced=True,
        model=EndpointPickerConfig,
    ),
    KindInfo(
        "Rollout",
        ("inferway.dev/v1alpha1",),
        "rollouts",
        ("ro",),
        namespaced=True,
        model=Rollout,
    ),
)

BY_KIND = {info.kind: info for info in KINDS}
_BY_ANY_NAME = {
    name.lower(): info for info in KINDS for name in (info.kind, info.plural, *info.short_names)
}


def find_kind(name: str) -> KindInfo | None:
    """By kind, singular, plural or short name, in any case."""
    return _BY_ANY_NAME.get(name.lower())
