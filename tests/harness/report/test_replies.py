"""Which replies are shown follows from the scores by a rule, recomputed here from the files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from harness.report.page import Heading, Listing, SideBySide
from harness.report.replies import BY_HASH, _typical, replies_section
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import LEVELS, Run, make_results

NUM_ITEMS = 20
TEXTS = tuple(f"reply number {place}" for place in range(NUM_ITEMS))


def shown(folder: Path) -> list[object]:
    results = read_results(folder)
    return list(replies_section(View(results, make_summary(results))).blocks)


def gains(folder: Path) -> dict[str, list[float]]:
    """By item: orpo minus sft-dpo in every seed, read with json alone."""
    scores: dict[str, dict[int, dict[str, float]]] = {"orpo": {}, "sft-dpo": {}}
    for trial in json.loads((folder / "comparison.json").read_text())["trials"]:
        for stage in trial["evaluations"] if trial["name"] in scores else []:
            rows = [json.loads(line) for line in (folder / stage / "items.jsonl").read_text().splitlines()]
            if "gold_score" in rows[0]:
                scores[trial["name"]][trial["seed"]] = {row["item"]: row["gold_score"] for row in rows}
    return {
        item: [scores["orpo"][seed][item] - scores["sft-dpo"][seed][item] for seed in sorted(scores["orpo"])]
        for item in scores["orpo"][0]
    }


def test_largest_gain_largest_loss_and_median_are_shown(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(num_items=NUM_ITEMS, replies=TEXTS))
    found = gains(folder)
    order = sorted(found, key=lambda item: np.mean(found[item]))
    expected = [order[-1], order[0], order[(NUM_ITEMS - 1) // 2]]
    blocks = shown(folder)
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert [heading.split(",")[0] for heading in headings] == [
        "Prompt: largest gain", "Prompt: largest loss", "Prompt: median",
    ]  # fmt: skip
    replies = [block for block in blocks if isinstance(block, SideBySide)]
    for heading, item, side in zip(headings, expected, replies, strict=True):
        mean = np.mean(found[item])
        seed = min(
            (seed for seed in range(3) if found[item][seed] * mean > 0),
            key=lambda s: abs(found[item][s] - mean),
        )
        told = [str(reply.about).partition(":")[0] for reply in side.replies]
        assert told == ["base", *(f"{model}, seed {seed}" for model in ("sft", "orpo", "sft-dpo"))]
        totals = [
            float(str(reply.about).partition("gold score ")[2].split(",")[0]) for reply in side.replies[2:]
        ]
        assert totals[0] - totals[1] == pytest.approx(found[item][seed], abs=0.011)
        by_seed = heading.partition("(by seed ")[2].rstrip(")").split()
        assert [float(value) for value in by_seed] == pytest.approx(found[item], rel=0.1)
    prompts = [block.text for block in blocks if isinstance(block, Listing)]
    assert prompts == [f"reply number {int(item.removeprefix('item-'))} (asked)" for item in expected]


def test_prompts_are_chosen_by_hash_where_no_score_tells_them_apart(tmp_path: Path) -> None:
    decision = {"metric": "stopped_share"}  # 1 in every reply
    blocks = shown(make_results(tmp_path, Run(num_items=NUM_ITEMS, replies=TEXTS, decision=decision)))
    assert BY_HASH in str(blocks[0])
    items = [f"item-{place:04d}" for place in range(NUM_ITEMS)]
    expected = sorted(items, key=lambda item: hashlib.sha256(item.encode()).hexdigest())[:3]
    prompts = [block.text for block in blocks if isinstance(block, Listing)]
    assert prompts == [f"reply number {int(item.removeprefix('item-'))} (asked)" for item in expected]


def test_replies_that_do_not_differ_are_not_shown_for_a_gain() -> None:
    assert _typical(np.array([0.0, 0.2, 0.2, 0.2, 0.2])) == 1
    assert _typical(np.array([0.0, 0.0, 0.0, 0.4, 0.4])) == 3  # 0 is nearer to the mean, and shows no gain
    assert _typical(np.array([0.1, -0.3, 0.0, -0.2])) == 3
    assert _typical(np.array([0.1, -0.1, 0.0])) == 2


def test_models_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    others = {
        f"orpo-{number}": [{"trainer": "orpo", "arguments": {"beta": number / 10}}] for number in range(2, 6)
    }
    arms = {"orpo": [{"trainer": "orpo"}], "sft-dpo": [{"trainer": "sft"}, {"trainer": "dpo"}], **others}
    levels = LEVELS | dict.fromkeys(others, 0.7)
    blocks = shown(make_results(tmp_path, Run(num_items=NUM_ITEMS, changes={"arms": arms}, levels=levels)))
    assert str(blocks[0]).endswith("The first 6 of 8 models.')")
    assert {len(block.replies) for block in blocks if isinstance(block, SideBySide)} == {6}
