"""What the picker knows of its endpoints: state as columns, readings, in-flight work, caches.

Everything but `scrape` is pure: it does no I/O and takes time as an argument.
"""
