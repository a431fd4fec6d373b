"""Checks on how the models were trained: from which weights, in which steps, to which end, against which reference."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.audit.case import Case, Trained
from harness.audit.checks import Check, judged, not_applicable, warned
from harness.differences import argument
from harness.records import LOSSES
from pipelines.stages import TrainSettings

NONE_FINISHED = "no training stage finished"
# Schedules that end at a learning rate of 0, so that the last step's tells whether they have ended.
ENDING = ("linear", "cosine", "polynomial")
LITTLE_CHANGED = 0.5  # of the share of weights that the stage with the most of them changed
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}  # of a log-prob: merged, or computed by other kernels


def same_base_weights(case: Case) -> Check:
    """Every arm starts from the same weights, seed by seed."""
    name, problems = "same_base_weights", []
    hashes: dict[tuple[int | None, str], dict[str, str]] = {}
    for stage in case.trained:
        if stage.outcome.base_hash is not None:
            base = stage.record.stage.inputs.base
            hashes.setdefault((stage.seed if base else None, stage.settings.dtype), {})[stage.label] = (
                stage.outcome.base_hash
            )
    for found in hashes.values():
        first, *others = found
        problems += [
            f"{other} starts from {found[other][:12]}, {first} from {found[first][:12]}"
            for other in others
            if found[other] != found[first]
        ]
    if not hashes:
        return not_applicable(name, "no finished stage recorded the hash of its base weights")
    return judged(name, problems, f"one hash in {sum(map(len, hashes.values()))} stages, seed by seed")


def same_effective_batch(case: Case) -> Check:
    """Every optimizer step takes the same number of pairs; only the last of an epoch may take what is left."""
    name, problems = "same_effective_batch", []
    if not case.recorded:
        return not_applicable(name, "what the models received was not recorded")
    sizes = {stage.settings.effective_batch for stage in case.trained}
    if len(sizes) > 1:
        problems.append(f"stages have effective batches of {', '.join(map(str, sorted(sizes)))} pairs")
    for stage, received in case.recorded:
        batch, rows = stage.settings.effective_batch, stage.outcome.num_rows or 0
        seen = 0
        for step, pairs in zip(received.steps, received.step_sizes, strict=True):
            seen += pairs
            # Pairs cannot be counted up to a step where steps were sampled; an epoch has so many steps.
            at_end = rows and (step % math.ceil(rows / batch) if stage.sampled else seen % rows) == 0
            left_over = at_end and rows and pairs == rows % batch
            if pairs != batch and not left_over:
                problems.append(f"{stage.label}: step {step} has {pairs} pairs, not {batch}")
                break
    return judged(name, problems, f"{', '.join(map(str, sizes))} pairs in every step{case.by_sample}")


def same_precision_and_adapter(case: Case) -> Check:
    """The same number format, and as many trained weights in the same modules."""
    name = "same_precision_and_adapter"
    if not case.trained:
        return not_applicable(name, NONE_FINISHED)
    problems = [
        *_unequal(case, "number formats", lambda stage: stage.settings.dtype),
        *_unequal(
            case,
            "autocast",
            lambda stage: f"bf16 {stage.outcome.effective_arguments.get('bf16') is True}",
        ),
        *_unequal(case, "tuning", lambda stage: stage.settings.tuning),
        *_unequal(case, "adapters", lambda stage: _adapter(stage.settings)),
        *_unequal(
            case, "numbers of trained weights", lambda stage: f"{stage.outcome.num_trainable_parameters}"
        ),
    ]
    return judged(name, problems, f"{case.trained[0].settings.tuning} in {case.trained[0].settings.dtype}")


def schedule_ended(case: Case) -> Check:
    """Every stage went to the end of its learning-rate schedule."""
    name, problems = "schedule_ended", []
    if not case.trained:
        return not_applicable(name, NONE_FINISHED)
    for stage in case.trained:
        steps, planned = stage.outcome.num_steps, stage.outcome.num_planned_steps
        if planned is not None and steps != planned:
            problems.append(f"{stage.label}: stopped at step {steps} of {planned}")
            continue
        rows = case.results.rows(stage.record.stage.id, LOSSES)
        rates = [rate for row in rows if (rate := row.get("learning_rate")) is not None]
        kind = str(argument(stage.outcome.effective_arguments, "lr_scheduler_type"))
        if kind in ENDING and len(rates) > 1 and max(rates) > 0:
            left = rates[-1] / max(rates)
            decaying = len(rates) - rates.index(max(rates))
            # The last step's rate is one step short of 0 at the most.
            if left > 1.5 / decaying + 0.01:
                problems.append(
                    f"{stage.label}: the learning rate of its last step is still {left:.0%} of the highest"
                )
    return judged(name, problems, f"{len(case.trained)} stages went to their schedule's end")


def weights_changed(case: Case) -> Check:
    """No stage left most of the weights that it trained as they were, as bfloat16 does with small updates."""
    name = "weights_changed"
    shares = {
        stage.label: share
        for stage in case.trained
        if (share := stage.outcome.changed_weights_share) is not None
    }
    if not shares:
        return not_applicable(name, "no finished stage recorded how many of its weights changed")
    most = max(shares, key=shares.__getitem__)
    lossy = [stage.label for stage in case.trained if stage.settings.master_weights == "none"]
    problems = [
        f"{label}: {share:.1%} of its trained weights changed, {shares[most]:.1%} in {most}"
        for label, share in shares.items()
        if share < LITTLE_CHANGED * shares[most]
    ]
    if lossy:
        problems.append(
            f"{len(lossy)} stages update bfloat16 weights in bfloat16 (master_weights: none), which loses small updates, more of them "
            f"the lower the learning rate (first: {lossy[0]})"
        )
    return warned(
        name,
        problems,
        f"{min(shares.values()):.1%} to {shares[most]:.1%} of the trained weights, in {len(shares)} stages",
    )


def no_dropped_batch(case: Case) -> Check:
    """The model got every row of its trainer in every epoch, a last small batch included."""
    name, problems, checked = "no_dropped_batch", [], 0
    for stage in case.trained:
        rows, seen = stage.outcome.num_rows, stage.outcome.num_pairs_seen
        if rows is None:
            continue
        checked += 1
        expected = _pairs_expected(stage, rows)
        if seen != expected:
            problems.append(
                f"{stage.label}: {seen} pairs reached the model, its {rows} rows make {expected:g}"
            )
    if not checked:
        return not_applicable(name, "no finished stage recorded how many rows its trainer had")
    return judged(name, problems, f"all rows reached the model in {checked} stages")


def reference_is_policy(case: Case) -> Check:
    """DPO starts from the policy of the stage before it, and that policy is its reference: equal log-probs."""
    name, problems, checked, untold = "reference_is_sft_policy", [], 0, ""
    finals = {stage.record.stage.id: stage for stage in case.trained}
    for stage in case.trained:
        if stage.settings.kind != "dpo" or stage.outcome.start_probe is None:
            continue
        before = finals.get(stage.record.stage.inputs.policy or "")
        expected = stage.outcome.start_probe if before is None else before.outcome.final_probe
        if expected is None:
            continue
        moved = None if before is None else before.outcome.start_probe
        tolerance = TOLERANCE[stage.settings.dtype] * max(1.0, *(abs(value) for value in expected))
        if moved is not None and _furthest(moved, expected) <= tolerance:
            untold = f"{stage.label}: the stage before it moved its log-probs by less than rounding, so its policy and the base look alike"
        else:
            checked += 1
        whose = "the base" if before is None else f"the policy of {before.label}"
        for what, got in (
            ("policy", stage.outcome.start_probe),
            ("reference", stage.outcome.reference_probe),
        ):
            if moved is not None and stage.settings.dtype != "float32":
                tolerance = max(tolerance, 0.1 * _furthest(moved, expected))
            far = math.inf if got is None else _furthest(got, expected)
            if far > tolerance:
                problems.append(f"{stage.label}: its {what} is not {whose}: log-probs differ by {far:.3g}")
    if not checked and not problems:
        return not_applicable(name, untold or "no finished DPO stage recorded its reference's log-probs")
    return judged(
        name,
        problems,
        f"equal log-probs in {checked} stages" + (f"; cannot be told of {untold}" if untold else ""),
    )


def _pairs_expected(stage: Trained, rows: int) -> float:
    """Pairs in the steps that were planned, when the last batch of an epoch is kept."""
    arguments, batch = stage.outcome.effective_arguments, stage.settings.effective_batch
    max_steps = int(argument(arguments, "max_steps") or -1)
    if max_steps <= 0:
        epochs = float(argument(arguments, "num_train_epochs"))
        if epochs == int(epochs):
            return rows * epochs
        max_steps = math.ceil(epochs * math.ceil(rows / batch))
    whole, rest = divmod(max_steps, math.ceil(rows / batch))
    return whole * rows + rest * batch


def _furthest(first: list[float], second: list[float]) -> float:
    """The largest difference of two probes."""
    return max(abs(one - other) for one, other in zip(first, second, strict=True))


def _adapter(settings: TrainSettings) -> str:
    return "none" if settings.tuning == "full" else f"{settings.lora.model_dump(mode='json')}"


def _unequal(case: Case, what: str, of: Callable[[Trained], str]) -> list[str]:
    found: dict[str, str] = {}
    for stage in case.trained:
        found.setdefault(of(stage), stage.label)
    if len(found) < 2:
        return []
    return [f"{what} differ: " + ", ".join(f"{value} in {label}" for value, label in found.items())]
