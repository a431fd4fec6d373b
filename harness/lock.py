"""One run at a time in a results folder, and who it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError
from pydantic_core import from_json

from harness.errors import UserError
from harness.records import write_json
from pipelines.stages import Strict

LOCK = ".lock"
HOLDER = ".holder.json"
SECONDS_TO_WAIT = 1.0  # `is_held` takes the lock for a moment


class Holder(Strict):
    """The run that works in a folder."""

    pid: int
    since: str
    host: str


@contextmanager
def run_lock(folder: Path) -> Iterator[Holder | None]:
    """Hold the folder while the context is open. Yields the run before it if that died without a word.

    The lock is the operating system's and ends with its process, however that ends; the file beside it only says who.

    Raises:
        UserError: another run holds it; says which.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=SECONDS_TO_WAIT)
    except Timeout as error:
        holder = read_holder(folder)
        who = (
            f"pid {holder.pid} on {holder.host}, since {holder.since}"
            if holder
            else "it has not said which yet"
        )
        raise UserError(
            f"{folder}: another run is working in this folder ({who}). Wait for it (`prefduel status {folder}`), or "
            "use --results."
        ) from error
    with lock:
        died = read_holder(folder)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        me = Holder(pid=os.getpid(), since=now, host=socket.gethostname())
        write_json(folder / HOLDER, me.model_dump())
        try:
            yield died
        finally:
            (folder / HOLDER).unlink(missing_ok=True)


def read_holder(folder: Path) -> Holder | None:
    """The run that holds the folder, or died holding it; None if there is none."""
    try:
        return Holder.model_validate(from_json((folder / HOLDER).read_bytes()))
    except (OSError, ValueError, ValidationError):
        return None


def is_held(folder: Path) -> bool:
    """Whether a run is working in the folder now; where nothing can be written, whether one has said so."""
    if not folder.is_dir():  # the lock would make it
        return False
    lock = FileLock(folder / LOCK)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return read_holder(folder) is not None
