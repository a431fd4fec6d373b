"""What a page shows of the machine: no path, key, user or host, unless it was asked for."""

from __future__ import annotations

import json
from pathlib import Path

from harness.report import write_report
from harness.report.data import failures_section
from harness.report.view import View
from harness.results import read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import Run, make_results

SECRETS = ("hf_abcdefghijkl", "gpu7.corp.internal", "gpu-node7", "/home/ada", "10.1.2.3", "correcthorse")


def test_the_config_and_the_replies_of_a_page_name_no_machine(tmp_path: Path) -> None:
    command = ["python", "/home/ada/judge.py", "--token=hf_abcdefghijkl", "--host=gpu7.corp.internal"]
    command += ["--password", "correcthorse"]
    template = "{% for m in messages %}[/INST]{{ m }}{% endfor %}"
    folder = make_results(
        tmp_path, Run(seeds=1, judges=({"name": "mine", "kind": "command", "command": command},))
    )
    text = f"ask ada@gpu7.corp.internal, http://gpu-node7:1/, http://10.1.2.3/ and /home/ada/x: hf_abcdefghijkl {template}"
    for path in folder.glob("*/replies.jsonl"):
        rows = [json.loads(line) | {"reply": text, "prompt": text} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(folder, tmp_path / "reports")
    for suffix in (".md", ".html"):
        shown = page.with_suffix(suffix).read_text()
        assert "[hidden]" in shown
        assert not [secret for secret in SECRETS if secret in shown]
    page = write_report(folder, tmp_path / "reports", with_host=True)
    assert not [secret for secret in SECRETS if secret not in page.read_text().replace("\\", "")]


def test_it_is_shown_where_it_was_asked_for(tmp_path: Path) -> None:
    failed = {("orpo", 0): ("failed", "no route to ada@gpu-box for hf_abcdefghijklmnop")}
    results = read_results(make_results(tmp_path, Run(failed=failed)))  # type: ignore[arg-type]
    hidden, shown = (
        str(failures_section(View(results, make_summary(results), with_host=asked)).blocks)
        for asked in (False, True)
    )
    assert "no route to [hidden] for [hidden]" in hidden
    assert "no route to ada@gpu-box for hf_abcdefghijklmnop" in shown


def test_a_path_of_the_config_is_cut_as_a_whole_wherever_it_is_named(tmp_path: Path) -> None:
    path, model = (
        tmp_path / "bob smith" / "o'neil, (old)" / "pairs.jsonl",
        tmp_path / "bob's models" / "llama-x",
    )
    path.parent.mkdir(parents=True)
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    model.mkdir(parents=True)
    failed = {("orpo", 0): ("failed", f"no column in {path}, none for {model}/tokenizer.json")}
    changes = {
        "data": {"path": str(path)},
        "model": {"name": str(model), "revision": None},
        "evaluations": {"preference": {}, "judges": []},
    }
    decision = {"metric": "preference_accuracy", "margin": 0.02}
    run = Run(failed=failed, changes=changes, decision=decision, groups=("preference",))  # type: ignore[arg-type]
    page = write_report(make_results(tmp_path, run), tmp_path / "reports")
    assert "no column in pairs.jsonl, none for llama-x/tokenizer.json" in page.read_text()
    entry = json.loads((tmp_path / "reports" / "made-up" / "entry.json").read_text())
    assert (entry["model"], entry["data"]) == ("llama-x", "pairs.jsonl")
    for shown in (tmp_path / "reports").rglob("*.*"):
        if shown.suffix in (".md", ".html", ".json", ".svg"):
            assert not [word for word in ("bob", "neil", str(tmp_path)) if word in shown.read_text()]
