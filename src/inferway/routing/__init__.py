"""Resources to a routing model and their status. Pure: no I/O, no clock, no randomness."""
