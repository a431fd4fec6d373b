"""The published claims, each as it was measured here: holds, does not hold, cannot tell, not measured."""

from __future__ import annotations

from harness.numbers import interval, ratio_with_interval, with_interval
from harness.report.page import Bullets, Code, Paragraph, Section, Table, Text
from harness.report.view import View
from harness.summary_schema import Claim

TITLE = "Published claims"
RATIOS = ("half_the_memory", "lands_in_one_pass")  # claims whose value is a ratio of costs


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
            *_value(claim),
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


def _value(claim: Claim) -> tuple[str, str]:
    """What was measured and its interval; both empty where there is none."""
    value, low, high = claim.value, claim.low, claim.high
    if value is None:
        return "", ""
    if claim.name in RATIOS:
        shown, bounds = ratio_with_interval(value, low, high)
    else:
        shown, bounds = with_interval(value, low, high), interval(low, high)
    return shown, "" if low is None else bounds


def _reason(claim: Claim) -> str:
    case = f" ({claim.case})" if claim.case else ""
    measured_by = f" To measure it: {claim.measured_by}." if claim.measured_by else ""
    return f"{claim.claim}{case}: {claim.status}; {claim.reason}.{measured_by}"
