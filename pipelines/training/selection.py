"""Leaves the weights that were best on validation pairs: `select: best_validation`, the same way in every stage of every arm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.stages import ValidationMetric

BEST = "best.safetensors"
LOWER_IS_BETTER = ("chosen_nll",)

Row = Mapping[str, Any]


def best_step(rows: Iterable[Row], select_by: ValidationMetric) -> int | None:
    """The step of the best look at validation pairs after the start, of equal ones the earliest; None where there is none."""
    sign = -1 if select_by in LOWER_IS_BETTER else 1
    looks = [
        row for row in rows if row["split"] == "validation" and row["step"] and row[select_by] is not None
    ]
    best = max(looks, key=lambda row: (sign * row[select_by], -row["step"]), default=None)
    return None if best is None else int(best["step"])


class Selection:
    """Keeps the weights whenever a look is the best so far, and leaves the best in the end."""

    def __init__(self, weights: BestWeights, select_by: ValidationMetric) -> None:
        self._weights, self._select_by = weights, select_by

    def look(self, rows: Sequence[Row]) -> None:
        """Keep the weights as they are now if the last of all looks so far is the best."""
        if best_step(rows, self._select_by) == rows[-1]["step"]:
            self._weights.keep()

    def finish(self, rows: Sequence[Row]) -> int | None:
        """Give the model the best weights; after how many steps they were its own, None where these are the last."""
        best = best_step(rows, self._select_by)
        moved = best is not None and best != rows[-1]["step"]
        if moved:
            self._weights.put_back()
        self._weights.discard()
        return best if moved else None


class BestWeights:
    """The trained weights of the best look so far, in the stage's folder.

    Args:
        model: Only its parameters that require a gradient are kept.
        folder: The stage's folder.
    """

    def __init__(self, model: torch.nn.Module, folder: Path) -> None:
        self._model, self._path = model, folder / BEST

    def keep(self) -> None:
        """Keep the weights as they are now. A new file each time: a checkpoint holds a link to the one before."""
        partial = self._path.with_name(f".{BEST}.partial")
        save_file({name: weight.detach().contiguous() for name, weight in self._trained()}, partial)
        partial.replace(self._path)

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the model the weights that were kept."""
        kept = load_file(self._path)
        for name, weight in self._trained():
            weight.copy_(kept[name])

    def discard(self) -> None:
        """Remove what was kept."""
        self._path.unlink(missing_ok=True)

    def _trained(self) -> Iterable[tuple[str, torch.nn.Parameter]]:
        return ((name, weight) for name, weight in self._model.named_parameters() if weight.requires_grad)
