"""Checkpoints inside a training stage: made on a clock, and resumed from only when every byte is as it was written.

TRL 1.16 goes on differently, without an error, from a checkpoint that lacks its random, optimizer or schedule state. So
each checkpoint has a manifest with the hash of every file, written last; one without a manifest that fits is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError
from transformers import TrainerCallback

from pipelines.stages import Strict

if TYPE_CHECKING:
    from pipelines.stages import Observer
    from pipelines.training.watching import TokenCount

CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"
LOGS = "logs"
NEEDED = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
KEPT = 2  # the newest, and the one before in case the newest is damaged


class Manifest(Strict):
    """What a checkpoint is made of. `seal` is the hash of the rest, so that a damaged manifest is noticed too."""

    step: int = Field(description="Optimizer steps done.")
    files: dict[str, str] = Field(description="Path inside the checkpoint to SHA-256 of its bytes.")
    counts: list[list[int]] = Field(description="What `TokenCount` had counted.")
    observed: dict[str, Any] = Field(description="What the observer asked to remember.")
    seal: str = ""

    def sealed(self) -> Manifest:
        """The same with its seal."""
        return self.model_copy(update={"seal": self._hash()})

    def is_sealed(self) -> bool:
        """Whether nothing was changed since it was sealed."""
        return self.seal == self._hash()

    def _hash(self) -> str:
        content = self.model_dump(mode="json", exclude={"seal"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be trusted."""

    path: Path
    manifest: Manifest


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of the stage in `folder` whose files are what its manifest says; None: start anew.

    Removes every other newer one, so that what training writes next does not mix with the remains of it.
    """
    found = sorted((folder / CHECKPOINTS).glob("checkpoint-*"), key=_step, reverse=True)
    for path in found:
        manifest = _trusted(path)
        if manifest is not None:
            return Checkpoint(path, manifest)
        shutil.rmtree(path)
    return None


def restore_logs(checkpoint: Checkpoint | None, folder: Path, names: Iterable[str]) -> None:
    """Bring the stage's line-by-line logs to what they were at the checkpoint; remove them where there is none."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
        if checkpoint is not None and (kept := checkpoint.path / LOGS / name).is_file():
            shutil.copy(kept, folder / name)


def restore_file(checkpoint: Checkpoint | None, folder: Path, name: str) -> None:
    """Bring a file of the stage's folder to what it was at the checkpoint; remove it where there is none."""
    (folder / name).unlink(missing_ok=True)
    if checkpoint is not None and (kept := checkpoint.path / LOGS / name).is_file():
        _link(kept, folder / name)


class CheckpointClock(TrainerCallback):
    """Asks the trainer for a checkpoint when the time has come, and seals what it wrote.

    Args:
        folder: The stage's folder.
        every_seconds: Time between two checkpoints; None: none are made.
        counted: Its counts are kept in the manifest.
        observer: Told that saving is not training; what it remembers is kept in the manifest.
        logs: Names of the stage's line-by-line logs, kept in the checkpoint.
        linked: Name of a file that is only ever replaced as a whole, never written to: a checkpoint has a link to it.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_seconds: float | None,
        counted: TokenCount,
        observer: Observer,
        logs: Iterable[str],
        linked: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._every_seconds = folder, every_seconds
        self._counted, self._observer, self._logs = counted, observer, tuple(logs)
        self._linked = linked
        self._clock = clock
        self._last = clock()
        self._saving = ExitStack()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint if the last is old enough; the last step needs none, the model is saved then."""
        due = self._every_seconds is not None and self._clock() - self._last >= self._every_seconds
        if due and state.global_step < state.max_steps:
            control.should_save = True
            self._saving.enter_context(self._observer.aside("save"))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal the checkpoint that the trainer has just written and remove those that are no longer needed."""
        path = self._folder / CHECKPOINTS / f"checkpoint-{state.global_step}"
        with self._saving:
            _keep_logs(self._folder, path, self._logs, step=state.global_step)
            if (self._folder / self._linked).is_file():
                _link(self._folder / self._linked, path / LOGS / self._linked)
            files = {str(file.relative_to(path)): _synced_hash(file) for file in _files(path)}
            manifest = Manifest(
                step=state.global_step,
                files=files,
                counts=self._counted.state(),
                observed=self._observer.state(),
            )
            _write_synced(path / MANIFEST, manifest.sealed().model_dump_json(indent=2))
            for old in sorted(path.parent.glob("checkpoint-*"), key=_step)[:-KEPT]:
                shutil.rmtree(old)
        self._last = self._clock()


def _trusted(path: Path) -> Manifest | None:
    try:
        manifest = Manifest.model_validate_json((path / MANIFEST).read_text(encoding="utf-8"))
        whole = (
            manifest.is_sealed()
            and manifest.step == _step(path)
            and set(NEEDED) <= set(manifest.files)
            and not set(WEIGHTS).isdisjoint(manifest.files)
            and all(_hash(path / name) == digest for name, digest in manifest.files.items())
        )
    except (OSError, ValueError, ValidationError):
        return None
    return manifest if whole else None


def _keep_logs(folder: Path, path: Path, names: Iterable[str], *, step: int) -> None:
    """Copy the logs' lines up to `step`: the data loader, and what it notes, runs ahead of the model."""
    (path / LOGS).mkdir()
    for name in names:
        if not (folder / name).is_file():
            continue
        with (folder / name).open(encoding="utf-8") as source, (path / LOGS / name).open("w") as target:
            target.writelines(line for line in source if json.loads(line)["step"] <= step)


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def _step(path: Path) -> int:
    number = path.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synced_hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


def _write_synced(path: Path, text: str) -> None:
    """Write under another name, sync, then rename: the manifest is whole, or it is not there."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
