"""What a source hands over: all resources of one moment and all that is wrong with them."""

from dataclasses import dataclass

from inferway.resources import ResourceSet
from inferway.resources.problems import Problem


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`changed_at`: monotonic time in seconds at which the change that led here began, from the
    clock that was passed in; apply-to-effect time is measured from it.
    """

    resources: ResourceSet
    problems: tuple[Problem, ...]
    changed_at: float

    @property
    def has_errors(self) -> bool:
        return any(problem.is_error for problem in self.problems)
