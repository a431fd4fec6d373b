"""Imports that take long, for a fork server; says when they were done. What a child writes is compared with that."""

import os
import time
from pathlib import Path

time.sleep(0.3)
with Path(os.environ["IMPORTED"]).open("a") as file:
    file.write(f"{time.monotonic()}\n")
