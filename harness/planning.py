"""From a comparison to its plan: trials, and the graph of distinct stages behind them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.config import ArmStage, Comparison
from harness.errors import UserError
from harness.identity import decision_hash, make_stage
from harness.machine import choose_device
from harness.measured import measured_by
from harness.plan import Night, Plan, Trial
from harness.records import Record, read_record
from harness.sweep import choose, points_of, sweep_metric
from pipelines.errors import PipelineError
from pipelines.stages import (
    ConvertSettings,
    EvaluateSettings,
    Evaluation,
    Limits,
    MasterWeights,
    Nll,
    PrepareSettings,
    PretrainSettings,
    ReferenceSettings,
    Stage,
    StageInputs,
    StageSettings,
    TrainSettings,
)

DATA_SEED = 0
SHARED_BASE_SEED = 0
REFERENCE_ARGUMENTS = (
    "ld_alpha",
    "tf32",
)  # of TRL's DPO arguments, those that change a reference's log-probs


def make_plan(
    comparison: Comparison,
    *,
    arms: list[str] | None = None,
    chosen: Mapping[str, int] | None = None,
    night: Night | None = None,
) -> Plan:
    """Expand a comparison.

    Args:
        comparison: The validated config.
        arms: Only these arms; all of them if None.
        chosen: Of a sweep: the number of the point that each swept arm is run with on fresh seeds. An arm that is swept
            and not in it gets the trials of its points only.
        night: What a night changes.

    Raises:
        UserError: a source whose content is part of a stage's identity is not there.
    """
    planner = _Planner(comparison, dict(chosen or {}), night)
    try:
        trials = planner.trials(list(comparison.arms) if arms is None else arms)
    except (PipelineError, FileNotFoundError) as error:
        raise UserError(f"{comparison.name}: cannot be planned: {str(error).rstrip('.')}.") from error
    return Plan(
        comparison=comparison,
        decision_hash=decision_hash(comparison.decision),
        night=night.date if night else None,
        trials=trials,
        chosen=planner.chosen,
        stages=list(planner.stages.values()),
        identities=planner.identities,
    )


def plan_from(
    comparison: Comparison, folder: Path, *, arms: list[str] | None = None, night: Night | None = None
) -> Plan:
    """The plan as far as the records in `folder` let it be known: a sweep's chosen points need their records.

    Args:
        comparison: The validated config.
        folder: The comparison's results folder; it need not be there yet.
        arms: Only these arms; all of them if None.
        night: What a night changes.

    Raises:
        UserError: as `make_plan`.
    """
    plan = make_plan(comparison, arms=arms, night=night)
    if comparison.sweep is None:
        return plan
    chosen = choose(plan, _records_so_far(folder, plan))
    return make_plan(comparison, arms=arms, chosen=chosen, night=night) if chosen else plan


def _records_so_far(folder: Path, plan: Plan) -> dict[str, Record]:
    """By stage id; a damaged record is none, its stage will run again."""
    found: dict[str, Record] = {}
    for stage in plan.stages:
        with contextlib.suppress(ValidationError):
            if (record := read_record(folder / stage.id)) is not None:
                found[stage.id] = record
    return found


def trial_seed(seed: int, purpose: Literal["trial", "sweep"] = "trial") -> int:
    """The number that seeds a trial's random sources, from the seed's index.

    Spread by a hash: in TRL epoch e of seed s is epoch 0 of seed s + e, so neighbours would share their order. A sweep's
    seeds are others than those of the report with the same index.
    """
    digest = hashlib.sha256(f"prefduel {purpose} seed {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # numpy and transformers want less than 2**32


def sft_arm(comparison: Comparison) -> str | None:
    """The arm whose first stage is the SFT control: the first one that begins with SFT."""
    return next((name for name, stages in comparison.arms.items() if stages[0].trainer == "sft"), None)


@dataclass
class _Planner:
    comparison: Comparison
    chosen: dict[str, int]
    night: Night | None
    stages: dict[str, Stage] = field(default_factory=dict)
    identities: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._device = choose_device(self.comparison.device)
        self._threads = self.comparison.threads or os.cpu_count() or 1
        self._limits = Limits(
            save_every_minutes=self.comparison.save_every_minutes,
            hang_minutes=self.comparison.hang_minutes,
            stage_hours=self.comparison.stage_hours,
            retries=self.comparison.retries,
        )

    def trials(self, arms: list[str]) -> list[Trial]:
        """Trials in the order in which they run: arms in turn, their order reversed in every second seed."""
        first, count = self.comparison.first_seed, self.comparison.seeds
        seeds = range(first, first + count) if self.night is None else self.night.seeds
        found: list[Trial] = []
        if "base" in self.comparison.controls and not self.comparison.base_per_seed:
            found.append(self._trial("base", "control", None, []))
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

    def _points(self, arms: list[str]) -> list[Trial]:
        """The trials of a sweep's points, the arms' order reversed in every second seed."""
        sweep = self.comparison.sweep
        if sweep is None:
            return []
        return [
            self._trial(point.name, "point", seed, point.recipe)
            for seed in range(sweep.seeds)
            for arm in (arms if seed % 2 == 0 else arms[::-1])
            for point in points_of(self.comparison, arm)
        ]

    def _recipe(self, arm: str) -> list[ArmStage] | None:
        """The stages that the report's seeds of an arm run; None while its point is not chosen."""
        points = points_of(self.comparison, arm)
        if not points:
            return self.comparison.arms[arm]
        return points[self.chosen[arm]].recipe if arm in self.chosen else None

    def _trial(
        self, name: str, role: Literal["arm", "control", "point"], seed: int | None, recipe: list[ArmStage]
    ) -> Trial:
        purpose: Literal["trial", "sweep"] = "sweep" if role == "point" else "trial"
        base = self._base(seed)
        data = self._data
        policy: str | None = None
        training: list[str] = []
        references: list[str] = []
        for stage in recipe:
            assert seed is not None
            inputs = StageInputs(base=base, data=data, policy=policy)
            if stage.reference == "precomputed":
                # No random source: one serves every seed where DPO starts from the base model.
                reference = self._add(self._reference_settings(stage), inputs, DATA_SEED)
                references.append(reference)
                inputs = inputs.model_copy(update={"reference": reference})
            policy = self._add(self._train_settings(stage), inputs, trial_seed(seed, purpose))
            training.append(policy)
        preparation = [data] if base is None else [base, data]
        evaluations: list[str] = []
        for evaluation in self._choosing() if role == "point" else self._evaluations():
            if policy is None and evaluation.group == "drift":
                continue  # the base has not moved from itself
            settings = self._evaluate_settings(evaluation)
            inputs = StageInputs(base=base, data=data, policy=policy)
            if policy is not None and evaluation.group == "preference":
                # Scored once for all models, whether or not the base model is a control.
                of_base = self._add(settings, StageInputs(base=base, data=data), DATA_SEED)
                preparation.append(of_base)
                inputs = inputs.model_copy(update={"base_evaluation": of_base})
            # One seed for all: sampled replies of every model then meet the same random numbers.
            evaluations.append(self._add(settings, inputs, DATA_SEED))
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

    def _base(self, seed: int | None) -> str | None:
        model = self.comparison.model
        if model.name == "toy":
            own = self.comparison.base_per_seed and seed is not None
            return self._add(
                PretrainSettings(kind="pretrain"),
                StageInputs(),
                trial_seed(seed) if own and seed is not None else SHARED_BASE_SEED,
            )
        if model.gguf_file is not None:
            dtype = self.comparison.training.dtype
            return self._add(
                ConvertSettings(kind="convert", model=model, dtype=dtype), StageInputs(), DATA_SEED
            )
        return None

    def _evaluations(self) -> Iterator[Evaluation]:
        groups = self.comparison.evaluations
        for evaluation in (groups.preference, groups.generation, groups.benchmarks, groups.drift):
            if evaluation is not None:
                yield evaluation

    def _choosing(self) -> Iterator[Evaluation]:
        """The evaluation that a sweep's points are chosen by: the one that measures its metric, on the validation split."""
        wanted = sweep_metric(self.comparison)
        for evaluation in (self.comparison.evaluations.preference, self.comparison.evaluations.generation):
            if evaluation is not None and wanted in measured_by(evaluation):
                yield evaluation.model_copy(update={"split": "validation"})

    def _train_settings(self, stage: ArmStage) -> TrainSettings:
        shape = self.comparison.training
        orpo = stage.trainer == "orpo"
        fair = (stage.preset or shape.preset) == "fair"
        # As TRL ships it, only ORPO's covers the prompt.
        default_nll: Nll = "prompt_and_completion" if orpo and not fair else "completion"
        return TrainSettings(
            kind=stage.trainer,
            model=self.comparison.model,
            tuning=shape.tuning,
            lora=shape.lora,
            dtype=shape.dtype,
            master_weights=self._master_weights(),
            effective_batch=shape.effective_batch,
            micro_batch=shape.micro_batch,
            max_length=shape.max_length,
            gradient_checkpointing=shape.gradient_checkpointing,
            recording=shape.recording,
            reference=(stage.reference or "copy") if stage.trainer == "dpo" else None,
            implementation=(stage.implementation or "trl") if orpo else None,
            nll=stage.nll or default_nll,
            nll_weight=(1.0 if stage.nll_weight is None else stage.nll_weight) if orpo else None,
            # SFT's loss is a mean over the step's tokens in TRL already.
            mean_over=None if stage.trainer == "sft" else "step" if fair else "micro_batch",
            eval_every=shape.eval_every,
            eval_pairs=shape.eval_pairs,
            select=shape.select,
            select_by=shape.select_by,
            arguments={**shape.arguments, **stage.arguments},
        )

    def _reference_settings(self, stage: ArmStage) -> ReferenceSettings:
        shape = self.comparison.training
        arguments = {**shape.arguments, **stage.arguments}
        return ReferenceSettings(
            kind="reference",
            model=self.comparison.model,
            tuning=shape.tuning,
            lora=shape.lora,
            dtype=shape.dtype,
            master_weights=self._master_weights(),
            micro_batch=shape.micro_batch,
            max_length=shape.max_length,
            arguments={key: arguments[key] for key in REFERENCE_ARGUMENTS if key in arguments},
        )

    def _master_weights(self) -> MasterWeights | None:
        """Adapters are float32 in any case, so there is a choice for bfloat16 in full alone."""
        shape = self.comparison.training
        return shape.master_weights if shape.tuning == "full" and shape.dtype == "bfloat16" else None

    def _evaluate_settings(self, evaluation: Evaluation) -> EvaluateSettings:
        shape = self.comparison.training
        return EvaluateSettings(
            kind="evaluate",
            model=self.comparison.model,
            dtype=shape.dtype,
            max_length=shape.max_length,
            evaluation=evaluation,
        )

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
        stage = stage.model_copy(update={"limits": limits})
        self.stages.setdefault(stage.id, stage)
        self.identities[stage.id] = described
        return stage.id
