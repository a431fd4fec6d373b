"""Who stands first before a judge that sees one order alone: drawn, so that its bias by position is no arm's win."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.judges.interface import Judgement, Match
from harness.evaluation.judges.places import shown, turned_back
from harness.identity import identity
from pipelines.errors import PipelineError
from pipelines.stages import JudgeSettings, StageInputs
from tests.harness.evaluation.judges import stored

READ = "import json, sys\nfor row in map(json.loads, sys.stdin):\n"
ALWAYS_FIRST = READ + "    print(json.dumps({'item': row['item'], 'win': 1}))\n"
LONGER = READ + (
    "    a, b = len(row['first']), len(row['second'])\n"
    "    print(json.dumps({'item': row['item'], 'win': (a > b) + 0.5 * (a == b)}))\n"
)
NUMBER = 400
REPLIES = tuple(f"reply {n}" for n in range(NUMBER))
LONG_REPLIES = tuple(f"a longer reply {n}" for n in range(NUMBER))


def judged(root: Path, program: str, own: tuple[str, ...], other: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a comparing command."""
    root.mkdir(exist_ok=True)
    stored.write_replies(root, stored.OWN, own)
    stored.write_replies(root, stored.OTHER, other)
    (root / "judge.py").write_text(program)
    command = [sys.executable, str(root / "judge.py")]
    judge = {"name": "x", "kind": "command", "command": command, "mode": "compare"}
    _, folder = stored.run_judge(root, judge, opponent=stored.OTHER)
    return stored.rows(folder / "items.jsonl")


def wins(rows: list[dict[str, Any]]) -> list[float]:
    return [row["win_rate_x"] for row in rows]


def test_a_judge_that_always_says_first_prefers_neither_model_whichever_is_named_first(
    tmp_path: Path,
) -> None:
    one_way = wins(judged(tmp_path / "a", ALWAYS_FIRST, REPLIES, LONG_REPLIES))
    other_way = wins(judged(tmp_path / "b", ALWAYS_FIRST, LONG_REPLIES, REPLIES))
    assert sum(one_way) / NUMBER == pytest.approx(0.5, abs=0.1)  # four standard deviations
    assert other_way == [1 - win for win in one_way]


def test_its_bias_stands_beside_each_verdict(tmp_path: Path) -> None:
    rows = judged(tmp_path, ALWAYS_FIRST, REPLIES, LONG_REPLIES)
    places = [(row.get("win_shown_first"), row.get("win_shown_last")) for row in rows]
    assert set(places) == {(1, None), (None, 0)}
    assert [first == 1 for first, _ in places] == [win == 1 for win in wins(rows)]


def test_a_judge_that_goes_by_the_text_says_the_same_whatever_the_places(tmp_path: Path) -> None:
    rows = judged(tmp_path, LONGER, LONG_REPLIES, REPLIES)
    assert set(wins(rows)) == {1}
    assert {"win_shown_first" in row for row in rows} == {True, False}


def test_equal_replies_tie_and_still_tell_of_the_bias(tmp_path: Path) -> None:
    rows = judged(tmp_path, ALWAYS_FIRST, REPLIES, REPLIES)
    assert set(wins(rows)) == {0.5}
    assert {row["win_shown_first"] for row in rows} == {1}


def test_a_verdict_by_both_orders_is_turned_back_whole() -> None:
    matches = [Match(f"i{n}", "p", "one", "two") for n in range(20)]
    turned = [match for match in matches if shown(match).first == "two"]
    assert 0 < len(turned) < 20
    said = Judgement(
        1.0, by_order=(1.0, 0.5)
    )  # `two` wins where it stands first, and ties where it stands last
    assert turned_back(turned[0], said, "x") == Judgement(0.0, by_order=(0.5, 0.0))
    nothing = turned_back(turned[0], Judgement(None), "x")
    assert (nothing.win, nothing.by_order) == (None, (None, None))


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("A", "must be a Judgement, got str"),
        (1.0, "must be a Judgement, got float"),
        (Judgement(0.7), "must be 1, 0.5, 0 or null, got 0.7"),
        (Judgement("1"), "must be 1, 0.5, 0 or null, got '1'"),  # type: ignore[arg-type]
        (Judgement(1.0, by_order=(1.0, 2.0)), "must be 1, 0.5, 0 or null, got 2.0"),
        (Judgement(1.0, by_order=(1.0,)), r"by_order must be two wins, got \(1.0,\)"),  # type: ignore[arg-type]
        (Judgement(1.0, by_order=5), "by_order must be two wins, got 5"),  # type: ignore[arg-type]
        (Judgement(1.0, answers=(5,)), r"answers must be texts, got \(5,\)"),  # type: ignore[arg-type]
        (Judgement(1.0, answers="A"), "answers must be texts, got 'A'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_judgement_is_one_line(said: Any, wrong: str) -> None:
    with pytest.raises(PipelineError, match=f"^judge x, item i: {wrong}$"):
        turned_back(Match("i", "p", "one", "two"), said, "judge x, item i")


@pytest.mark.parametrize(
    ("judge", "drawn"),
    [
        ({"kind": "command", "command": ["true"], "mode": "compare"}, True),
        ({"kind": "plugin", "plugin": "absent", "mode": "compare"}, True),
        ({"kind": "gold"}, False),
        ({"kind": "llm", "base_url": "http://x/v1", "model": "m", "token_cap": 1}, False),
    ],
)
def test_verdicts_of_other_places_are_other_stages(judge: dict[str, Any], drawn: bool) -> None:
    settings = JudgeSettings.model_validate({"kind": "judge", "judge": {"name": "x", **judge}})
    code = identity(settings, StageInputs(), seed=0, threads=1, device="cpu")["code"]
    assert ("harness.evaluation.judges.places" in code) == drawn
    assert "harness.evaluation.judges.stored" in code
