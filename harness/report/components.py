"""What metrics are made of: the gold score by part, and how far each layer of the weights has moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.numbers import number
from harness.report.figures import MOST_MODELS, first_of
from harness.report.page import Block, Code, Heading, Paragraph, Table, Text, cut
from harness.report.view import View


def gold_part_blocks(view: View) -> Iterator[Block]:
    """A table of the gold score's parts, models side by side; nothing where no reply was scored."""
    parts = {name: model.gold_parts for name, model in view.summary.models().items() if model.gold_parts}
    if parts:
        yield Heading("Gold score by part")
        yield Paragraph("Share of greedy replies that have each part, mean over seeds.")
        yield from _table(view, "part", parts)


def layer_blocks(view: View) -> Iterator[Block]:
    """A table of the layers, models side by side; nothing where drift was not measured."""
    layers = {name: model.layers for name, model in view.summary.models().items() if model.layers}
    if layers:
        yield Heading("How far each layer has moved")
        yield Paragraph(
            "Frobenius norm of the change of a layer's weights over that of the base's layer, mean over seeds; of an adapter the "
            "merged update. A layer that was all zeros has none."
        )
        yield from _table(view, "layer", layers)


def _table(view: View, noun: str, found: Mapping[str, Mapping[str, float]]) -> list[Block]:
    shown = dict(list(found.items())[:MOST_MODELS])
    names = dict.fromkeys(name for values in shown.values() for name in values)
    rows: list[list[Text]] = [
        [Code(name), *(number(values.get(name)) for values in shown.values())] for name in names
    ]
    caption = first_of(MOST_MODELS, len(found), "models").strip()
    return cut(Table([noun, *shown], rows, caption=caption), view.export)
