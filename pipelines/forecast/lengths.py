"""How many tokens the pairs have: read from prepared data, else from a sample of the source, made by the shared loader."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from pipelines.data.drops import Drop
from pipelines.data.forms import Pair
from pipelines.data.prepared import read_outcome, read_split
from pipelines.data.reading import read_pairs
from pipelines.data.render import Renderer, TokenizedPair
from pipelines.data.splitting import split_of
from pipelines.data.tokenizers import load_tokenizer
from pipelines.data.window import fit
from pipelines.errors import PipelineError
from pipelines.forecast.request import Lengths, LengthSource

SAMPLE = 500
TOY = "toy"


def lengths_of(source: LengthSource) -> Lengths:
    """The lengths of the training pairs, or of a sample of all pairs; none where the data or the tokenizer is elsewhere.

    Raises:
        PipelineError: the data is here and malformed.
    """
    if source.prepared is not None:
        return _prepared(Path(source.prepared))
    if source.data.path != TOY and not Path(source.data.path).exists():
        return Lengths()
    usable = [found for _, found in read_pairs(source.data).pairs if not isinstance(found, Drop)]
    try:
        fitting, share = _sample(source, usable)
    except (OSError, PipelineError):  # the tokenizer is not on this machine
        fitting, share = [], 1.0
    data = source.data
    splits = Counter(split_of(pair.prompt, data) for pair in usable)
    return Lengths(
        source="sample" if fitting else "max_length",
        num_train_pairs=_capped(splits["train"] * share, data.max_train_pairs),
        num_test_pairs=_capped(splits["test"] * share, data.max_test_pairs),
        **_of_pairs(
            [(len(pair.prompt_ids), len(pair.chosen_ids), len(pair.rejected_ids)) for pair in fitting]
        ),
    )


def _prepared(folder: Path) -> Lengths:
    splits = read_outcome(folder).splits
    pairs = read_split(folder, "train").select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
    rows = [(len(row["prompt_ids"]), len(row["chosen_ids"]), len(row["rejected_ids"])) for row in pairs]
    return Lengths(
        source="prepared data",
        num_train_pairs=splits["train"].num_pairs,
        num_test_pairs=splits["test"].num_pairs,
        **_of_pairs(rows),
    )


def _of_pairs(pairs: list[tuple[int, int, int]]) -> dict[str, Any]:
    """What is known of prompts, chosen and rejected replies of so many tokens."""
    if not pairs:
        return {}
    replies = sum(chosen + rejected for _, chosen, rejected in pairs)
    prompts = 2 * sum(prompt for prompt, _, _ in pairs)
    return {
        "chosen": [prompt + chosen for prompt, chosen, _ in pairs],
        "rejected": [prompt + rejected for prompt, _, rejected in pairs],
        "completion_share": replies / (prompts + replies),
    }


def _sample(source: LengthSource, usable: list[Pair]) -> tuple[list[TokenizedPair], float]:
    """Pairs drawn from all over the source that fit the window, and the share of pairs that do."""
    renderer = Renderer(load_tokenizer(source.model))
    drawn = random.Random(0).sample(usable, min(SAMPLE, len(usable)))
    fitted = [
        fit(pair, source.max_length, truncation=source.data.truncation, renderer=renderer)
        for pair in renderer.tokenize(drawn)
        if not isinstance(pair, Drop)
    ]
    fitting = [pair for pair in fitted if not isinstance(pair, Drop)]
    return fitting, len(fitting) / max(1, len(drawn))


def _capped(count: float, most: int | None) -> int:
    return round(count) if most is None else min(round(count), most)
