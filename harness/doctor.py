"""What `prefduel doctor` says: the machine, its packages, the hub, and which configs can run here."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from harness.errors import UserError
from harness.hub import endpoint, token_present, why_unreachable
from harness.machine import machine

LOCK = Path("requirements.lock")
CONFIGS = Path("configs")
GIB = 2**30


def doctor_lines() -> Iterator[str]:
    """Lines for a person, most of them `what  how it is`. Never the value of a token."""
    yield from _python()
    yield from _packages()
    yield from _hardware()
    yield from _hub()
    yield from _configs()


def _python() -> Iterator[str]:
    yield _line("python", platform.python_version())


def _packages() -> Iterator[str]:
    if LOCK.is_file():
        pinned = locked_versions(LOCK.read_text(encoding="utf-8"))
        differing = [
            f"{name} {found or 'missing'} (lock: {wanted})" for name, wanted, found in _differing(pinned)
        ]
        if not differing:
            yield _line("packages", f"{len(pinned)}, all as {LOCK} has them")
        else:
            yield _line(
                "packages",
                f"{len(differing)} of {len(pinned)} differ from {LOCK}: `make compare` makes .venv anew",
            )
            yield from (_line("", one) for one in differing)
        return
    missing = [name for name in _required() if _installed_version(name) is None]
    yield _line(
        "packages", f"missing: {', '.join(missing)}" if missing else f"all there (no {LOCK} to compare with)"
    )


def locked_versions(text: str) -> dict[str, str]:
    """Package to version of the `name==version` lines of a lock file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE))


def _differing(pinned: dict[str, str]) -> Iterator[tuple[str, str, str | None]]:
    for name, wanted in pinned.items():
        found = _installed_version(name)
        # `2.13.0+cpu` is the CPU build of 2.13.0
        if found is None or found.partition("+")[0] != wanted:
            yield name, wanted, found


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _required() -> list[str]:
    try:
        lines = requires("prefduel") or []
    except PackageNotFoundError:
        return []
    return [re.split(r"[\s<>=!~;\[(]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def _hardware() -> Iterator[str]:
    import psutil

    here = machine()
    free = psutil.virtual_memory().available
    yield _line("processor", f"{here.processor}, {here.num_cores} cores")
    yield _line("memory", f"{free / GIB:.1f} GiB free of {here.memory_bytes / GIB:.1f}")
    yield from _gpus()
    disk = shutil.disk_usage(Path.cwd())
    yield _line("disk", f"{disk.free / GIB:.1f} GiB free of {disk.total / GIB:.1f} in this folder")


def _gpus() -> Iterator[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield _line("gpu", f"none that NVML shows ({error})")
        return
    try:
        count = pynvml.nvmlDeviceGetCount()
        if count == 0:
            yield _line("gpu", "none")
        for index in range(count):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            name = pynvml.nvmlDeviceGetName(handle)
            yield _line(
                "gpu", f"{index}: {name}, {memory.free / GIB:.1f} GiB free of {memory.total / GIB:.1f}"
            )
        yield _line("driver", str(pynvml.nvmlSystemGetDriverVersion()))
    except pynvml.NVMLError as error:
        yield _line("gpu", f"NVML fails: {error}")
    finally:
        pynvml.nvmlShutdown()


def _hub() -> Iterator[str]:
    reason = why_unreachable()
    yield _line("hub", f"{endpoint()} " + (f"cannot be reached: {reason}" if reason else "answers"))
    yield _line("hub token", "present" if token_present() else "none (gated models need one: HF_TOKEN)")


def _configs() -> Iterator[str]:
    from harness.load_config import load_comparison
    from harness.requirements import requirements_not_met

    for path in sorted(CONFIGS.glob("*.yaml")) if CONFIGS.is_dir() else ():
        try:
            lacking = requirements_not_met(load_comparison(path))
        except UserError as error:
            lacking = [str(error).removeprefix(f"{path}: ")]
        yield _line(str(path), "")
        yield _line("", "can run here" if not lacking else f"cannot run here: {lacking[0]}")
        yield from (_line("", one) for one in lacking[1:])


def _line(head: str, text: str) -> str:
    return f"{head:<12}{text}".rstrip()
