"""How well a policy prefers while it trains: `validation.jsonl`. Looks at the policy and changes nothing of its training.

At the start, after each share of the steps and at the end, some pairs of the validation split and as many that are trained on (and of
the test split, where asked) are scored, in the same way by every trainer. No random number is drawn, the weights are only read, and the models' counting hooks are
passed by: the training's numbers are the same bits with and without.

Shapes: b sequences, t tokens, n reply tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import TrainerCallback

from pipelines.data.prepared import read_outcome, read_split
from pipelines.errors import PipelineError
from pipelines.rewards import PairLogprobs, own_columns, raw_columns
from pipelines.stages import TrainSettings
from pipelines.training.head import check_head, head_of, last_hidden_state
from pipelines.training.selection import BestWeights, Selection
from pipelines.training.token_logprobs import token_logprobs

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, Trainer

    from pipelines.evaluations import Split
    from pipelines.stages import Observer, Phase, Stage
    from pipelines.training.watching import TokenCount

VALIDATION = "validation.jsonl"
SPLITS: tuple[Split, ...] = ("validation", "train")
METRICS = (
    "preference_accuracy", "preference_margin", "chosen_nll", "chosen_logprob_mean", "rejected_logprob_mean",
    "chosen_logprob_sum", "rejected_logprob_sum",
)  # fmt: skip
NOT_TRAINING: Phase = "validate"  # the phase; what it takes is on no arm's bill

Pair = dict[str, Any]
Samples = dict["Split", list[Pair]]


def samples(data: Path, num_pairs: int, splits: Sequence[Split]) -> Samples:
    """The first `num_pairs` pairs of each split in order of their uid: the same ones in every stage of every arm.

    Args:
        data: Folder of the stage that prepared the data.
        num_pairs: The most of each split.
        splits: Which; one without pairs is left out.
    """
    counts = read_outcome(data).splits
    return {
        split: sorted(read_split(data, split).to_list(), key=lambda pair: str(pair["uid"]))[:num_pairs]
        for split in splits
        if counts[split].num_pairs
    }


class ValidationPoints(TrainerCallback):
    """Writes a line for each split at each point: step, tokens and seconds so far, and the means over the split's pairs.

    Args:
        path: Gets the lines, after those of the points before a resume.
        scorer: Scores the policy as it is.
        scored: The pairs of each split.
        every: Share of the steps between two points.
        counted: Counts the tokens.
        observer: Told that this is not training; knows the seconds.
        selection: Told of each point; None where the last weights are wanted.
    """

    def __init__(
        self,
        path: Path,
        scorer: PairScorer,
        scored: Samples,
        *,
        every: float,
        counted: TokenCount,
        observer: Observer,
        selection: Selection | None = None,
    ) -> None:
        self._path, self._scorer, self._scored, self._every = path, scorer, scored, every
        self._counted, self._observer, self._selection = counted, observer, selection
        self._rows = read_rows(path)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A point before the first step, unless the training goes on from a checkpoint."""
        if not self._rows:
            self._take(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A point where the step ends another share of the planned steps."""
        if state.global_step in steps_of_points(self._every, state.max_steps):
            self._take(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A point at the end, also where the training ended before its planned last step."""
        if not self._rows or self._rows[-1]["step"] != state.global_step:
            self._take(state.global_step)

    def leave_best(self) -> int | None:
        """Give the model the best weights where they are wanted; after how many steps they were its own, None: the last."""
        return None if self._selection is None else self._selection.finish(self._rows)

    def _take(self, step: int) -> None:
        with self._observer.aside(NOT_TRAINING), self._path.open("a", encoding="utf-8") as file:
            seconds, joules = self._observer.seconds(), self._observer.joules()
            spent = {
                "step": step,
                "num_policy_tokens": self._counted.num_policy_tokens,
                "num_reference_tokens": self._counted.num_reference_tokens,
                "train_seconds": seconds.get("train", 0.0) + seconds.get("reference", 0.0),
                "total_seconds": math.fsum(value for name, value in seconds.items() if name != NOT_TRAINING),
                "energy_joules": joules,
            }
            for split, pairs in self._scored.items():
                row = spent | {"split": split, "num_pairs": len(pairs)} | means(self._scorer(pairs))
                file.write(json.dumps(row) + "\n")
                self._rows.append(row)
            if self._selection is not None:
                self._selection.look(self._rows)


def validation_points(
    stage: Stage, folder: Path, trainer: Trainer, *, counted: TokenCount, observer: Observer
) -> ValidationPoints:
    """What looks at validation pairs while `trainer` trains `stage`, whose settings say how often.

    Raises:
        PipelineError: the best is to be chosen, and there are no validation pairs.
    """
    settings = stage.settings
    assert isinstance(settings, TrainSettings)
    assert settings.eval_every is not None
    assert stage.inputs.data is not None
    with observer.aside(NOT_TRAINING):
        splits: tuple[Split, ...] = (*SPLITS, "test") if settings.eval_test else SPLITS
        scored = samples(folder.parent / stage.inputs.data, settings.eval_pairs, splits)
        selection = None
        if settings.select == "best_validation":
            if "validation" not in scored:
                raise PipelineError(
                    "training.select: best_validation needs validation pairs, and the split has none. Raise data.validation_share."
                )
            selection = Selection(BestWeights(trainer.model, folder), settings.select_by)
        return ValidationPoints(
            folder / VALIDATION,
            PairScorer(trainer),
            scored,
            every=settings.eval_every,
            counted=counted,
            observer=observer,
            selection=selection,
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of the points so far; none where there is no file yet."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def steps_of_points(every: float, num_steps: int) -> set[int]:
    """The steps after which a point is taken: each `every` of `num_steps`, to the nearest whole step, and the last."""
    shares = range(1, math.floor(1 / every + 1e-9) + 1)
    return {max(1, round(share * every * num_steps)) for share in shares} | {num_steps}


def means(found: list[PairLogprobs]) -> dict[str, float | None]:
    """The mean of each of `METRICS` over pairs; null where it is not a finite number."""
    rows = [own_columns(pair) | raw_columns(pair) for pair in found]
    values = {name: sum(row[name] for row in rows) / len(rows) for name in METRICS}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


class PairScorer:
    """Log-probs of both replies of pairs under a trainer's policy as it is now; no logits of a batch are ever held.

    Args:
        trainer: Its precision and its micro-batch are used.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._model: torch.nn.Module = trainer.model
        # Below the modules whose hooks count what is trained on.
        self._causal_lm: PreTrainedModel = (
            trainer.model.get_base_model() if isinstance(trainer.model, PeftModel) else trainer.model
        )
        self._autocast = trainer.accelerator.autocast
        self._num_sequences = 2 * trainer.args.per_device_train_batch_size
        try:
            check_head(self._causal_lm)
            self._through_head = True
        except PipelineError:  # a head that is not known here: ask the whole model, a sequence at a time
            self._through_head, self._num_sequences = False, 1

    @torch.no_grad()
    def __call__(self, pairs: list[Pair]) -> list[PairLogprobs]:
        """In the order of `pairs`."""
        sequences = [
            (pair["prompt_ids"], pair[side]) for pair in pairs for side in ("chosen_ids", "rejected_ids")
        ]
        sums = [0.0] * len(sequences)
        was_training = self._model.training
        self._model.eval()
        try:
            for batch in _by_length(sequences, self._num_sequences):
                with self._context():
                    found = self._sums([sequences[place] for place in batch])
                for place, value in zip(batch, found.tolist(), strict=True):
                    sums[place] = value
        finally:
            self._model.train(was_training)
        return [
            PairLogprobs(
                sums[2 * place], sums[2 * place + 1], len(pair["chosen_ids"]), len(pair["rejected_ids"])
            )
            for place, pair in enumerate(pairs)
        ]

    def _context(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._autocast()
        return context

    def _sums(self, batch: list[tuple[list[int], list[int]]]) -> Tensor:
        """Summed log-prob of each reply, float64 on the CPU: (b,)."""
        device = self._causal_lm.device
        width = max(len(prompt) + len(reply) for prompt, reply in batch)
        ids_bt = torch.zeros(len(batch), width, dtype=torch.long)
        mask_bt, reply_bt = torch.zeros_like(ids_bt), torch.zeros(len(batch), width, dtype=torch.bool)
        for row, (prompt, reply) in enumerate(batch):
            length = len(prompt) + len(reply)
            ids_bt[row, :length] = torch.tensor(prompt + reply)
            mask_bt[row, :length] = 1
            reply_bt[row, len(prompt) : length] = True
        ids_bt, mask_bt, reply_bt = ids_bt.to(device), mask_bt.to(device), reply_bt.to(device)
        logprobs_n = self._logprobs(ids_bt, mask_bt, reply_bt)
        # (b, t): each reply token's log-prob in its place, so that a row's sum is its reply's.
        placed_bt = torch.zeros(reply_bt.shape, dtype=torch.float64)
        placed_bt[reply_bt.cpu()] = logprobs_n.double().cpu()
        return placed_bt.sum(dim=1)

    def _logprobs(self, ids_bt: Tensor, mask_bt: Tensor, reply_bt: Tensor) -> Tensor:
        """Of each reply token given all before it, row by row: (n,)."""
        needed_bt = reply_bt[:, 1:]
        targets_n = ids_bt[:, 1:][needed_bt]
        # Past `__call__`: hooks that count or note what the policy is trained on shall not see this.
        forward = self._causal_lm.forward
        if self._through_head:
            with last_hidden_state(self._causal_lm) as kept:
                forward(input_ids=ids_bt, attention_mask=mask_bt, use_cache=False, logits_to_keep=1)
            return token_logprobs(kept[0][:, :-1][needed_bt], head_of(self._causal_lm), targets_n)
        logits_nv = forward(input_ids=ids_bt, attention_mask=mask_bt, use_cache=False).logits[:, :-1][
            needed_bt
        ]
        return torch.log_softmax(logits_nv.float(), dim=-1).gather(1, targets_n[:, None])[:, 0]


def _by_length(sequences: list[tuple[list[int], list[int]]], size: int) -> Iterator[list[int]]:
    """Places of sequences of similar length, the longest first: little padding, a lack of memory shows at once."""
    order = sorted(range(len(sequences)), key=lambda place: (-sum(map(len, sequences[place])), place))
    for start in range(0, len(order), size):
        yield order[start : start + size]
