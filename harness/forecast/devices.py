"""Devices that a forecast can be for. Peaks and power as their makers' data sheets have them, dense, without sparsity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from harness.config import Comparison
from harness.config_errors import did_you_mean
from harness.errors import UserError
from harness.machine import choose_device, machine
from harness.nvml import first_visible
from pipelines.stages import Dtype

GB = 10**9
TERA = 10**12
CARDS_BYTES = tuple(size * GB for size in (24, 40, 48, 80, 141))
DEFAULT_CARD = "H100 80GB"
# Words in the name of a card, or a part of one, that does less than the card otherwise so called, or more.
VARIANTS = {"laptop", "ti", "max", "mig"}
# A core's float32 operations a second: 2 x 8 lanes of AVX2 x 2 (multiply and add), at 2.5 GHz.
CORE_FLOPS = 2 * 8 * 2 * 2.5e9
CPU_BYTES_PER_SECOND = 20 * GB
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Device:
    """What a stage would run on.

    Attributes:
        memory_bytes: All of it.
        bfloat16_flops, float32_flops: Peak operations a second in matrix products.
        bytes_per_second: Peak of its memory.
        watts: Board power; None where it is not known.
        source: Why this one.
        is_here: Whether it is this machine's own.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    memory_bytes: int
    bfloat16_flops: float
    float32_flops: float
    bytes_per_second: float
    watts: float | None
    source: str = "table"
    is_here: bool = False

    def peak_flops(self, dtype: Dtype) -> float:
        """Peak operations a second in this number format."""
        return self.bfloat16_flops if dtype == "bfloat16" else self.float32_flops


def _card(name: str, gb: int, bf16: float, fp32: float, gb_per_second: float, watts: float) -> Device:
    return Device(name, "cuda", gb * GB, bf16 * TERA, fp32 * TERA, gb_per_second * GB, watts)


CARDS = (
    _card("RTX 3090", 24, 71, 35.6, 936, 350),
    _card("RTX 4090", 24, 165, 82.6, 1008, 450),
    _card("A10G", 24, 70, 31.2, 600, 150),
    _card("L4", 24, 121, 30.3, 300, 72),
    _card("A100 40GB", 40, 312, 19.5, 1555, 400),
    _card("RTX 6000 Ada", 48, 364, 91.1, 960, 300),
    _card("L40S", 48, 362, 91.6, 864, 350),
    _card("A100 80GB", 80, 312, 19.5, 2039, 400),
    _card("H100 80GB", 80, 989, 67, 3350, 700),
    _card("H200", 141, 989, 67, 4800, 700),
)


def device_for(comparison: Comparison, name: str | None) -> Device:
    """The device that `--device` names, else the one that the config's runs use here.

    Raises:
        UserError: no such name.
    """
    if name is not None:
        return _named(name)
    if choose_device(comparison.device) == "cpu":
        return this_cpu()
    here = machine()
    if here.accelerator is None:
        return _with_source(_named(DEFAULT_CARD), "no GPU here; another: --device")
    known = _matching(here.accelerator)
    memory = here.accelerator_memory_bytes or 0
    card = known or _named(DEFAULT_CARD)
    source = "this machine's" if known else f"this machine's; speed as of {card.name}, it is in no table"
    return Device(
        here.accelerator,
        "cuda",
        memory,
        card.bfloat16_flops,
        card.float32_flops,
        card.bytes_per_second,
        card.watts if known else None,
        source,
        is_here=True,
    )


def peak_flops_of(accelerator: str, dtype: Dtype) -> float | None:
    """Peak operations a second of the card that NVML calls so; None where it is not in the table, as no MIG slice is."""
    card = _in_table(accelerator)
    return None if card is None else card.peak_flops(dtype)


def this_cpu() -> Device:
    """This machine's processor."""
    here = machine()
    flops = here.num_cores * CORE_FLOPS
    return Device(
        here.processor,
        "cpu",
        here.memory_bytes,
        flops,
        flops,
        CPU_BYTES_PER_SECOND,
        None,
        "this machine's",
        is_here=True,
    )


def _named(name: str) -> Device:
    if name.lower() == "cpu":
        return this_cpu()
    found = _matching(name)
    if found is None:
        names = ["cpu", *(card.name for card in CARDS)]
        hint = did_you_mean(name, names)
        raise UserError(f"--device {name}: must be one of {', '.join(names)}. {hint}".strip())
    return _with_source(found, "--device")


def _matching(name: str) -> Device | None:
    """The card of this name, else one whose name has all its words, such as `h100`; the longest name wins.

    Whole words: an L40 is no L40S, and an A10 no A10G.
    """
    if found := _in_table(name):
        return found
    words = _words(name)
    fitting = [card for card in CARDS if words and words.issubset(card.name.lower().split())]
    return max(fitting, key=lambda card: len(card.name), default=None)


def _in_table(name: str) -> Device | None:
    """The card whose words are all in `name`, such as `NVIDIA H100 80GB HBM3`; not a variant with another peak."""
    words = _words(name)
    fitting = [card for card in CARDS if words.issuperset(card.name.lower().split())]
    return None if words & VARIANTS else max(fitting, key=lambda card: len(card.name), default=None)


def _words(name: str) -> set[str]:
    return set(name.lower().replace("-", " ").replace(" gb", "gb").split())


def _with_source(device: Device, source: str) -> Device:
    return Device(**{**device.__dict__, "source": source})


def free_bytes(kind: Literal["cpu", "cuda"]) -> int | None:
    """Memory that is free now on this machine's processor or the GPU that a stage would use, asked of NVML; None where it cannot be had."""
    if kind == "cpu":
        return int(min(psutil.virtual_memory().available, _container_limit()))
    import pynvml

    try:
        with first_visible() as handle:
            return int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    except pynvml.NVMLError:
        return None


def _container_limit() -> float:
    """Bytes that a container may take (cgroup v2), infinite outside of one."""
    try:
        limit = CONTAINER_LIMIT.read_text().strip()
    except OSError:
        return math.inf
    return math.inf if limit == "max" else float(limit)
