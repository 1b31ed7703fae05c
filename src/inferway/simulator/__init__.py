"""The model-server engine model: live HTTP servers and virtual time share it."""
