"""ConfigMap: which adapters belong to which base model, when it carries the label for that; the
authorities that sign certificates, when a pool or a Gateway names it for that. Any other is
accepted and not read.

The labels are those of the extension's body-based router and of its successor. `data.baseModel` is
a name, `data.adapters` the text of a YAML list of names. `data["ca.crt"]` is one or more
certificates in PEM form; whether they are is checked where they are used.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import Field, StringConstraints, model_validator

from .meta import Object
from .scalars import Boolean
from .violations import Violation, reject

MANAGED_LABELS: Final = (
    "inference.networking.k8s.io/bbr-managed",
    "inference.llm-d.ai/ipp-managed",
)
BASE_MODEL_FIELD: Final = "baseModel"
ADAPTERS_FIELD: Final = "adapters"
AUTHORITIES_KEY: Final = "ca.crt"
NAME_BYTES_MAX: Final = 1024  # what a request may ask for

_DataKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]{1,253}$")]


class ConfigMap(Object):
    api_version: Literal["v1"] = "v1"
    kind: Literal["ConfigMap"] = "ConfigMap"
    data: Mapping[_DataKey, str] = Field(default_factory=dict)
    binary_data: Mapping[_DataKey, str] = Field(default_factory=dict, description="not read")
    immutable: Boolean = Field(default=False, description="no effect")

    @property
    def is_managed(self) -> bool:
        """Whether it says which adapters belong to which base model."""
        labels = self.metadata.labels
        return any(labels.get(label) == "true" for label in MANAGED_LABELS)

    @property
    def base_model(self) -> str:
        return self.data.get(BASE_MODEL_FIELD, "").strip()

    @property
    def adapters(self) -> tuple[str, ...]:
        """In the order in which they are written; none when there is no such list."""
        return tuple(_names(self.data.get(ADAPTERS_FIELD, "")) or ())

    @model_validator(mode="after")
    def _says_what_its_label_promises(self) -> Self:
        if not self.is_managed:
            return self
        found = []
        if not _is_name(self.base_model):
            hint = "set baseModel to the name of the base model"
            found.append(Violation("must name the base model", ("data", BASE_MODEL_FIELD), hint))
        if ADAPTERS_FIELD in self.data and _names(self.data[ADAPTERS_FIELD]) is None:
            hint = "write adapters: |, and below it one '- name' per line"
            message = "must be the text of a YAML list of names"
            found.append(Violation(message, ("data", ADAPTERS_FIELD), hint))
        reject(found)
        return self


def _names(text: str) -> list[str] | None:
    """The names of a YAML list; None when the text is none."""
    try:
        content = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return None
    if content is None:
        return []
    if not isinstance(content, list) or not all(map(_is_name, content)):
        return None
    return content


def _is_name(value: object) -> bool:
    """It becomes a header, so no control characters."""
    return (
        isinstance(value, str)
        and 0 < len(value.encode()) <= NAME_BYTES_MAX
        and all(character >= " " and character != "\x7f" for character in value)
    )
