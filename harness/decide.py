"""What `prefduel decide` says: the summary's verdict and what stands beside it, under a rule that may be changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from harness.config_errors import did_you_mean
from harness.declared import redecided
from harness.errors import UserError
from harness.metrics import metric
from harness.recommendation import verdict_lines
from harness.results import read_results
from harness.sentences import RULE_WORDS, aa_text, secondary_text
from harness.summary import make_summary
from harness.summary_schema import Summary

JUDGED = ("verdict", "rule", "baselines", "secondary", "aa_control", "outlier_seeds", "doubts")


def judged_again(folder: Path, changes: dict[str, object]) -> Summary:
    """The summary of a results folder with the given keys of the decision rule changed.

    Raises:
        UserError: not a results folder, damaged, or no such metric was measured.
    """
    results = read_results(folder)
    try:
        results = redecided(results, changes)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{first['loc'][0]} {first['input']}: {first['msg'].lower()}.") from error
    summary = make_summary(results)
    name = summary.verdict.metric
    measured = [key for key in summary.metric_names() if metric(key).direction != "none"]
    if "metric" in changes and name not in measured:
        raise UserError(
            f"--metric {name}: must be one that was measured and has a better direction. "
            f"{did_you_mean(name, measured)}"
        )
    return summary


def decision_lines(summary: Summary) -> Iterator[str]:
    """The three lines, the rule, and what stands beside the verdict."""
    yield from verdict_lines(summary)
    verdict = summary.verdict
    said = RULE_WORDS[summary.rule.status] if summary.rule else RULE_WORDS["unknown"]
    yield (
        f"Rule: {verdict.metric}, margin {verdict.margin:g}, alpha {verdict.alpha:g}; {said} "
        f"(hash {verdict.decision_hash[:12]})"
    )
    for contrast in summary.secondary:
        yield f"Secondary: {secondary_text(contrast)}"
    if summary.aa_control is not None:
        yield f"A/A control: {aa_text(summary.aa_control)}"


def decision_json(summary: Summary) -> str:
    """The same as JSON, in the form that these keys have in `summary.json`."""
    content = summary.model_dump(mode="json", by_alias=True)
    return json.dumps({key: content[key] for key in JUDGED}, indent=2, ensure_ascii=False)
