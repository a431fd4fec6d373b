"""Times a few steps of a training stage, with all that a step has: loading, the recorder, logging, the optimizer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from pipelines.models import MODEL
from pipelines.outcomes import CalibrateOutcome
from pipelines.stages import CalibrateSettings, Limits, Observer, Phase, Stage
from pipelines.training.train import LOGS, train


def calibrate(stage: Stage, folder: Path, observer: Observer) -> CalibrateOutcome:
    """Train for `num_steps` steps from the base model, note when each ends, and keep nothing else.

    Raises:
        PipelineError: as `train`.
    """
    settings = stage.settings
    assert isinstance(settings, CalibrateSettings)
    arguments = settings.stage.arguments | {"max_steps": settings.num_steps}
    training = stage.model_copy(
        update={"settings": settings.stage.model_copy(update={"arguments": arguments}), "limits": Limits()}
    )
    clock = StepClock(observer)
    train(training, folder, clock)
    shutil.rmtree(folder / MODEL)
    for name in LOGS:
        (folder / name).unlink(missing_ok=True)
    steps = [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]
    return CalibrateOutcome(
        step_seconds=steps,
        start_seconds=max(0.0, clock.ends[0] - clock.began - median(steps)) + clock.over - clock.ends[-1],
    )


class StepClock:
    """An observer that passes everything on and notes when the training loop began, ended each step and was over.

    Args:
        observer: The stage's own.
        now: A clock in seconds.
    """

    def __init__(self, observer: Observer, now: Any = time.perf_counter) -> None:
        self._observer, self._now = observer, now
        self._training = False
        self.began = self.over = 0.0
        self.ends: list[float] = []

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Note when training begins and is over."""
        with self._observer.phase(name):
            self._training = name == "train"
            if self._training:
                self.began = self._now()
            yield
            if self._training:
                self.over = self._now()
            self._training = False

    def aside(self, name: Phase) -> AbstractContextManager[None]:
        """Passed on."""
        return self._observer.aside(name)

    def waiting(self) -> AbstractContextManager[None]:
        """Passed on."""
        return self._observer.waiting()

    def progress(self, done: int, total: int) -> None:
        """Note that a step has ended."""
        if self._training:
            self.ends.append(self._now())
        self._observer.progress(done, total)

    def state(self) -> dict[str, Any]:
        """Passed on."""
        return self._observer.state()

    def resume(self, state: dict[str, Any]) -> None:
        """Passed on."""
        self._observer.resume(state)

    def seconds(self) -> dict[str, float]:
        """Passed on."""
        return self._observer.seconds()

    def joules(self) -> float | None:
        """Passed on."""
        return self._observer.joules()
