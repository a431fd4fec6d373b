"""Space that a run holds back on the results' disk: a disk that fills costs no record of what was computed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

RESERVE = ".reserve"
RESERVE_BYTES = 2 << 20  # a record has about 10 KiB, an event less than one, summary and report some hundred
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def reserve(folder: Path) -> Iterator[None]:
    """Hold space back in a comparison's results folder while the context is open."""
    hold(folder)
    try:
        yield
    finally:
        release(folder)


def hold(folder: Path) -> bool:
    """Set the space aside, unless it is already. False: the disk has no more, and there is no reserve."""
    path = folder / RESERVE
    if path.is_file() and path.stat().st_size == RESERVE_BYTES:
        return True
    try:
        path.write_bytes(os.urandom(RESERVE_BYTES))  # zeros could be compressed, and would hold nothing
    except OSError:
        release(folder)
        return False
    return True


def release(folder: Path) -> None:
    """Give the space to whoever writes next."""
    with contextlib.suppress(OSError):
        (folder / RESERVE).unlink(missing_ok=True)


def with_room(folder: Path, write: Callable[[], None]) -> None:
    """Write; where the disk is full, write again into the space that was held back.

    Args:
        folder: The comparison's results folder.
        write: Can be called twice: what a first call left half written, the second replaces.

    Raises:
        OSError: there is still no space, or another reason.
    """
    try:
        write()
    except OSError as error:
        if error.errno not in FULL:
            raise
        release(folder)
        write()
