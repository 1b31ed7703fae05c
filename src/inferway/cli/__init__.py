"""The command line: the only place that wires rooms into processes."""
