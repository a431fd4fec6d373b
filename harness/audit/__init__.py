"""Whether a comparison was fair, judged by what its stages recorded: `prefduel audit`."""

from harness.audit.audit import audit
from harness.audit.checks import Audit, Check

__all__ = ["Audit", "Check", "audit"]
