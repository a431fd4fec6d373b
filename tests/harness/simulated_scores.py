"""Made-up scores of two arms, many replications at once, with everything that makes real ones vary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
MEAN, ITEM_SD, RESIDUAL_SD = 0.6, 0.2, 0.15


@dataclass(frozen=True)
class Cell:
    """One setting of the generator."""

    num_seeds: int
    num_items: int
    seed_sd: float
    arm_by_item_sd: float
    kind: Literal["binary", "continuous"]
    tail: Literal["normal", "t3"]
    correlation: float

    def draw(
        self, replications: int, *, difference: float = 0.0, seed: int = 0
    ) -> tuple[FloatArray, FloatArray]:
        """Scores (replications, seeds, items) of arm A and arm B; A's level lies `difference` higher."""
        random = np.random.default_rng([seed, self.num_seeds, self.num_items])
        items = random.normal(0, ITEM_SD, (replications, 1, self.num_items))
        shared = self._seeds(random, replications)
        arms = []
        for shift in (difference, 0.0):
            own = self._seeds(random, replications)
            seeds = np.sqrt(self.correlation) * shared + np.sqrt(1 - self.correlation) * own
            arm_by_item = random.normal(0, self.arm_by_item_sd, (replications, 1, self.num_items))
            level = MEAN + shift + items + arm_by_item + self.seed_sd * seeds
            arms.append(self._score(random, level))
        return arms[0], arms[1]

    def _seeds(self, random: np.random.Generator, replications: int) -> FloatArray:
        shape = (replications, self.num_seeds, 1)
        if self.tail == "normal":
            return random.standard_normal(shape)
        return random.standard_t(3, shape) / np.sqrt(3)  # a t with 3 degrees of freedom has a variance of 3

    def _score(self, random: np.random.Generator, level: FloatArray) -> FloatArray:
        if self.kind == "binary":
            return (random.random(level.shape) < level).astype(np.float64)
        return np.clip(level + random.normal(0, RESIDUAL_SD, level.shape), 0, 1)


SIX_CELLS = (
    Cell(2, 200, 0.02, 0.1, "binary", "normal", 0.0),
    Cell(3, 50, 0.05, 0.0, "continuous", "normal", 0.5),
    Cell(5, 200, 0.02, 0.1, "binary", "normal", 0.0),
    Cell(5, 200, 0.05, 0.3, "continuous", "t3", 0.0),
    Cell(10, 200, 0.05, 0.3, "binary", "normal", 0.5),
    Cell(8, 50, 0.0, 0.3, "continuous", "normal", 0.0),
)
