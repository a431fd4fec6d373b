"""What the policy received while it was trained, micro-batch by micro-batch: `batches.jsonl`.

What a line proves. The token ids are read in a hook of the module that the trainer calls, so they are what the model
got, after dataset columns, sampler, collator and padding. The positions that the loss covers are those of the labels that the
trainer hands to the model (SFT and DPO of TRL 1.16) or, where it hands none (ORPO), of the labels or mask in the batch that its loss
is computed from; ORPO's likelihood over prompt and completion, which ignores them, is noted as such. That a loss
uses the labels it is handed is not proved here but by the tests that compare each loss with its formula. With several
processes each would have to record its own share; only one is supported.

Shapes: b = sequences, t = tokens with padding.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainerCallback

from pipelines.data.fingerprints import ids_hash
from pipelines.training.feed import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

BATCHES = "batches.jsonl"
MASK = "completion_mask"
LABELS = ("labels", "chosen_labels", "rejected_labels", MASK)  # names in a trainer's batch
READ_AT_ONCE = 1000  # pairs
SAMPLED_STEPS = 16  # `sampled` notes every so many optimizer steps, with all their micro-batches

Side = Literal["chosen", "rejected"]
Ids = NDArray[np.int32]
Hashes = NDArray[np.uint64]


class Prepared:
    """Finds the pair behind a token sequence, by the hash of prompt and completion together.

    Args:
        pairs: The shared loader's; 24 bytes of memory a pair and side.
    """

    def __init__(self, pairs: Dataset) -> None:
        self._uids = np.array(pairs["uid"][:], dtype=np.bytes_)
        hashes: dict[Side, Hashes] = {
            "chosen": np.empty(len(pairs), dtype=np.uint64),
            "rejected": np.empty(len(pairs), dtype=np.uint64),
        }
        for place, pair in enumerate(_ids_of(pairs)):
            for side, values in hashes.items():
                values[place] = int(ids_hash(pair["prompt_ids"], pair[f"{side}_ids"]), 16)
        self._hashes: dict[Side, tuple[Hashes, NDArray[np.int64]]] = {}
        for side, values in hashes.items():
            order = np.argsort(values, kind="stable")
            self._hashes[side] = values[order], order

    def uids(self, sequences: dict[Side, list[Ids]], hashes: dict[Side, list[str]]) -> list[str | None]:
        """The uid of each pair received; of several with the same ids the first, None where there is none.

        A sequence that is none of the prepared is looked up without its first, then without its last token: a token
        that a trainer added still names the pair.

        Args:
            sequences: The token ids by side, of the same pairs in the same order.
            hashes: Their hashes.
        """
        count = len(sequences["chosen"])
        spans = {side: self._spans(side, of_side) for side, of_side in hashes.items()}
        low, high = spans["chosen"]
        found: list[str | None] = []
        for place in range(count):
            if high[place] - low[place] == 1:
                found.append(self._uids[self._hashes["chosen"][1][low[place]]].decode())
            else:
                found.append(self._searched({side: of_side[place] for side, of_side in sequences.items()}))
        return found

    def _spans(self, side: Side, hashes: list[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        values = self._hashes[side][0]
        wanted = np.array([int(found, 16) for found in hashes], dtype=np.uint64)
        return np.searchsorted(values, wanted, "left"), np.searchsorted(values, wanted, "right")

    def _searched(self, pair: dict[Side, Ids]) -> str | None:
        rows: set[int] = set()
        for side, ids in pair.items():
            found = next(
                (found for cut in (ids, ids[1:], ids[:-1]) if (found := self._rows(side, cut))), set()
            )
            rows = rows & found or rows or found
        return self._uids[min(rows)].decode() if rows else None

    def _rows(self, side: Side, ids: Ids) -> set[int]:
        (low,), (high,) = self._spans(side, [ids_hash(ids)])
        return set(self._hashes[side][1][low:high].tolist())


@dataclass(frozen=True)
class _Batch:
    """A micro-batch on its way to the host; `arrived` says whether its copies are there."""

    step: int
    micro: int
    tensors: dict[str, torch.Tensor]
    arrived: Callable[[bool], bool]  # called with whether to wait


class Recorder(TrainerCallback):
    """Writes a line for each micro-batch that the policy receives with gradient; a reference's passes have none.

    A line: optimizer `step` from 1, `micro` within it from 0, and for each of `sequences`: `uid` (null: no prepared pair
    has these ids), `side`, `ids` (hash without padding), `loss` (ranges of positions whose token the loss predicts; null: the trainer showed no labels),
    `tokens` (without padding), `ends` (how many of them are end-of-turn tokens).

    On CUDA nothing waits for the device: copies go to pinned memory and are written when they have arrived, at the
    latest before a checkpoint is kept.

    Args:
        trainer: Any of transformers' trainers, before it trains.
        prepared: The pairs that it should receive.
        folder: The stage's folder.
        end_of_turn_ids: Ids at which a reply ends.
        paired: Whether the policy receives chosen and rejected, not chosen alone.
        whole_chosen: Whether the likelihood of chosen covers its prompt whatever the labels say (stock ORPO).
        every: Note every so many optimizer steps.
    """

    def __init__(
        self,
        trainer: Trainer,
        prepared: Prepared,
        folder: Path,
        *,
        end_of_turn_ids: list[int],
        paired: bool,
        whole_chosen: bool,
        every: int = 1,
    ) -> None:
        self._trainer, self._prepared, self._path = trainer, prepared, folder / BATCHES
        self._ends = np.array(end_of_turn_ids)
        self._paired, self._whole_chosen, self._every = paired, whole_chosen, every
        self._waiting: deque[_Batch] = deque()
        self._step, self._micro = 0, 0
        self._inputs: dict[str, Any] = {}
        self._empty: str | None = None

    def __enter__(self) -> Recorder:
        self._file = self._path.open("a", encoding="utf-8")
        self._hook = self._trainer.model.register_forward_pre_hook(self._note, with_kwargs=True)
        self._compute_loss = self._trainer.compute_loss
        self._trainer.compute_loss = self._with_inputs
        self._trainer.add_callback(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()
        self._trainer.compute_loss = self._compute_loss
        self._trainer.remove_callback(self)
        self._inputs = {}
        if error is None:
            self._write(wait=True)
        self._file.close()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Have every line so far in the file: the checkpoint keeps a copy, from which a resumed training goes on."""
        self._write(wait=True)

    def empty_reply(self) -> str | None:
        """The first sequence so far of which the loss covers nothing; its mean over tokens is then 0/0."""
        self._write(wait=True)
        return self._empty

    def _with_inputs(self, model: torch.nn.Module, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
        self._inputs = inputs
        return self._compute_loss(model, inputs, *more, **named)

    def _note(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            return
        step = self._trainer.state.global_step + 1
        self._micro = self._micro + 1 if step == self._step else 0
        self._step = step
        if (step - 1) % self._every:
            return
        ids = args[0] if args else kwargs["input_ids"]
        tensors = {"ids": ids, "mask": kwargs.get("attention_mask"), **self._labels(kwargs)}
        on_host = {name: _to_host(tensor) for name, tensor in tensors.items() if tensor is not None}
        self._waiting.append(_Batch(step, self._micro, on_host, _arrival(ids.device)))
        self._write(wait=False)

    def _labels(self, kwargs: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The labels of all sequences, or of chosen and rejected apart, or the mask of the completions."""
        if "labels" in kwargs:
            return {"labels": kwargs["labels"]}
        return {name: self._inputs[name] for name in LABELS if name in self._inputs}

    def _write(self, *, wait: bool) -> None:
        while self._waiting and self._waiting[0].arrived(wait):
            batch = self._waiting.popleft()
            sequences = self._sequences(batch.tensors)
            line = {"step": batch.step, "micro": batch.micro, "sequences": sequences}
            self._empty = self._empty or _first_empty(sequences)
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()

    def _sequences(self, tensors: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
        """One entry a sequence. Everything that can be is done for the whole batch at once: steps may be short."""
        ids_bt = tensors["ids"].numpy().astype("<i4")
        kept_bt = tensors["mask"].numpy().astype(bool) if "mask" in tensors else np.ones(ids_bt.shape, bool)
        # A preference trainer passes the chosen sequences of its pairs, then the rejected ones.
        count = len(ids_bt) // 2 if self._paired else len(ids_bt)
        covered_bt = _covered(tensors, ids_bt.shape)
        seen = self._whole_chosen or not tensors.keys().isdisjoint(LABELS)
        if self._whole_chosen:
            covered_bt = np.concatenate([kept_bt[:count], covered_bt[count:]])
        if (np.diff(kept_bt.astype(np.int8)) > 0).any():  # padding before a token: move it to the end
            order = np.argsort(~kept_bt, axis=1, kind="stable")
            ids_bt, kept_bt, covered_bt = (
                np.take_along_axis(table, order, 1) for table in (ids_bt, kept_bt, covered_bt)
            )
        lengths = kept_bt.sum(1).tolist()
        ends = (np.isin(ids_bt, self._ends) & kept_bt).sum(1).tolist()
        sequences = [row[:length] for row, length in zip(ids_bt, lengths, strict=True)]
        hashes = [ids_hash(ids) for ids in sequences]
        of_pairs: dict[Side, slice] = {"chosen": slice(0, count)}
        if self._paired:
            of_pairs["rejected"] = slice(count, None)
        uids = self._prepared.uids(
            {side: sequences[part] for side, part in of_pairs.items()},
            {side: hashes[part] for side, part in of_pairs.items()},
        )
        return [
            {
                "uid": uids[row % count],
                "side": "chosen" if row < count else "rejected",
                "ids": hashes[row],
                "loss": loss if seen else None,
                "tokens": lengths[row],
                "ends": ends[row],
            }
            for row, loss in enumerate(_ranges(covered_bt & kept_bt))
        ]


def _first_empty(sequences: list[dict[str, Any]]) -> str | None:
    for sequence in sequences:
        if sequence["loss"] == "":
            return f"the {sequence['side']} reply of pair {sequence['uid'] or 'unknown'}"
    return None


def _ids_of(pairs: Dataset) -> Iterator[dict[str, Ids]]:
    """The ids of each pair, read from disk piece by piece."""
    names = ["prompt_ids", "chosen_ids", "rejected_ids"]
    for batch in pairs.select_columns(names).with_format("numpy").iter(READ_AT_ONCE):
        for ids in zip(*(batch[name] for name in names), strict=True):
            yield dict(zip(names, ids, strict=True))


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` on the host; from a device by a copy that nothing waits for."""
    if tensor.device.type == "cpu":
        return tensor.detach()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor.detach(), non_blocking=True)


def _arrival(device: torch.device) -> Callable[[bool], bool]:
    if device.type == "cpu":
        return lambda wait: True
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()

    def arrived(wait: bool) -> bool:
        if wait:
            event.synchronize()
        return bool(event.query())  # type: ignore[no-untyped-call]

    return arrived


def _covered(tensors: dict[str, torch.Tensor], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the labels count: (b, t). Labels of chosen and rejected come apart, each as wide as its longest."""
    covered_bt = np.zeros(shape, dtype=bool)
    start = 0
    for name in LABELS:
        if name in tensors:
            part = tensors[name].numpy() != (0 if name == MASK else IGNORED)
            covered_bt[start : start + len(part), : part.shape[1]] = part
            start += len(part)
    return covered_bt


def _ranges(covered_bt: NDArray[np.bool_]) -> list[str]:
    """`25-60,70` for each row's positions; the first token of a sequence is left out, as nothing predicts it."""
    covered_bt[:, 0] = False
    counts = covered_bt.sum(1).tolist()
    firsts = covered_bt.argmax(1).tolist()
    lasts = (covered_bt.shape[1] - 1 - covered_bt[:, ::-1].argmax(1)).tolist()
    return [
        _text(covered) if last - first + 1 != num else f"{first}-{last}" if num > 1 else f"{first}"
        for covered, num, first, last in zip(covered_bt, counts, firsts, lasts, strict=True)
    ]


def _text(covered: NDArray[np.bool_]) -> str:
    """The same for a row that is not one range of positions."""
    positions = np.flatnonzero(covered)
    if not len(positions):
        return ""
    breaks = np.flatnonzero(np.diff(positions) > 1) + 1
    edges = [0, *breaks.tolist(), len(positions)]
    spans = ((positions[start], positions[stop - 1]) for start, stop in pairwise(edges))
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in spans)
