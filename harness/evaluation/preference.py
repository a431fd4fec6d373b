"""Preference without generating: log-probs of the chosen and the rejected reply of each pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.evaluation.items import Measured, Row
from harness.evaluation.logprobs import Progress, reply_logprobs
from harness.evaluation.packing import Prompted
from harness.evaluation.pairs import chosen_pairs, prompt_id
from harness.evaluation.reading import without_adapter_wrapper
from harness.metrics import TRAIN_PREFIX
from harness.records import IN_BATCHES_OF, ITEMS, PROMPT
from pipelines.errors import PipelineError
from pipelines.evaluations import PreferenceEvaluation, Split
from pipelines.rewards import (
    PairLogprobs,
    against_base,
    length_balanced,
    own_columns,
    raw_columns,
)
from pipelines.stages import Observer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

EXACT = (torch.float32, torch.float64)
NOISE_PAIRS, NOISE_BATCHES = 32, (1, 4)  # in bfloat16 so many pairs are also scored in batches of these sizes

Pair = dict[str, Any]
OfBase = dict[str, PairLogprobs]


def measure_preference(
    model: PreTrainedModel,
    evaluation: PreferenceEvaluation,
    data: Path,
    *,
    base_evaluation: Path | None,
    observer: Observer,
) -> Measured:
    """Score the pairs of one split, and where asked a sample of those that were trained on.

    Args:
        model: The policy, in eval mode.
        evaluation: Which split, how many pairs.
        data: Folder of the stage that prepared the data.
        base_evaluation: Folder of the same evaluation on the base model; None where this is it.
        observer: Told of phases and progress.

    Raises:
        PipelineError: a split has no pairs, or the base model's items lack one of them.
    """
    with observer.phase("data"):
        pairs = chosen_pairs(data, evaluation.split, evaluation.max_items)
        trained = chosen_pairs(data, "train", evaluation.train_items) if evaluation.train_items else []
        of_base = None if base_evaluation is None else read_pairs(base_evaluation / ITEMS)
    with observer.phase("evaluate"):
        scored = score_pairs(
            model, pairs + trained, batch_size=evaluation.batch_size, progress=observer.progress
        )
        noise = _in_other_batches(model, pairs[:NOISE_PAIRS])
    rows = pair_rows(pairs, scored[: len(pairs)], of_base, split=evaluation.split)
    for place, columns in enumerate(noise):
        rows[place] = {**rows[place], **columns}
    rows += pair_rows(trained, scored[len(pairs) :], of_base, split="train", prefix=TRAIN_PREFIX)
    return Measured(rows)


def _in_other_batches(model: PreTrainedModel, pairs: list[Pair]) -> list[dict[str, float]]:
    """In less than float32, what each pair's log-probs are in batches of other sizes; in float32 nothing: they agree to 1e-5."""
    if without_adapter_wrapper(model).dtype in EXACT:
        return []
    columns: list[dict[str, float]] = [{} for _ in pairs]
    for size in NOISE_BATCHES:
        for place, found in enumerate(score_pairs(model, pairs, batch_size=size)):
            columns[place][f"chosen_logprob_mean{IN_BATCHES_OF}{size}"] = found.chosen_mean
            columns[place][f"rejected_logprob_mean{IN_BATCHES_OF}{size}"] = found.rejected_mean
    return columns


def score_pairs(
    model: PreTrainedModel,
    pairs: list[Pair],
    *,
    batch_size: int,
    progress: Progress = lambda done, total: None,
) -> list[PairLogprobs]:
    """Log-probs of both replies of each pair, in the given order.

    Args:
        model: A causal language model in eval mode.
        pairs: With `prompt_ids`, `chosen_ids` and `rejected_ids`; a reply's ids include its end of turn.
        batch_size: The most pairs of a forward pass.
        progress: Called with (pairs done, all of them).
    """
    items = [Prompted(pair["prompt_ids"], [pair["chosen_ids"], pair["rejected_ids"]]) for pair in pairs]
    found = reply_logprobs(model, items, batch_size=batch_size, progress=progress)
    return [
        PairLogprobs(_sum(chosen), _sum(rejected), len(chosen), len(rejected)) for chosen, rejected in found
    ]


def pair_rows(
    pairs: list[Pair],
    scored: list[PairLogprobs],
    of_base: OfBase | None,
    *,
    split: Split,
    prefix: str = "",
) -> list[Row]:
    """One row a pair: raw log-probs, and the metrics that follow from them with `prefix` before their names.

    Args:
        pairs: The pairs of a split.
        scored: Their log-probs.
        of_base: The base model's log-probs by uid, if they are to be compared with.
        split: Which split the pairs are of.
        prefix: Before each metric's name.

    Raises:
        PipelineError: the base model's items lack a pair.
    """
    balanced = set(length_balanced(scored))
    rows: list[Row] = []
    for place, (pair, found) in enumerate(zip(pairs, scored, strict=True)):
        uid = pair["uid"]
        raw: dict[str, Any] = {"item": uid, PROMPT: prompt_id(pair), "split": split, **raw_columns(found)}
        metrics = own_columns(found)
        if place in balanced:
            metrics["preference_accuracy_balanced"] = metrics["preference_accuracy"]
        if of_base is not None:
            if uid not in of_base:
                raise PipelineError(
                    f"the base model's evaluation has no pair {uid}: delete its folder and run again"
                )
            raw["chosen_logprob_sum_base"] = of_base[uid].chosen_sum
            raw["rejected_logprob_sum_base"] = of_base[uid].rejected_sum
            metrics |= against_base(found, of_base[uid])
        rows.append(raw | {prefix + name: value for name, value in metrics.items()})
    return rows


def read_pairs(path: Path) -> OfBase:
    """The log-probs in the items of a preference evaluation, by uid."""
    found: OfBase = {}
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            found[row["item"]] = PairLogprobs(
                row["chosen_logprob_sum"],
                row["rejected_logprob_sum"],
                row["num_chosen_tokens"],
                row["num_rejected_tokens"],
            )
    return found


def _sum(logprobs: Tensor) -> float:
    return float(logprobs.double().sum())
