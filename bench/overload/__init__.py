"""Twice the load that a pool can carry: who is served, how fast, and who is told to come back."""
