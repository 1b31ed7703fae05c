"""Conversations with whoever asks for picks.

Pure state machines; `inferway.picker.server` carries their bytes.
"""
