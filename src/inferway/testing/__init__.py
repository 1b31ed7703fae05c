"""For whoever writes plugins: requests and endpoints to try one on."""

from inferway.testing.cases import Asked, Case, endpoints, permuted, random_case, request

__all__ = ["Asked", "Case", "endpoints", "permuted", "random_case", "request"]
