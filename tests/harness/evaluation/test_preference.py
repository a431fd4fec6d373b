"""Preference metrics of pairs, checked against the definition."""

from __future__ import annotations

import pytest

from harness.evaluation.preference import score_pairs
from tests.harness.evaluation import tiny_models
from tests.pipelines.training.tiny import completion_logprobs as by_hand
from tests.pipelines.training.tiny import pairs


def test_every_column_follows_from_the_two_replies_log_probs() -> None:
    model, table = tiny_models.llama(), pairs()
    rows = score_pairs(model, table, batch_size=5)
    assert [row["item"] for row in rows] == [pair["uid"] for pair in table]
    for pair, row in zip(table, rows, strict=True):
        chosen = by_hand(model, pair["prompt_ids"], pair["chosen_ids"])
        rejected = by_hand(model, pair["prompt_ids"], pair["rejected_ids"])
        margin = float(chosen.mean() - rejected.mean())
        assert row == {
            "item": pair["uid"],
            "prompt": row["prompt"],
            "chosen_logprob_sum": pytest.approx(float(chosen.sum()), abs=1e-4),
            "rejected_logprob_sum": pytest.approx(float(rejected.sum()), abs=1e-4),
            "num_chosen_tokens": len(pair["chosen_ids"]),
            "num_rejected_tokens": len(pair["rejected_ids"]),
            "preference_accuracy": float(margin > 0),
            "preference_margin": pytest.approx(margin, abs=1e-5),
            "chosen_nll": pytest.approx(-float(chosen.mean()), abs=1e-5),
        }
    assert {row["preference_accuracy"] for row in rows} == {0.0, 1.0}


def test_pairs_of_one_prompt_have_one_prompt_hash_and_others_have_others() -> None:
    first, second, third = pairs()[:3]
    table = [first, second | {"prompt_ids": first["prompt_ids"]}, third]
    hashes = [row["prompt"] for row in score_pairs(tiny_models.llama(), table, batch_size=3)]
    assert hashes[0] == hashes[1]
    assert hashes[2] != hashes[0]


def test_replies_that_are_equally_likely_count_half() -> None:
    pair = pairs()[0]
    (row,) = score_pairs(tiny_models.llama(), [pair | {"rejected_ids": pair["chosen_ids"]}], batch_size=1)
    assert row["preference_accuracy"] == 0.5
    assert row["preference_margin"] == 0.0


def test_the_longer_reply_is_not_punished_for_its_length() -> None:
    """Sum and mean disagree on some pair here, and the accuracy goes by the mean."""
    rows = score_pairs(tiny_models.llama(), pairs(), batch_size=12)
    disagree = [
        row
        for row in rows
        if (row["chosen_logprob_sum"] > row["rejected_logprob_sum"]) != (row["preference_margin"] > 0)
    ]
    assert disagree
    assert all(row["preference_accuracy"] == float(row["preference_margin"] > 0) for row in disagree)
