"""What the sections of a report are made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from harness.hiding import path_names, public, without_named
from harness.plan import Trial
from harness.report.palette import Look, look
from harness.results import Results
from harness.summary_schema import Summary


@dataclass(frozen=True)
class View:
    """A run's files, their summary, and how much of the machine may be shown.

    Attributes:
        with_host: Show absolute paths, names of users and hosts where the files have them.
    """

    results: Results
    summary: Summary
    with_host: bool = False

    @cached_property
    def models(self) -> dict[str, list[Trial]]:
        """The trials of each model, controls first."""
        return self.results.models()

    @cached_property
    def arms(self) -> dict[str, list[Trial]]:
        """The trials of each arm."""
        return {name: trials for name, trials in self.models.items() if trials[0].role == "arm"}

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How each model is drawn, the same in every figure."""
        return {name: look(place) for place, name in enumerate(self.models)}

    @property
    def name(self) -> str:
        """The comparison's name."""
        return self.summary.comparison

    @property
    def export(self) -> str:
        """The command that writes the results as tables."""
        return f"prefduel export results/{self.name}"

    def shown(self, text: str) -> str:
        """`text` without absolute paths, keys and names of users and hosts, unless they were asked for."""
        if self.with_host:
            return text
        return public(without_named(text, self._paths))

    @cached_property
    def _paths(self) -> dict[str, str]:
        return path_names(self.results.plan.comparison)
