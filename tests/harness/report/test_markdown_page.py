"""The report: what stands where, the same bytes each time, hostile text kept in its place, nothing private."""

from __future__ import annotations

import getpass
import json
import re
import shutil
import socket
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from harness.config import Comparison
from harness.metrics import METRICS
from harness.numbers import bytes_text, interval, number, with_interval
from harness.plan import read_plan
from harness.report import replies, verdict_lines, write_report
from harness.report.page import Code, Paragraph, Table, cut
from harness.report.quality import formula_text
from harness.summary import summarise
from tests.harness.fixtures_results import LEVELS, Run, give_prompts, make_results
from tests.harness.hostile_texts import PAYLOADS

DOCS = Path(__file__).parents[3] / "docs"
SECTIONS = (
    "Quality against cost", "The verdict", "What it costs", "Differences", "Quality", "Gold score by part", "What was lost", "From station to station", "Learning", "Replies", "Published claims",
    "Fairness", "Data", "Failures", "Settings", "Environment", "Where the numbers are", "How to reproduce", "Words",
)  # fmt: skip


def headings(page: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    return [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of five seeds without failures."""
    parent = tmp_path_factory.mktemp("five")
    return write_report(make_results(parent, Run(seeds=5)), parent / "reports").read_text()


def test_the_verdict_stands_in_the_first_three_lines(tmp_path: Path) -> None:
    folder = make_results(tmp_path, Run(seeds=5))
    lines = write_report(folder, tmp_path / "reports").read_text().splitlines()[:3]
    assert [re.sub(r"^- |\*\*|\\", "", line) for line in lines] == verdict_lines(summarise(folder))
    assert lines[0].startswith("- **Verdict:** undecided between orpo and sft-dpo on gold_score")
    assert "95 % interval" in lines[0]
    assert "(5 seeds, 60 items)" in lines[0]
    assert "times" in lines[0]


def test_every_section_is_there(page: str) -> None:
    assert [heading for heading in headings(page) if not heading.startswith("Prompt")] == [
        "made-up: orpo against sft-dpo",
        *SECTIONS,
    ]


def test_tables_stand_in_columns_in_plain_text(page: str) -> None:
    blocks = re.findall(r"(?:^\|.*\|\n)+", page, flags=re.M)
    assert len(blocks) > 8
    for block in blocks:
        assert len({len(line) for line in block.splitlines()}) == 1


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    first, second = tmp_path / "one", tmp_path / "two"
    write_report(folder, first)
    shutil.copytree(folder, tmp_path / "elsewhere" / "made-up")
    write_report(tmp_path / "elsewhere" / "made-up", second)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert {str(path) for path in files} == {
        "index.html", "index.md", "made-up.html", "made-up.md", "made-up/entry.json",
        *(f"made-up/{stem}.{form}" for stem in ("learning", "quality", "quality-cost", "differences", "differences-other-metrics") for form in ("png", "svg")),
    }  # fmt: skip
    for path in files:
        assert (first / path).read_bytes() == (second / path).read_bytes()


def test_writing_a_report_leaves_the_results_alone(tmp_path: Path) -> None:
    folder = make_results(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_report(folder, tmp_path / "reports")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_hostile_replies_prompts_and_messages_change_nothing_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "NUM_PROMPTS", len(PAYLOADS))  # every payload is on the page

    def shape(name: str, message: str, texts: tuple[str, ...]) -> list[str]:
        failed = {("orpo", 0): ("failed", message)}
        run = Run(num_items=len(PAYLOADS), failed=failed, replies=texts)  # type: ignore[arg-type]
        text = write_report(make_results(tmp_path / name, run), tmp_path / name / "reports").read_text()
        tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
        return [
            kind for token in tokens for kind in (token.type, *(child.type for child in token.children or []))
        ]

    hostile = shape("hostile", "\n".join(PAYLOADS[:12]), PAYLOADS)
    assert hostile == shape("harmless", "message", ("x",))
    assert not {"html_inline", "html_block", "link_open"} & set(hostile)
    assert hostile.count("image") == 5  # our own figures


def test_nothing_private_is_on_the_page(tmp_path: Path) -> None:
    run = Run(
        failed={("orpo", 0): ("failed", f"cannot open {tmp_path}/secret/weights.bin")},
        changes={"data": {"path": str(tmp_path / "pairs.jsonl")}, "model": {"name": "/models/ada/base"}},
        groups=("preference",),
        decision={"metric": "preference_accuracy"},
    )
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    text = write_report(make_results(tmp_path, run), tmp_path / "reports").read_text()
    assert str(tmp_path) not in text
    assert "/models/ada" not in text
    assert str(Path.home()) not in text.replace("/root-", "")
    assert socket.gethostname() not in text
    assert f"/{getpass.getuser()}/" not in text
    assert "weights.bin" in text
    assert "path: pairs.jsonl" in text


def test_the_config_on_the_page_is_the_one_that_ran(tmp_path: Path, page: str) -> None:
    block = re.search(r"```yaml\n(.*?)\n```", page, flags=re.S)
    assert block is not None
    shown = Comparison.model_validate(yaml.safe_load(block[1]))
    assert shown == read_plan(make_results(tmp_path, Run(seeds=5))).comparison


def test_the_environment_names_each_library_with_its_own_version(page: str) -> None:
    assert re.search(r"\| python +\| `3\.11\.0`", page)
    assert re.search(r"\| torch +\| `2\.13\.0`", page)
    assert re.search(r"\| trl +\| `1\.16\.0`", page)


def test_every_stage_has_its_folder_named_a_sweeps_points_and_the_data_too(tmp_path: Path) -> None:
    arms = {
        arm: {"grid": {f"{at}.arguments.beta": [0.05, 0.1]}} for at, arm in enumerate(("orpo", "sft-dpo"))
    }
    judge = {"name": "gold", "kind": "gold"}
    run = Run(
        changes={"sweep": {"arms": arms, "metric": "gold_score", "seeds": 2}},
        chosen={"orpo": 1, "sft-dpo": 0},
        judges=(judge,),
    )
    folder = make_results(tmp_path, run)
    text = write_report(folder, tmp_path / "reports").read_text()
    section = text.partition("## Where the numbers are")[2].partition("\n## ")[0]
    plan = read_plan(folder)
    assert any(stage.kind == "judge" for stage in plan.stages)
    assert [stage.id for stage in plan.stages if f"`{stage.id}`" not in section] == []
    assert [trial.label() for trial in plan.trials if f"| {trial.label()} " not in section] == []


def test_a_long_table_is_cut_and_says_where_the_rest_is() -> None:
    rows = [(str(place),) for place in range(5)]
    whole = Table(["place"], rows)
    assert cut(whole, "prefduel export results/x", most=5) == [whole]
    shown, note = cut(whole, "prefduel export results/x", most=3)
    assert isinstance(shown, Table)
    assert isinstance(note, Paragraph)
    assert shown.rows == rows[:3]
    told = "".join(part.text if isinstance(part, Code) else str(part) for part in note.text)
    assert told.startswith("Cut: 3 of 5 rows. The rest is in summary.json and the stages' files")
    assert told.endswith("prefduel export results/x")


def test_what_is_no_mean_over_seeds_is_not_called_one(tmp_path: Path, page: str) -> None:
    peak = max(
        cost.peak_memory_bytes
        for cost in summarise(make_results(tmp_path, Run(seeds=5))).arms["orpo"].cost.by_seed
    )
    intro, _, table = page.partition("By stage, means over the finished seeds")[2].partition("\n\n")
    assert "the peak is the largest of any seed" in intro
    assert bytes_text(peak) in table.partition("\n\n")[0]


def test_a_metric_that_a_formula_names_is_shown_as_code() -> None:
    parts = formula_text("preference_accuracy_balanced")
    assert Code("preference_accuracy") in parts
    assert not any("`" in (part.text if isinstance(part, Code) else part) for part in parts)


def test_an_arm_that_won_is_said_to_be_better_and_a_missing_control_is_said_once(tmp_path: Path) -> None:
    run = Run(seeds=3, levels={**LEVELS, "orpo": 0.95})
    text = write_report(make_results(tmp_path, run), tmp_path / "reports").read_text()
    row = next(line for line in text.splitlines() if "the verdict" in line and line.startswith("|"))
    assert "orpo is better" in row
    assert text.count("not available") == 1


def test_arms_with_unequal_numbers_of_seeds_are_not_given_one_number(tmp_path: Path, page: str) -> None:
    run = Run(seeds=4, failed={("orpo", 1): ("failed", "b")})
    text = write_report(make_results(tmp_path, run), tmp_path / "reports").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| seeds in each arm"))
    assert row.split("|")[2].strip() == "orpo 3, sft-dpo 4"
    assert re.search(r"\| seeds in each arm +\| 5 ", page)


def test_settings_stand_side_by_side_with_differences_marked(page: str) -> None:
    rows = {
        row[2]: row for line in page.splitlines() if len(row := [c.strip() for c in line.split("|")]) == 7
    }
    assert rows["lambda (TRL: beta)"][1:6] == ["≠", "lambda (TRL: beta)", "`0.1`", "`not set`", "`not set`"]
    assert rows["beta"][3:6] == ["`not set`", "`not set`", "`0.1`"]
    assert rows["learning_rate"][1] == "≠"
    assert rows["max_length"][1:6] == ["", "max_length", "`128`", "`128`", "`128`"]
    assert rows["dtype"][1:6] == ["", "dtype", "`float32`", "`float32`", "`float32`"]
    assert rows.keys().isdisjoint({"pad_token", "bf16"})


def test_what_stock_trainers_make_unequal_is_named(tmp_path: Path, page: str) -> None:
    stock = {"training": {"effective_batch": 16, "micro_batch": 8, "max_length": 128, "preset": "stock"}}
    folder = make_results(tmp_path, Run(seeds=5, changes=stock))
    told = write_report(folder, tmp_path / "reports").read_text().replace("\\", "")
    covers = "covers prompt and completion in orpo (1. orpo), the completion alone in sft-dpo (1. sft)."
    for words in (covers, "stock ORPO averages", "DPO averages over each micro-batch"):
        assert words in told
        assert words not in page
    assert "Every stage has `preset: fair`." in page
    assert "Every stage has `preset: stock`." in told
    arms = Run().comparison().model_dump(mode="json", exclude_unset=True)["arms"]
    arms["orpo"][0]["preset"] = "stock"
    mixed = make_results(tmp_path / "mixed", Run(seeds=5, changes={"arms": arms}))
    told = write_report(mixed, tmp_path / "reports").read_text()
    assert "`preset: stock` in orpo (1. orpo). `preset: fair` in sft-dpo (1. sft), sft-dpo (2. dpo)." in told


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    run = Run(groups=("preference",), decision={"metric": "preference_accuracy"})
    text = write_report(make_results(tmp_path, run), tmp_path / "reports").read_text()
    for line in (
        "- device memory: the stage ran on the CPU",
        "- energy: ",
        "- money: the config gives no `price_per_hour`",
        "- generation: the config has no `evaluations.generation`",
        "Not measured: no replies were generated.",
    ):
        assert line in text


def test_a_night_in_which_everything_failed_still_gives_a_report(tmp_path: Path) -> None:
    failed = {(name, seed): ("killed", "gone") for name in ("orpo", "sft-dpo", "sft") for seed in range(3)}
    folder = make_results(tmp_path, Run(failed=failed))  # type: ignore[arg-type]
    page = write_report(folder, tmp_path / "reports")
    text = page.read_text()
    assert text.startswith("- **Verdict:** incomplete, so no verdict on orpo against sft-dpo")
    assert "Not measured: no training stage left a loss." in text
    assert not (page.parent / "made-up" / "learning.svg").exists()


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (Run(arms=["orpo"]), "prefduel run made-up.yaml --arm orpo"),
        (Run(seeds=1), "a verdict needs at least 3 seeds in each arm, there are 1"),
        (Run(changes={"controls": [], "price_per_hour": 2.5}), "took 0.5"),
    ],
    ids=["one arm", "one seed", "priced, without controls"],
)
def test_a_part_of_a_comparison_has_a_report_too(tmp_path: Path, run: Run, expected: str) -> None:
    assert expected in write_report(make_results(tmp_path, run), tmp_path / "reports").read_text()


def test_every_contrast_of_the_summary_has_a_row_and_the_verdict_the_first(tmp_path: Path, page: str) -> None:
    summary = summarise(make_results(tmp_path, Run(seeds=5)))
    section = page.partition("## Differences\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"
    ][2:]
    pairs = [summary.verdict.compare, *(each.pair for each in [*summary.baselines, *summary.secondary])]
    assert [row[1] for row in rows] == [" minus ".join(pair) for pair in pairs]
    assert len(pairs) == 1 + 4 + 5
    assert rows[0][5] == "the verdict"
    assert "A/A control, orpo against itself (seeds 0 2 4 against seeds 1 3)" in section


def test_every_claim_has_a_row_with_its_status(tmp_path: Path, page: str) -> None:
    claims = summarise(make_results(tmp_path, Run(seeds=5))).claims
    section = page.partition("## Published claims\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"
    ][2:]
    said = [f"{claim.status}: {claim.finding}" if claim.finding else claim.status for claim in claims]
    assert [(row[0], row[1]) for row in rows] == list(
        zip((claim.claim for claim in claims), said, strict=True)
    )
    assert "not measured" in {claim.status for claim in claims}
    assert section.count("To measure it: ") == sum(claim.measured_by is not None for claim in claims)


def test_nobody_is_called_the_same(page: str) -> None:
    assert "the same as" not in page
    assert page.count("no difference") == len(re.findall(r"no difference (?:was )?detected", page))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(0.71234), "0.712"),
        (number(12345.6), "12,346"),
        (number(0.00001234), "1.23e-05"),
        (number(0), "0"),
        (number(None), "not measured"),
        (with_interval(0.0123, -0.0041, 0.0287, signed=True), "+0.012"),
        (interval(-0.0041, 0.0287, signed=True), "-0.004 to +0.029"),
        (interval(-0.0004, 0.9, signed=True), "0.00 to +0.90"),
        (interval(30, 30), "no spread"),
        (interval(-3e-17, 1e-17), "no spread"),
        (with_interval(-1e-17, -3e-17, 1e-17, signed=True), "0"),
        (bytes_text(700 * 2**20), "700 MiB"),
        (bytes_text(5 * 2**29), "2.50 GiB"),
    ],
)
def test_numbers_have_the_digits_that_they_deserve(text: str, expected: str) -> None:
    assert text == expected


def test_the_page_of_metrics_lists_each_metric_as_the_code_has_it() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) \| (higher|lower|none) \| (.*?) \|$", (DOCS / "metrics.md").read_text(), re.M
    )
    assert {name: (unit, direction, formula) for name, unit, direction, formula in rows} == {
        name: tuple(metric) for name, metric in METRICS.items()
    }


def test_the_page_of_results_recomputes_a_mean_with_pandas(tmp_path: Path) -> None:
    import pandas

    folder = make_results(tmp_path)
    give_prompts(folder, lambda place: 0 if place < 40 else place)
    (line,) = re.findall(r"^pandas\..*$", (DOCS / "results.md").read_text(), re.M)
    trial = next(t for t in read_plan(folder).trials if (t.name, t.seed) == ("orpo", 0))
    items = folder / trial.evaluations[1] / "items.jsonl"
    code = line.replace('"items.jsonl"', json.dumps(str(items)))
    mean = eval(code, {"pandas": pandas})
    assert mean == pytest.approx(summarise(folder).arms["orpo"].metrics["gold_score"].by_seed[0])
