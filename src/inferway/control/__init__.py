"""The control plane: resources in, xDS, picker configuration and status out; the admin API."""
