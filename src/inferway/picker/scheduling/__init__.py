"""Scheduling policies over endpoint columns. Time and randomness are passed in."""
