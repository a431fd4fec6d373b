"""Who draws a report's figures: this process, or one beside it that loads matplotlib while the results are still being read."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self

Drawn = tuple[bytes, bytes]  # SVG, PNG
Drawing = Callable[[], Drawn]  # waits until it is drawn


class Artist(Protocol):
    """Takes a function of `figures` and its arguments, which must be picklable."""

    def __call__(self, draw: Callable[..., Drawn], /, *arguments: Any, **settings: Any) -> Drawing:
        """Have it drawn; what comes back gives the figure in both formats."""


def drawn_here(draw: Callable[..., Drawn], /, *arguments: Any, **settings: Any) -> Drawing:
    """Draw at once, in this process."""
    drawn = draw(*arguments, **settings)
    return lambda: drawn


class ArtistBeside:
    """Draws in a process of its own, in the order of asking, while this one goes on. A context manager.

    The process is spawned, so it is safe beside threads, and ends when this one does, however it ends.
    """

    def __init__(self) -> None:
        """Start the process."""
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_draw_what_comes, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._num_asked = 0
        self._drawn: list[Drawn | Exception] = []

    def __call__(self, draw: Callable[..., Drawn], /, *arguments: Any, **settings: Any) -> Drawing:
        """Ask for a figure."""
        place = self._num_asked
        self._num_asked += 1
        self._connection.send((draw, arguments, settings))
        return lambda: self._result(place)

    def _result(self, place: int) -> Drawn:
        if place >= len(self._drawn):
            self._connection.send(None)
            self._drawn += self._connection.recv()
        drawn = self._drawn[place]
        if isinstance(drawn, Exception):
            raise drawn
        return drawn

    def __enter__(self) -> Self:
        """This one."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join()


def _draw_what_comes(connection: Connection) -> None:
    """Draw until the other side is gone. Results are kept until asked for: both sides sending at once could wait forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process, too; the other one ends it
    import matplotlib.figure  # noqa: F401

    drawn: list[Drawn | Exception] = []
    with suppress(EOFError, OSError):
        while True:
            wanted = connection.recv()
            if wanted is None:
                connection.send(drawn)
                drawn = []
            else:
                drawn.append(_drawn_or_error(*wanted))


def _drawn_or_error(
    draw: Callable[..., Drawn], arguments: tuple[Any, ...], settings: dict[str, Any]
) -> Drawn | Exception:
    try:
        return draw(*arguments, **settings)
    except Exception as error:
        return error
