"""Judges that an installed package brings, by their entry points. Finds them; loading one is for a stage's process."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

GROUP = "prefduel.judges"


def plugin_names() -> list[str]:
    """Names of the judges that installed packages bring."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find_plugin(name: str) -> EntryPoint | None:
    """The entry point of this name, or None."""
    return next(iter(entry_points(group=GROUP, name=name)), None)


def plugin_version(name: str) -> str:
    """Its package and version, which say what it is; nothing is loaded."""
    point = find_plugin(name)
    if point is None:
        return "not installed"
    package = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown package"
    return f"{package}: {point.value}"
