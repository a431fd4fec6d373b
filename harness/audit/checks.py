"""What a check says, and the few ways in which checks come to say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from pipelines.stages import Strict

CheckStatus = Literal["pass", "warning", "fail", "not_applicable"]
RECORDED = "recorded"  # the check that applies wherever a training stage finished
COMPARED = "same_settings"  # the check that applies, or fails, wherever two arms were trained
SHOWN = 3  # findings that are told one by one


class Check(Strict):
    """One question, its answer and what it rests on."""

    id: str
    status: CheckStatus
    evidence: str = Field(
        description="Which stage, which pair, which numbers; or why it could not be judged."
    )


class Audit(Strict):
    """Unfair where a check failed, or where no training stage had finished: nothing was shown to be fair."""

    verdict: Literal["fair", "unfair"]
    checks: list[Check]

    def unjudged(self) -> list[Check]:
        """The checks for which nothing was recorded, or to which nothing applies."""
        return [check for check in self.checks if check.status == "not_applicable"]

    def is_of_nothing(self) -> bool:
        """Whether no training stage had finished."""
        return any(check.id == RECORDED for check in self.unjudged())

    def not_compared(self) -> str:
        """Why no arm was held against another; empty where they were."""
        return next((check.evidence for check in self.unjudged() if check.id == COMPARED), "")

    def told(self) -> str:
        """The verdict in a line, and what it does not rest on."""
        unjudged = f"{len(self.unjudged())} of {len(self.checks)} checks do not apply"
        if self.is_of_nothing():
            return f"{self.verdict}: nothing to judge, {self.not_compared()}; {unjudged}"
        return "; ".join(filter(None, [self.verdict, self.not_compared(), unjudged]))

    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.status == "fail"]


def judged(name: str, problems: Sequence[str], passed: str) -> Check:
    """Failed with `problems`, or passed with the sentence `passed`."""
    return Check(id=name, status="fail" if problems else "pass", evidence=told(problems) or passed)


def warned(name: str, problems: Sequence[str], passed: str) -> Check:
    """A warning with `problems`, or passed with the sentence `passed`."""
    return Check(id=name, status="warning" if problems else "pass", evidence=told(problems) or passed)


def not_applicable(name: str, reason: str) -> Check:
    """Neither passed nor failed."""
    return Check(id=name, status="not_applicable", evidence=reason)


def told(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    more = len(problems) - SHOWN
    return "; ".join([*problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])])
