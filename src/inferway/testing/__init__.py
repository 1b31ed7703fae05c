"""For whoever writes plugins: requests and endpoints to try one on, and the rules it must keep."""

from inferway.testing.cases import Asked, Case, endpoints, permuted, random_case, request
from inferway.testing.conformance import Excused, check, violations

__all__ = [
    "Asked",
    "Case",
    "Excused",
    "check",
    "endpoints",
    "permuted",
    "random_case",
    "request",
    "violations",
]
