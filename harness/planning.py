"""From a comparison to its plan: trials, and the graph of distinct stages behind them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from harness.budget import Allotment, Costs, allot, costs_of, is_converted, rows_of, yardstick
from harness.config import ArmStage, Comparison
from harness.errors import UserError
from harness.identity import decision_hash, make_stage
from harness.machine import choose_device
from harness.matches import judge_inputs
from harness.plan import Night, Plan, Trial
from harness.records import Record
from harness.stage_settings import (
    calibrate_settings,
    choosing_evaluations,
    evaluate_settings,
    evaluations_of,
    reference_settings,
    train_settings,
)
from harness.sweep import points_of
from pipelines.errors import PipelineError
from pipelines.judge_settings import TOY, RewardModelJudge, mode_of
from pipelines.outcomes import CalibrateOutcome, DataOutcome, Outcome
from pipelines.stages import (
    ConvertSettings,
    EvaluateSettings,
    JudgeSettings,
    Limits,
    PrepareSettings,
    PretrainSettings,
    RewardSettings,
    Stage,
    StageInputs,
    StageSettings,
    TrainSettings,
)

DATA_SEED = 0
SHARED_BASE_SEED = 0
Recipe = list[tuple[ArmStage, Allotment]]


def make_plan(
    comparison: Comparison,
    *,
    arms: list[str] | None = None,
    chosen: Mapping[str, int] | None = None,
    night: Night | None = None,
    records: Mapping[str, Record] | None = None,
) -> Plan:
    """Expand a comparison.

    Args:
        comparison: The validated config.
        arms: Only these arms; all of them if None.
        chosen: Of a sweep: the number of the point that each swept arm is run with on fresh seeds. An arm that is swept
            and not in it gets the trials of its points only.
        night: What a night changes.
        records: By stage id: what `budget.match` takes steps from. An arm whose steps they do not give yet has no trials.

    Raises:
        UserError: a source whose content is part of a stage's identity is not there, or an arm cannot meet the budget.
    """
    planner = _Planner(comparison, dict(chosen or {}), night, dict(records or {}))
    try:
        trials = planner.judged(planner.trials(list(comparison.arms) if arms is None else arms))
    except (PipelineError, FileNotFoundError) as error:
        raise UserError(f"{comparison.name}: cannot be planned: {str(error).rstrip('.')}.") from error
    return Plan(
        comparison=comparison,
        decision_hash=decision_hash(comparison.decision),
        night=night.date if night else None,
        trials=trials,
        chosen=planner.chosen,
        waiting=planner.waiting,
        stages=list(planner.stages.values()),
        identities=planner.identities,
    )


def trial_seed(seed: int, purpose: Literal["trial", "sweep"] = "trial") -> int:
    """The number that seeds a trial's random sources, from the seed's index.

    Spread by a hash: in TRL epoch e of seed s is epoch 0 of seed s + e, so neighbours would share their order. A sweep's
    seeds are others than those of the report with the same index.
    """
    digest = hashlib.sha256(f"prefduel {purpose} seed {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # numpy and transformers want less than 2**32


def _is_generation(stage: Stage) -> bool:
    return isinstance(stage.settings, EvaluateSettings) and stage.settings.evaluation.group == "generation"


def sft_arm(comparison: Comparison) -> str | None:
    """The arm whose first stage is the SFT control: the first one that begins with SFT."""
    return next((name for name, stages in comparison.arms.items() if stages[0].trainer == "sft"), None)


@dataclass
class _Planner:
    comparison: Comparison
    chosen: dict[str, int]
    night: Night | None
    records: dict[str, Record]
    waiting: list[str] = field(default_factory=list)
    stages: dict[str, Stage] = field(default_factory=dict)
    identities: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._device = choose_device(self.comparison.device)
        threads, workers = self.comparison.threads, self.comparison.workers
        self._threads = threads if isinstance(threads, int) else os.cpu_count() or 1
        self._workers = workers if isinstance(workers, int) else 1
        self._limits = Limits(
            save_every_minutes=self.comparison.save_every_minutes,
            hang_minutes=self.comparison.hang_minutes,
            stage_hours=self.comparison.stage_hours,
            retries=self.comparison.retries,
            divergence_factor=self.comparison.divergence_factor,
        )

    def trials(self, arms: list[str]) -> list[Trial]:
        """Trials in the order in which they run: arms in turn, their order reversed in every second seed."""
        first, count = self.comparison.first_seed, self.comparison.seeds
        seeds = range(first, first + count) if self.night is None else self.night.seeds
        found: list[Trial] = []
        if "base" in self.comparison.controls and not self.comparison.base_per_seed:
            found.append(self._trial("base", "control", None, []))
        if is_converted(self.comparison):
            self._plan_what_converts(arms)
        found += self._points(arms)
        recipes = {arm: recipe for arm in arms if (recipe := self._recipe(arm)) is not None}
        for place, seed in enumerate(seeds):
            if "base" in self.comparison.controls and self.comparison.base_per_seed:
                found.append(self._trial("base", "control", seed, []))
            ordered = list(recipes) if place % 2 == 0 else list(recipes)[::-1]
            for arm in ordered:
                if "sft" in self.comparison.controls and arm == sft_arm(self.comparison):
                    found.append(self._trial("sft", "control", seed, recipes[arm][:1]))
                found.append(self._trial(arm, "arm", seed, recipes[arm]))
        return found

    def judged(self, trials: list[Trial]) -> list[Trial]:
        """The trials with their judges' stages, which come last: they need nothing but stored replies."""
        added: dict[int, list[str]] = {}
        rewards: list[str] = []
        for judge in self.comparison.evaluations.judges:
            settings, reward = JudgeSettings(kind="judge", judge=judge), None
            if isinstance(judge, RewardModelJudge) and judge.model == TOY:
                inputs = StageInputs(data=self._data)
                reward = self._add(RewardSettings(kind="reward"), inputs, DATA_SEED)
                rewards = [reward]
            for place, inputs in judge_inputs(self.comparison, trials, mode_of(judge), self._replies):
                inputs = inputs.model_copy(update={"reward": reward})
                added.setdefault(place, []).append(self._add(settings, inputs, DATA_SEED))
        return [
            trial.model_copy(
                update={
                    "preparation": [*trial.preparation, *rewards],
                    "judgements": added.get(place, []),
                }
            )
            for place, trial in enumerate(trials)
        ]

    def _replies(self, trial: Trial) -> str:
        """The id of the stage that made the trial's replies."""
        return next(name for name in trial.evaluations if _is_generation(self.stages[name]))

    def _points(self, arms: list[str]) -> list[Trial]:
        """The trials of a sweep's points, the arms' order reversed in every second seed."""
        sweep = self.comparison.sweep
        if sweep is None:
            return []
        points = {arm: points_of(self.comparison, arm) for arm in arms}
        recipes = {
            point.name: recipe
            for of_arm in points.values()
            for point in of_arm
            if (recipe := self._allotted(point.name, point.recipe)) is not None
        }
        return [
            self._trial(point.name, "point", seed, recipes[point.name])
            for seed in range(sweep.seeds)
            for arm in (arms if seed % 2 == 0 else arms[::-1])
            for point in points[arm]
            if point.name in recipes
        ]

    def _recipe(self, arm: str) -> Recipe | None:
        """The stages that the report's seeds of an arm run; None while its point or its steps are not known."""
        points = points_of(self.comparison, arm)
        if not points:
            return self._allotted(arm, self.comparison.arms[arm])
        return self._allotted(arm, points[self.chosen[arm]].recipe) if arm in self.chosen else None

    def _allotted(self, name: str, recipe: list[ArmStage]) -> Recipe | None:
        """The stages of an arm or point with what each may spend; None while that is not known, which is noted."""
        if not is_converted(self.comparison):
            return [(stage, Allotment()) for stage in recipe]
        stages = self._costs(recipe)
        budget = self._costs(self.comparison.arms[yardstick(self.comparison)])
        if stages is None or budget is None:
            self.waiting.append(name)
            return None
        return list(zip(recipe, allot(self.comparison, name, stages, budget), strict=True))

    def _costs(self, recipe: list[ArmStage]) -> list[Costs] | None:
        found = []
        for stage in recipe:
            data = self._outcome(self._demonstrations(stage) or self._data)
            times: CalibrateOutcome | None = None
            if self.comparison.budget.match == "seconds":
                outcome = self._outcome(self._calibration(stage))
                times = outcome if isinstance(outcome, CalibrateOutcome) else None
                if times is None:
                    return None
            if not isinstance(data, DataOutcome):
                return None
            found.append(costs_of(self.comparison, stage, rows_of(self.comparison, stage, data), times))
        return found

    def _outcome(self, stage_id: str) -> Outcome | None:
        record = self.records.get(stage_id)
        return record.outcome if record is not None and record.status == "done" else None

    def _plan_what_converts(self, arms: list[str]) -> None:
        """The stages whose records tell of how many steps each arm has."""
        self._base(self.comparison.first_seed)
        _ = self._data, self._sft_data
        if self.comparison.budget.match == "seconds":
            for arm in dict.fromkeys([yardstick(self.comparison), *arms]):
                points = [point.recipe for point in points_of(self.comparison, arm)]
                for stage in (stage for recipe in (self.comparison.arms[arm], *points) for stage in recipe):
                    self._calibration(stage)

    def _calibration(self, stage: ArmStage) -> str:
        """One for all seeds: an arm's steps are the same in each."""
        inputs = StageInputs(
            base=self._base(self.comparison.first_seed),
            data=self._data,
            demonstrations=self._demonstrations(stage),
        )
        return self._add(calibrate_settings(self.comparison, stage), inputs, DATA_SEED)

    def _trial(
        self, name: str, role: Literal["arm", "control", "point"], seed: int | None, recipe: Recipe
    ) -> Trial:
        purpose: Literal["trial", "sweep"] = "sweep" if role == "point" else "trial"
        base = self._base(seed, purpose)
        data = self._data
        of_sft = self._sft_data if recipe else None  # before any training: it may turn out not to serve
        policy: str | None = None
        training: list[str] = []
        references: list[str] = []
        for stage, allotment in recipe:
            assert seed is not None
            inputs = StageInputs(
                base=base, data=data, demonstrations=self._demonstrations(stage), policy=policy
            )
            if stage.reference == "precomputed":
                # No random source: one serves every seed where DPO starts from the base model.
                reference = self._add(reference_settings(self.comparison, stage), inputs, DATA_SEED)
                references.append(reference)
                inputs = inputs.model_copy(update={"reference": reference})
            settings = train_settings(self.comparison, stage, allotment)
            policy = self._add(settings, inputs, trial_seed(seed, purpose))
            training.append(policy)
        preparation = [data] if base is None else [base, data]
        preparation += [of_sft] if of_sft else []
        if training:
            preparation += [stage.id for stage in self.stages.values() if stage.kind == "calibrate"]
        evaluations: list[str] = []
        measured = choosing_evaluations if role == "point" else evaluations_of
        for evaluation in measured(self.comparison):
            if policy is None and evaluation.group == "drift":
                continue  # the base has not moved from itself
            measuring = evaluate_settings(self.comparison, evaluation)
            inputs = StageInputs(base=base, data=data, policy=policy)
            if policy is not None and evaluation.group == "preference":
                # Scored once for all models, whether or not the base model is a control.
                of_base = self._add(measuring, StageInputs(base=base, data=data), DATA_SEED)
                preparation.append(of_base)
                inputs = inputs.model_copy(update={"base_evaluation": of_base})
            # One seed for all: sampled replies of every model then meet the same random numbers.
            evaluations.append(self._add(measuring, inputs, DATA_SEED))
        return Trial(
            name=name,
            role=role,
            seed=seed,
            preparation=preparation,
            training=training,
            references=references,
            remeasured=self._remeasured([*training, *references]),
            evaluations=evaluations,
        )

    def _remeasured(self, stage_ids: list[str]) -> list[str]:
        """What this night measures the costs on: what was measured before is trained again, from the same inputs."""
        if self.night is None or self.night.remeasure != "costs":
            return []
        again = []
        for stage_id in stage_ids:
            stage = self.stages[stage_id]
            if self.night.measured_before(stage_id):
                stage_id = self._add(stage.settings, stage.inputs, stage.seed, night=self.night.date)
            again.append(stage_id)
        return again

    @cached_property
    def _data(self) -> str:
        """Once for all trials: its identity takes a hash of the whole data file."""
        settings = PrepareSettings(
            kind="data",
            model=self.comparison.model,
            data=self.comparison.data,
            max_length=self.comparison.training.max_length,
        )
        return self._add(settings, StageInputs(), DATA_SEED)

    @cached_property
    def _sft_data(self) -> str | None:
        """What SFT trains on instead; its stage leaves out what the data's own stage holds out."""
        if self.comparison.sft.data is None:
            return None
        settings = PrepareSettings(
            kind="data",
            model=self.comparison.model,
            data=self.comparison.sft.data,
            max_length=self.comparison.training.max_length,
            demonstrations=True,
        )
        return self._add(settings, StageInputs(data=self._data), DATA_SEED)

    def _demonstrations(self, stage: ArmStage) -> str | None:
        return self._sft_data if stage.trainer == "sft" else None

    def _base(self, seed: int | None, purpose: Literal["trial", "sweep"] = "trial") -> str | None:
        model = self.comparison.model
        if model.name == "toy":
            own = self.comparison.base_per_seed and seed is not None
            return self._add(
                PretrainSettings(kind="pretrain"),
                StageInputs(),
                trial_seed(seed, purpose) if own and seed is not None else SHARED_BASE_SEED,
            )
        if model.gguf_file is not None:
            dtype = self.comparison.training.dtype
            return self._add(
                ConvertSettings(kind="convert", model=model, dtype=dtype), StageInputs(), DATA_SEED
            )
        return None

    def _add(
        self, settings: StageSettings, inputs: StageInputs, seed: int, *, night: str | None = None
    ) -> str:
        if self.night is not None and self.night.remeasure == "all":
            night = self.night.date
        stage, described = make_stage(
            settings, inputs, seed=seed, threads=self._threads, device=self._device, night=night
        )
        limits = self._limits
        if not isinstance(settings, TrainSettings):  # lm-eval and the loader do not tell of their steps
            limits = limits.model_copy(update={"hang_minutes": None})
        stage = stage.model_copy(update={"limits": limits, "workers": self._workers})
        self.stages.setdefault(stage.id, stage)
        self.identities[stage.id] = described
        return stage.id
