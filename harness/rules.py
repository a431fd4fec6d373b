"""Combinations of keys that cannot be meant, each with the key to change. Looks at no file but benchmark tasks."""

from __future__ import annotations

from harness.budget_rules import Broken, broken_budget_rules
from harness.config import ArmStage, Comparison
from harness.config_errors import did_you_mean
from harness.differences import SFT_KEYS, TUNING, undeclared
from harness.evaluation_rules import broken_evaluation_rules
from harness.measured import is_measured, measured_metrics, where_measured
from harness.metrics import METRICS, metric
from harness.trainer_fields import all_argument_names, objections
from harness.worker_rules import broken_worker_rules
from pipelines.data.sources import TOY
from pipelines.stages import DataSettings

CONTROLS = ("base", "sft")
# An arm's name is an outcome of the verdict, beside these.
OUTCOMES = ("equivalent", "undecided", "incomplete", "unfair")
# What transformers takes by name; a hub kernel has a slash in its name.
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")
# Of TRL's DPO losses: these sort the pairs of a micro-batch, or average over its tokens.
WHOLE_BATCH_LOSSES = ("aot", "aot_unpaired", "sft")
# TRL 1.16's other DPO losses, the default `sigmoid` among them, leave `label_smoothing` out without a word.
SMOOTHED_LOSSES = ("robust", "exo_pair", "aot", "aot_unpaired")


def broken_rules(comparison: Comparison) -> Broken:
    """Every broken rule as (key, the rest of the sentence that begins with it)."""
    if comparison.name.lower() == "index":
        yield "name", "must not be index: reports/index.md lists all reports."
    yield from _training(comparison)
    yield from _model(comparison)
    yield from _data(comparison)
    yield from _arms(comparison)
    yield from _arguments(comparison)
    yield from _differences(comparison)
    yield from broken_budget_rules(comparison)
    yield from _controls(comparison)
    yield from broken_evaluation_rules(comparison)
    yield from _decision(comparison)
    yield from _nightly(comparison)
    yield from _target(comparison)
    yield from broken_worker_rules(comparison)


def train_share(data: DataSettings) -> float:
    """The share of the pairs that is left to train on."""
    return 1 - data.validation_share - data.test_share


def smallest_train_split(comparison: Comparison, num_rows: int) -> float:
    """Training pairs to expect of `num_rows` usable rows: the shares are of prompts, so this is about right."""
    data = comparison.data
    expected = num_rows * train_share(data)
    return expected if data.max_train_pairs is None else min(expected, data.max_train_pairs)


def _training(comparison: Comparison) -> Broken:
    shape = comparison.training
    if shape.effective_batch % shape.micro_batch:
        yield (
            "training.effective_batch",
            f"must be a multiple of training.micro_batch ({shape.micro_batch}), got {shape.effective_batch}.",
        )
    if shape.lora.dropout:
        yield (
            "training.lora.dropout",
            f"must be 0, got {shape.lora.dropout}. TRL switches it off for DPO and ORPO but not for SFT, so the "
            "arms would differ.",
        )
    if shape.tuning == "full" and "lora" in shape.model_fields_set:
        yield "training.lora", "must not be given with `tuning: full`. Write `tuning: lora`, or leave it out."
    if shape.master_weights == "none" and (shape.dtype, shape.tuning) != ("bfloat16", "full"):
        yield (
            "training.master_weights",
            "must not be none unless `dtype: bfloat16` and `tuning: full`: all other trained weights are float32 as it is.",
        )
    if shape.select == "best_validation":
        if shape.eval_every is None:
            yield (
                "training.eval_every",
                "must be given with `select: best_validation`: nothing is looked at without it.",
            )
        if comparison.data.validation_share == 0:
            yield (
                "data.validation_share",
                "must be above 0 with `select: best_validation`: it chooses on validation pairs.",
            )
    if shape.tuning == "qlora" and comparison.device == "cpu":
        yield "training.tuning", "must not be qlora with `device: cpu`: 4-bit weights need CUDA. Use lora."


def _target(comparison: Comparison) -> Broken:
    target = comparison.target
    if target is None:
        return
    if comparison.training.eval_every is None:
        yield "training.eval_every", "must be given with `target`: nothing is looked at without it."
    if comparison.data.validation_share == 0:
        yield "data.validation_share", "must be above 0 with `target`: it is reached on validation pairs."
    if target.metric == "preference_accuracy" and not 0 <= target.value <= 1:
        yield "target.value", f"must be a share, at most 1, for preference_accuracy, got {target.value:g}."


def _model(comparison: Comparison) -> Broken:
    model = comparison.model
    if comparison.base_per_seed and model.name != TOY:
        yield "base_per_seed", f"must be false unless model.name is toy, got model.name {model.name!r}."
    attention = model.attn_implementation
    if attention and attention not in ATTENTION and "/" not in attention:
        hint = did_you_mean(attention, list(ATTENTION))
        yield (
            "model.attn_implementation",
            f"must be one of {', '.join(ATTENTION)}, or a kernel of the hub, got {attention!r}. {hint}".rstrip(),
        )
    if model.name == TOY:
        for key in ("revision", "gguf_file", "trust_remote_code", "chat_template"):
            if getattr(model, key):
                yield f"model.{key}", "must not be given with the toy model."


def _data(comparison: Comparison) -> Broken:
    data = comparison.data
    if data.validation_share + data.test_share >= 1:
        yield (
            "data.test_share",
            f"and data.validation_share must leave something to train on: together less than 1, got "
            f"{data.validation_share + data.test_share:g}.",
        )
        return
    if data.path == TOY:
        for key in ("revision", "subset", "columns"):
            if getattr(data, key):
                yield f"data.{key}", "must not be given with toy data."
    elif data.num_pairs is not None:
        yield "data.num_pairs", "must not be given unless data.path is toy. Use data.max_train_pairs."
    batch = comparison.training.effective_batch
    if data.max_train_pairs is not None and data.max_train_pairs < batch:
        yield (
            "training.effective_batch",
            f"must be at most data.max_train_pairs ({data.max_train_pairs}), got {batch}.",
        )
    elif data.path == TOY and data.num_pairs and smallest_train_split(comparison, data.num_pairs) < batch:
        yield (
            "training.effective_batch",
            f"must be at most the number of training pairs (about "
            f"{smallest_train_split(comparison, data.num_pairs):.0f}), got {batch}. Raise data.num_pairs.",
        )


def _arms(comparison: Comparison) -> Broken:
    for name, stages in comparison.arms.items():
        if name in CONTROLS:
            yield f"arms.{name}", f"must not be called {name}: that is the name of a control."
        if name in OUTCOMES:
            yield f"arms.{name}", f"must not be called {name}: that is an outcome of the verdict."
        if not stages:
            yield f"arms.{name}", "must have at least 1 stage, got an empty list."
        for index, stage in enumerate(stages):
            for key, problem in stage_problems(comparison, stage):
                yield f"arms.{name}.{index}.{key}", problem


def stage_problems(comparison: Comparison, stage: ArmStage) -> Broken:
    """What cannot be in one stage of an arm, as (key within the stage, the rest of the sentence)."""
    tuning = comparison.training.tuning
    if stage.reference is not None and stage.trainer != "dpo":
        yield "reference", f"must not be given for {stage.trainer}: only dpo has a reference model."
    elif stage.reference == "adapter" and tuning == "full":
        yield (
            "reference",
            "must not be adapter with `training.tuning: full`: there is no adapter. Use copy or precomputed, or "
            "tuning lora.",
        )
    if stage.implementation is not None and stage.trainer != "orpo":
        yield "implementation", f"must not be given for {stage.trainer}: only orpo has more than one."
    elif stage.implementation == "fused" and (stage.preset or comparison.training.preset) == "stock":
        yield (
            "implementation",
            "must not be fused with `preset: stock`, which means ORPO as TRL ships it. Give the stage `preset: fair`, "
            "and its `nll` if the prompt is to be covered.",
        )
    if stage.nll is not None and stage.trainer == "dpo":
        yield "nll", "must not be given for dpo: its loss has no negative log-likelihood."
    if stage.nll_weight is not None and stage.trainer != "orpo":
        yield "nll_weight", f"must not be given for {stage.trainer}: only orpo's loss has two terms."
    yield from _loss_types(comparison, stage)
    yield from _label_smoothing(comparison, stage)
    if stage.arguments.get("sync_ref_model") and stage.reference not in (None, "copy"):
        yield "arguments.sync_ref_model", f"needs `reference: copy`, got {stage.reference}."


def _loss_types(comparison: Comparison, stage: ArmStage) -> Broken:
    """DPO losses that are no mean over pairs cannot be put together from micro-batches."""
    shape = comparison.training
    fair = (stage.preset or shape.preset) == "fair"
    chosen = stage.arguments.get("loss_type", shape.arguments.get("loss_type"))
    if stage.trainer != "dpo" or not fair or not isinstance(chosen, list):
        return
    whole = [name for name in chosen if name in WHOLE_BATCH_LOSSES]
    if whole and shape.micro_batch < shape.effective_batch:
        yield (
            "arguments.loss_type",
            f"must not name {', '.join(whole)} while gradients are accumulated: that loss depends on which pairs share "
            f"a micro-batch. Set training.micro_batch to {shape.effective_batch}, or the stage's `preset: stock`.",
        )


def _label_smoothing(comparison: Comparison, stage: ArmStage) -> Broken:
    arguments = comparison.training.arguments | stage.arguments
    chosen = arguments.get("loss_type", ["sigmoid"])
    ignored = [name for name in chosen if name not in SMOOTHED_LOSSES] if isinstance(chosen, list) else []
    if stage.trainer == "dpo" and arguments.get("label_smoothing") and ignored:
        yield (
            "arguments.label_smoothing",
            f"must be 0 with `loss_type: [{', '.join(map(str, ignored))}]`, which TRL does not smooth. Use "
            "`loss_type: [robust]`.",
        )


def _arguments(comparison: Comparison) -> Broken:
    shared = comparison.training.arguments
    for name, stages in comparison.arms.items():
        for index, stage in enumerate(stages):
            for argument, problem in objections(stage.trainer, shared):
                yield f"training.arguments.{argument}", f"{problem} (arms.{name}.{index} gets it)"
            for argument, problem in objections(stage.trainer, stage.arguments):
                yield f"arms.{name}.{index}.arguments.{argument}", problem


def _nightly(comparison: Comparison) -> Broken:
    nightly = comparison.nightly
    if nightly.seeds == "rotate" and nightly.remeasure != "none":
        yield (
            "nightly.remeasure",
            f"must be none with `nightly.seeds: rotate`, got {nightly.remeasure}: new seeds are measured each night "
            "anyway.",
        )
    if nightly.seeds == "rotate" and comparison.sweep is not None:
        yield (
            "nightly.seeds",
            "must be fixed with a sweep: another night may choose other points, got rotate.",
        )


def _differences(comparison: Comparison) -> Broken:
    for found in undeclared(comparison):
        yield (
            f"allow_difference.{found.key}",
            f"must be given, or the setting must be equal in every stage: {found.told()}. Write "
            f"`allow_difference: {{{found.key}: why}}`, or set it once in training.",
        )
    known = all_argument_names() | {"nll", TUNING, *SFT_KEYS}
    for key, reason in comparison.allow_difference.items():
        if key not in known:
            yield (
                f"allow_difference.{key}",
                f"must name a setting that can differ, got {key!r}. {did_you_mean(key, sorted(known))}".rstrip(),
            )
        elif not reason.strip():
            yield f"allow_difference.{key}", "must say why, got an empty text."


def _controls(comparison: Comparison) -> Broken:
    controls = comparison.controls
    if len(set(controls)) < len(controls):
        yield "controls", f"must name each control once, got {', '.join(controls)}."
    begins_with_sft = any(stages and stages[0].trainer == "sft" for stages in comparison.arms.values())
    if "sft" in controls and not begins_with_sft and "controls" in comparison.model_fields_set:
        yield "controls", "must not name sft: no arm begins with an sft stage that it could share."


def _decision(comparison: Comparison) -> Broken:
    decision = comparison.decision
    arms = list(comparison.arms)
    chosen = "compare" in decision.model_fields_set
    if not chosen and len(arms) > 1 and not set(decision.compare) <= set(arms):
        yield "decision.compare", f"must name the two arms that the verdict is about, of {', '.join(arms)}."
    for index, name in enumerate(decision.compare if chosen else ()):
        if name not in arms:
            yield (
                f"decision.compare.{index}",
                f"must be the name of an arm, got {name!r}. {did_you_mean(name, arms)}",
            )
    if decision.compare[0] == decision.compare[1]:
        yield "decision.compare", f"must name two different arms, got {decision.compare[0]!r} twice."
    measured = measured_metrics(comparison)
    if not is_measured(decision.metric, comparison, measured):
        hint = (
            f"Evaluations that measure it: {where_measured(decision.metric)}."
            if decision.metric in METRICS
            else ""
        )
        yield (
            "decision.metric",
            f"must be one that a configured evaluation measures, got {decision.metric!r}. "
            f"{hint or did_you_mean(decision.metric, measured)}",
        )
    elif metric(decision.metric).direction == "none":
        yield "decision.metric", f"must have a better direction; neither is better for {decision.metric}."
    if decision.cost == "money" and comparison.price_per_hour is None:
        yield "decision.cost", "must not be money while price_per_hour is empty."
