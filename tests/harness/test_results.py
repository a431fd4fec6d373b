"""Rows of a results folder that are not what a stage writes are said in one line, with their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.plan import COMPARISON
from harness.records import JUDGEMENTS, LOSSES, REPLIES, VALIDATION, WEIGHTS_BY_LAYER
from harness.results import read_results
from harness.rows import BATCHES, PAIRS
from tests.harness.fixtures_results import Run, make_results

GOOD: dict[str, dict[str, Any]] = {
    LOSSES: {"step": 1, "loss": 0.5, "learning_rate": 1e-3},
    REPLIES: {"item": "a", "temperature": 0, "prompt": "p", "reply": "r", "num_tokens": 1, "stopped": True, "gold": {"team": 1.0}},
    VALIDATION: {
        "step": 1, "split": "train", "num_pairs": 4, "num_policy_tokens": 9, "num_reference_tokens": 0, "train_seconds": 1.5,
        "total_seconds": 2, "energy_joules": None, "preference_accuracy": 0.5, "chosen_nll": None,
    },
    BATCHES: {"step": 1, "micro": 0, "sequences": [{"uid": "a"}]},
    PAIRS: {
        "uid": "a", "split": "train", "prompt": "0a", "prompt_normalised": "0b", "chosen": "0c", "rejected": "0d",
        "prompt_tokens": 3, "chosen_tokens": 4, "rejected_tokens": 5, "prompt_ends": 1, "closed": True,
    },
    JUDGEMENTS: {"win": None, "answers": ["neither"]},
    WEIGHTS_BY_LAYER: {"layer": "0", "relative": 0.5},
}  # fmt: skip


def rows(folder: Path, name: str, *lines: str) -> list[dict[str, Any]]:
    results = read_results(folder)
    stage = results.plan.stages[0].id
    (folder / stage / name).write_text("".join(line + "\n" for line in lines))
    return list(results.rows(stage, name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_results(tmp_path, Run(seeds=1))


@pytest.mark.parametrize("name", GOOD)
def test_rows_as_stages_write_them_are_read(folder: Path, name: str) -> None:
    good = GOOD[name]
    other = good | {"more": 0.5 if name == VALIDATION else "x"}  # there all else is metrics
    assert rows(folder, name, json.dumps(good), json.dumps(other)) == [good, other]


def test_half_of_a_surrogate_pair_in_a_reply_is_read(folder: Path) -> None:
    good = GOOD[REPLIES] | {"reply": "\ud800"}
    assert rows(folder, REPLIES, json.dumps(GOOD[REPLIES]), json.dumps(good)) == [GOOD[REPLIES], good]


def test_a_loss_that_diverged_as_far_as_float32_goes_is_read(folder: Path) -> None:
    assert rows(folder, LOSSES, '{"step": 1, "loss": 3.4e38}') == [{"step": 1, "loss": 3.4e38}]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (LOSSES, {"step": "1"}),
        (LOSSES, {"loss": "0.5"}),
        (LOSSES, {"loss": 1e308}),
        (LOSSES, {"step": 10**400}),
        (REPLIES, {"gold": {"team": 1e308}}),
        (LOSSES, {"learning_rate": [1]}),
        (REPLIES, {"reply": None}),
        (REPLIES, {"prompt": 5}),
        (REPLIES, {"gold": [1]}),
        (REPLIES, {"gold": {"team": "1"}}),
        (VALIDATION, {"train_seconds": "1"}),
        (VALIDATION, {"num_policy_tokens": None}),
        (VALIDATION, {"energy_joules": "much"}),
        (VALIDATION, {"split": "elsewhere"}),
        (VALIDATION, {"num_pairs": 0}),
        (VALIDATION, {"step": True}),
        (VALIDATION, {"preference_accuracy": 1e308}),
        (VALIDATION, {"preference_accuracy": True}),
        (VALIDATION, {"preference_accuracy": "0.5"}),
        (REPLIES, {"stopped": 1}),
        (REPLIES, {"num_tokens": -1}),
        (REPLIES, {"temperature": True}),
        (PAIRS, {"closed": None}),
        (PAIRS, {"chosen_tokens": 3.5}),
        (BATCHES, {"sequences": {}}),
        (JUDGEMENTS, {"answers": [1]}),
        (WEIGHTS_BY_LAYER, {"relative": "much"}),
    ],
)
def test_a_value_of_another_type_is_named_with_its_line(
    folder: Path, name: str, changes: dict[str, Any]
) -> None:
    good, bad = GOOD[name], GOOD[name] | changes
    with pytest.raises(UserError, match=rf"{name}: line 2 has a '{next(iter(changes))}' that it cannot have"):
        rows(folder, name, json.dumps(good), json.dumps(bad))


@pytest.mark.parametrize(
    ("line", "said"), [("{", "is not JSON"), ("[1]", "is no JSON object"), ("{}", "has no 'step'")]
)
def test_what_is_no_row_is_named_with_its_line(folder: Path, line: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"line 2 {said}\. Delete the folder"):
        rows(folder, LOSSES, json.dumps(GOOD[LOSSES]), line)


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_number_that_no_stage_writes_is_damage(folder: Path, value: str) -> None:
    with pytest.raises(UserError, match="line 1 is not JSON"):
        rows(folder, LOSSES, f'{{"step": 1, "loss": {value}}}')


def test_a_trial_with_a_stage_that_no_one_planned_is_damage(folder: Path) -> None:
    content = json.loads((folder / COMPARISON).read_text())
    content["trials"][-1]["evaluations"].append("evaluate-000000000000")
    (folder / COMPARISON).write_text(json.dumps(content))
    with pytest.raises(UserError, match="evaluate-000000000000"):
        read_results(folder)
