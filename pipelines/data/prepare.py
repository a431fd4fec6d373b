"""The data stage: read, render, tokenize, filter and split the pairs once, for every arm and every evaluation."""

from __future__ import annotations

import gc
import hashlib
from array import array
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from pydantic_core import to_json

from pipelines.data.demonstrations import KEY as DEMONSTRATIONS
from pipelines.data.drops import Drop, Tally
from pipelines.data.fingerprints import pair_line
from pipelines.data.forms import Pair, readable
from pipelines.data.held_out import HeldOut
from pipelines.data.overlap import Sequences
from pipelines.data.prepared import OUTCOME, PAIRS, SPLITS_FOLDER, TOKENIZER_FOLDER
from pipelines.data.reading import Reading, read_demonstrations, read_pairs
from pipelines.data.render import Renderer, TokenizedPair
from pipelines.data.splitting import LEFT_OUT, SPLITS, rows_of_splits, split_of
from pipelines.data.tokenizers import load_tokenizer, template_source
from pipelines.data.window import fit
from pipelines.errors import PipelineError
from pipelines.evaluations import Split
from pipelines.outcomes import DataOutcome, SplitCount
from pipelines.stages import Observer, PrepareSettings, Stage

BATCH = 512
MOST_CHARACTERS = 2_000_000  # of a batch, one pair more or less
_BATCHES_AHEAD = 2  # the tokenizer lets other threads go on: it uses all processors, and Python's part one
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")
TEXTS = ("prompt_text", "chosen_text", "rejected_text")
_LINE = "line"  # a pair's line of `pairs.jsonl`, until its split is known
SCHEMA = pa.schema(
    [("uid", pa.string()), ("source_row", pa.int64())]
    + [(name, pa.list_(pa.int32())) for name in IDS]
    + [(name, pa.string()) for name in (*TEXTS, "category")]
)
_Batch = list[tuple[int, Pair, TokenizedPair | Drop]]  # each pair with its row's number
_SCRATCH = SCHEMA.append(pa.field(_LINE, pa.string()))


def prepare(stage: Stage, folder: Path, observer: Observer) -> DataOutcome:
    """Write `splits/`, `tokenizer/`, `pairs.jsonl` and `data.json` into `folder`. Memory does not grow with the length of the rows.

    Args:
        stage: With `PrepareSettings`.
        folder: The stage's folder.
        observer: Told of phases.

    Raises:
        PipelineError: the source is malformed, too many rows cannot serve, or a split that is needed is empty.
    """
    settings = stage.settings
    assert isinstance(settings, PrepareSettings)
    with observer.phase("load"):
        tokenizer = load_tokenizer(settings.model)
        renderer = Renderer(tokenizer)
    with observer.phase("data"), TemporaryDirectory(dir=folder) as scratch, _imports_kept():
        reading = (read_demonstrations if settings.demonstrations else read_pairs)(settings.data)
        writer = _Writer(Path(scratch) / "rows.arrow", settings, renderer, _held_out(stage, folder))
        writer.write(reading)
        writer.leave_out_test_tokens()
        _refuse_too_many_drops(writer.tally, settings)
        positions = rows_of_splits(writer.uids, writer.splits, data=settings.data)
        counts, content_hash = _save_splits(writer.path, positions, folder, settings)
    with observer.phase("save"):
        tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)
        outcome = DataOutcome(
            form=reading.form,
            num_rows=writer.tally.num_rows,
            dropped=writer.tally.dropped(),
            num_truncated=writer.num_truncated,
            num_system_merged=writer.num_system_merged,
            splits=counts,
            content_hash=content_hash,
            chat_template_source=template_source(tokenizer, settings.model),
            adds_bos=renderer.adds_bos,
            end_of_turn_ids=renderer.end_of_turn_ids,
            pad_token_id=tokenizer.pad_token_id,
        )
        (folder / OUTCOME).write_text(outcome.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return outcome


def _batches(pairs: Iterator[tuple[int, Pair]]) -> Iterator[list[tuple[int, Pair]]]:
    """As many pairs as go together, or fewer long ones: what is in memory at a time does not grow with their length."""
    batch: list[tuple[int, Pair]] = []
    num_characters = 0
    for number, pair in pairs:
        batch.append((number, pair))
        num_characters += pair.num_characters
        if len(batch) >= BATCH or num_characters >= MOST_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _finished(batch: list[tuple[int, Pair]], made: Future[list[TokenizedPair | Drop]]) -> _Batch:
    return [(number, pair, found) for (number, pair), found in zip(batch, made.result(), strict=True)]


@contextmanager
def _imports_kept() -> Iterator[None]:
    """Rows make the collector look through everything again and again; what is imported lives on in any case."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _Writer:
    """Writes every pair that can serve into one Arrow file, and remembers its uid and its split."""

    def __init__(
        self, path: Path, settings: PrepareSettings, renderer: Renderer, held_out: HeldOut | None
    ) -> None:
        self.path = path
        self.tally = Tally()
        # Of millions of pairs only these three stay in memory.
        self.uids = array("Q")
        self.splits = bytearray()
        self._sequences = Sequences()
        self.num_truncated = 0
        self.num_system_merged = 0
        self._settings = settings
        self._renderer = renderer
        self._held_out = held_out

    def write(self, reading: Reading) -> None:
        """Read `reading` to its end."""
        with pa.OSFile(str(self.path), "wb") as file, pa.ipc.new_stream(file, _SCRATCH) as stream:
            for batch in self._tokenized(self._usable(reading)):
                rows = [row for of_row in batch if (row := self._row(*of_row)) is not None]
                stream.write_batch(pa.RecordBatch.from_pylist(rows, schema=_SCRATCH))

    def _tokenized(self, pairs: Iterator[tuple[int, Pair]]) -> Iterator[_Batch]:
        """The pairs in batches, in their order, with their ids: some are tokenized while others are read and used."""
        with ThreadPoolExecutor(_BATCHES_AHEAD) as threads:
            ahead: deque[tuple[list[tuple[int, Pair]], Future[list[TokenizedPair | Drop]]]] = deque()
            for batch in _batches(pairs):
                of_batch = [pair for _, pair in batch]
                texts = list(map(self._renderer.texts, of_batch))
                ahead.append((batch, threads.submit(self._renderer.tokenize_texts, of_batch, texts)))
                if len(ahead) > _BATCHES_AHEAD:
                    yield _finished(*ahead.popleft())
            yield from starmap(_finished, ahead)

    def leave_out_test_tokens(self) -> None:
        """Put in no split the pairs that are a test pair's to the model, which the split by text cannot know."""
        places = self._sequences.also_in_test(self.splits)
        numbers = Dataset.from_file(str(self.path)).select(places)["source_row"] if len(places) else []
        for place, number in zip(places, numbers, strict=True):
            self.tally.drop(number, Drop.TEST_TOKENS)
            self.splits[place] = LEFT_OUT

    def _usable(self, reading: Reading) -> Iterator[tuple[int, Pair]]:
        for number, found in reading.pairs:
            self.tally.num_rows += 1
            if isinstance(found, Drop):
                self.tally.drop(number, found)
            elif self._held_out is not None and found.prompt in self._held_out:
                self.tally.drop(number, Drop.HELD_OUT)
            else:
                yield number, found

    def _row(self, number: int, pair: Pair, made: TokenizedPair | Drop) -> dict[str, Any] | None:
        settings = self._settings
        fitted = made
        if isinstance(made, TokenizedPair):
            fitted = fit(
                made, settings.max_length, truncation=settings.data.truncation, renderer=self._renderer
            )
        if isinstance(fitted, Drop):
            self.tally.drop(number, fitted)
            return None
        split: Split = "train" if settings.demonstrations else split_of(pair.prompt, settings.data)
        paired = not settings.demonstrations
        row: dict[str, Any] = {
            "uid": f"{pair.uid:016x}",
            "source_row": number,
            "prompt_ids": np.asarray(fitted.prompt_ids, np.int32),
            "chosen_ids": np.asarray(fitted.chosen_ids, np.int32),
            "rejected_ids": np.asarray(fitted.rejected_ids if paired else [], np.int32),
            "prompt_text": readable(pair.prompt),
            "chosen_text": pair.chosen,
            "rejected_text": pair.rejected if paired else "",
            "category": pair.category,
        }
        line = pair_line(row, split, self._renderer.end_of_turn_ids, paired=paired)
        if self._held_out is not None and line["chosen"] in self._held_out.sequences:
            self.tally.drop(number, Drop.TEST_TOKENS)
            return None
        self.num_truncated += fitted is not made
        self.num_system_merged += fitted.system_merged
        self.uids.append(pair.uid)
        self.splits.append(SPLITS.index(split))
        self._sequences.add(line["chosen"], line["rejected"])
        row[_LINE] = to_json(line).decode()
        return row


def _held_out(stage: Stage, folder: Path) -> HeldOut | None:
    """What the comparison's own data hold out; None for that stage itself."""
    return HeldOut(folder.parent / stage.inputs.data / PAIRS) if stage.inputs.data else None


def _refuse_too_many_drops(tally: Tally, settings: PrepareSettings) -> None:
    data, key = settings.data, DEMONSTRATIONS if settings.demonstrations else "data"
    if tally.num_dropped / tally.num_rows > data.max_dropped:
        raise PipelineError(
            f"{data.path}: {tally.num_dropped} of {tally.num_rows} rows cannot serve, more than {key}.max_dropped "
            f"({data.max_dropped:g}) allows: {tally.sentence()}."
        )


def _save_splits(
    path: Path,
    positions: dict[Split, array[int]],
    folder: Path,
    settings: PrepareSettings,
) -> tuple[dict[Split, SplitCount], str]:
    """Save every split and the line of hashes of each pair; returns the splits' sizes and the hash over all these lines."""
    needed: tuple[Split, ...] = ("train",) if settings.demonstrations else ("train", "test")
    for split in needed:
        if not positions[split]:
            raise PipelineError(
                f"no pair is left for the {split} split. Use more rows, other shares, or a larger training.max_length."
            )
    pairs = Dataset.from_file(str(path))
    digest = hashlib.sha256()
    counts: dict[Split, SplitCount] = {}
    with (folder / PAIRS).open("wb") as file:
        for split in SPLITS:
            chosen = pairs.select(np.asarray(positions[split], dtype=np.int64))
            # datasets 5.2 writes no file for an empty dataset unless told to, and then cannot load it.
            chosen.remove_columns(_LINE).save_to_disk(
                folder / SPLITS_FOLDER / split, num_shards=None if len(chosen) else 1
            )
            num_tokens = dict.fromkeys(IDS, 0)
            for batch in chosen.select_columns([_LINE, *IDS]).with_format("arrow").iter(BATCH):
                lines = "".join(f"{line}\n" for line in batch[_LINE].to_pylist()).encode()
                digest.update(lines)
                file.write(lines)
                for name in IDS:
                    num_tokens[name] += pc.sum(pc.list_value_length(batch[name])).as_py()
            prompt, won, lost = num_tokens.values()
            counts[split] = SplitCount(
                num_pairs=len(chosen),
                num_prompt_tokens=prompt,
                num_chosen_tokens=won,
                num_rejected_tokens=lost,
            )
    return counts, digest.hexdigest()
