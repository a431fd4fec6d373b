"""Preference without generating: log-probs of the chosen and the rejected reply of each pair."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from harness.evaluation.items import Measured, Row, chosen_pairs, prompt_id
from harness.evaluation.logprobs import Progress, reply_logprobs
from harness.evaluation.packing import Prompted
from harness.records import PROMPT
from pipelines.stages import Observer, PreferenceEvaluation

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def measure_preference(
    model: PreTrainedModel, evaluation: PreferenceEvaluation, data: Path, *, observer: Observer
) -> Measured:
    """Score the pairs of one split.

    Args:
        model: The policy, in eval mode.
        evaluation: Which split, how many pairs.
        data: Folder of the stage that prepared the data.
        observer: Told of phases and progress.
    """
    with observer.phase("data"):
        pairs = chosen_pairs(data, evaluation.split, evaluation.max_items)
    with observer.phase("evaluate"):
        rows = score_pairs(model, pairs, batch_size=evaluation.batch_size, progress=observer.progress)
    return Measured(rows)


def score_pairs(
    model: PreTrainedModel,
    pairs: list[dict[str, Any]],
    *,
    batch_size: int,
    progress: Progress = lambda done, total: None,
) -> list[Row]:
    """One row a pair, in the given order: log-probs of both replies and what follows from them.

    Args:
        model: A causal language model in eval mode.
        pairs: With `uid`, `prompt_ids`, `chosen_ids` and `rejected_ids`; a reply's ids include its end of turn.
        batch_size: Pairs a forward pass.
        progress: Called with (pairs done, all of them).
    """
    items = [Prompted(pair["prompt_ids"], [pair["chosen_ids"], pair["rejected_ids"]]) for pair in pairs]
    logprobs = reply_logprobs(model, items, batch_size=batch_size, progress=progress)
    return [_row(pair, chosen, rejected) for pair, (chosen, rejected) in zip(pairs, logprobs, strict=True)]


def _row(pair: dict[str, Any], chosen: Tensor, rejected: Tensor) -> Row:
    chosen_sum, rejected_sum = float(chosen.double().sum()), float(rejected.double().sum())
    margin = chosen_sum / len(chosen) - rejected_sum / len(rejected)
    return {
        "item": pair["uid"],
        PROMPT: prompt_id(pair),
        "chosen_logprob_sum": chosen_sum,
        "rejected_logprob_sum": rejected_sum,
        "num_chosen_tokens": len(chosen),
        "num_rejected_tokens": len(rejected),
        "preference_accuracy": 0.5 if margin == 0 else float(margin > 0),
        "preference_margin": margin,
        "chosen_nll": -chosen_sum / len(chosen),
    }
