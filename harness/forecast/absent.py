"""A comparison whose data files are elsewhere: a plan takes a hash of them, a forecast can do without."""

from __future__ import annotations

import re
from pathlib import Path

from harness.config import Comparison
from pipelines.data.sources import is_local
from pipelines.stages import DataSettings


def without_absent_files(comparison: Comparison) -> tuple[Comparison, list[str]]:
    """The comparison with a stand-in, of the form of a hub id, for each data file that is not on this machine.

    Args:
        comparison: The validated config.

    Returns:
        The comparison to plan, and a note on each file.
    """
    notes: list[str] = []
    data = _stand_in(comparison.data, "data.path", notes)
    sft = comparison.sft
    if sft.data is not None:
        sft = sft.model_copy(update={"data": _stand_in(sft.data, "sft.data.path", notes)})
    return comparison.model_copy(update={"data": data, "sft": sft}), notes


def _stand_in(data: DataSettings, key: str, notes: list[str]) -> DataSettings:
    if not is_local(data.path) or Path(data.path).exists():
        return data
    notes.append(f"{key}: there is no {data.path} on this machine; `prefduel run` needs it")
    return data.model_copy(update={"path": f"not-here/{re.sub(r'[^A-Za-z0-9]', '_', Path(data.path).name)}"})
