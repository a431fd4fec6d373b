"""Figures: each caption says how many seeds and items it shows, and nothing lies across anything."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from harness.report.curves import legend_below
from harness.report.figures import first_of, panel_axes, short_names, span
from harness.report.palette import drawing, look
from harness.report.sweep_curves import SweepLine, SweepPanel, label_values, limits, ticks
from harness.report.view import View
from harness.report.write import make_page
from harness.results import read_results
from harness.summary import make_summary
from tests.harness.fixtures_results import Run, make_results
from tests.harness.test_learning import looked
from tests.harness.test_sweep import SWEPT

WITHOUT_ITEMS = "learning"  # a training loss is on all pairs


def test_every_caption_says_how_many_seeds_and_items_are_behind_it(tmp_path: Path) -> None:
    results = read_results(looked(tmp_path, SWEPT))
    captions = {
        figure.stem: figure.caption for figure in make_page(View(results, make_summary(results))).figures()
    }
    assert set(captions) == {
        "quality-cost", "differences", "differences-other-metrics", "quality", "learning", "validation", "likelihood", "sweep",
        "sweep-cost", "sweep-sft-signal",
    }  # fmt: skip  # the reliability curves' caption: test_stations.py
    for stem, caption in captions.items():
        assert re.search(r"\d+ seeds|n = up to \d+", caption), stem
        assert re.search(r"\d+ (validation )?(items|pairs)", caption) or stem == WITHOUT_ITEMS, stem


def test_a_legend_lies_below_the_label_of_its_panel() -> None:
    with drawing():
        figure, (axes,) = panel_axes(1, 3.0)
        for name in ("one", "other", "third"):
            axes.plot([0, 1], [0, 1], label=name)
        axes.set_xlabel("policy tokens so far", fontsize=8)
        legend_below(axes)
        figure.draw_without_rendering()
        legend = axes.get_legend()
        assert legend is not None
        box = legend.get_window_extent()
        assert box.y1 < axes.xaxis.label.get_window_extent().y0
        assert box.y0 > 0


@pytest.mark.parametrize("place", range(7))
def test_the_chosen_value_of_a_sweep_is_labelled(place: int) -> None:
    x = [0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
    line = SweepLine("", x, [0.5] * 7, [None] * 7, [[]] * 7, [at == place for at in range(7)])
    assert x[place] in ticks(SweepPanel("orpo", "beta", look(0), [line]))


@pytest.mark.parametrize(
    "values",
    [
        [0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0],
        [0.01, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0],
        [1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3],
        [1, 2, 3],
        [0.1, *(1.01**power for power in range(40))],
    ],
)
def test_labels_of_swept_values_do_not_touch_and_few_are_left_out(values: list[float]) -> None:
    with drawing():
        figure, (axes, *_) = panel_axes(3, 3.0)
        axes.plot(values, values)
        none = [None] * len(values)
        line = SweepLine("", values, values, none, [[]] * len(values), [False] * len(values))
        label_values(axes, SweepPanel("orpo", "beta", look(0), [line]))
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert sorted([*axes.get_xticks(), *axes.get_xticks(minor=True)]) == sorted(values)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert len(boxes) >= min(len(values), 3)


def test_an_interval_of_few_seeds_does_not_flatten_the_curves() -> None:
    seeds = [[0.5, 0.6], [0.7, 0.7]]
    line = SweepLine("", [1, 2], [0.55, 0.7], [(-1.0, 2.0), None], seeds, [False, False])
    low, high = limits([SweepPanel("orpo", "beta", look(0), [line])])
    assert 0.4 < low < 0.5
    assert 0.7 < high < 0.8
    assert limits([SweepPanel("orpo", "beta", look(0), [SweepLine("", [1], [0], [None], [[]], [True])])]) == (
        -0.15,
        0.15,
    )


def test_counts_in_captions() -> None:
    assert (span([5, 5]), span([98, 196, 100])) == ("5", "98 to 196")
    assert (first_of(16, 16, "models"), first_of(16, 17, "models")) == ("", " The first 16 of 17 models.")


def test_a_caption_spans_the_seeds_of_all_its_rows(tmp_path: Path) -> None:
    run = Run(seeds=5, failed={("orpo", 1): ("out_of_memory", "no memory left")})
    results = read_results(make_results(tmp_path, run))
    figures = make_page(View(results, make_summary(results))).figures()
    (caption,) = [figure.caption for figure in figures if figure.stem == "differences"]
    assert "(n = 4 to 5 seeds, 60 items)" in caption


@pytest.mark.parametrize("most", [20, 26, 40])
@pytest.mark.parametrize(
    "names",
    [
        ["orpo", "sft-dpo"],
        [f"orpo-with-a-long-name-of-its-own-{middle}-and-the-same-end-everywhere" for middle in "abc"],
        [f"orpo-with-a-long-name-{middle}-and-the-same-end-everywhere" for middle in ("", "b", "bb", "bc")],
        [f"orpo-with-{a}-long-name-of-its-own-and-the-same-{b}-nd-everywhere" for a in "xy" for b in "xy"],
        ["orpo-with-a-long-name", "orpo-with-a-long-name-at-whose-end-there-is-more-and-more"],
        ["a" * 60, "a" * 61, "a" * 62],
    ],
)
def test_long_names_of_one_figure_can_be_told_apart(names: list[str], most: int) -> None:
    labels = short_names(names, most)
    assert list(labels) == names
    assert len(set(labels.values())) == len(names)
    for name, label in labels.items():
        assert label == name or (len(label) <= most < len(name) and "…" in label)
        parts = label.split("…")
        assert name.startswith(parts[0])
        assert name.endswith(parts[-1])


def test_long_names_that_differ_in_one_place_are_cut_around_it() -> None:
    names = [
        f"orpo-with-a-long-name-of-its-own-{middle}-and-the-same-end-everywhere" for middle in ("one", "two")
    ]
    assert list(short_names(names).values()) == ["orpo-with-a…one…everywhere", "orpo-with-a…two…everywhere"]
    assert short_names(names[:1]) == {names[0]: "orpo-with-a-l…d-everywhere"}
