"""How stages start: forked from a server that has the heavy imports, or spawned; `auto` decides by evidence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import psutil

from harness.launch import Launcher

Wanted = Literal["auto", "forkserver", "spawn"]
DRIVER_FILES = "/dev/nvidia"


def make_launcher(
    wanted: Wanted, device: Literal["cpu", "cuda"], log_folder: Path, *, most: int = 1
) -> Launcher:
    """A launcher for stages on `device`.

    `auto` is the fork server on a CPU. On CUDA it is spawn, unless it is certain that the server, once its imports are
    done, never touched the driver: an import that did would break every child.

    Args:
        wanted: The config's `start_method`.
        device: Where the stages run.
        log_folder: Where the fork server's own output goes.
        most: Processes that there may be at a time.
    """
    if wanted == "spawn":
        return Launcher("spawn", log_folder, most=most)
    server = Launcher("forkserver", log_folder, most=most)
    if wanted == "forkserver" or device == "cpu" or driver_untouched(server.server_pid()):
        return server
    return Launcher("spawn", log_folder, most=most)


def driver_untouched(
    pid: int,
    *,
    pids_on_devices: Callable[[], set[int] | None] | None = None,
    open_files: Callable[[int], set[str] | None] | None = None,
) -> bool:
    """Whether it is certain that process `pid` never touched the CUDA driver. Asks NVML and the kernel, never torch.

    NVML lists the processes that hold a context. One that only initialised the driver holds none, but has the
    driver's device files open. In a container NVML may count processes otherwise than we do; then nothing is certain.

    Args:
        pid: The fork server's.
        pids_on_devices: Processes with a context on any device; None if that cannot be had.
        open_files: Paths that a process has open; None if that cannot be had.
    """
    holders = (pids_on_devices or _pids_on_devices)()
    files = (open_files or _open_files)(pid)
    if holders is None or files is None:
        return False
    if pid in holders or not all(psutil.pid_exists(holder) for holder in holders):
        return False
    return not any(path.startswith(DRIVER_FILES) for path in files)


def _pids_on_devices() -> set[int] | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            handles = [
                pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
            ]
            return {
                int(process.pid)
                for handle in handles
                for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            }
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None


def _open_files(pid: int) -> set[str] | None:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(str(entry.readlink()))
    except OSError:
        return None
    return found
