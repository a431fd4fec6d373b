"""What a config may say of judges, what it gets told when it is wrong, and what a judge model may cost."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from harness.check import check_lines
from harness.cli import main
from harness.config import Comparison
from harness.errors import UserError
from harness.evaluation.judges.interface import Match
from harness.evaluation.judges.tokens import about_tokens
from harness.evaluation.judges.verdicts import both_orders
from harness.judge_budget import judge_budget_lines
from harness.load_config import comparison_of_text
from harness.requirements import requirements
from pipelines.data.forms import Pair, readable
from pipelines.data.inspect import inspect_rows
from pipelines.data.reading import read_pairs
from pipelines.data.splitting import split_of
from pipelines.evaluations import GenerationEvaluation
from pipelines.judge_settings import CommandJudge, LlmJudge
from tests.harness.configs import VALID, write
from tests.harness.forecast import made_up

LLM = "name: a, kind: llm, base_url: 'http://h/v1', model: m, token_cap: 5000"


def loaded(judges: str, *, path: Path = Path("c.yaml"), text: str = VALID) -> Comparison:
    return comparison_of_text(f"{text}  judges: {judges}\n", path)


@pytest.mark.parametrize(
    ("judges", "said"),
    [
        ("[{name: a}]", "judges.0.kind is missing"),
        ("[{name: a, kind: bogus}]", "judges.0.kind must be one of gold, .*plugin, got 'bogus'"),
        ("[{name: a, kind: command}]", "judges.0.command is missing. Program and arguments"),
        ("[{name: a, kind: command, command: []}]", "judges.0.command must have at least 1 entry"),
        ("[{name: a b, kind: gold}]", "judges.0.name must be a name of up to 64"),
        ("[{name: a, kind: gold, mode: score}]", "judges.0.mode is not a key of the config"),
        ("[{name: a, kind: gold, replies: sampled}]", "judges.0.replies must not be sampled unless"),
        ("[{name: a, kind: gold}, {name: a, kind: gold}]", "judges.1.name must be another than"),
        (f"[{{{LLM}, parameters: {{}}}}]", "parameters must hold max_tokens or max_completion_tokens"),
        (f"[{{{LLM}, parameters: {{max_tokens: 3, n: 2}}}}]", "parameters must not hold n"),
        (f"[{{{LLM}, parameters: {{max_tokens: 3, best_of: 2}}}}]", "parameters must not hold best_of"),
        (
            f"[{{{LLM}, parameters: {{max_tokens: true}}}}]",
            "parameters must hold max_tokens or max_completion_tokens",
        ),
        ("[{name: a, kind: llm, base_url: 'http://h', model: m}]", "judges.0.token_cap is missing"),
        ("[{name: a, kind: llm, base_url: 'h:80', model: m, token_cap: 5}]", "base_url must begin with http"),
        (
            f"[{{{LLM}, timeout_seconds: 1000000000000}}]",
            "timeout_seconds must be at most 86400, got 1000000000000",
        ),
        (
            '[{name: a, kind: command, command: [python, "a\\0b"]}]',
            r"judges\.0\.command\.1 must hold no NUL character, got 'a.x00b'",
        ),
        (
            f"[{{{LLM}, token_cap: 0}}]".replace("token_cap: 5000, ", ""),
            "token_cap must be at least 1, got 0",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(judges: str, said: str) -> None:
    with pytest.raises(UserError, match=f"c.yaml: evaluations.*{said}") as raised:
        loaded(judges)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h/é/v1", "must be ASCII without spaces"),
        ("http://é/v1", "must be ASCII without spaces"),
        ("http://h/a b", "must be ASCII without spaces"),
        ("http://exa..mple/v1", "must have a host whose parts between dots have 1 to 63 characters"),
        (f"http://{'a' * 64}/v1", "must have a host whose parts between dots have 1 to 63 characters"),
    ],
)
def test_a_url_that_nothing_can_be_sent_to_is_refused(url: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"evaluations\.judges\.0\.base_url {said}"):
        loaded(f"[{{{LLM}}}]".replace("http://h/v1", url))


@pytest.mark.parametrize(
    "url", ["http://[::1]:80/v1", "https://api.example.com./a%20b/v1", "http://xn--9ca/v1"]
)
def test_a_url_may_have_any_host_and_path_that_can_be_sent(url: str) -> None:
    assert loaded(f"[{{{LLM}}}]".replace("http://h/v1", url)).evaluations.judges


@pytest.mark.parametrize(
    "judges",
    [
        f"[{{{LLM}, api_key_env: sk-secret-1234}}]",
        f"[{{{LLM}, api_key: sk-secret-1234}}]",
        "[{name: a, kind: llm, base_url: 'http://u:sk-secret-1234@h/v1', model: m, token_cap: 5}]",
        "[{name: a, kind: llm, base_url: 'u:sk-secret-1234@h/v1', model: m, token_cap: 5}]",
        "[{name: a, kind: llm, base_url: 'http://h:sk-secret-1234/v1', model: m, token_cap: 5}]",
        "[{name: a, kind: llm, base_url: 'http://h/v1?key=sk-secret-1234', model: m, token_cap: 5}]",
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_shown(judges: str) -> None:
    with pytest.raises(UserError, match=r"evaluations\.judges\.0") as raised:
        loaded(judges)
    assert "secret" not in str(raised.value)


def test_judges_need_stored_replies() -> None:
    text = VALID.replace("  generation: {judges: [gold]}\n", "")
    with pytest.raises(UserError, match=r"evaluations\.judges must not be given without"):
        loaded("[{name: a, kind: gold}]", text=text)


def test_gold_scores_toy_data_only(tmp_path: Path) -> None:
    text = VALID.replace("{path: toy, num_pairs: 100}", "{path: pairs.jsonl}").replace("judges: [gold]", "")
    with pytest.raises(UserError, match=r"judges\.0\.kind must not be gold"):
        loaded("[{name: a, kind: gold}]", text=text, path=tmp_path / "c.yaml")


def test_the_toys_reward_model_scores_toy_data_only(tmp_path: Path) -> None:
    text = VALID.replace("{path: toy, num_pairs: 100}", "{path: pairs.jsonl}").replace("judges: [gold]", "")
    with pytest.raises(UserError, match=r"judges\.0\.model must not be toy"):
        loaded("[{name: a, kind: reward_model, model: toy}]", text=text, path=tmp_path / "c.yaml")


def test_a_reward_model_that_is_not_here_is_told(tmp_path: Path) -> None:
    judges = f"[{{name: a, kind: reward_model, model: '{tmp_path}'}}, {{name: b, kind: reward_model, model: ./absent}}]"
    told = [one.text for one in requirements(loaded(judges)) if "judges" in one.text]
    assert "holds no config.json" in told[0]
    assert "evaluations.judges.1.model: there is no folder './absent' here" in told[1]


def test_a_commands_files_are_found_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text("")
    judge = "[{name: a, kind: command, command: [python, judge.py, --flag, '{input}']}]"
    (found,) = loaded(judge, path=tmp_path / "c.yaml").evaluations.judges
    assert isinstance(found, CommandJudge)
    assert found.command == ["python", str(tmp_path / "judge.py"), "--flag", "{input}"]


def test_what_a_judge_needs_and_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    judges = (
        f"[{{{LLM}, api_key_env: NO_SUCH_KEY}}, {{name: b, kind: command, command: [no-such-program]}}, "
        f"{{name: c, kind: plugin, plugin: no-such}}, {{name: d, kind: command, command: [{sys.executable}]}}]"
    )
    told = [one.text for one in requirements(loaded(judges)) if "judges" in one.text]
    assert [text.partition(": ")[0] for text in told] == [
        "evaluations.judges.0.api_key_env", "evaluations.judges.1.command", "evaluations.judges.2.plugin",
    ]  # fmt: skip
    monkeypatch.setenv("NO_SUCH_KEY", "sk-secret-1234")
    assert len([one for one in requirements(loaded(judges)) if "judges" in one.text]) == 2


def test_check_says_what_a_judge_model_may_cost() -> None:
    lines = list(check_lines(loaded(f"[{{{LLM}}}]"), arms=None))
    (budget,) = (line for line in lines if "token_cap" in line)
    # 3 seeds, 5 pairs of models, both orders; the toy's test split is smaller than max_items
    found = inspect_rows(loaded("[]").data)
    num_requests = 3 * 5 * 2 * found.splits["test"]
    assert f"m at http://h/v1: at most {num_requests:,} requests" in budget
    assert "stops at 5,000 tokens (token_cap); raise it" in budget
    expected = int(budget.partition("about ")[2].partition(" tokens")[0].replace(",", ""))
    assert expected == pytest.approx(_tokens_if_every_reply_were_the_datas(), rel=0.02)


def _tokens_if_every_reply_were_the_datas() -> float:
    """The judge's own count before its first request, over the requests that it would make of the pairs themselves."""
    comparison = loaded(f"[{{{LLM}}}]")
    (judge,) = comparison.evaluations.judges
    assert isinstance(judge, LlmJudge)
    total = 0
    for _, pair in read_pairs(comparison.data).pairs:
        if isinstance(pair, Pair) and split_of(pair.prompt, comparison.data) == "test":
            match = Match("i", readable(pair.prompt), pair.chosen, pair.rejected)
            total += sum(about_tokens(judge, one) for one in both_orders(judge.instructions, match))
    return 3 * 5 * total


@pytest.mark.usefixtures("has_every_trainer")
@pytest.mark.parametrize("command", [["plan", "--no-forecast"], ["run", "--dry-run"], ["forecast", "--json"]])
def test_what_a_judge_model_may_cost_is_said_before_anything_runs(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("make", "before_run"):
        monkeypatch.setattr(
            f"harness.forecast.{place}.make_forecast", lambda plan, **_: made_up.forecast(plan)
        )
    write(tmp_path, f"{VALID}  judges: [{{{LLM}}}]\n")
    assert main([*command, "config.yaml"]) == 0
    shown = capsys.readouterr()
    assert re.search(
        r"judge a: m at http://h/v1: at most [\d,]+ requests .*, about [\d,]+ tokens .* \(token_cap\)",
        shown.out,
    )


def test_the_budget_of_data_that_is_elsewhere_is_its_requests_and_its_cap() -> None:
    text = VALID.replace("{path: toy, num_pairs: 100}", "{path: org/pairs}").replace("{judges: [gold]}", "{}")
    comparison = loaded(f"[{{{LLM}}}]", text=text)
    (line,) = judge_budget_lines(comparison)
    # 3 seeds, 5 pairs of models, 200 prompts, both orders
    assert "at most 6,000 requests" in line
    assert "about" not in line
    generation = GenerationEvaluation(max_items=None)
    groups = comparison.evaluations.model_copy(update={"generation": generation})
    (line,) = judge_budget_lines(comparison.model_copy(update={"evaluations": groups}))
    assert "two requests for each prompt and each of 15 matches" in line
