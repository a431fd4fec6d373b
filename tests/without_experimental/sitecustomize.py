"""With this folder in PYTHONPATH, TRL's experimental ORPO cannot be imported, in no process: as if a release dropped it.

`PYTHONPATH=tests/without_experimental .venv/bin/python -m pytest -m "not slow"` runs the tests so.
"""

from __future__ import annotations

import sys

GONE = "trl.experimental.orpo"


class _Gone:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == GONE or name.startswith(GONE + "."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, _Gone)  # type: ignore[arg-type]
