"""A comparison that runs in seconds: a tiny local model with its tokenizer, and pairs in a JSONL file."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.toy.tickets import make_pairs
from pipelines.toy.tokenizer import make_tokenizer
from tests.stock_orpo import ORPO

NUM_PAIRS = 40
COMMAND = [sys.executable, "-m", "harness"]
REPOSITORY = Path(__file__).resolve().parents[2]
# Also what the tests themselves were started with: `tests/without_experimental`, for one.
SOURCES = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
ENVIRONMENT = {"PYTHONPATH": SOURCES, "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}


def make_model(folder: Path) -> None:
    """An untrained two-layer Llama with the toy world's tokenizer."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_config(root: Path, **changes: Any) -> Path:
    """Model, pairs and config below `root`; returns the config's path."""
    make_model(root / "model")
    rows = make_pairs(NUM_PAIRS, seed=1)
    random.Random(0).shuffle(rows)
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = {"learning_rate": 0.01, "num_train_epochs": 1}
    content: dict[str, Any] = {
        "schema": 1,
        "name": "small",
        "model": {"name": str(root / "model")},
        "data": {"path": str(root / "pairs.jsonl"), "test_share": 0.3, "validation_share": 0.1},
        "training": {"effective_batch": 8, "micro_batch": 8, "max_length": 128},
        "arms": {
            "orpo": [{"trainer": "orpo", "implementation": ORPO, "arguments": arguments}],
            "sft-dpo": [
                {"trainer": "sft", "arguments": arguments},
                {"trainer": "dpo", "arguments": arguments},
            ],
        },
        "seeds": 2,
        "threads": 1,
        "device": "cpu",
    }
    path = root / "small.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def prefduel(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, in another process."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def start_run(cwd: Path, *, killed: str | None = None) -> subprocess.Popen[str]:
    """Start `prefduel run small.yaml` in a process group of its own and leave it running; errors can be read.

    Args:
        cwd: Where the config lies.
        killed: The moment at which the run kills itself, as `tests.end_to_end.killed` takes it.
    """
    command = COMMAND if killed is None else [sys.executable, "-m", "tests.end_to_end.killed", killed]
    return subprocess.Popen(
        [*command, "run", "small.yaml"],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def records(root: Path, name: str = "small") -> dict[str, dict[str, Any]]:
    """The records of the stages that have their name, by id."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in (root / "results" / name).glob("*/record.json")
        if not path.parent.name.startswith(".")
    }


def started(root: Path) -> dict[str, str]:
    """When each stage that is done was started."""
    return {name: record["started_at"] for name, record in records(root).items()}
