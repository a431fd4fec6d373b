"""On CUDA stages are forked only where it is certain that the server never touched the driver."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.launch import Launcher
from harness.start_method import _open_files, _pids_on_devices, driver_untouched, make_launcher

ME, ANOTHER = os.getpid(), 1  # both are there as long as this runs
NOBODY = 2**22 + 1  # above the largest process id of Linux


@pytest.mark.parametrize(
    ("holders", "files", "certain"),
    [
        (set(), {"/dev/null", "pipe:[1]"}, True),
        ({ANOTHER}, {"/dev/null"}, True),
        ({ME}, {"/dev/null"}, False),  # it holds a context
        (set(), {"/dev/nvidiactl"}, False),  # it initialised the driver without one
        (set(), {"/dev/nvidia-uvm"}, False),
        ({NOBODY}, {"/dev/null"}, False),  # NVML counts processes otherwise: a container
        (None, {"/dev/null"}, False),
        (set(), None, False),
    ],
)
def test_only_certainty_counts(holders: set[int] | None, files: set[str] | None, certain: bool) -> None:
    found = driver_untouched(ME, pids_on_devices=lambda: holders, open_files=lambda _: files)
    assert found is certain


def test_the_files_that_a_process_has_open_are_read_from_the_kernel(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w"):
        files = _open_files(ME)
    assert files is not None
    assert str(tmp_path / "open") in files
    assert _open_files(NOBODY) is None


def test_the_pid_is_that_of_a_server_whose_imports_are_done(tmp_path: Path) -> None:
    pid = Launcher("forkserver", tmp_path).server_pid()
    assert pid not in (ME, ANOTHER)
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "libtorch_cpu" in maps


@pytest.mark.skipif(_pids_on_devices() is not None, reason="there is a GPU: auto may fork")
def test_without_word_from_nvml_stages_on_cuda_are_spawned(tmp_path: Path) -> None:
    assert make_launcher("auto", "cuda", tmp_path).method == "spawn"
    assert make_launcher("auto", "cpu", tmp_path).method == "forkserver"
    assert make_launcher("forkserver", "cuda", tmp_path).method == "forkserver"
    assert make_launcher("spawn", "cpu", tmp_path).method == "spawn"
