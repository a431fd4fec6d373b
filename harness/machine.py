"""The machine, the library versions and the commit behind a record. Imports no torch; names no host and no user."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from harness.nvml import first_visible
from harness.records import Machine

LIBRARIES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "lm-eval", "numpy", "jinja2",
    "prefduel",
)  # fmt: skip

CPUINFO = Path("/proc/cpuinfo")
GENERATION = {"cpu family": "family", "model": "model", "CPU part": "part"}  # the last is an ARM processor's
# The kernels of a CPU build of torch are chosen by these.
WIDEST_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}


@cache
def machine() -> Machine:
    """This machine's hardware, the GPU found through NVML so that the driver is not touched by torch."""
    accelerator, accelerator_memory, driver = _gpu()
    return Machine(
        processor=_processor(),
        num_cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        accelerator=accelerator,
        accelerator_memory_bytes=accelerator_memory,
        driver=driver,
    )


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can change a result; absent ones are left out."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """The commit of this code, `-dirty` where the packages' tracked files differ from it; None outside a repository.

    Results and reports are committed too, and a run rewrites them: that is no change of what the numbers come from.
    """
    return commit_of(Path(__file__).parent)


def commit_of(package: Path) -> str | None:
    """The commit that holds `package` and its neighbour `pipelines`; None where no repository tracks it.

    An installed package may lie inside the repository of somebody else's project.
    """
    described = _git(package, "rev-parse", "--short=12", "HEAD")
    if described is None or not _git(package, "ls-files", "--", "."):
        return None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".", "../pipelines")
    return f"{described}-dirty" if changed else described


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """`auto` is CUDA where NVML shows a device and CUDA_VISIBLE_DEVICES does not hide it."""
    if wanted != "auto":
        return wanted
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return "cuda" if machine().accelerator is not None and not hidden else "cpu"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, cwd=folder)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    """The processor's name and what its bits depend on: clouds call many generations of one maker the same."""
    try:
        first = CPUINFO.read_text().split("\n\n", 1)[0]
    except OSError:
        first = ""
    found = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())
    }
    flags = found.get("flags", "").split()
    kind = [f"{word} {found[key]}" for key, word in GENERATION.items() if key in found]
    kind += [name for flag, name in WIDEST_VECTORS.items() if flag in flags][:1]
    name = found.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({', '.join(kind)})" if kind else name


def _gpu() -> tuple[str | None, int | None, str | None]:
    import pynvml

    try:
        with first_visible() as handle:
            return (
                str(pynvml.nvmlDeviceGetName(handle)),
                int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                str(pynvml.nvmlSystemGetDriverVersion()),
            )
    except pynvml.NVMLError:
        return None, None, None
