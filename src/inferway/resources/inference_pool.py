"""InferencePool: model servers that share a base model, an accelerator type and an engine, and who
picks among them.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .meta import Model, Object
from .scalars import Group, Kind, LabelKey, LabelValue, ObjectName, PortNumber
from .violations import Violation, reject

PICKER_ANNOTATION = "inferway.dev/picker"
PICKER_BUILT_IN = "built-in"


class PoolSelector(Model):
    """Members are in the pool's own namespace and carry all these labels."""

    match_labels: Annotated[Mapping[LabelKey, LabelValue], Field(min_length=1, max_length=64)]


class PoolPort(Model):
    number: PortNumber


class EndpointPickerRef(Model):
    group: Group = ""
    kind: Kind = "Service"
    name: ObjectName
    port: PoolPort | None = None
    failure_mode: Literal["FailOpen", "FailClose"] = "FailClose"

    @model_validator(mode="after")
    def _service_needs_port(self) -> Self:
        if self.kind == "Service" and self.port is None:
            hint = "add port: {number: 9002}"
            reject([Violation("port is required when kind is Service", ("port",), hint)])
        return self


class InferencePoolSpec(Model):
    """Every target port of every member is an endpoint of its own. No `endpoint_picker_ref`: the
    built-in picker.
    """

    selector: PoolSelector
    target_ports: Annotated[tuple[PoolPort, ...], Field(min_length=1, max_length=8)]
    app_protocol: Literal["http", "kubernetes.io/h2c"] = "http"
    endpoint_picker_ref: EndpointPickerRef | None = None

    @model_validator(mode="after")
    def _ports_are_unique(self) -> Self:
        numbers = [port.number for port in self.target_ports]
        reject(
            [
                Violation(f"port number must be unique: {number}", ("targetPorts", index, "number"))
                for index, number in enumerate(numbers)
                if number in numbers[:index]
            ]
        )
        return self


class InferencePool(Object):
    api_version: Literal["inference.networking.k8s.io/v1"] = "inference.networking.k8s.io/v1"
    kind: Literal["InferencePool"] = "InferencePool"
    spec: InferencePoolSpec

    @property
    def picker_is_built_in(self) -> bool:
        """The annotation says ours, whatever `endpointPickerRef` names."""
        return self.metadata.annotations.get(PICKER_ANNOTATION) == PICKER_BUILT_IN
