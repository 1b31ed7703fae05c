"""Typed Kubernetes-style resources: decode strictly, default, validate, conditions. Knows no I/O.

Problem: manifests come from people, files and the Kubernetes API; everything behind this room wants
values that are complete, typed and legal. Model: one frozen pydantic model per kind with the
upstream CRD's defaults and limits; `decode` turns text into them and reports every mistake with
file, line and field. Invariant: an object that exists is valid by itself. What this room does not
do: resolve references between objects, which is routing's, and read files, which is sources'.
"""

from .config_map import ConfigMap
from .endpoint_picker_config import EndpointPickerConfig
from .endpoint_slice import EndpointSlice
from .gateway import Gateway
from .gateway_class import GatewayClass
from .gcp_backend_policy import GCPBackendPolicy
from .health_check_policy import HealthCheckPolicy
from .http_route import HTTPRoute
from .inference_model import InferenceModel
from .inference_model_rewrite import InferenceModelRewrite
from .inference_objective import InferenceObjective
from .inference_pool import InferencePool
from .meta import Object, ObjectMeta, ResourceKey
from .model_server import ModelServer
from .namespace import Namespace
from .reference_grant import ReferenceGrant
from .resource_set import Entry, Origin, ResourceSet
from .rollout import Rollout
from .secret import Secret
from .service import Service

__all__ = [
    "ConfigMap",
    "EndpointPickerConfig",
    "EndpointSlice",
    "Entry",
    "GCPBackendPolicy",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "HealthCheckPolicy",
    "InferenceModel",
    "InferenceModelRewrite",
    "InferenceObjective",
    "InferencePool",
    "ModelServer",
    "Namespace",
    "Object",
    "ObjectMeta",
    "Origin",
    "ReferenceGrant",
    "ResourceKey",
    "ResourceSet",
    "Rollout",
    "Secret",
    "Service",
]
