"""An observer for stages that are run without meters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Silent:
    """An observer that remembers the phases."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.phases.append(name)
        yield

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        yield

    def progress(self, done: int, total: int) -> None:
        pass

    def seconds(self) -> dict[str, float]:
        return {}

    def joules(self) -> float | None:
        return None

    def state(self) -> dict[str, Any]:
        return {"phases": list(self.phases)}

    def resume(self, state: dict[str, Any]) -> None:
        self.resumed = state
