"""`inferway demo`: the whole gateway over simulated model servers, with a chart of what it did."""
