"""Preference metrics of pairs, checked against the definition."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.evaluation.pairs import prompt_id
from harness.evaluation.preference import NOISE_BATCHES, _in_other_batches, pair_rows, score_pairs
from harness.records import PROMPT
from tests.harness.evaluation import tiny_models
from tests.pipelines.training.tiny import completion_logprobs as by_hand
from tests.pipelines.training.tiny import pairs


def test_every_column_follows_from_the_two_replies_log_probs() -> None:
    model, table = tiny_models.llama(), pairs()
    rows = pair_rows(table, score_pairs(model, table, batch_size=5), None, split="test")
    assert [row["item"] for row in rows] == [pair["uid"] for pair in table]
    for pair, row in zip(table, rows, strict=True):
        chosen = by_hand(model, pair["prompt_ids"], pair["chosen_ids"])
        rejected = by_hand(model, pair["prompt_ids"], pair["rejected_ids"])
        margin = float(chosen.mean() - rejected.mean())
        odds = [(mean.exp() / (1 - mean.exp())).log() for mean in (chosen.mean(), rejected.mean())]
        expected = {
            "item": pair["uid"],
            PROMPT: prompt_id(pair),
            "split": "test",
            "chosen_logprob_sum": pytest.approx(float(chosen.sum()), abs=1e-4),
            "rejected_logprob_sum": pytest.approx(float(rejected.sum()), abs=1e-4),
            "chosen_logprob_mean": pytest.approx(float(chosen.mean()), abs=1e-5),
            "rejected_logprob_mean": pytest.approx(float(rejected.mean()), abs=1e-5),
            "num_chosen_tokens": len(pair["chosen_ids"]),
            "num_rejected_tokens": len(pair["rejected_ids"]),
            "preference_accuracy": float(margin > 0),
            "preference_margin": pytest.approx(margin, abs=1e-5),
            "log_odds_margin": pytest.approx(float(odds[0] - odds[1]), abs=1e-4),
            "chosen_nll": pytest.approx(-float(chosen.mean()), abs=1e-5),
        }
        balanced = row.get("preference_accuracy_balanced", row["preference_accuracy"])
        assert row | {"preference_accuracy_balanced": balanced} == expected | {
            "preference_accuracy_balanced": float(margin > 0)
        }
    assert {row["preference_accuracy"] for row in rows} == {0.0, 1.0}


def test_pairs_of_one_prompt_have_one_prompt_hash_and_others_have_others() -> None:
    first, second, third = pairs()[:3]
    table = [first, second | {"prompt_ids": first["prompt_ids"]}, third]
    scored = score_pairs(tiny_models.llama(), table, batch_size=3)
    hashes = [row["prompt"] for row in pair_rows(table, scored, None, split="test")]
    assert hashes[0] == hashes[1]
    assert hashes[2] != hashes[0]


def test_replies_that_are_equally_likely_count_half() -> None:
    pair = pairs()[0]
    pair |= {"rejected_ids": pair["chosen_ids"]}
    (scored,) = score_pairs(tiny_models.llama(), [pair], batch_size=1)
    # Two threads may round the same reply in two places of a batch differently; the loader drops such pairs anyway.
    assert scored.rejected_sum == pytest.approx(scored.chosen_sum, abs=1e-5)
    (row,) = pair_rows([pair], [replace(scored, rejected_sum=scored.chosen_sum)], None, split="test")
    assert row["preference_accuracy"] == 0.5
    assert row["preference_margin"] == 0.0
    assert row["log_odds_margin"] == 0.0


def test_the_longer_reply_is_not_punished_for_its_length() -> None:
    """Sum and mean disagree on some pair here, and the accuracy goes by the mean."""
    rows = pair_rows(pairs(), score_pairs(tiny_models.llama(), pairs(), batch_size=12), None, split="test")
    disagree = [
        row
        for row in rows
        if (row["chosen_logprob_sum"] > row["rejected_logprob_sum"]) != (row["preference_margin"] > 0)
    ]
    assert disagree
    assert all(row["preference_accuracy"] == float(row["preference_margin"] > 0) for row in disagree)


def test_in_bfloat16_pairs_are_scored_in_batches_of_other_sizes_too() -> None:
    model, table = tiny_models.llama().bfloat16(), pairs()
    columns = _in_other_batches(model, table)
    for size in NOISE_BATCHES:
        expected = score_pairs(model, table, batch_size=size)
        assert [row[f"chosen_logprob_mean_in_batches_of_{size}"] for row in columns] == [
            pair.chosen_mean for pair in expected
        ]
        assert [row[f"rejected_logprob_mean_in_batches_of_{size}"] for row in columns] == [
            pair.rejected_mean for pair in expected
        ]
    assert _in_other_batches(tiny_models.llama(), table) == []
    assert _in_other_batches(tiny_models.llama_with_adapter(), table) == []
