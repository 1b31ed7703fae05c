"""Filters: who may be chosen at all. One idea per file."""
