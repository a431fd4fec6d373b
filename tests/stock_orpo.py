"""Whether TRL's experimental ORPOTrainer is here: tests of its own need it, all others take what there is."""

from __future__ import annotations

import pytest

from harness.requirements import has_stock_orpo

ORPO = "trl" if has_stock_orpo() else "fused"
needs_stock_orpo = pytest.mark.skipif(
    not has_stock_orpo(), reason="TRL's experimental ORPOTrainer is not here"
)
