"""What a page shows of the machine: no path, key, user or host, unless it was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.report import write_report
from harness.report.data import failures_section
from harness.report.view import View, public
from harness.results import read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import Run, make_results


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token hf_abcdefghijklmnop refused", "token [hidden] refused"),
        ("Authorization: Bearer abc.def-ghi123==", "Authorization: [hidden]"),
        ("clone https://ada:s3cret@example.org/x", "clone https://[hidden]example.org/x"),
        ("ssh ada@gpu-box: refused", "ssh [hidden]: refused"),
        ("cannot open /home/ada/x.bin", "cannot open x.bin"),
        ("OSError:/home/ada/secret/x.py", "OSError:x.py"),
        ("cc -I/home/ada/include x.c", "cc -Iinclude x.c"),
        ("at //home/ada/x.bin", "at x.bin"),
        ("in /home/ada or C:\\Users\\ada", "in ~ or ~"),
        ("No such file: '/home/ada lovelace/m.bin'", "No such file: 'm.bin'"),
        ("no route to ada@gpu-box-17.corp.example", "no route to [hidden]"),
        ("ConnectionPool(host='gpu-box-17', port=80)", "ConnectionPool(host=[hidden], port=80)"),
        ("http://10.1.2.3:8000/v1?api_key=abc", "http://[hidden]:8000/v1?[hidden]"),
        ("AKIAIOSFODNN7EXAMPLE and nvapi-abcdefgh", "[hidden] and [hidden]"),
        ("eyJhbGciOi1.eyJzdWIi.sig is refused", "[hidden] is refused"),
        ("--token=hf_abcdefghijkl --host=gpu7.corp.internal", "--token=[hidden] --host=[hidden]"),
        ("http://gpu-node7:8000/v1", "http://[hidden]:8000/v1"),
        ("https://gpu-node7.corp.internal/v1", "https://[hidden]/v1"),
        (
            "http://localhost:8000/v1, https://api.example.org/v1",
            "http://localhost:8000/v1, https://api.example.org/v1",
        ),
        ("hf://datasets/x?token=abcdefgh", "hf://datasets/x?[hidden]"),
        ("numpy 10.0.3, max_token=5, eos_token=x", "numpy 10.0.3, max_token=5, eos_token=x"),
        ("a ratio of 1/2, see docs/x.md: 3:4", "a ratio of 1/2, see docs/x.md: 3:4"),
        ("orpo@2 lost 3 of 4 seeds, loss 0.5", "orpo@2 lost 3 of 4 seeds, loss 0.5"),
        ("org/model-7b at https://example.org/a", "org/model-7b at https://example.org/a"),
    ],
)
def test_what_names_a_machine_or_opens_a_door_is_cut_out(text: str, expected: str) -> None:
    assert public(text) == expected


@pytest.mark.parametrize(
    "piece", ["a.", "eyJ-", "a@", "x-", "a.local", "'/", "://", "C:", "bearer ", "http://a-"]
)
def test_a_long_hostile_line_takes_no_longer_than_its_length(piece: str) -> None:
    public(piece * 50_000)  # a search that starts anew at each piece would take minutes


SECRETS = ("hf_abcdefghijkl", "gpu7.corp.internal", "gpu-node7", "/home/ada", "10.1.2.3")


def test_the_config_and_the_replies_of_a_page_name_no_machine(tmp_path: Path) -> None:
    command = ["python", "/home/ada/judge.py", "--token=hf_abcdefghijkl", "--host=gpu7.corp.internal"]
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
