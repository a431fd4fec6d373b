"""The report's account of settings: side by side with differences marked, and what the trainers do differently."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from harness.hostile import cell, escaped, without_paths
from harness.markdown import table
from harness.results import Results
from pipelines.stages import TrainOutcome, TrainSettings

SHAPE = (
    "tuning", "dtype", "effective_batch", "micro_batch", "max_length", "gradient_checkpointing", "reference",
    "implementation", "nll", "nll_weight", "mean_over",
)  # fmt: skip
SEEDS = ("seed", "data_seed")
DIFFERENT, NOT_SET = "≠", "not set"
LAMBDA = "lambda (TRL: beta)"

Column = dict[str, str]


def settings_table(results: Results) -> str:
    """One column for each training stage of each arm; `≠` marks rows in which they differ."""
    columns = _columns(results)
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    declared = _declared(results)
    rows = []
    for name in names:
        values = [column.get(name, NOT_SET) for column in columns.values()]
        if set(values) == {NOT_SET}:
            continue
        differs = len(set(values)) > 1
        if differs or name in SHAPE or name in declared:
            rows.append((DIFFERENT if differs else "", escaped(name), *(cell(value) for value in values)))
    return table(["", "setting", *map(escaped, columns)], rows, align="ll" + "l" * len(columns))


def named_differences(results: Results) -> list[str]:
    """What the trainers do differently beyond their losses, as far as the settings tell. Markdown."""
    settings = [stage for stages in _train_settings(results).values() for stage in stages]
    found = _nll_differences(results)
    if any(stage.implementation == "trl" for stage in settings):
        found.append(
            "ORPO was measured in TRL's stock implementation, which holds the logits of the whole vocabulary; TRL's "
            "SFT and DPO do not. Peak memory compares implementations, not methods alone."
        )
    by_micro_batch = {
        stage.kind
        for stage in settings
        if stage.effective_batch > stage.micro_batch and stage.mean_over != "step"
    }
    if "orpo" in by_micro_batch:
        found.append(
            "Gradients are accumulated: stock ORPO averages its negative log-likelihood over the tokens of each "
            "micro-batch, SFT over those of the whole batch, so the effective batch weighs tokens differently."
        )
    if "dpo" in by_micro_batch:
        found.append(
            "Gradients are accumulated: DPO averages over each micro-batch, so the pairs of a last, smaller one weigh more."
        )
    for stage in settings:
        if stage.reference is not None:
            found.append(f"DPO's reference is the policy that it starts from, held as `{stage.reference}`.")
    return list(dict.fromkeys(found))


def _nll_differences(results: Results) -> list[str]:
    stages: dict[str, list[str]] = {}
    for arm, settings in _train_settings(results).items():
        for place, stage in enumerate(settings, 1):
            if stage.kind != "dpo":
                stages.setdefault(_words(stage.nll), []).append(f"{escaped(arm)} ({place}. {stage.kind})")
    if len(stages) < 2:
        return []
    told = ", ".join(f"{words} in {', '.join(names)}" for words, names in stages.items())
    return [f"The negative log-likelihood covers {told}."]


def config_text(results: Results) -> str:
    """The comparison as a config file, defaults left out and absolute paths cut to their last part."""
    content = results.plan.comparison.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return yaml.safe_dump(_portable(content), sort_keys=False, allow_unicode=False, width=100).rstrip()


def run_command(results: Results) -> str:
    """The command that runs the comparison, its config saved under its own name."""
    ran = list(dict.fromkeys(trial.name for trial in results.plan.trials if trial.role == "arm"))
    name = results.plan.comparison.name
    chosen = "" if set(ran) == set(results.plan.comparison.arms) else "".join(f" --arm {arm}" for arm in ran)
    return f"prefduel run {name}.yaml{chosen}"


def _columns(results: Results) -> dict[str, Column]:
    """Head of the column to setting to value, in the order of the arms."""
    found: dict[str, Column] = {}
    for arm, trials in results.models().items():
        if trials[0].role != "arm":
            continue
        for place, stage_id in enumerate(trials[0].training):
            settings = results.stage(stage_id).settings
            assert isinstance(settings, TrainSettings)
            column: Column = {"trainer": settings.kind}
            column |= {name: _shape(settings, name) for name in SHAPE}
            arguments = settings.arguments
            done = next((record for trial in trials if (record := results.done(trial.training[place]))), None)
            if done is not None and isinstance(done.outcome, TrainOutcome):
                arguments = {**arguments, **done.outcome.effective_arguments}
            column |= {
                _setting(settings.kind, name): without_paths(str(value))
                for name, value in arguments.items()
                if value is not None and not _is_hidden(name)
            }
            found[f"{arm}: {place + 1}. {settings.kind}"] = column
    return found


def _declared(results: Results) -> set[str]:
    return {
        _setting(stage.kind, name)
        for stages in _train_settings(results).values()
        for stage in stages
        for name in stage.arguments
    }


def _is_hidden(argument: str) -> bool:
    """Arguments that vary with the seed, that a row of their own shows, or that TRL blanks out (tokens)."""
    return argument in SEEDS or argument in SHAPE or argument.endswith("_token")


def _shape(settings: TrainSettings, name: str) -> str:
    value = getattr(settings, name)
    # DPO's loss has no negative log-likelihood.
    return NOT_SET if value is None or (name == "nll" and settings.kind == "dpo") else str(value)


def _setting(kind: str, name: str) -> str:
    """ORPO's lambda is called beta by TRL; DPO's beta is another thing."""
    return LAMBDA if kind == "orpo" and name == "beta" else name


def _train_settings(results: Results) -> dict[str, list[TrainSettings]]:
    found: dict[str, list[TrainSettings]] = {}
    for arm, trials in results.models().items():
        if trials[0].role != "arm":
            continue
        settings = (results.stage(stage_id).settings for stage_id in trials[0].training)
        found[arm] = [stage for stage in settings if isinstance(stage, TrainSettings)]
    return found


def _words(nll: str) -> str:
    return {"prompt_and_completion": "prompt and completion", "completion": "the completion alone"}[nll]


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _portable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_portable(inner) for inner in value]
    if isinstance(value, str) and "\n" not in value and _is_absolute(value):
        return PureWindowsPath(value).name
    return value


def _is_absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("~")
