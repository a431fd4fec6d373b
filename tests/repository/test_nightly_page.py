"""What docs/nightly.md gives to copy is complete and works: cron, systemd, the CI job, every command."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from harness.cli import app
from harness.config import Nightly

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "nightly.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_command_on_the_page_is_one_with_options_that_it_has() -> None:
    commands = getattr(typer.main.get_command(app), "commands", {})
    used = re.findall(r"prefduel (run|status|gate|trend|gc|plan)\b([^\n'`]*)", PAGE)
    assert {name for name, _ in used} >= {"run", "status", "gate", "trend", "gc"}
    for name, rest in used:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known, (name, rest)
    for config in re.findall(r"configs/\S+\.yaml", PAGE):
        assert (ROOT / config).is_file()


def test_the_keys_on_the_page_are_those_of_the_config() -> None:
    example = yaml.safe_load(blocks("yaml")[0])
    assert Nightly.model_validate(example["nightly"])
    assert set(example["nightly"]) == set(Nightly.model_fields)


def test_the_ci_job_is_a_whole_workflow() -> None:
    job = yaml.safe_load(blocks("yaml")[1])
    assert job["name"]
    assert job[True]["schedule"][0]["cron"].count(" ") == 4  # YAML 1.1 reads `on` as true
    (night,) = job["jobs"].values()
    assert "self-hosted" in night["runs-on"]
    assert all("run" in step or "uses" in step for step in night["steps"])
    stamp = re.search(r"^STAMP *:?= *(\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert stamp is not None
    for step in night["steps"]:
        for target in re.findall(r"^make (\S+)", step.get("run", ""), re.MULTILINE):
            assert target == stamp[1].replace("$(VENV)", ".venv")
        if "run" in step:
            subprocess.run(["bash", "-n", "-c", step["run"]], check=True)


def test_the_line_for_cron_has_five_fields_and_a_command_that_the_shell_reads() -> None:
    (table,) = blocks("crontab")
    (line,) = [line for line in table.splitlines() if not line.startswith("#")]
    *fields, command = line.split(maxsplit=5)
    assert [bool(re.fullmatch(r"[\d*/,-]+", field)) for field in fields] == [True] * 5
    assert "%" not in command  # cron would read it as a newline
    subprocess.run(["sh", "-n", "-c", command], check=True)


def test_the_units_hold_what_systemd_needs() -> None:
    service, timer = blocks("ini")
    assert "ExecStart=/" in service
    assert "OnCalendar=" in timer
    assert "WantedBy=timers.target" in timer


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for name, text in zip(("prefduel.service", "prefduel.timer"), blocks("ini"), strict=True):
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in ("prefduel.service", "prefduel.timer")]
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *units],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    # A key that systemd does not know is a line, not an exit code.
    assert (done.returncode, done.stderr) == (0, "")
