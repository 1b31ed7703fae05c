"""Which base model a name stands for: ConfigMaps first, then what the gateway lists."""

from __future__ import annotations

from collections.abc import Callable

from inferway.envoy.base_models import base_models
from inferway.envoy.model_list import ModelInfo
from inferway.resources import ResourceSet
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate

Load = Callable[[str], ResourceSet]

MAPS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: b, labels: {inference.networking.k8s.io/bbr-managed: "true"}}
data: {baseModel: gemma, adapters: "[bot, tuned]"}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: c
  labels: {inference.llm-d.ai/ipp-managed: "true"}
  creationTimestamp: "2026-01-01T00:00:00Z"
data: {baseModel: llama, adapters: "[bot]"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {baseModel: other, adapters: "[tuned]"}
"""


def test_the_older_map_gets_a_name_and_the_other_is_told(load: Load) -> None:
    translation = translate(load(MAPS), settings=RoutingSettings())
    assert translation.model.base_models == (
        ("bot", "llama"),
        ("gemma", "gemma"),
        ("llama", "llama"),
        ("tuned", "gemma"),
    )
    told = [(one.key.name, one.message) for one in translation.warnings if one.key is not None]
    assert told == [("b", "bot belongs to llama, as ConfigMap default/c says")]


def test_what_no_map_says_is_what_the_gateway_lists(load: Load) -> None:
    model = translate(load(MAPS), settings=RoutingSettings()).model
    listed = {
        "l": (
            ModelInfo("phi", 1),
            ModelInfo("phi-chat", 1, parent="phi"),
            ModelInfo("tuned", 1, parent="phi"),
            ModelInfo("alias", 1, root="phi-chat", parent="phi"),
            ModelInfo("plain-alias", 1, root="phi"),
            ModelInfo("odd", 1, parent="a\nb"),
        )
    }
    found = base_models(model, listed)
    assert found == {
        "alias": "phi",
        "bot": "llama",
        "gemma": "gemma",
        "llama": "llama",
        "phi": "phi",
        "phi-chat": "phi",
        "plain-alias": "phi",
        "tuned": "gemma",
    }
