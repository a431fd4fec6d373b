"""What is noted while a trainer runs: losses, progress, and the tokens that reach each model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import torch
from transformers import TrainerCallback

from pipelines.errors import Diverged, NotFinite
from pipelines.training.divergence import WINDOW, divergence_limit, has_diverged

if TYPE_CHECKING:
    from transformers import Trainer

    from pipelines.stages import Observer

LOSSES = "losses.jsonl"
LOGGED = ("loss", "learning_rate", "grad_norm", "nll_loss", "log_odds_ratio", "rewards/margins")


class LossLog(TrainerCallback):
    """Writes a line at each optimizer step, tells the observer, stops on NaN, on infinity and on divergence.

    Args:
        file: Gets a JSON line for each step, after those of the steps before a resume.
        observer: Told how far the training is.
        losses: Of the steps before a resume.
        divergence_factor: So many times the first loss is too much; None: never.
    """

    def __init__(
        self, file: TextIO, observer: Observer, losses: list[float], *, divergence_factor: float | None
    ) -> None:
        self._file, self._observer = file, observer
        self._divergence_factor = divergence_factor
        self.losses = losses

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Note one step's values.

        Raises:
            NotFinite: the loss or the gradient norm is NaN or infinite.
            Diverged: the loss is far above where it began, and has been for most of the last steps.
        """
        if not logs or "loss" not in logs:
            return
        values = {name: float(logs[name]) for name in LOGGED if name in logs}
        row = {"step": state.global_step} | {
            name: value if math.isfinite(value) else None for name, value in values.items()
        }
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values.get(name, 0.0)):
                raise NotFinite(f"{name} is {values[name]} at step {state.global_step} of {state.max_steps}")
        self.losses.append(values["loss"])
        if self._divergence_factor is not None and has_diverged(self.losses, self._divergence_factor):
            limit = divergence_limit(self.losses[0], self._divergence_factor)
            raise Diverged(
                f"loss is {values['loss']:.4g} at step {state.global_step} of {state.max_steps}: it began at "
                f"{self.losses[0]:.4g}, and most of the last {WINDOW} steps were above {limit:.4g}"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell how far the training is."""
        self._observer.progress(state.global_step, state.max_steps)


def read_losses(path: Path) -> list[float]:
    """The losses that a log has, one for each step; none where it is not there yet."""
    if not path.is_file():
        return []
    return [json.loads(line)["loss"] for line in path.read_text(encoding="utf-8").splitlines()]


class LoaderWait:
    """Tells the observer whenever the trainer waits for its data loader.

    transformers 5.23 takes all micro-batches of an optimizer step at once in `get_batch_samples`: reading rows, padding
    them, and on CUDA their way to the device.
    """

    def __init__(self, trainer: Trainer, observer: Observer) -> None:
        self._trainer, self._observer = trainer, observer

    def __enter__(self) -> LoaderWait:
        self._take = self._trainer.get_batch_samples
        self._trainer.get_batch_samples = self._timed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trainer.get_batch_samples = self._take

    def _timed(self, *arguments: Any, **named: Any) -> Any:
        with self._observer.waiting():
            return self._take(*arguments, **named)


class TokenCount:
    """Counts what models receive in their forward passes, through hooks: sequences and tokens without padding.

    Passes with gradient are the policy's; passes without are the reference's (in DPO with an adapter
    both go through one module). Recomputation by gradient checkpointing happens below the hooked module.
    """

    def __init__(self, *models: torch.nn.Module) -> None:
        device = next(models[0].parameters()).device
        # Summed on the device: reading a value in each step would stall a GPU.
        self._counts = torch.zeros(
            2, 3, dtype=torch.long, device=device
        )  # (with gradient, sequences | tokens | squares of lengths)
        self._hooks = [model.register_forward_pre_hook(self._note, with_kwargs=True) for model in models]

    def __enter__(self) -> TokenCount:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _note(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs["attention_mask"]  # (sequences, tokens)
        row = int(torch.is_grad_enabled())
        self._counts[row, 0] += mask.shape[0]
        lengths = mask.sum(1)
        self._counts[row, 1] += lengths.sum()
        self._counts[row, 2] += (lengths * lengths).sum()

    def state(self) -> list[list[int]]:
        """What was counted up to now, to be kept with a checkpoint."""
        return [[int(count) for count in row] for row in self._counts.tolist()]

    def start_from(self, state: list[list[int]]) -> None:
        """Go on from what was counted up to a checkpoint."""
        self._counts += torch.tensor(state, device=self._counts.device)

    @property
    def num_policy_sequences(self) -> int:
        """Sequences through the policy."""
        return int(self._counts[1, 0])

    @property
    def num_policy_tokens(self) -> int:
        """Tokens through the policy, padding not counted."""
        return int(self._counts[1, 1])

    @property
    def num_reference_tokens(self) -> int:
        """Tokens through the reference model, padding not counted."""
        return int(self._counts[0, 1])

    @property
    def policy_length_squares(self) -> int:
        """Squares of the lengths of the policy's sequences, summed: what attention grows with."""
        return int(self._counts[1, 2])

    @property
    def reference_length_squares(self) -> int:
        """The same of the reference's."""
        return int(self._counts[0, 2])
