"""`prefduel forecast` from the config to the table and the JSON, with the real process behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.forecast.history import errors, read_history
from harness.forecast.schema import Forecast
from tests.harness.configs import VALID, write

MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
PARAMETERS = 64 * 16 + 2 * (4 * 16 * 16 + 3 * 16 * 24 + 2 * 16) + 16
LOCAL = (
    VALID.replace("{name: toy}", "{name: base}")
    .replace("{path: toy, num_pairs: 100}", "{path: somewhere/else}")
    .replace("judges: [gold]", "max_items: 8")
    + "price_per_hour: 3.6\ndevice: cpu\n"
)


def shape_without_weights(folder: Path) -> None:
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text(json.dumps(MODEL))


def test_the_json_has_arms_stages_phases_parts_and_the_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    shape_without_weights(tmp_path)
    config = write(tmp_path, LOCAL)
    assert main(["forecast", str(config), "--json", "--pairs", "80"]) == 0
    found = json.loads(capsys.readouterr().out)
    arms = found["arms"]
    assert list(arms) == ["orpo", "sft-dpo"]
    assert [stage["kind"] for stage in arms["sft-dpo"]["stages"]] == ["sft", "dpo"]
    for arm in arms.values():
        assert arm["peak_memory_bytes"] == max(stage["peak_memory_bytes"] for stage in arm["stages"])
        assert arm["seconds"]["low"] < arm["seconds"]["mid"] < arm["seconds"]["high"]
        # 3.60 an hour are a thousandth a second.
        assert arm["money"]["mid"] == pytest.approx(arm["seconds"]["mid"] / 1000)
        for stage in arm["stages"]:
            assert stage["parts"]["weights_bytes"] == stage["parts"]["gradients_bytes"] == PARAMETERS * 4
            assert stage["parts"]["optimizer_bytes"] == 2 * PARAMETERS * 4
            for phase in stage["phases"].values():
                assert sum(phase["parts"].values()) == phase["peak_memory_bytes"]
    first, second = arms["orpo"], arms["sft-dpo"]
    assert found["ratio"]["peak_memory"] == first["peak_memory_bytes"] / second["peak_memory_bytes"]
    assert found["ratio"]["seconds"] == first["seconds"]["mid"] / second["seconds"]["mid"]
    assert "max_length" in found["lengths"]
    assert found["num_train_pairs"] == 80


@pytest.mark.slow
def test_the_table_speaks_of_another_card_and_of_the_toy_s_own_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    config = write(tmp_path, VALID)
    assert main(["forecast", str(config), "--device", "RTX 4090"]) == 0
    text = capsys.readouterr().out
    assert "RTX 4090, 24 GB (--device)" in text
    assert "lengths     sample: 100 pairs, mean " in text
    assert "fits    24 GB: 8 x 1" in text
    assert "orpo / sft-dpo: peak " in text


@pytest.mark.slow
def test_an_unknown_shape_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    config = write(tmp_path, LOCAL.replace("{name: base}", "{name: nobody/Nothing-9B}"))
    assert main(["forecast", str(config)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("model.name: the shape of 'nobody/Nothing-9B' is not on this machine.")


@pytest.mark.parametrize("path", ["/mnt/box/my pairs.jsonl", "pairs.json"])
def test_a_data_file_that_is_elsewhere_is_taken_as_long_as_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    shape_without_weights(tmp_path)
    config = write(tmp_path, LOCAL.replace("somewhere/else", path))
    assert main(["forecast", str(config), "--json", "--arm", "orpo"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lengths"].startswith("max_length")
    assert found["arms"]["orpo"]["stages"][0]["length"] == 1024
    assert found["notes"] == [
        f"data.path: there is no {path} on this machine; `prefduel run` needs it",
        "the data is not on this machine: 10000 training pairs are assumed (--pairs N)",
    ]
    # What runs needs the file.
    assert main(["plan", str(config), "--no-forecast"]) == 2


def test_sequences_longer_than_the_model_s_positions_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    shape_without_weights(tmp_path)
    (tmp_path / "base" / "config.json").write_text(json.dumps(MODEL | {"max_position_embeddings": 512}))
    config = write(tmp_path, LOCAL)
    assert main(["forecast", str(config), "--json", "--pairs", "80", "--arm", "orpo"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [
        "training.max_length: sequences of 1024 tokens are forecast, the model has 512 positions"
    ]


def test_an_unknown_device_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path, VALID)
    assert main(["forecast", str(config), "--device", "H1000"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--device H1000: must be one of cpu, RTX 3090")


def test_without_earlier_runs_the_error_is_the_stated_one(tmp_path: Path) -> None:
    found = errors(read_history(tmp_path), "cpu")
    assert (found.memory, found.seconds_factor) == (0.1, None)
    assert found.source.startswith("stated")


def test_the_schema_reads_what_it_writes() -> None:
    assert Forecast.model_json_schema()["properties"]["planned"]


def test_calibrating_times_real_steps_of_each_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    shape_without_weights(tmp_path)
    config = write(tmp_path, LOCAL)
    arguments = ["forecast", str(config), "--json", "--pairs", "80", "--arm", "orpo", "--calibrate"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    (stage,) = found["arms"]["orpo"]["stages"]
    assert stage["throughput_source"] == "measured here on 3 steps"
    assert 0 < stage["throughput"]["low"] < stage["throughput"]["mid"] < stage["throughput"]["high"]
    # Seconds are the operations at that speed, and the optimizer's own.
    assert stage["seconds"]["mid"] >= stage["flops"] / stage["throughput"]["mid"]
    assert found["ratio"] is None


@pytest.mark.slow
def test_a_sweep_s_later_trials_are_forecast_at_the_dearest_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    shape_without_weights(tmp_path)
    sweep = (
        "seeds: 3\nsweep: {seeds: 1, arms: {orpo: {points: "
        "[{0.arguments.beta: 1}, {0.arguments.num_train_epochs: 5}, {0.arguments.beta: 2}]}}, unequal_effort: a test}\n"
        "allow_difference: {num_train_epochs: a test}\n"
    )
    config = write(tmp_path, LOCAL + sweep)
    assert main(["forecast", str(config), "--json", "--pairs", "80"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Five epochs of 10 steps, not TRL's three.
    assert [stage["num_steps"] for stage in found["arms"]["orpo"]["stages"]] == [50]
    assert any("orpo@1, the dearest points" in note for note in found["notes"])
    by_kind = [one["kind"] for one in found["planned"]]
    assert by_kind.count("orpo") == 3  # its later trials have no id yet
    two_stages = found["arms"]["sft-dpo"]["seconds"]["mid"]
    orpo = found["arms"]["orpo"]["seconds"]["mid"]
    # Three points (two of three epochs), three fresh seeds of the dearest, three seeds of the other arm.
    expected = orpo * (3 + 1 + 2 * 3 / 5) + 3 * two_stages
    assert found["total"]["training_seconds"]["mid"] == pytest.approx(expected, rel=1e-6)
