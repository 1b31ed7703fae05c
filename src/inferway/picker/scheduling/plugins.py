"""From the name of a plugin's type and its parameters to the plugin.

Problem: parameters come from a file that a person wrote; each plugin should say which it takes only
once. Model: the keyword arguments of a plugin's constructor are its parameters: their names (in
camel case, as in every manifest), types and defaults. They are validated strictly: an unknown name
or a wrong type is a ValueError that says where. Types are looked up among our own first.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.alias_generators import to_camel

from inferway.picker.scheduling.contracts import Cost, Filter, Picker, Scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue

    from inferway.picker.scheduling.contracts import Plugin

    Factory = Callable[..., Plugin]

_STRICT: Final = ConfigDict(
    extra="forbid", strict=True, alias_generator=to_camel, arbitrary_types_allowed=True
)
_ROLES: Final = (Filter, Scorer, Cost, Picker)


def made(factory: Factory, parameters: Mapping[str, JsonValue], *, name: str) -> Plugin:
    """The plugin. ValueError starts with `name`, and says what does not fit."""
    try:
        values = parameters_of(factory).model_validate(parameters)
    except ValidationError as problem:
        raise ValueError(f"{name}: {_shown(problem)}") from problem
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from problem
    plugin = factory(**{field: getattr(values, field) for field in type(values).model_fields})
    if not isinstance(plugin, _ROLES):
        raise ValueError(f"{name}: has none of the methods keep, score, cost, choose")
    return plugin


def parameters_of(factory: Factory) -> type[BaseModel]:
    """What the constructor takes, as a model. ValueError when it cannot be told."""
    constructor: object = factory
    if isinstance(factory, type):
        constructor = next(
            vars(one)["__init__"] for one in factory.__mro__ if "__init__" in vars(one)
        )
    hints = get_type_hints(constructor, include_extras=True)
    fields: dict[str, tuple[object, object]] = {}
    for one in inspect.signature(factory).parameters.values():
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            continue  # nobody can name it
        if one.name not in hints:
            raise ValueError(f"parameter {one.name} needs a type")
        default = ... if one.default is one.empty else one.default
        fields[one.name] = (hints[one.name], default)
    model: type[BaseModel] = create_model("Parameters", __config__=_STRICT, **fields)  # type: ignore[call-overload]
    return model


def _shown(problem: ValidationError) -> str:
    errors = problem.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        f"parameters.{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors
    )
