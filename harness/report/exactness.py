"""How exact the evaluations' numbers are: what the size of a batch may change in them."""

from __future__ import annotations

from collections.abc import Iterator

from harness.numbers import count, number
from harness.report.page import Block, Bullets, Heading, Paragraph, Text
from harness.report.view import View


def exactness_blocks(view: View) -> list[Block]:
    """Near ties of greedy replies, and in less than float32 the noise of the log-probs; nothing where neither is known."""
    lines: list[Text] = [*_near_ties(view), *_noise(view)]
    if not lines:
        return []
    about = (
        "In float32 a log-prob is the same to 1e-5 whatever the batch, and a greedy reply the same but where the two likeliest tokens lie "
        "within 1e-4 nats of each other. In bfloat16 both move with the batch."
    )
    return [Heading("How exact"), Paragraph(about), Bullets(lines)]


def _near_ties(view: View) -> Iterator[str]:
    found = {name: model.near_ties for name, model in view.summary.models().items() if model.near_ties}
    if found:
        told = "; ".join(
            f"{name} {count(ties.num_places)} of {count(ties.num_tokens)} places, in {count(ties.num_replies)} replies"
            for name, ties in found.items()
        )
        yield f"Near ties in greedy replies: {told}."


def _noise(view: View) -> Iterator[str]:
    for name, model in view.summary.models().items():
        noises = [seed.noise for seed in model.diagnostics if seed.noise]
        if noises:
            sizes = ", ".join(map(str, noises[0].sizes))
            yield (
                f"Evaluation noise of {name}, over batches of {sizes} and the config's size, on {noises[0].num_pairs} pairs (the largest of "
                f"{len(noises)} seeds): mean preference_margin {number(max(noise.mean_margin_spread for noise in noises))}, one pair's "
                f"{number(max(noise.largest_margin_change for noise in noises))} nats per token; preference_accuracy "
                f"{number(max(noise.accuracy_spread for noise in noises))}."
            )
