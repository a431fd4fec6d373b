"""Which device a name means, and which one is this machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.config import Comparison
from harness.errors import UserError
from harness.forecast import devices
from harness.forecast.devices import device_for
from harness.forecast.speeds import speeds
from pipelines.forecast.request import ForecastAnswer, ForecastRequest
from tests.harness.configs import VALID, write


@pytest.fixture
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    from harness.load_config import load_comparison

    return load_comparison(write(tmp_path_factory.mktemp("config"), VALID))


@pytest.mark.parametrize(
    ("name", "card"),
    [("h200", "H200"), ("4090", "RTX 4090"), ("A100-80GB", "A100 80GB"), ("L40S", "L40S"), ("a10g", "A10G")],
)
def test_a_card_is_found_by_words_of_its_name(comparison: Comparison, name: str, card: str) -> None:
    assert device_for(comparison, name).name == card


@pytest.mark.parametrize("name", ["", " ", "L40", "A10", "4", "RTX 4090 Ti"])
def test_half_a_word_is_no_name_and_another_card_is_not_taken_for_it(
    comparison: Comparison, name: str
) -> None:
    with pytest.raises(UserError, match="must be one of cpu, RTX 3090"):
        device_for(comparison, name)


@pytest.mark.parametrize(
    ("name", "timed"), [("NVIDIA RTX A6000", True), ("NVIDIA L40S", True), (None, False)]
)
def test_a_card_in_no_table_is_timed_too_where_it_is_this_machine_s(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch, name: str | None, timed: bool
) -> None:
    here = SimpleNamespace(accelerator=name, accelerator_memory_bytes=48 * 10**9)
    monkeypatch.setattr(devices, "machine", lambda: here)
    monkeypatch.setattr(devices, "choose_device", lambda _device: "cuda")
    notes: list[str] = []

    def ask(_request: ForecastRequest) -> ForecastAnswer:
        raise AssertionError("there is nothing to time")

    device = device_for(comparison, None)
    speeds([], device, history=[], calibrate=True, threads=1, ask=ask, notes=notes)
    assert (not notes) == timed
