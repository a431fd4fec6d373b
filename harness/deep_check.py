"""`prefduel check --deep`: opens the tokenizer and tokenizes the first rows, as the data stage will.

The one place outside a stage's process that reaches into `pipelines` and loads the heavy libraries.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from statistics import median

from harness.config import Comparison
from harness.errors import UserError
from harness.hostile import terminal
from pipelines.errors import PipelineError

NUM_ROWS = 100


def deep_check_lines(comparison: Comparison) -> Iterator[str]:
    """Lines for a person: where the chat template comes from, how long the first rows are, how many fit.

    Raises:
        UserError: the tokenizer or the rows cannot be opened, or none of the rows fits the window.
    """
    from pipelines.data.drops import Drop, Tally
    from pipelines.data.reading import read_pairs
    from pipelines.data.render import Renderer
    from pipelines.data.tokenizers import load_tokenizer, template_source
    from pipelines.data.window import fit

    window = comparison.training.max_length
    try:
        tokenizer = load_tokenizer(comparison.model)
        source = template_source(tokenizer, comparison.model)
        yield f"tokenizer   {len(tokenizer)} tokens, chat template from: {source}"
        renderer = Renderer(tokenizer)
        rows = list(islice(read_pairs(comparison.data).pairs, NUM_ROWS))
        usable = [(number, found) for number, found in rows if not isinstance(found, Drop)]
        made = renderer.tokenize([pair for _, pair in usable])
    except (PipelineError, OSError) as error:
        raise UserError(f"--deep: {error}") from error
    tally = Tally()
    lengths: list[int] = []
    for (number, _), pair in zip(usable, made, strict=True):
        found = pair
        if not isinstance(found, Drop):
            lengths.append(len(found.prompt_ids) + max(len(found.chosen_ids), len(found.rejected_ids)))
            found = fit(found, window, truncation=comparison.data.truncation, renderer=renderer)
        if isinstance(found, Drop):
            tally.drop(number, found)
    if tally.num_dropped == len(usable):
        raise UserError(
            f"training.max_length must leave room for pairs, got {window}: none of the first {len(rows)} rows fits."
        )
    yield f"tokens      first {len(rows)} rows: median {median(lengths):.0f}, longest {max(lengths)}, window {window}"
    if tally.num_dropped:
        yield terminal(f"            of {len(usable)} usable ones drop out: {tally.sentence()}")
