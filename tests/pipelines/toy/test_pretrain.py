"""Pre-training of the toy base: it learns, repeats to the bit, and leaves a plain checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipelines.outcomes import PretrainOutcome
from pipelines.stages import PretrainSettings, Stage
from pipelines.toy.pretrain import pretrain

DOCUMENTS = 200


class Notebook:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.reported: list[tuple[int, int]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.phases.append(name)
        yield

    def progress(self, done: int, total: int) -> None:
        self.reported.append((done, total))


def run(folder: Path, *, seed: int = 5, documents: int = DOCUMENTS) -> tuple[PretrainOutcome, Notebook]:
    folder.mkdir()
    stage = Stage(
        id="pretrain-000000000000",
        settings=PretrainSettings(kind="pretrain", documents=documents),
        seed=seed,
        threads=1,
        device="cpu",
    )
    notebook = Notebook()
    return pretrain(stage, folder, notebook), notebook


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PretrainOutcome, Notebook]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("toy") / "base"
    return folder, *run(folder)


def test_the_loss_falls_and_each_step_is_noted(trained: tuple[Path, PretrainOutcome, Notebook]) -> None:
    folder, outcome, notebook = trained
    rows = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, outcome.num_steps + 1))
    assert rows[0]["loss"] > 2 * rows[-1]["loss"]
    assert rows[-1]["loss"] == outcome.final_loss
    assert all(row["learning_rate"] >= 0 for row in rows)
    assert notebook.reported == [(step, outcome.num_steps) for step in range(1, outcome.num_steps + 1)]
    assert {"data", "train", "save"} <= set(notebook.phases)


def test_the_first_loss_is_far_from_certain_and_near_the_vocabulary(
    trained: tuple[Path, PretrainOutcome, Notebook],
) -> None:
    folder, _, _ = trained
    first = json.loads((folder / "losses.jsonl").read_text().splitlines()[0])["loss"]
    uniform = math.log(len(AutoTokenizer.from_pretrained(folder / "model")))
    assert 0.8 * uniform < first < 1.5 * uniform


def test_the_same_seed_gives_the_same_bits_whatever_ran_before(
    trained: tuple[Path, PretrainOutcome, Notebook], tmp_path: Path
) -> None:
    folder, outcome, _ = trained
    torch.manual_seed(12345)
    torch.rand(7)
    again, _ = run(tmp_path / "again")
    assert again == outcome
    assert (tmp_path / "again" / "losses.jsonl").read_bytes() == (folder / "losses.jsonl").read_bytes()


def test_another_seed_gives_another_base(
    trained: tuple[Path, PretrainOutcome, Notebook], tmp_path: Path
) -> None:
    other, _ = run(tmp_path / "other", seed=6, documents=32)
    assert other.weights_hash != trained[1].weights_hash


def test_the_checkpoint_loads_plainly_and_is_what_the_outcome_says(
    trained: tuple[Path, PretrainOutcome, Notebook],
) -> None:
    folder, outcome, _ = trained
    weights = load_file(folder / "model" / "model.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == outcome.num_parameters
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert 200_000 < outcome.num_parameters < 300_000


def test_a_last_batch_that_is_not_full_counts_as_a_step(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path / "odd", documents=17)
    assert outcome.num_steps == 2
