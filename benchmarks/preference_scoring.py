"""Measures how fast pairs are scored, beside lm-eval and `DPOTrainer.evaluate`: `python -m benchmarks.preference_scoring`.

All three score the same token ids with the same model of random weights, interleaved (A B C, C B A, ...). A limit stands
beside each ratio: the tokens that went through the other's model, its padding counted, over those of each prompt once and each
reply once, without padding. That is the gain which saved tokens alone allow; more comes from the output embedding, which
runs on the replies' tokens only. CPU seconds are compared, not the clock's: other work on the machine weighs less on them.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
)
from trl import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from harness.evaluation.preference import score_pairs

Pair = dict[str, Any]
# name: median tokens of prompt and of reply, and the spread of both (standard deviation of their logarithm)
SHAPES = {
    "prompt 4 times the reply": (160, 40, 0.2),
    "prompt as long as the reply": (80, 80, 0.2),
    "prompt a quarter of the reply": (24, 96, 0.2),
    "mixed lengths": (80, 60, 0.7),
}
PAD = 0


@dataclass(frozen=True)
class Contender:
    """One way to score the pairs: `run` scores them all once."""

    name: str
    run: Callable[[], Any]


def main() -> None:
    """Measure each shape and print a table in markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8, help="pairs a batch")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    model = _model(options.vocabulary).to(options.device)
    _print("| shape | beside | limit | ratio | lowest, highest | share of the limit |")
    _print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, shape in SHAPES.items():
        pairs = _pairs(*shape, count=options.pairs, vocabulary=options.vocabulary)
        ideal = sum(
            len(pair[part]) for pair in pairs for part in ("prompt_ids", "chosen_ids", "rejected_ids")
        )
        ours = Contender("ours", partial(score_pairs, model, pairs, batch_size=options.batch_size))
        others = [_lm_eval(model, pairs, options.batch_size), _dpo_evaluate(model, pairs, options.batch_size)]
        tokens = {other.name: _tokens(model, other) for other in others}
        _check_equal(ours.run(), others[0].run())
        seconds = _interleaved([ours, *others], options.rounds)
        for other in others:
            ratios = [theirs / own for theirs, own in zip(seconds[other.name], seconds["ours"], strict=True)]
            limit, ratio = tokens[other.name] / ideal, statistics.geometric_mean(ratios)
            _print(
                f"| {name} | {other.name} | {limit:.2f} | {ratio:.2f} | {min(ratios):.2f}, {max(ratios):.2f} | "
                f"{ratio / limit:.2f} |"
            )


def _interleaved(contenders: list[Contender], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each contender in each round; every second round runs backwards."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else contenders[::-1]:
            start = time.process_time()
            contender.run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[contender.name].append(time.process_time() - start)
    return seconds


def _tokens(model: PreTrainedModel, contender: Contender) -> int:
    """Tokens that go through the model's layers, padding counted."""
    count = 0

    def note(_module: object, _arguments: object, keywords: dict[str, Any], _output: object) -> None:
        nonlocal count
        hidden = keywords.get("hidden_states")
        count += (hidden if hidden is not None else _arguments[0]).shape[:2].numel()  # type: ignore[index]

    hook = model.model.layers[0].register_forward_hook(note, with_kwargs=True)
    contender.run()
    hook.remove()
    return count


def _lm_eval(model: PreTrainedModel, pairs: list[Pair], batch_size: int) -> Contender:
    """What lm-eval's multiple choice does with two choices after a context, its text handling left out."""
    harness = HFLM(pretrained=model, tokenizer=_tokenizer(), batch_size=2 * batch_size)
    requests = [
        ((f"{pair['uid']}", side), pair["prompt_ids"], pair[side])
        for pair in pairs
        for side in ("chosen_ids", "rejected_ids")
    ]
    return Contender("lm-eval", lambda: harness._loglikelihood_tokens(requests, disable_tqdm=True))


class _TokenizedDPOTrainer(DPOTrainer):  # type: ignore[misc]
    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def _dpo_evaluate(model: PreTrainedModel, pairs: list[Pair], batch_size: int) -> Contender:
    """`DPOTrainer.evaluate` with the reference's log-probs at hand, so that only the policy is run."""
    rows = Dataset.from_list(pairs).select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
    arguments = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_eval_batch_size=batch_size,
        precompute_ref_log_probs=True,
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=model.device.type == "cpu",
        disable_tqdm=True,
        report_to="none",
    )
    trainer = _TokenizedDPOTrainer(
        model,
        args=arguments,
        train_dataset=rows.select(range(1)),
        eval_dataset=rows,
        processing_class=_tokenizer(),
    )
    trainer.remove_callback(PrinterCallback)
    return Contender("DPOTrainer.evaluate", trainer.evaluate)


def _check_equal(ours: list[Any], theirs: list[tuple[float, bool]]) -> None:
    own = [total for pair in ours for total in (pair.chosen_sum, pair.rejected_sum)]
    largest = max(abs(one - other[0]) for one, other in zip(own, theirs, strict=True))
    relative = max(abs(one - other[0]) / abs(one) for one, other in zip(own, theirs, strict=True))
    sys.stderr.write(
        f"largest difference from lm-eval: {largest:.1e} nats a reply, {relative:.1e} of the sum\n"
    )


def _pairs(prompt: int, reply: int, spread: float, *, count: int, vocabulary: int) -> list[Pair]:
    generator = torch.Generator().manual_seed(1)

    def ids(median: int) -> list[int]:
        factor = float(torch.exp(spread * torch.randn((), generator=generator)))
        return torch.randint(3, vocabulary, (max(2, round(median * factor)),), generator=generator).tolist()

    return [
        {"uid": str(i), "prompt_ids": ids(prompt), "chosen_ids": ids(reply), "rejected_ids": ids(reply)}
        for i in range(count)
    ]


def _model(vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4}
    special = {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=vocabulary, max_position_embeddings=4096, **shape, **special)
    ).eval()


def _tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({"<pad>": PAD, "<s>": 1, "</s>": 2}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
