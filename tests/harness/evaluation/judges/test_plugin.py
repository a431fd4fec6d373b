"""Judges of installed packages: found by their entry point, called through the interface, not trusted."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from harness import judge_plugins
from harness.evaluation.judges.interface import Judgement, Match, Reply
from pipelines.errors import PipelineError
from tests.harness.evaluation.judges import stored


class ByLength:
    """The longer reply is better, by a factor; compares by the same rule."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.factor = options.get("factor", 1)

    def score(self, replies: Sequence[Reply]) -> list[float]:
        return [self.factor * len(one.reply) for one in replies]

    def compare(self, matches: Sequence[Match]) -> list[Judgement]:
        return [Judgement(float(len(one.first) > len(one.second)), answers=("seen",)) for one in matches]


def refuses(options: dict[str, Any]) -> None:
    raise RuntimeError(f"no {options}\nsecond line")


class Neither:
    def __init__(self, options: dict[str, Any]) -> None:
        pass


class Short:
    def __init__(self, options: dict[str, Any]) -> None:
        pass

    def score(self, replies: Sequence[Reply]) -> list[float]:
        return [1.0]


class Returns:
    """Gives what the test says, whatever it is asked."""

    gives: Any = None

    def __init__(self, options: dict[str, Any]) -> None:
        pass

    def score(self, replies: Sequence[Reply]) -> Any:
        return self.gives

    def compare(self, matches: Sequence[Match]) -> Any:
        return self.gives


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stored.write_both(tmp_path)

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        assert group == "prefduel.judges"
        here = "tests.harness.evaluation.judges.test_plugin"
        made = {
            "length": "ByLength",
            "refuses": "refuses",
            "none": "Neither",
            "short": "Short",
            "gone": "Gone",
            "returns": "Returns",
        }
        points = [EntryPoint(key, f"{here}:{value}", group) for key, value in made.items()]
        return [point for point in points if name in (None, point.name)]

    monkeypatch.setattr(judge_plugins, "entry_points", entry_points)
    return tmp_path


def settings(plugin: str, **more: Any) -> dict[str, Any]:
    return {"name": "mine", "kind": "plugin", "plugin": plugin, **more}


def test_a_plugin_scores_with_the_options_of_the_config(root: Path) -> None:
    outcome, _ = stored.run_judge(root, settings("length", options={"factor": 2}))
    lengths = [len(text) for text in stored.REPLIES[stored.OWN]]
    assert outcome.means == {"score_mine": pytest.approx(2 * sum(lengths) / 4)}


def test_a_plugin_compares_two_models_replies(root: Path) -> None:
    outcome, folder = stored.run_judge(root, settings("length", mode="compare"), opponent=stored.OTHER)
    assert outcome.means == {"win_rate_mine": 0.625}  # of four, one is a tie: the replies are equal
    assert stored.rows(folder / "judgements.jsonl")[0] == {"item": "i0", "win": 0.0, "answers": ["seen"]}


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("absent", "judge mine: no installed package has 'absent' in prefduel.judges"),
        ("refuses", r"does not load: RuntimeError: no \{\}$"),
        ("gone", "does not load: AttributeError"),
        ("none", "made an object with neither `score` nor `compare`"),
        ("short", "must answer once for each of 4 items, got 1"),
    ],
)
def test_a_plugin_that_cannot_serve_is_one_line(root: Path, plugin: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        stored.run_judge(root, settings(plugin))


@pytest.mark.parametrize(
    "scores",
    [
        numpy.arange(4, dtype="float32"),
        torch.arange(4).bfloat16(),
        (Fraction(n) for n in range(4)),
        [numpy.int64(0), 1, numpy.float16(2), torch.tensor([3.0])],
    ],
    ids=["numpy", "torch", "fractions", "mixed"],
)
def test_numbers_of_any_library_are_scores(root: Path, monkeypatch: pytest.MonkeyPatch, scores: Any) -> None:
    monkeypatch.setattr(Returns, "gives", scores)
    outcome, folder = stored.run_judge(root, settings("returns"))
    assert outcome.means == {"score_mine": 1.5}
    assert [row["score_mine"] for row in stored.rows(folder / "items.jsonl")] == [0, 1, 2, 3]


def test_numbers_of_any_library_are_wins(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Returns, "gives", [Judgement(win) for win in numpy.array([1, 1, 0.5, 1], "float32")])
    outcome, _ = stored.run_judge(root, settings("returns", mode="compare"), opponent=stored.OTHER)
    assert 0 <= outcome.means["win_rate_mine"] <= 1
    assert outcome.num_items == {"win_rate_mine": 4}


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (None, "judge mine: must answer once for each of 4 items, got None$"),
        (1.0, r"judge mine: must answer once for each of 4 items, got 1\.0$"),
        (["a"] * 4, "judge mine, item i0: must be a finite number, got 'a'$"),
        (numpy.full(4, numpy.inf), r"judge mine, item i0: must be a finite number, got np\.float64\(inf\)$"),
        (numpy.zeros((4, 2)), "judge mine, item i0: must be a finite number, got array"),
        (torch.zeros(4, 2), "judge mine, item i0: must be a finite number, got tensor"),
        ([1j] * 4, "judge mine, item i0: must be a finite number, got 1j$"),
    ],
    ids=["none", "number", "text", "infinite", "arrays", "tensors", "complex"],
)
def test_what_is_no_score_names_the_judge_and_what_it_gave(
    root: Path, monkeypatch: pytest.MonkeyPatch, gives: Any, said: str
) -> None:
    monkeypatch.setattr(Returns, "gives", gives)
    with pytest.raises(PipelineError, match=f"^{said}"):
        stored.run_judge(root, settings("returns"))


def test_a_comparison_that_gives_nothing_names_the_judge(root: Path) -> None:
    with pytest.raises(PipelineError, match=r"^judge mine: must answer once for each of 4 items, got None$"):
        stored.run_judge(root, settings("returns", mode="compare"), opponent=stored.OTHER)


def test_a_mode_that_the_plugin_does_not_have_is_told(root: Path) -> None:
    with pytest.raises(PipelineError, match="has no method `compare`"):
        stored.run_judge(root, settings("short", mode="compare"), opponent=stored.OTHER)


@pytest.mark.usefixtures("root")
def test_the_identity_of_a_plugin_is_its_package_and_version() -> None:
    assert judge_plugins.plugin_names() == ["gone", "length", "none", "refuses", "returns", "short"]
    assert judge_plugins.plugin_version("length").endswith("test_plugin:ByLength")
    assert judge_plugins.plugin_version("absent") == "not installed"
