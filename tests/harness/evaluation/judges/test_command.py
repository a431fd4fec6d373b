"""A judge that is a program: its answers become items, and whatever it does wrong is one clear line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas
import pytest

from harness.evaluation.judges import command
from pipelines.errors import PipelineError
from tests.harness.evaluation.judges import stored

READ = "import json, sys\nrows = [json.loads(line) for line in sys.stdin]\n"
WRITE = "for row in rows: print(json.dumps({'item': row['item'], 'score': len(row['reply'])}))\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    stored.write_both(tmp_path)
    return tmp_path


def settings(root: Path, program: str, *arguments: str, **more: Any) -> dict[str, Any]:
    """The config of a judge that runs a Python program."""
    path = root / "judge.py"
    path.write_text(program)
    return {"name": "x", "kind": "command", "command": [sys.executable, str(path), *arguments], **more}


def test_scores_become_items_whose_mean_is_one_pandas_line(root: Path) -> None:
    outcome, folder = stored.run_judge(root, settings(root, READ + WRITE))
    table = pandas.read_json(folder / "items.jsonl", lines=True)
    assert list(table["score_x"]) == [len(text) for text in stored.REPLIES[stored.OWN]]
    assert outcome.means == {"score_x": pytest.approx(table["score_x"].mean())}
    assert outcome.num_items == {"score_x": 4}
    assert outcome.group == "judge"
    assert list(table["num_tokens"]) == [1, 4, 1, 4]
    assert table["prompt"].nunique() == 3  # two items come from one prompt
    assert sorted(path.name for path in folder.iterdir()) == ["items.jsonl"]


def test_the_program_may_answer_in_any_order_and_reads_what_the_model_was_asked(root: Path) -> None:
    program = READ + (
        "assert set(rows[0]) == {'item', 'prompt', 'reply', 'category'}, rows[0]\n"
        "assert rows[0]['prompt'] == 'What is two and two?'\n"
        "rows.reverse()\n\nprint()\n" + WRITE
    )
    outcome, _ = stored.run_judge(root, settings(root, program))
    assert outcome.num_items == {"score_x": 4}


def test_sampled_replies_are_read_where_the_config_says_so(root: Path) -> None:
    greedy, _ = stored.run_judge(root, settings(root, READ + WRITE), name="greedy")
    sampled, _ = stored.run_judge(root, settings(root, READ + WRITE, replies="sampled"), name="sampled")
    assert sampled.means["score_x"] == greedy.means["score_x"] + len(" (sampled)")


def test_files_stand_for_input_and_output_where_the_arguments_name_them(root: Path) -> None:
    program = (
        "import json, sys\nprint('noise that is no answer')\n"
        "with open(sys.argv[1]) as given, open(sys.argv[2], 'w') as taken:\n"
        "    for line in given:\n"
        "        print(json.dumps({'item': json.loads(line)['item'], 'score': 1}), file=taken)\n"
    )
    outcome, _ = stored.run_judge(root, settings(root, program, "{input}", "{output}"))
    assert outcome.means == {"score_x": 1.0}


COPY = (
    "import json, os, sys\n"
    "source, target = (argument.rpartition('=')[2] for argument in sys.argv[1:3])\n"
    "with open(source) as given, open(target, 'w') as taken:\n"
    "    for line in given:\n"
    "        print(json.dumps({'item': json.loads(line)['item'], 'score': 1}), file=taken)\n"
)


def test_files_stand_also_within_arguments(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    outcome, _ = stored.run_judge(root, settings(root, COPY, "--in={input}", "--out={output}"))
    assert outcome.means == {"score_x": 1.0}
    assert not (root / "{output}").exists()


def test_a_program_may_tidy_up_its_input_and_its_own_exit_code_is_told(root: Path) -> None:
    outcome, folder = stored.run_judge(
        root, settings(root, COPY + "os.unlink(source)\n", "{input}", "{output}")
    )
    assert outcome.means == {"score_x": 1.0}
    assert sorted(path.name for path in folder.iterdir()) == ["items.jsonl"]
    with pytest.raises(PipelineError, match="ended with exit code 7"):
        stored.run_judge(
            root, settings(root, "import os, sys; os.unlink(sys.argv[1]); sys.exit(7)", "{input}")
        )


@pytest.mark.parametrize("instead", ["pass", "os.mkdir(target)"])
def test_a_program_whose_output_is_no_file_is_one_line_and_nothing_stays(root: Path, instead: str) -> None:
    program = COPY + f"os.unlink(source); os.mkdir(source); os.unlink(target); {instead}\n"
    with pytest.raises(PipelineError, match=r"^judge x: its command left no file where its answers belong$"):
        stored.run_judge(root, settings(root, program, "{input}", "{output}"))
    assert list((root / "judge-000000000000").iterdir()) == []


def test_a_comparison_keeps_wins_lengths_and_what_the_program_wrote(root: Path) -> None:
    program = READ + (
        f"ours = {stored.REPLIES[stored.OWN]!r}\n"
        "for row, ours, win in zip(rows, ours, (1, 0.5, 0, None)):\n"
        "    if row['first'] != ours and win is not None: win = 1 - win\n"
        "    print(json.dumps({'item': row['item'], 'win': win, 'answer': row['prompt'] + '\\ud800'}))\n"
    )
    outcome, folder = stored.run_judge(root, settings(root, program, mode="compare"), opponent=stored.OTHER)
    assert outcome.means == {"win_rate_x": pytest.approx(2 / 3)}
    assert outcome.num_items == {"win_rate_x": 3}
    table = pandas.read_json(folder / "items.jsonl", lines=True)
    assert list(table["win_rate_x"].dropna()) == [1, 0.5, 0.5]
    assert list(table["length_difference"]) == [-2, 3, 0, 3]
    assert list(table["unparsable"]) == [0, 0, 0, 1]
    kept = stored.rows(folder / "judgements.jsonl")[0]
    assert kept == {"item": "i0", "win": 1.0, "answers": ["What is two and two??"]}


@pytest.mark.parametrize("win", ["1", "0", "None"])
def test_equal_replies_tie_whatever_the_program_says_of_them(root: Path, win: str) -> None:
    stored.write_replies(root, stored.OTHER, stored.REPLIES[stored.OWN])
    program = READ + f"for row in rows: print(json.dumps({{'item': row['item'], 'win': {win}}}))"
    outcome, folder = stored.run_judge(root, settings(root, program, mode="compare"), opponent=stored.OTHER)
    assert outcome.num_items == {"win_rate_x": 4}
    table = pandas.read_json(folder / "items.jsonl", lines=True)
    assert set(table["win_rate_x"]) == {0.5}
    assert set(table["unparsable"]) == {0}


def test_equal_replies_have_one_number_and_others_another(root: Path) -> None:
    ids = {}
    for name in (stored.OWN, stored.OTHER):
        stored.write_replies(root, stored.OWN, stored.REPLIES[name])
        _, folder = stored.run_judge(root, settings(root, READ + WRITE), name=name)
        ids[name] = [row["reply_id"] for row in stored.rows(folder / "items.jsonl")]
    same = [one == other for one, other in zip(ids[stored.OWN], ids[stored.OTHER], strict=True)]
    assert same == [False, False, True, False]
    assert all(float(number) == number for number in ids[stored.OWN])  # a table of doubles keeps it


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "import sys; sys.exit(3)",
            "its command ended with exit code 3; the stage's log.txt has what it said",
        ),
        ("import os; os.kill(os.getpid(), 9)", "its command was ended by signal 9"),
        ("pass", "wrote nothing for 4 of 4 items, i0 first"),
        (
            "print('Sure! Here are my scores:')",
            "line 1 of what its command wrote is not JSON: 'Sure! Here are",
        ),
        ("print('[' * 100000)", "line 1 of what its command wrote is not JSON"),
        ('print(\'{"item": "i9", "score": 1}\')', "line 1 .* must have the `item` of one that it was given"),
        ("print('[1]')", "line 1 .* must have the `item`"),
        ('print(\'{"item": "i0", "score": 1}\\n\' * 2)', "line 2 .* has the item i0 again"),
        (
            READ + WRITE.replace("len(row['reply'])", "'9'"),
            "item i0, score: must be a finite number, got '9'",
        ),
        (READ + WRITE.replace("len(row['reply'])", "float('nan')"), "must be a finite number, got nan"),
        (READ + WRITE.replace("len(row['reply'])", "10 ** 400"), "must be a finite number, got 1000"),
        (
            READ + WRITE.replace("len(row['reply'])", "-1e308"),
            r"judge x, item i0, score: must be between -1e\+30 and 1e\+30, got -1e\+308",
        ),
        (READ + WRITE.replace("len(row['reply'])", "True"), "must be a finite number, got True"),
        (READ + WRITE.replace("'score'", "'grade'"), "must be a finite number, got None"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "is not JSON"),
    ],
)
def test_what_a_program_does_wrong_is_one_line(root: Path, program: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said) as raised:
        stored.run_judge(root, settings(root, program))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("judge x")
    assert list((root / "judge-000000000000").iterdir()) == []


@pytest.mark.parametrize("win", ["0.7", "True", "'A'"])
def test_a_win_is_one_of_three_numbers_or_null(root: Path, win: str) -> None:
    program = READ + f"for row in rows: print(json.dumps({{'item': row['item'], 'win': {win}}}))\n"
    with pytest.raises(PipelineError, match=r"item i0, win: must be 1, 0\.5, 0 or null"):
        stored.run_judge(root, settings(root, program, mode="compare"), opponent=stored.OTHER)


def test_a_program_that_does_not_end_is_ended_with_all_that_it_started(root: Path) -> None:
    program = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(root / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(PipelineError, match=r"ran longer than timeout_minutes \(0.05\)"):
        stored.run_judge(root, settings(root, program, timeout_minutes=0.05))
    assert all(ends(int(pid)) for pid in (root / "pids").read_text().split())


def test_a_program_that_writes_without_end_is_ended_long_before_its_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "MOST_OUTPUT_BYTES", 1 << 20)
    program = f"import os\nopen({str(root / 'pid')!r}, 'w').write(str(os.getpid()))\nwhile True: print('x' * 1000)\n"
    with pytest.raises(PipelineError, match="its command wrote more than 1 MiB"):
        stored.run_judge(root, settings(root, program, timeout_minutes=60))
    assert ends(int((root / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_program_ends_with_the_stage_however_that_ends(root: Path) -> None:
    program = (
        f"import os, time\nopen({str(root / 'pid')!r}, 'w').write(str(os.getpid()) + ' ')\ntime.sleep(600)\n"
    )
    stage = (
        "import sys; from pathlib import Path; from tests.harness.evaluation.judges import stored\n"
        f"stored.run_judge(Path({str(root)!r}), {settings(root, program)!r})\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", stage], env=os.environ | {"PYTHONPATH": str(Path.cwd())}
    )
    while not (root / "pid").exists() or not (root / "pid").read_text().endswith(" "):
        assert started.poll() is None
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert ends(int((root / "pid").read_text()))


def ends(pid: int) -> bool:
    """Whether a process that was killed is gone soon; it is ended in any case."""
    for _ in range(1000):
        if not is_running(pid):
            return True
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return False


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda folder: (folder / "replies.jsonl").unlink(),
            "replies.jsonl: No such file .* Delete the folder",
        ),
        (lambda folder: (folder / "replies.jsonl").write_text("{"), "replies.jsonl: .* Delete the folder"),
        (lambda folder: (folder / "replies.jsonl").write_text(""), "holds no greedy replies"),
        (
            lambda folder: (folder / "replies.jsonl").write_text('{"item": "i0", "temperature": 0}'),
            "a row lacks",
        ),
    ],
)
def test_replies_that_cannot_be_read_say_which_folder_to_delete(root: Path, change: Any, said: str) -> None:
    change(root / stored.OWN)
    with pytest.raises(PipelineError, match=said):
        stored.run_judge(root, settings(root, READ + WRITE))
