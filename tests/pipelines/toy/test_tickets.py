"""The toy world's pairs: repeatable, distinct, and better chosen than rejected."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys

import pytest

from pipelines.toy import questions, tickets
from pipelines.toy.gold import read_prompt, score
from pipelines.toy.tickets import draw_ticket, make_documents, make_pairs, prompt_of, reply_of

CALIBRATION_SEED = 991


def test_the_same_seed_gives_the_same_pairs_and_another_seed_gives_others() -> None:
    assert make_pairs(50, seed=3) == make_pairs(50, seed=3)
    assert make_pairs(50, seed=3) != make_pairs(50, seed=4)


def test_more_pairs_of_a_seed_begin_with_the_same_ones() -> None:
    assert make_pairs(80, seed=3)[:30] == make_pairs(30, seed=3)


def test_no_prompt_comes_twice_however_small_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, few in (("NAMES", ("Ada",)), ("PRODUCTS", ("Inbox",)), ("PLANS", ("school",))):
        monkeypatch.setattr(tickets, kind, few)
    monkeypatch.setattr(tickets, "LETTERS", "AB")
    monkeypatch.setattr(tickets, "NUMBERS", (10,))
    all_there_are = len(tickets.TEAM_OF) * 2 * 2
    assert len({pair["prompt"] for pair in make_pairs(all_there_are, seed=0)}) == all_there_are


def test_no_pair_has_equal_replies() -> None:
    assert all(pair["chosen"] != pair["rejected"] for pair in make_pairs(3000, seed=0))


def test_calibration_and_benchmark_and_corpus_share_no_prompt_with_what_comparisons_use() -> None:
    compared = {pair["prompt"] for seed in range(5) for pair in make_pairs(2000, seed=seed)}
    calibration = {pair["prompt"] for pair in make_pairs(600, seed=CALIBRATION_SEED)}
    asked = {row["prompt"] for row in questions.make_questions(200, seed=questions.SEED)}
    corpus = {prompt for prompt, _ in make_documents(9000, seed=0)}
    for other in (calibration, asked, corpus):
        assert not compared & other
    assert not calibration & asked


def test_chosen_is_better_than_rejected_with_noise_on_both_sides() -> None:
    scores = {
        side: [score(pair["prompt"], pair[side]).total for pair in make_pairs(1000, seed=1)]
        for side in ("chosen", "rejected")
    }
    chosen, rejected = statistics.fmean(scores["chosen"]), statistics.fmean(scores["rejected"])
    assert 0.55 < chosen < 0.75
    assert 0.2 < rejected < 0.45
    worse = [good < bad for good, bad in zip(scores["chosen"], scores["rejected"], strict=True)]
    assert statistics.fmean(worse) < 0.05


def test_the_place_of_a_code_does_not_tell_which_it_is() -> None:
    pairs = make_pairs(1000, seed=2)
    first = [pair["prompt"].index(" ticket ") < pair["prompt"].index(" account ") for pair in pairs]
    assert 0.45 < statistics.fmean(first) < 0.55


def test_a_prompt_tells_all_that_its_ticket_holds() -> None:
    rng = random.Random(0)
    for _ in range(300):
        ticket = draw_ticket(rng)
        assert read_prompt(prompt_of(ticket, rng)) == ticket


@pytest.mark.parametrize("number", range(5))
def test_a_reply_scores_on_just_the_parts_that_its_writer_kept(number: int) -> None:
    rng = random.Random(number)
    for _ in range(100):
        ticket = draw_ticket(rng)
        # Rambling, unlike the other faults, shows in the number of words alone.
        kept = frozenset(part for part in tickets.PARTS if rng.random() < 0.5) - {"brief"}
        components = score(prompt_of(ticket, rng), reply_of(ticket, kept | {"brief"}, rng)).components
        assert {part for part, value in components.items() if value} - {"brief"} == kept
        assert components["brief"] == bool(kept)


def test_pairs_and_scores_need_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, pipelines.toy.tickets, pipelines.toy.gold, pipelines.toy.questions;"
        "sys.exit(','.join({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)) or None)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
