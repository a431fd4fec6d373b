"""Whether the arms were treated alike: the audit, check by check."""

from __future__ import annotations

from harness.report.page import Paragraph, Section, Table
from harness.report.view import View

SAID = {"pass": "pass", "warning": "warning", "fail": "FAIL", "not_applicable": "not applicable"}


def audit_section(view: View) -> Section:
    """A row a check, with its evidence."""
    audit = view.summary.audit
    if audit is None:
        return Section("Fairness", [Paragraph("Not audited.")])
    rows = [(check.id, SAID[check.status], view.shown(check.evidence)) for check in audit.checks]
    unsaid = f" ({view.shown(audit.not_compared())})" if audit.not_compared() else ""
    verdict = f"The audit's verdict: {audit.verdict}{unsaid}. What each check means is in docs/fairness.md of the project."
    return Section(
        "Fairness", [Paragraph(verdict), Table(["check", "result", "evidence"], rows, align="lll")]
    )
