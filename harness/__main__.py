"""`python -m harness` is the `prefduel` command."""

import sys

from harness.cli import main

sys.exit(main())
