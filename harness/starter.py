"""Writes the config that `prefduel init` gives to start from."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

from harness.errors import UserError
from harness.load_config import comparison_of_text
from pipelines.data.sources import TOY

TEMPLATE = Path(__file__).with_name("templates") / "starter.yaml"


def write_starter(path: Path, *, name: str, model: str, data: str) -> None:
    """Write a commented, valid config.

    Args:
        path: The file to write; it must not be there yet.
        name: The comparison's name.
        model: What `model.name` says.
        data: What `data.path` says.

    Raises:
        UserError: the file exists, its folder does not, or the name cannot be one.
    """
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=json.dumps(name),
        model=json.dumps(model),
        data=json.dumps(data),
        num_pairs="  num_pairs: 700\n" if data == TOY else "",
        tuning="full" if model == TOY else "lora",
        max_length=128 if model == TOY else 1024,
        learning_rate="1e-3" if model == TOY else "2e-4",
        dpo_learning_rate="5e-4" if model == TOY else "5e-6",
    )
    comparison_of_text(text, path)
    if path.exists():
        raise UserError(f"{path}: exists already. Use --output for another file.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}.")
    path.write_text(text, encoding="utf-8")
