"""What is wrong with a manifest, where, and what to do about it: one value for the CLI, the log and
status.
"""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"  # the object is not used
    WARNING = "warning"  # the object is used, read as the message says


@dataclass(frozen=True, slots=True)
class Problem:
    """`line` and `column` count from 1. `field` is a path such as
    spec.rules[0].backendRefs[1].weight, empty for the whole file.
    """

    severity: Severity
    file: str
    line: int
    column: int
    field: str
    message: str
    hint: str = ""

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        """`file:line:column: severity: field: message (hint)`, the form that editors jump to."""
        place = f"{self.file}:{self.line}:{self.column}"
        field = f" {self.field}:" if self.field else ""
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{place}: {self.severity.value}:{field} {self.message}{hint}"


def field_path(path: tuple[str | int, ...]) -> str:
    """`("spec", "rules", 0, "name")` as `spec.rules[0].name`; a key that is not a plain name is
    quoted in brackets.
    """
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("_", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text
