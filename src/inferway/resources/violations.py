"""How a validator says which field is wrong.

Problem: pydantic knows the place of a type error, but a rule over several fields (the CEL rules of
the upstream CRDs) fails at the object that holds them, and only the first failure is reported.
Model: a rule collects `Violation`s, each with the path below the object, and raises them together;
`explain` turns every one into a Problem at its own line.
"""

from dataclasses import dataclass

from pydantic_core import PydanticCustomError

Path = tuple[str | int, ...]

VIOLATIONS_TYPE = "violations"


@dataclass(frozen=True, slots=True)
class Violation:
    """`path` is relative to the object that is validated and uses manifest (camelCase) names."""

    message: str
    path: Path = ()
    hint: str = ""


def reject(violations: list[Violation]) -> None:
    """Raise when there is at least one violation; all of them are reported."""
    if violations:
        text = "; ".join(violation.message for violation in violations)
        raise PydanticCustomError(
            VIOLATIONS_TYPE, "{text}", {"text": text, "violations": tuple(violations)}
        )
