"""Routing model → Envoy: its configuration, the server that delivers it, and the process itself."""
