"""One thread for everything that tests compute in their own process.

Two threads may sum equal rows of one batch in another order, so that equal log-probs differ in their last bits; and models
of a few thousand parameters are slower with two.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
