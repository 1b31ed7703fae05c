"""EndpointPickerConfig: how the picker of a pool works. The shape is the reference picker's.

A pool names one with the annotation `inferway.dev/picker-config`. Files of the reference have no
metadata; the object is then named like the file. Plugins are listed under `plugins` and referred to
by name elsewhere; what a type does, and which are refused, stands in docs/picker-config.md.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from .explain import explain, nearest, shown
from .meta import Model, Object, ResourceKey
from .model_server import KvEvents
from .picker_conduct import Conduct
from .picker_flow import OURS as OUR_FLOW_FIELDS
from .picker_flow import DefaultBand, FlowControl, PluginReference
from .picker_health import PickerHealth
from .picker_plugins.data import METRICS_EXTRACTORS
from .picker_plugins.engine_mappings import CoreExtractor
from .picker_plugins.plugin_type import SCHEDULING, PluginType, ReadsHeaders, Role
from .picker_plugins.registry import PLUGIN_TYPES, is_known, plugin_type
from .picker_plugins.sessions import SessionAffinity, SessionIds
from .scalars import (
    Boolean,
    Count,
    Factor,
    GoDuration,
    Int64Count,
    ObjectName,
    Ratio,
)
from .violations import Path, Violation, reject

OUR_CONFIG: Final = "inferway.dev/v1alpha1"
# What the reference does not have.
OUR_SECTIONS: Final = ("conduct", "health", "explain")
PLUGINS_MAX: Final = 128

# Gates of the reference, over its releases. All are decoded; what they switch is said in words.
FEATURE_GATES: Final = {
    "flowControl": "",
    "dataLayer": "the data layer is always on",
    "prepareDataPlugins": "the prefix index is always on",
    "haPopulateNonLeaderDatastore": "there is no leader",
    "enableLegacyMetrics": "scraping is the same either way",
    "experimentalDatalayer": "the data layer is always on",
}


def _known_gate(value: str) -> str:
    name, _, switch = value.partition("=")
    if name not in FEATURE_GATES:
        close = nearest(name, list(FEATURE_GATES))
        hint = f"did you mean {close}?" if close else f"known: {', '.join(FEATURE_GATES)}"
        reject([Violation(f"unknown feature gate: {shown(name)}", (), hint)])
    if switch not in ("", "true", "false"):
        reject([Violation(f"must be {name}=true or {name}=false: {shown(value)}")])
    return value


FeatureGate = Annotated[str, AfterValidator(_known_gate)]

_REPLICAS = "pickers do not share state"
_NOT_IN_DATA_LAYER: Final = {
    "discovery": "endpoints are those of the manifests",
    "peerDiscovery": _REPLICAS,
    "crossReplica": _REPLICAS,
    "crossReplicaSyncerPluginRef": _REPLICAS,
    "crossReplicaSyncInterval": _REPLICAS,
    "crossReplicaPublishTimeout": _REPLICAS,
}

_Parameters = TypeVar("_Parameters", bound=Model)


class PickerPlugin(Model):
    """One plugin, and its parameters, which are checked against its type."""

    name: ObjectName | None = Field(default=None, description="what refers to it; unset: its type")
    type: ObjectName
    parameters: dict[str, JsonValue] = Field(default_factory=dict, description="by type")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if not is_known(self.type):
            close = nearest(self.type, list(PLUGIN_TYPES))
            hint = f"did you mean {close}?" if close else "docs/picker-config.md has all types"
            reject([Violation(f"unknown plugin type: {shown(self.type)}", ("type",), hint)])
        known = plugin_type(self.type)
        if known.refused:
            message = f"plugin type is not supported: {self.type}: {known.refused}"
            reject([Violation(message, ("type",), known.instead)])
        else:
            try:
                known.parameters.model_validate(self.parameters, by_alias=True, by_name=False)
            except ValidationError as error:
                reject(
                    [
                        Violation(one.message, ("parameters", *one.path), one.hint)
                        for one in explain(error, known.parameters)
                    ]
                )
        return self

    @property
    def reference(self) -> str:
        """What refers to it."""
        return self.name or self.type

    @property
    def plugin_type(self) -> PluginType:
        return plugin_type(self.type)

    def remarks(self) -> Iterator[tuple[Path, str]]:
        """Parameters that are set and have no effect, each with the reason."""
        for name, why in self.plugin_type.ignored.items():
            if self.parameters.get(name) is not None:
                yield ("parameters", name), f"no effect: {why}"


_NOTHING: Final = CoreExtractor()


def parameters_of(plugin: PickerPlugin, model: type[_Parameters]) -> _Parameters:
    """The parameters with their defaults. `model` is that of the plugin's type."""
    return model.model_validate(plugin.parameters, by_alias=True, by_name=False)


class ProfilePlugin(Model):
    plugin_ref: ObjectName
    weight: Factor = Field(default=1.0, description="of a scorer or cost")


class SchedulingProfile(Model):
    name: ObjectName
    plugins: Annotated[tuple[ProfilePlugin, ...], Field(max_length=PLUGINS_MAX)] = ()


class ExtractedSource(Model):
    plugin_ref: ObjectName
    extractors: Annotated[tuple[PluginReference, ...], Field(max_length=32)] = ()


class DataLayer(Model):
    """Accepted; the data layer needs no configuration."""

    inject_defaults: Boolean | None = None
    sources: Annotated[tuple[ExtractedSource, ...], Field(max_length=32)] = ()

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_elsewhere(cls, value: object) -> object:
        if isinstance(value, dict):
            reject(
                [
                    Violation(f"not supported: {name}: {why}", (name,), "remove it")
                    for name, why in _NOT_IN_DATA_LAYER.items()
                    if value.get(name) is not None
                ]
            )
        return value


class RequestHandler(Model):
    """Accepted; every API that the gateway knows is parsed."""

    parsers: Annotated[tuple[PluginReference, ...], Field(max_length=32)] = ()


class SaturationDetector(Model):
    """The former place of the detector: its name, or the thresholds of `utilization-detector`."""

    plugin_ref: ObjectName | None = None
    queue_depth_threshold: Int64Count | None = None
    kv_cache_util_threshold: Ratio | None = None
    metrics_staleness_threshold: GoDuration | None = None


class Explain(Model):
    """What is remembered of decisions for `inferway explain`."""

    record_every: Count = Field(default=1, description="one of so many decisions; 0: none")


class EndpointPickerConfig(Object):
    api_version: Literal[
        "inferway.dev/v1alpha1",
        "llm-d.ai/v1alpha1",
        "llm-d.ai/v1",
        "inference.networking.x-k8s.io/v1alpha1",
    ] = OUR_CONFIG
    kind: Literal["EndpointPickerConfig"] = "EndpointPickerConfig"
    feature_gates: Annotated[tuple[FeatureGate, ...], Field(max_length=32)] = ()
    plugins: Annotated[tuple[PickerPlugin, ...], Field(max_length=PLUGINS_MAX)] = ()
    scheduling_profiles: Annotated[tuple[SchedulingProfile, ...], Field(max_length=16)] = Field(
        default=(), description="unset: one profile of every plugin that can be in one"
    )
    flow_control: FlowControl | None = None
    data_layer: DataLayer | None = None
    data: DataLayer | None = Field(default=None, description="former name of dataLayer")
    request_handler: RequestHandler | None = None
    kv_events: KvEvents | None = Field(
        default=None, description="of servers whose ModelServer says nothing of it"
    )
    saturation_detector: SaturationDetector | None = Field(
        default=None, description="former place of flowControl.saturationDetector"
    )
    parser: PluginReference | None = Field(
        default=None, description="former place of requestHandler.parsers"
    )
    health: PickerHealth | None = Field(
        default=None, description="inferway.dev/v1alpha1 only: when an endpoint is left alone"
    )
    conduct: Conduct | None = Field(
        default=None, description="inferway.dev/v1alpha1 only: how requests are treated"
    )
    explain: Explain | None = Field(
        default=None, description="inferway.dev/v1alpha1 only: what is remembered of decisions"
    )

    @property
    def key(self) -> ResourceKey:
        """One name, one object, whichever of the groups it is written in."""
        return super().key._replace(group=OUR_CONFIG.partition("/")[0])

    @property
    def is_ours(self) -> bool:
        """Whether it is written for this gateway, and not for the reference."""
        return self.api_version == OUR_CONFIG

    def gate(self, name: str) -> bool:
        """Whether a feature gate is switched on."""
        said = [one.partition("=") for one in self.feature_gates]
        return [value != "false" for gate, _, value in said if gate == name][-1:] == [True]

    def gate_is_off(self, name: str) -> bool:
        """Whether a feature gate is switched off in words."""
        return any(one == f"{name}=false" for one in self.feature_gates) and not self.gate(name)

    def plugin(self, reference: str) -> PickerPlugin:
        """The plugin of that name. Every reference of a valid object has one."""
        return next(one for one in self.plugins if one.reference == reference)

    @property
    def profile(self) -> tuple[ProfilePlugin, ...]:
        """What the only profile consists of, in order; empty when nothing is said of scheduling.

        A detector is a filter too, but only where a profile says so.
        """
        if self.scheduling_profiles:
            return self.scheduling_profiles[0].plugins
        return tuple(
            ProfilePlugin(plugin_ref=one.reference)
            for one in self.plugins
            if one.plugin_type.is_served and one.plugin_type.roles <= SCHEDULING
        )

    def part(self, part: ProfilePlugin) -> PickerPlugin:
        """A plugin of the profile, with its parameters as the picker gets them."""
        plugin, header = self.plugin(part.plugin_ref), self.session_ids.header_name
        if header is None or plugin.plugin_type.parameters is not SessionAffinity:
            return plugin
        settled = parameters_of(plugin, SessionAffinity).with_header(header)
        written = settled.model_dump(mode="json", by_alias=True, exclude_none=True)
        return plugin.model_copy(update={"parameters": written})

    @property
    def session_ids(self) -> SessionIds:
        """Where sessions are found, if a plugin says so."""
        found = (one for one in self.plugins if one.type == "session-id-producer")
        return next((parameters_of(one, SessionIds) for one in found), SessionIds())

    @property
    def metrics_extractor(self) -> CoreExtractor:
        """What engines call their metrics, if a plugin says so."""
        return next((parameters_of(one, CoreExtractor) for _, one in self._extractors()), _NOTHING)

    def _extractors(self) -> Iterator[tuple[int, PickerPlugin]]:
        for index, one in enumerate(self.plugins):
            if one.type in METRICS_EXTRACTORS and one.parameters:
                yield index, one

    @property
    def session_cookie(self) -> str | None:
        """The cookie that names sessions; the pool's conduct counts before the plugin."""
        conduct = self.conduct.session_cookie if self.conduct is not None else None
        return conduct or self.session_ids.cookie_name

    @property
    def request_headers(self) -> tuple[str, ...]:
        """Names, in lower case, of request headers that the picker looks at."""
        found: dict[str, None] = {}
        if self.flow_control is not None and self.flow_control.identity_header:
            found[self.flow_control.identity_header.lower()] = None
        for part in self.profile:
            plugin = self.part(part)
            model = plugin.plugin_type.parameters
            if issubclass(model, ReadsHeaders):
                found.update(dict.fromkeys(parameters_of(plugin, model).request_headers()))
        return tuple(found)

    def remarks(self) -> Iterator[tuple[Path, str]]:
        """What is written and has no effect, by field."""
        for index, gate in enumerate(self.feature_gates):
            why = FEATURE_GATES[gate.partition("=")[0]]
            if why:
                yield ("featureGates", index), f"no effect: {why}"
        for index, plugin in enumerate(self.plugins):
            for path, text in plugin.remarks():
                yield ("plugins", index, *path), text

    @model_validator(mode="after")
    def _ours_are_in_ours(self) -> Self:
        if not self.is_ours:
            message = f"{{}} is a field of {OUR_CONFIG}: {self.api_version}"
            hint = f"write apiVersion: {OUR_CONFIG}"
            found = [
                Violation(message.format(name), (name,), hint)
                for name in OUR_SECTIONS
                if getattr(self, name) is not None
            ]
            found += [
                Violation(message.format(name), ("flowControl", name), hint)
                for attribute, name in OUR_FLOW_FIELDS.items()
                if getattr(self.flow_control, attribute, None) is not None
            ]
            reject(found)
        return self

    @model_validator(mode="after")
    def _references_resolve(self) -> Self:
        reject([*_twice(self.plugins)])
        found = []
        roles = {one.reference: one.plugin_type.roles for one in self.plugins}
        for path, reference, wanted in self._references():
            if reference not in roles:
                close = nearest(reference, list(roles))
                hint = f"did you mean {close}?" if close else "list it under plugins"
                found.append(Violation(f"no such plugin: {shown(reference)}", path, hint))
            elif roles[reference].isdisjoint(wanted):
                words = " or ".join(sorted(wanted))
                found.append(Violation(f"must be a {words}: {shown(reference)}", path))
        found += self._profile_violations(roles)
        found += [
            Violation("another plugin maps engines already", ("plugins", index, "parameters"))
            for index, _ in list(self._extractors())[1:]
        ]
        reject(found)
        return self

    def _references(self) -> Iterator[tuple[Path, str, frozenset[Role]]]:
        """Every reference to a plugin: where it stands, to which, and what that must be."""
        for place, profile in enumerate(self.scheduling_profiles):
            for index, part in enumerate(profile.plugins):
                at: Path = ("schedulingProfiles", place, "plugins", index, "pluginRef")
                yield at, part.plugin_ref, SCHEDULING
        for name, layer in (("dataLayer", self.data_layer), ("data", self.data)):
            yield from _data_references(name, layer)
        if self.request_handler is not None:
            for place, one in enumerate(self.request_handler.parsers):
                at = ("requestHandler", "parsers", place, "pluginRef")
                yield at, one.plugin_ref, frozenset({Role.PARSER})
        if self.parser is not None:
            yield ("parser", "pluginRef"), self.parser.plugin_ref, frozenset({Role.PARSER})
        detector = self.saturation_detector
        if detector is not None and detector.plugin_ref is not None:
            at = ("saturationDetector", "pluginRef")
            yield at, detector.plugin_ref, frozenset({Role.DETECTOR})
        if self.flow_control is not None:
            yield from _flow_references(self.flow_control)

    def _profile_violations(self, roles: dict[str, frozenset[Role]]) -> Iterator[Violation]:
        if len(self.scheduling_profiles) > 1:
            message = "one profile is supported: prefill and decode on different servers are not"
            hint = "keep the profile that serves requests"
            yield Violation(message, ("schedulingProfiles", 1), hint)
        pickers = [
            index
            for index, part in enumerate(self.profile)
            if roles.get(part.plugin_ref) == frozenset({Role.PICKER})
        ]
        if len(pickers) > 1:
            path: Path = ("plugins",)
            if self.scheduling_profiles:
                path = ("schedulingProfiles", 0, "plugins", pickers[1])
            yield Violation("a profile has one picker", path, "remove the others")


def _twice(plugins: tuple[PickerPlugin, ...]) -> Iterator[Violation]:
    seen: set[str] = set()
    for index, one in enumerate(plugins):
        if one.reference in seen:
            field = "name" if one.name else "type"
            message = f"plugin name must be unique: {one.reference}"
            yield Violation(message, ("plugins", index, field), "give one of the two a name")
        seen.add(one.reference)


def _data_references(
    name: str, layer: DataLayer | None
) -> Iterator[tuple[Path, str, frozenset[Role]]]:
    for place, source in enumerate(layer.sources if layer is not None else ()):
        at = (name, "sources", place)
        yield (*at, "pluginRef"), source.plugin_ref, frozenset({Role.DATA_SOURCE})
        for index, one in enumerate(source.extractors):
            below = (*at, "extractors", index, "pluginRef")
            yield below, one.plugin_ref, frozenset({Role.EXTRACTOR})


def _flow_references(flow: FlowControl) -> Iterator[tuple[Path, str, frozenset[Role]]]:
    bands: list[tuple[Path, DefaultBand | None]] = [
        (("defaultPriorityBand",), flow.default_priority_band),
        (("defaultNegativePriorityBand",), flow.default_negative_priority_band),
        *((("priorityBands", index), band) for index, band in enumerate(flow.priority_bands)),
    ]
    for path, band in bands:
        for field, reference, role in (
            ("fairnessPolicyRef", band and band.fairness_policy_ref, Role.FAIRNESS),
            ("orderingPolicyRef", band and band.ordering_policy_ref, Role.ORDERING),
        ):
            if reference:
                yield ("flowControl", *path, field), reference, frozenset({role})
    limit = flow.usage_limit_policy_plugin_ref
    if limit is not None:
        yield ("flowControl", "usageLimitPolicyPluginRef"), limit, frozenset({Role.USAGE_LIMIT})
    if flow.saturation_detector is not None:
        at = ("flowControl", "saturationDetector", "pluginRef")
        yield at, flow.saturation_detector.plugin_ref, frozenset({Role.DETECTOR})
