"""The published claims, each as it was measured here: holds, does not hold, cannot tell, not measured."""

from __future__ import annotations

from harness.numbers import interval, with_interval
from harness.report.page import Bullets, Code, Paragraph, Section, Table, Text
from harness.report.view import View
from harness.summary_schema import Claim

TITLE = "Published claims"


def claims_section(view: View) -> Section | None:
    """A row for each claim and case, then the rule behind each; None where the summary has none."""
    claims = view.summary.claims
    if not claims:
        return None
    rows: list[tuple[Text, ...]] = [
        (
            claim.claim,
            f"{claim.status}: {claim.finding}" if claim.finding else claim.status,
            claim.case,
            claim.quantity or "nothing",
            "" if claim.value is None else with_interval(claim.value, claim.low, claim.high),
            "" if claim.low is None else interval(claim.low, claim.high),
            str(claim.num_seeds) if claim.num_seeds else "",
        )
        for claim in claims
    ]
    level = f"{100 * (1 - view.summary.verdict.alpha):g} % interval"
    head = ["claim", "here", "case", "measured", "value", level, "seeds"]
    intro = (
        "Said of ORPO in print; each judged by one rule that was fixed before. One comparison settles none of them for other "
        "models and data. The stages behind each number are in ",
        Code("summary.json"),
        " under ",
        Code("claims"),
        ".",
    )
    reasons = Bullets([_reason(claim) for claim in claims])
    return Section(TITLE, [Paragraph(intro), Table(head, rows, align="llllrrr"), reasons])


def _reason(claim: Claim) -> str:
    case = f" ({claim.case})" if claim.case else ""
    measured_by = f" To measure it: {claim.measured_by}." if claim.measured_by else ""
    return f"{claim.claim}{case}: {claim.status}; {claim.reason}.{measured_by}"
