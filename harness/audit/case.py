"""The facts that checks look at: every finished training stage of every arm, and what its model received."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from harness.audit.prepared import PreparedPairs
from harness.audit.received import Received, receive
from harness.differences import Difference, Place, argument_differences, planned_differences
from harness.errors import UserError
from harness.plan import Trial
from harness.records import Record
from harness.results import Results
from harness.rows import BATCHES, PAIRS
from pipelines.outcomes import TrainOutcome
from pipelines.stages import TrainSettings


@dataclass(frozen=True)
class Trained:
    """One finished training stage, as part of one arm with one seed.

    Attributes:
        received: None where the recorder left nothing, or there is nothing prepared to hold it against.
    """

    arm: str
    seed: int | None
    place: int
    record: Record
    settings: TrainSettings
    outcome: TrainOutcome
    received: Received | None

    @property
    def label(self) -> str:
        """Such as `sft-dpo seed 0: dpo (dpo-0123456789ab)`."""
        return f"{self.arm} seed {self.seed}: {self.settings.kind} ({self.record.stage.id})"

    @property
    def sampled(self) -> bool:
        """Whether the recorder noted some of its steps only."""
        return self.settings.recording == "sampled"

    @property
    def num_epochs(self) -> float | None:
        """Passes over the trainer's rows that it made."""
        return self.outcome.num_pairs_seen / self.outcome.num_rows if self.outcome.num_rows else None


class Case:
    """A results folder as the checks see it. Stages that did not finish are left out."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._prepared: dict[str, PreparedPairs | None] = {}
        self._received: dict[str, Received | None] = {}

    @cached_property
    def trials(self) -> list[Trial]:
        """The trials of arms; a sweep's points, which only choose a setting, are not among them."""
        arms = self.results.plan.comparison.arms
        return [trial for trial in self.results.plan.trials if trial.role == "arm" and trial.name in arms]

    @cached_property
    def trained(self) -> list[Trained]:
        """Every finished training stage of every arm."""
        found = []
        for trial in self.trials:
            for place, stage_id in enumerate(trial.training):
                record = self.results.done(stage_id)
                if record is None or not isinstance(record.outcome, TrainOutcome):
                    continue
                settings = record.stage.settings
                assert isinstance(settings, TrainSettings)
                found.append(
                    Trained(trial.name, trial.seed, place, record, settings, record.outcome, self._of(record))
                )
        return found

    @cached_property
    def recorded(self) -> list[tuple[Trained, Received]]:
        """Those of which it is known what the model received."""
        return [(stage, stage.received) for stage in self.trained if stage.received is not None]

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """What differs between stages by what they recorded or by the config, declared or not, by its key."""
        recorded = argument_differences(self.places, free=())
        planned = planned_differences(self.results.plan.comparison)
        return {found.key: found for found in (*recorded, *planned)}

    @property
    def places(self) -> dict[str, Place]:
        """What every stage recorded of its arguments, by its label."""
        return {
            stage.label: Place(stage.settings.kind, stage.outcome.effective_arguments)
            for stage in self.trained
        }

    @property
    def by_sample(self) -> str:
        """What a check of what the models received adds to its evidence where a recorder noted some steps only."""
        num_sampled = sum(stage.sampled for stage, _ in self.recorded)
        return f", by every 16th step of {num_sampled} stages" if num_sampled else ""

    @cached_property
    def arms(self) -> list[str]:
        """Arms of which at least one seed finished all of its training."""
        return list(dict.fromkeys(trial.name for trial in self.trials if self.finished(trial)))

    def finished(self, trial: Trial) -> bool:
        """Whether all of the trial's training finished."""
        return all(self.results.done(stage_id) for stage_id in trial.training)

    def prepared(self, data: str | None) -> PreparedPairs | None:
        """What a data stage prepared; None where it left no hashes."""
        if data is None:
            return None
        if data not in self._prepared:
            with self._damage_in_one_line(data, PAIRS):
                pairs = PreparedPairs(self.results.rows(data, PAIRS))
            self._prepared[data] = pairs if len(pairs) else None
        return self._prepared[data]

    def _of(self, record: Record) -> Received | None:
        stage = record.stage
        if stage.id not in self._received:
            prepared = self.prepared(stage.inputs.trained_on)
            received = None
            if prepared is not None:
                assert isinstance(stage.settings, TrainSettings)
                lines = self.results.rows(stage.id, BATCHES)
                with self._damage_in_one_line(stage.id, BATCHES):
                    received = receive(
                        lines,
                        prepared,
                        paired=stage.settings.kind != "sft",
                        whole_chosen=covers_prompt(stage.settings),
                    )
            self._received[stage.id] = received if received and received.order else None
        return self._received[stage.id]

    @contextmanager
    def _damage_in_one_line(self, stage_id: str, name: str) -> Iterator[None]:
        """An older record has no hash of these files: what stands in them is found out while it is read."""
        try:
            yield
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            problem = f"a sequence lacks {error}" if isinstance(error, KeyError) else f"is damaged ({error})"
            raise UserError(
                f"{self.results.folder / stage_id / name}: {problem}. Delete the folder {stage_id} and run again."
            ) from error


def covers_prompt(settings: TrainSettings) -> bool:
    """Whether the settings say that the negative log-likelihood covers chosen's prompt."""
    return settings.kind != "dpo" and settings.nll == "prompt_and_completion" and settings.nll_weight != 0
