"""Scheduling policies: array expressions over endpoint columns. Pure: time and randomness come as arguments."""
