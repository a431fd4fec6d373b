"""`prefduel doctor`: what is here, what is not, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import hub
from harness.cli import main
from harness.doctor import locked_versions
from tests.harness.configs import VALID


def diagnosis(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["doctor"]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.delenv("HF_TOKEN_PATH", raising=False)


def test_it_names_python_packages_hardware_disk_and_hub(capsys: pytest.CaptureFixture[str]) -> None:
    shown = diagnosis(capsys)
    for head in ("python", "packages", "processor", "memory", "gpu", "disk", "hub", "hub token"):
        assert f"\n{head:<12}" in f"\n{shown}"
    assert "cannot be reached: HF_HUB_OFFLINE is set" in shown


def test_a_token_is_present_or_not_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "hub token   none" in diagnosis(capsys)
    monkeypatch.setenv("HF_TOKEN", "not-a-real-token")
    shown = diagnosis(capsys)
    assert "hub token   present" in shown
    assert "not-a-real-token" not in shown
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("stored-elsewhere")
    shown = diagnosis(capsys)
    assert "hub token   present" in shown
    assert "stored-elsewhere" not in shown


def test_packages_that_differ_from_the_lock_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "requirements.lock").write_text("# a lock\nno-such-package==1.0\ntyper==0.0.1\n")
    shown = diagnosis(capsys)
    assert "2 of 2 differ" in shown
    assert "no-such-package missing (lock: 1.0)" in shown


def test_a_lock_is_read_line_by_line() -> None:
    assert locked_versions("# note==1\na==1.0\nb-c.d==2\n") == {"a": "1.0", "b-c.d": "2"}


@pytest.mark.usefixtures("has_every_trainer")
def test_each_config_can_run_here_or_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "good.yaml").write_text(VALID)
    (tmp_path / "configs" / "remote.yaml").write_text(VALID.replace("{name: toy}", "{name: some/model}"))
    (tmp_path / "configs" / "wrong.yaml").write_text(VALID + "sed: 1\n")
    good, remote, wrong = diagnosis(capsys).split("configs/")[1:]
    assert "can run here" in good
    assert "cannot run here: model.name: some/model is not downloaded" in remote
    assert "HF_HUB_OFFLINE is set" in remote
    assert "sed is not a key" in wrong


def test_an_address_that_is_none_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "not an address")
    assert hub.why_unreachable()
