"""The judge `reward_model`: any sequence-classification model that scores a prompt with its reply."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from harness.evaluation.judges.interface import Reply
from pipelines.data.template import TEMPLATE_FAILURES
from pipelines.errors import DoesNotLoad, PipelineError
from pipelines.judge_settings import RewardModelJudge
from pipelines.locations import model_location
from pipelines.positions import num_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LONGEST = 1 << 20  # a tokenizer without a bound of its own says a number far beyond


class RewardModel:
    """Scores replies in batches of similar length; a score does not depend on the batch around it (in float32 to 1e-5).

    Args:
        settings: Which model, in which shape.
        folder: Of a model that an earlier stage trained; None: `settings.model` names it.
        device: Where it runs.
        progress: Told how many replies are scored.

    Raises:
        PipelineError: it does not load, has no trained score head, several outputs and no `label`, or fewer positions than
            `max_length`.
    """

    def __init__(
        self,
        settings: RewardModelJudge,
        folder: Path | None,
        device: str,
        progress: Callable[[int, int], None],
    ) -> None:
        self._settings, self._progress = settings, progress
        self._where = f"judge {settings.name}: the model {settings.model!r}"
        self._model, self._tokenizer = _loaded(settings, folder, self._where)
        self._model.to(device).eval()
        self._output = self._chosen_output()
        self._max_length = self._chosen_length()
        # The end of a text is found by its padding: without a pad token texts are scored one by one.
        self._batch_size = settings.batch_size if self._tokenizer.pad_token_id is not None else 1
        self._model.config.pad_token_id = self._tokenizer.pad_token_id
        self._tokenizer.padding_side, self._tokenizer.truncation_side = "right", "left"

    def score(self, replies: Sequence[Reply]) -> list[float]:
        """The model's output for each reply with its prompt.

        Raises:
            PipelineError: the chat template fails.
        """
        encoded = [self._encoded(one) for one in replies]
        cut = sum(len(one["input_ids"]) == self._max_length for one in encoded)
        full = f"{cut} of {len(encoded)} texts fill max_length ({self._max_length}) and may be cut"
        print(full, flush=True)  # noqa: T201
        order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]["input_ids"]))
        scores: dict[int, float] = {}
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            scores |= dict(zip(places, self._scores([encoded[place] for place in places]), strict=True))
            self._progress(len(scores), len(order))
        return [scores[place] for place in range(len(encoded))]

    @torch.inference_mode()
    def _scores(self, encoded: list[dict[str, list[int]]]) -> list[float]:
        if len(encoded) == 1:
            batch = {name: torch.tensor([ids]) for name, ids in encoded[0].items()}
        else:
            batch = dict(self._tokenizer.pad(encoded, return_tensors="pt"))
        moved = {name: tensor.to(self._model.device) for name, tensor in batch.items()}
        logits_bl = self._model(**moved).logits  # (batch, labels)
        found: list[float] = logits_bl[:, self._output].float().tolist()
        return found

    def _encoded(self, one: Reply) -> dict[str, list[int]]:
        """Prompt and reply as one user turn and its answer; as two texts where the tokenizer has no chat template."""
        cut: dict[str, Any] = {"max_length": self._max_length, "truncation": True}
        if self._tokenizer.chat_template:
            turns = [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.reply}]
            try:
                text = self._tokenizer.apply_chat_template(turns, tokenize=False)
            except TEMPLATE_FAILURES as error:
                raise PipelineError(
                    f"{self._where}: its chat template does not render item {one.item}: {' '.join(str(error).split())}"
                ) from error
            return dict(self._tokenizer(text, add_special_tokens=False, **cut))
        return dict(self._tokenizer(one.prompt, one.reply, **cut))

    def _chosen_length(self) -> int:
        given = self._settings.max_length
        if given is not None and given > (positions := num_positions(self._model)):
            raise PipelineError(
                f"{self._where} has {positions:.0f} learnt positions: max_length must be at most so many, got {given}"
            )
        return given or _longest(self._model, self._tokenizer)

    def _chosen_output(self) -> int:
        outputs, label = self._model.config.num_labels, self._settings.label
        if label is None and outputs != 1:
            raise PipelineError(f"{self._where} has {outputs} outputs. Say in `label` which one is the score")
        if label is not None and label >= outputs:
            raise PipelineError(
                f"{self._where} has {outputs} outputs, counted from 0: there is no label {label}"
            )
        return label or 0


def _loaded(
    settings: RewardModelJudge, folder: Path | None, where: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    location = folder or model_location(settings.model)
    shared: dict[str, Any] = {
        "revision": settings.revision or "main",
        "trust_remote_code": settings.trust_remote_code,
    }
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, **shared)
        model, about = AutoModelForSequenceClassification.from_pretrained(
            location,
            dtype=getattr(torch, settings.dtype),
            use_safetensors=True,
            output_loading_info=True,
            **shared,
        )
    except (OSError, ValueError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DoesNotLoad(f"{where} does not load: {first_line}") from error
    if missing := sorted(about["missing_keys"]):
        # transformers would fill them with random numbers, and every score would be one.
        raise DoesNotLoad(
            f"{where} is no trained sequence classifier: its weights lack {', '.join(missing[:3])}"
        )
    return model, tokenizer


def _longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    declared = getattr(model.config, "max_position_embeddings", None) or 0  # XLNet's has none and says -1
    positions = min(declared if declared > 0 else math.inf, num_positions(model))
    return int(min(tokenizer.model_max_length, positions, LONGEST))
