"""The report: one prepared page, formatted as Markdown and as HTML. Only `write` touches files."""

from harness.recommendation import verdict_lines
from harness.report.write import write_report

__all__ = ["verdict_lines", "write_report"]
