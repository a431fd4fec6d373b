"""A small valid config as text, to be changed by the tests of the command line."""

from __future__ import annotations

from pathlib import Path

VALID = """\
schema: 1
name: small
model: {name: toy}
data: {path: toy, num_pairs: 100}
training: {effective_batch: 8, micro_batch: 4}
arms:
  orpo:
    - trainer: orpo
      arguments: {learning_rate: 1e-3, beta: 0.1}
  sft-dpo:
    - trainer: sft
    - trainer: dpo
      reference: copy
evaluations:
  generation: {judges: [gold]}
"""


def write(folder: Path, text: str = VALID) -> Path:
    """Write `text` as a config file into `folder` and return its path."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path
