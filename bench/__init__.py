"""Benchmarks. Each is a module to run: `python -m bench.overhead --help`."""
