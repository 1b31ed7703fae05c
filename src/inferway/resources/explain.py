"""Validation errors as messages for people.

Problem: pydantic says what its types want ("Input should be a valid integer"); the person who wrote
the manifest wants field, value, what is allowed and what to do. Model: one entry per error that
pydantic reports, or per `Violation` inside it; the words for each error type are here and nowhere
else.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ValidationError

from .scalars import OUT_OF_RANGE_TYPE, PATTERN_MEANING
from .violations import VIOLATIONS_TYPE, Path

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SHOWN_LENGTH_MAX = 60  # characters of a value in a message

_TYPE_WORDS = {
    "string_type": "a string",
    "string_sub_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`at_key`: the key itself is wrong, not its value. `missing`: the last step is not in the
    manifest.
    """

    path: Path
    message: str
    hint: str = ""
    at_key: bool = False


def explain(error: ValidationError, model: type[BaseModel]) -> Iterator[Finding]:
    """Everything that `error` holds, in the order of the model's fields."""
    for details in error.errors(include_url=False):
        yield from _findings(details, model)


def nearest(name: str, known: list[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that was probably meant, in any case. `cutoff`: 1 equal, 0 anything."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None


def shown(value: object) -> str:
    """A value in a message: as YAML would write it, shortened."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif value is None:
        text = "null"
    elif isinstance(value, str):
        text = value if value.isprintable() and value == value.strip() and value else repr(value)
    elif isinstance(value, dict | list | tuple):
        return type_name(value)
    else:
        text = str(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else text[: SHOWN_LENGTH_MAX - 1] + "…"


def type_name(value: object) -> str:
    names = (
        (bool, "a boolean"),
        (str, "a string"),
        (int, "a whole number"),
        (float, "a number"),
        (dict, "a mapping"),
        (list | tuple, "a list"),
    )
    return next((name for type_, name in names if isinstance(value, type_)), "null")


def _findings(details: "ErrorDetails", model: type[BaseModel]) -> Iterator[Finding]:
    path, kind, value = details["loc"], details["type"], details["input"]
    context = details.get("ctx", {})
    at_key = bool(path) and path[-1] == "[key]"
    if at_key:
        path = path[:-1]
    if kind == VIOLATIONS_TYPE:
        for violation in context["violations"]:
            message, hint = violation.message, violation.hint
            yield Finding((*path, *violation.path), message, hint, at_key)
    elif kind == "too_short" and isinstance(value, list) and len(value) >= context["min_length"]:
        return  # pydantic counts valid entries only; the invalid ones are findings of their own
    elif kind == "extra_forbidden":
        name = str(path[-1])
        yield Finding(path, f"unknown field: {name}", _field_hint(model, path), at_key=True)
    else:
        message, hint = _words(kind, value, context)
        yield Finding(path, message or details["msg"], hint, at_key)


def _words(kind: str, value: object, context: dict[str, object]) -> tuple[str, str]:
    """Message and hint; an empty message leaves pydantic's own."""
    if kind == "missing":
        return "required field is missing", ""
    if kind in _TYPE_WORDS:
        return _type_words(_TYPE_WORDS[kind], value)
    if kind.startswith(("datetime", "timezone")):
        return f"must be a timestamp such as 2025-01-31T12:00:00Z: {shown(value)}", ""
    if kind == "literal_error":
        return _choice_words(value, str(context["expected"]))
    if kind == OUT_OF_RANGE_TYPE:
        minimum, maximum = context["minimum"], context["maximum"]
        return f"must be from {minimum} to {maximum}: {shown(value)}", ""
    if kind == "string_pattern_mismatch":
        meaning = PATTERN_MEANING.get(str(context["pattern"]))
        wanted = meaning or f"text that matches {context['pattern']}"
        return f"must be {wanted}: {shown(value)}", ""
    if kind == "string_too_long":
        length = len(value) if isinstance(value, str) else 0
        return f"must have at most {context['max_length']} characters: {length}", ""
    if kind == "string_too_short":
        return "must not be empty", ""
    count = len(value) if isinstance(value, dict | list) else 0
    if kind == "too_long":
        return f"must have at most {context['max_length']} entries: {count}", ""
    if kind == "too_short":
        return f"needs at least {context['min_length']}: {count}", ""
    return "", ""


def _type_words(wanted: str, value: object) -> tuple[str, str]:
    is_plain = not isinstance(value, dict | list) and value is not None
    got = f"{type_name(value)}: {shown(value)}" if is_plain else type_name(value)
    hint = ""
    if wanted == "a string" and isinstance(value, bool | int | float):
        hint = "put it in quotes"
    is_digits = isinstance(value, str) and value.strip().isdigit()
    if wanted in ("a whole number", "a number") and is_digits:
        hint = "remove the quotes"
    if wanted == "true or false" and isinstance(value, str) and value in ("true", "false"):
        hint = "remove the quotes"
    if wanted == "a list" and isinstance(value, dict):
        hint = "write '- ' before the first field of each entry"
    return f"must be {wanted}, got {got}", hint


def _choice_words(value: object, expected: str) -> tuple[str, str]:
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    close = nearest(value, choices) if isinstance(value, str) else None
    hint = f"did you mean {close}?" if close else ""
    return f"must be one of {', '.join(choices)}: {shown(value)}", hint


def _field_hint(model: type[BaseModel], path: Path) -> str:
    """The field that an unknown one was probably meant to be, else what there is."""
    owner = _model_at(model, path[:-1])
    known = [field.alias or name for name, field in owner.model_fields.items()] if owner else []
    close = nearest(str(path[-1]), known)
    if close:
        return f"did you mean {close}?"
    return f"known fields: {', '.join(known)}" if known else ""


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, int) or current is None:
            continue
        fields = (
            field for name, field in current.model_fields.items() if step in (field.alias, name)
        )
        current = next((_model_in(field.annotation) for field in fields), None)
    return current


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model that an annotation such as `tuple[Rule, ...] | None` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in found if model is not None), None)
