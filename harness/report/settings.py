"""The report's account of settings: side by side with differences marked, and what the trainers do differently."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import yaml

from harness.config import Comparison
from harness.hiding import HIDDEN, opens_a_door, public_path, without_secrets
from harness.numbers import count
from harness.report.page import Bullets, Code, Inline, Paragraph, Section, Table, Text
from harness.report.view import View
from harness.results import Results
from pipelines.data.splitting import share_size
from pipelines.outcomes import TrainOutcome
from pipelines.stages import TrainSettings

SHAPE = (
    "tuning", "dtype", "master_weights", "effective_batch", "micro_batch", "max_length", "gradient_checkpointing", "reference",
    "implementation", "nll", "nll_weight", "mean_over",
)  # fmt: skip
SEEDS = ("seed", "data_seed")
BY_DTYPE = ("bf16", "fp16")  # set from dtype, and listed only where it is not the trainer's default
DIFFERENT, NOT_SET = "≠", "not set"
LAMBDA = "lambda (TRL: beta)"

MOST_COLUMNS = 12

Column = dict[str, str]


def settings_section(view: View) -> Section:
    """One column for each training stage of each arm; `≠` marks rows in which they differ."""
    columns = _columns(view)
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    shown = dict(list(columns.items())[:MOST_COLUMNS])
    declared = _declared(view.results)
    rows: list[list[Text]] = []
    for name in names:
        values = [column.get(name, NOT_SET) for column in columns.values()]
        if set(values) == {NOT_SET}:
            continue
        differs = len(set(values)) > 1
        if differs or name in SHAPE or name in declared:
            cells = [Code(column.get(name, NOT_SET)) for column in shown.values()]
            rows.append([DIFFERENT if differs else "", name, *cells])
    key = (
        Code(DIFFERENT),
        " marks what differs between stages. ",
        Code(NOT_SET),
        ": the trainer's default, or it has no such setting.",
        f" The first {len(shown)} of {len(columns)} stages; the config below has all."
        if len(columns) > len(shown)
        else "",
        *_presets(view.results.plan.comparison),
    )
    table = Table(["", "setting", *shown], rows, align="ll" + "l" * len(shown))
    differences: list[Text] = [*named_differences(view.results)] or ["none known"]
    heading = Paragraph("Differences between the trainers that the settings do not remove:")
    return Section("Settings", [Paragraph(key), table, heading, Bullets(differences)])


def _presets(comparison: Comparison) -> list[Inline]:
    """Which `preset` each stage has: one for all, or the stages of each."""
    stages: dict[str, list[str]] = {}
    for arm, recipe in comparison.arms.items():
        for place, stage in enumerate(recipe, 1):
            preset = stage.preset or comparison.training.preset
            stages.setdefault(preset, []).append(f"{arm} ({place}. {stage.trainer})")
    if len(stages) == 1:
        return [" Every stage has ", Code(f"preset: {next(iter(stages))}"), "."]
    told: list[Inline] = []
    for used, names in stages.items():
        told += [" ", Code(f"preset: {used}"), f" in {', '.join(names)}."]
    return told


def named_differences(results: Results) -> list[Text]:
    """What the trainers do differently beyond their losses, as far as the settings tell."""
    settings = [stage for stages in _train_settings(results).values() for stage in stages]
    found: list[Text] = [*_nll_differences(results)]
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
            found.append(
                ("DPO's reference is the policy that it starts from, held as ", Code(stage.reference), ".")
            )
    found += _sft_differences(results)
    return list(dict.fromkeys(found))


def _sft_differences(results: Results) -> list[Text]:
    """What SFT saw that other stages did not, or the other way round."""
    sft, pairs = results.plan.comparison.sft, results.data()
    without = [
        arm
        for arm, stages in _train_settings(results).items()
        if not any(stage.kind == "sft" for stage in stages)
    ]
    unseen = f", which {', '.join(without)} did not see" if without else ""
    if sft.data is not None:
        made = results.demonstrations()
        size = ""
        if made is not None:
            rows = made.splits["train"]
            tokens = rows.num_prompt_tokens + rows.num_chosen_tokens
            size = f"{count(rows.num_pairs)} replies ({count(tokens)} tokens with their prompts) of "
        return [
            ("SFT trained on ", size, Code(str(_portable(sft.data.path))), f"{unseen}. It is on the bill.")
        ]
    if sft.share < 1 and pairs is not None:
        of = pairs.splits["train"].num_pairs
        return [
            f"SFT trained on {count(share_size(of, sft.share))} of the {count(of)} training pairs, the other stages on all."
        ]
    return []


def _nll_differences(results: Results) -> list[str]:
    stages: dict[str, list[str]] = {}
    for arm, settings in _train_settings(results).items():
        for place, stage in enumerate(settings, 1):
            if stage.kind != "dpo":
                stages.setdefault(_words(stage.nll), []).append(f"{arm} ({place}. {stage.kind})")
    if len(stages) < 2:
        return []
    told = ", ".join(f"{words} in {', '.join(names)}" for words, names in stages.items())
    return [f"The negative log-likelihood covers {told}."]


def config_text(view: View) -> str:
    """The comparison as a config file, defaults left out, absolute paths cut to their last part, keys and hosts cut out."""
    content = view.results.plan.comparison.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return yaml.safe_dump(
        content if view.with_host else _portable(content), sort_keys=False, allow_unicode=False, width=100
    ).rstrip()


def run_command(view: View) -> str:
    """The command that runs the comparison, its config saved under its own name."""
    name, ran = view.name, list(view.arms)
    chosen = (
        "" if set(ran) == set(view.results.plan.comparison.arms) else "".join(f" --arm {arm}" for arm in ran)
    )
    return f"prefduel run {name}.yaml{chosen}"


def _columns(view: View) -> dict[str, Column]:
    """Head of the column to setting to value, in the order of the arms."""
    found: dict[str, Column] = {}
    for arm, trials in view.arms.items():
        for place, stage_id in enumerate(trials[0].training):
            settings = view.results.stage(stage_id).settings
            assert isinstance(settings, TrainSettings)
            column: Column = {"trainer": settings.kind}
            column |= {name: _shape(settings, name) for name in SHAPE}
            arguments = settings.arguments
            done = next(
                (record for trial in trials if (record := view.results.done(trial.training[place]))), None
            )
            if done is not None and isinstance(done.outcome, TrainOutcome):
                arguments = {**arguments, **done.outcome.effective_arguments}
            column |= {
                _setting(settings.kind, name): view.shown(str(value))
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
    return argument in (*SEEDS, *SHAPE, *BY_DTYPE) or argument.endswith("_token")


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
        return {key: _portable_behind(key, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_portable_behind(before, inner) for before, inner in pairwise(["", *value])]
    if not isinstance(value, str):
        return value
    if "\n" in value or "{{" in value or "{%" in value:  # a chat template, whose slashes begin no path
        return without_secrets(value)
    return public_path(value)


def _portable_behind(before: Any, value: Any) -> Any:
    """A value behind its key, or a word of a command behind the one before: none that a name says is secret."""
    is_flag = isinstance(before, str) and opens_a_door(before)
    return HIDDEN if is_flag and isinstance(value, str) else _portable(value)
