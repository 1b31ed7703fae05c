"""Scorers: how well each endpoint suits a request, in [0, 1]. One idea per file."""
