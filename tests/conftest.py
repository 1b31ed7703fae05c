"""What holds for every test: property tests draw the same examples in every run.

A test must not fail on one machine because it was lucky on another. To search for new examples, run
with INFERWAY_EXPLORE=1; whatever that finds becomes an `@example` and a fix.
"""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, print_blob=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile("explore" if os.environ.get("INFERWAY_EXPLORE") else "same")
