"""Replies of a model to the prompts of one split: how they end, how long they are, what the judges say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evaluation.gold import gold_scores
from harness.evaluation.items import Measured, Row
from harness.evaluation.pairs import chosen_pairs, prompt_id
from harness.evaluation.replies import Limits, Reply, greedy_replies, item_seed, sampled_replies
from harness.evaluation.reply_traits import (
    changes_form,
    changes_script,
    distinct_2,
    is_empty,
    is_refusal,
    longest_loop,
    repetition,
)
from harness.records import GOLD_PART, NEAR_TIES, PROMPT, REPLIES
from pipelines.data.prepared import read_outcome, read_tokenizer
from pipelines.evaluations import GenerationEvaluation
from pipelines.stages import Observer
from pipelines.toy.gold import GoldScore

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def measure_generation(
    model: PreTrainedModel, evaluation: GenerationEvaluation, data: Path, *, seed: int, observer: Observer
) -> Measured:
    """Let the model answer, greedily and, where asked, once more at a temperature.

    Args:
        model: The policy, in eval mode.
        evaluation: Which prompts, how long the replies may be, who judges.
        data: Folder of the stage that prepared the data.
        seed: The sampled replies' seed; give every model the same.
        observer: Told of phases and progress.
    """
    with observer.phase("data"):
        pairs = chosen_pairs(data, evaluation.split, evaluation.max_items)
        tokenizer = read_tokenizer(data)
        prepared = read_outcome(data)
    limits = Limits(
        end_of_turn_ids=prepared.end_of_turn_ids,
        pad_token_id=prepared.pad_token_id,
        max_new_tokens=evaluation.max_new_tokens,
        batch_size=evaluation.batch_size,
    )
    prompts = [pair["prompt_ids"] for pair in pairs]

    def answers(replies: list[Reply]) -> list[_Answer]:
        texts = [tokenizer.decode(reply.ids, skip_special_tokens=True) for reply in replies]
        asked = [pair["prompt_text"] for pair in pairs]
        gold: Sequence[GoldScore | None] = [None] * len(pairs)
        if "gold" in evaluation.judges:
            gold = gold_scores(asked, texts)
        uids, ids = [pair["uid"] for pair in pairs], [prompt_id(pair) for pair in pairs]
        categories = [pair.get("category") for pair in pairs]
        columns = (uids, ids, asked, replies, texts, gold, categories)
        return [_Answer(*parts) for parts in zip(*columns, strict=True)]

    with observer.phase("evaluate"):
        greedy = answers(greedy_replies(model, prompts, limits, progress=observer.progress))
        items = [
            _greedy_columns(answer) | _traits(answer, pair)
            for answer, pair in zip(greedy, pairs, strict=True)
        ]
        logs = [_logged(answer, temperature=0) for answer in greedy]
        if evaluation.sampled:
            seeds = [item_seed(seed, pair["uid"]) for pair in pairs]
            drawn = sampled_replies(
                model,
                prompts,
                limits,
                seeds=seeds,
                temperature=evaluation.temperature,
                progress=observer.progress,
            )
            sampled = answers(drawn)
            items = [
                row | {"temperature": evaluation.temperature} | _sampled_columns(answer)
                for row, answer in zip(items, sampled, strict=True)
            ]
            logs += [_logged(answer, temperature=evaluation.temperature) for answer in sampled]
    return Measured(list(items), {REPLIES: logs})


@dataclass(frozen=True)
class _Answer:
    uid: str
    prompt_id: str
    prompt: str
    reply: Reply
    text: str
    gold: GoldScore | None
    category: str | None


def _traits(answer: _Answer, pair: dict[str, Any]) -> dict[str, float]:
    expected = f"{answer.prompt}\n{pair['chosen_text']}"
    return {
        "repetition": repetition(answer.reply.ids),
        "distinct_2": distinct_2(answer.reply.ids),
        "longest_loop_tokens": longest_loop(answer.reply.ids),
        "empty_share": float(is_empty(answer.text)),
        "refusal_share": float(is_refusal(answer.text)),
        "script_drift": float(changes_script(answer.text, expected)),
        "form_drift": float(changes_form(answer.text, expected)),
    }


def _greedy_columns(answer: _Answer) -> dict[str, Any]:
    row = {
        "item": answer.uid,
        PROMPT: answer.prompt_id,
        "reply_length_tokens": len(answer.reply.ids),
        "stopped_share": float(answer.reply.stopped),
        NEAR_TIES: answer.reply.near_ties,
    }
    if answer.gold is None:
        return row
    parts = {GOLD_PART + name: value for name, value in answer.gold.components.items()}
    return row | {"gold_score": answer.gold.total} | parts


def _sampled_columns(answer: _Answer) -> dict[str, float]:
    return {"gold_score_sampled": answer.gold.total} if answer.gold else {}


def _logged(answer: _Answer, *, temperature: float) -> Row:
    category = {} if answer.category is None else {"category": answer.category}
    return {
        "item": answer.uid,
        **category,
        "prompt": answer.prompt,
        "reply": answer.text,
        "temperature": temperature,
        "num_tokens": len(answer.reply.ids),
        "stopped": answer.reply.stopped,
        "gold": answer.gold.components if answer.gold else None,
    }
