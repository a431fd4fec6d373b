"""What the sections of a report are made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from harness.hostile import without_paths
from harness.plan import Trial
from harness.report.palette import Look, look
from harness.results import Results
from harness.summary_schema import Summary

# Each begins where a word does and is bounded or cannot backtrack: hostile text of a million characters takes no longer than its length.
# What services give out as keys, what is assigned to a secret, `name:word@` in an address, `user@host` (a sweep names its points
# `arm@2`), a host by name or by private address.
_SECRETS = re.compile(
    r"\b(?:hf_|gh[opsur]_|github_pat_|sk-|glpat-|nvapi-|xox[abp]-|AKIA)[A-Za-z0-9_-]{8,}"
    r"|(?<![\w.-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|(?<=://)[^\s/@]+@|(?i:bearer )[\w.~+/-]{8,}=*"
    r"|(?i:(?<=[?&\s])(?:api[_-]?key|access[_-]?key|token|secret|password)=)[^\s&'\"]+"
    r"|(?<![\w.-])[\w.-]+@[A-Za-z][\w-]*(?:\.[\w-]+)*(?![\w@])"
    r"|(?<![\w.-])[\w-]+(?:\.[\w-]+)*\.(?:internal|intranet|local|localdomain|lan|corp)(?:\.[\w-]+)*(?![\w@])"
    r"|(?:(?<=http://)|(?<=https://))(?!localhost)[\w-]+(?![\w.@-])"
    r"|(?<=\bhost=)(['\"])[^'\"]*\1"
    r"|(?<![\w.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}(?![\w.])"
)


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
        return text if self.with_host else public(text)


def public(text: str) -> str:
    """`text` without what names a machine or a user, or opens a door."""
    return without_paths(without_secrets(text))


def without_secrets(text: str) -> str:
    """`text` without keys, users and hosts; paths stay."""
    return _SECRETS.sub("[hidden]", text)
