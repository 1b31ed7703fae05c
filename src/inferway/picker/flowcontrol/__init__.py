"""What waits, for how long, and who goes first when a pool has no room.

Pure: queues, detectors and policies are state machines over numbers; time and randomness are
passed in. `queue.py` orders what waits, the detectors say where there is room, `rates.py` and
`tickets.py` say when to come back. Who holds a pool's requests and asks the scheduler is
`picker/holding.py`.
"""
