"""What a page shows of the machine: no path, key, user or host, unless it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        ("numpy 10.0.3, max_token=5, eos_token=x", "numpy 10.0.3, max_token=5, eos_token=x"),
        ("a ratio of 1/2, see docs/x.md: 3:4", "a ratio of 1/2, see docs/x.md: 3:4"),
        ("orpo@2 lost 3 of 4 seeds, loss 0.5", "orpo@2 lost 3 of 4 seeds, loss 0.5"),
        ("org/model-7b at https://example.org/a", "org/model-7b at https://example.org/a"),
    ],
)
def test_what_names_a_machine_or_opens_a_door_is_cut_out(text: str, expected: str) -> None:
    assert public(text) == expected


def test_it_is_shown_where_it_was_asked_for(tmp_path: Path) -> None:
    failed = {("orpo", 0): ("failed", "no route to ada@gpu-box for hf_abcdefghijklmnop")}
    results = read_results(make_results(tmp_path, Run(failed=failed)))  # type: ignore[arg-type]
    hidden, shown = (
        str(failures_section(View(results, make_summary(results), with_host=asked)).blocks)
        for asked in (False, True)
    )
    assert "no route to [hidden] for [hidden]" in hidden
    assert "no route to ada@gpu-box for hf_abcdefghijklmnop" in shown
