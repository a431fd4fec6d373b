"""Where a model's files are: hub ids stay as they are, `package:NAME` becomes a folder. Imports no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGE_PREFIX = "package:"


def model_location(name: str) -> str:
    """What `from_pretrained` is given for the config's `model.name`.

    Raises:
        FileNotFoundError: `package:NAME` names a package that is not installed.
    """
    if not name.startswith(PACKAGE_PREFIX):
        return name
    package = name.removeprefix(PACKAGE_PREFIX)
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the Python package {package!r} is not installed")
    return str(Path(next(iter(spec.submodule_search_locations))))
