"""What several stages at a time are refused with."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worker_rules import broken_worker_rules
from tests.harness.fixtures_results import Run

TOGETHER: dict[str, Any] = {"workers": 2, "metering": "relaxed"}


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"workers": 2}, "workers", "must be 1 with `metering: strict`, got 2"),
        ({"workers": "auto"}, "workers", "must be 1 with `metering: strict`, got auto"),
        (TOGETHER | {"device": "cuda"}, "workers", "must be 1 with `device: cuda`, got 2"),
        (TOGETHER | {"threads": None}, "threads", "must be given with `workers: 2`"),
        (TOGETHER | {"budget": {"match": "seconds"}}, "budget.match", "must not be seconds"),
        (TOGETHER | {"nightly": {"remeasure": "costs"}}, "nightly.remeasure", "must not be costs"),
    ],
)
def test_what_would_rest_on_spoilt_seconds_is_refused(changes: dict[str, Any], key: str, says: str) -> None:
    ((found, problem),) = broken_worker_rules(Run(changes=changes).comparison())
    assert found == key
    assert problem.startswith(says)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        TOGETHER,
        {"metering": "relaxed"},
        {"workers": "auto", "metering": "relaxed", "threads": "auto", "device": "cuda"},
        {"threads": "auto"},
    ],
)
def test_what_is_declared_is_allowed(changes: dict[str, Any]) -> None:
    assert not list(broken_worker_rules(Run(changes=changes).comparison()))
