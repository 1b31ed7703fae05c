"""Pickers: from ratings to a choice. One idea per file; `select.py` has the usual one."""
