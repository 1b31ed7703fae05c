"""inferway: an open inference gateway.

Envoy carries every byte, a small Rust filter inside Envoy reads what a decision needs out of a
request, and Python decides where each request is served best. Importing this package does nothing.
"""

__version__ = "0.1.0"
