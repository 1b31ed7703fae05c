"""The endpoint picker.

Queues, scores, picks and accounts. No I/O on the decision path but the socket.
"""
