"""The endpoint picker: queues, scores, picks and accounts. No I/O on the decision path but the socket."""
