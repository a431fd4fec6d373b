"""Memory and time of ORPO's implementations: `python -m benchmarks.fused_orpo` (docs/decisions/fused-orpo.md).

Each measurement is a fresh process that trains a Llama of six layers for a few optimizer steps on one micro-batch of two
pairs. Implementations take turns, in another order each round; ratios are taken within a round. liger-kernel is measured
beside them where it can be imported (its loss is plain torch and runs on a CPU, uncompiled).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MIB = 2**20
HIDDEN, LAYERS, PAIRS, TOKENS, STEPS = 576, 6, 2, 256, 4
STATE_BYTES = 16  # of a parameter: weight, gradient and AdamW's two states in float32


def main() -> None:
    """Measure in fresh processes and print a table, or measure in this one."""
    options = _options()
    if options.one:
        print(json.dumps(measure(options.one, options.vocabularies[0], options.prompt, options.chunk_bits)))
        return
    names = ["trl", "fused"] + (["liger"] if find_spec("liger_kernel") else [])
    for vocabulary in options.vocabularies:
        rounds = [
            {
                name: _in_a_process(name, vocabulary, options)
                for name in (names if turn % 2 == 0 else names[::-1])
            }
            for turn in range(options.rounds)
        ]
        _print(rounds, names, vocabulary, options.prompt)


def measure(name: str, vocabulary: int, prompt: int, chunk_bits: int | None) -> dict[str, float]:
    """Peak memory in MiB over what the imports hold, and seconds of the steps after the first.

    Args:
        name: `trl`, `fused` or `liger`.
        vocabulary: Tokens that the model knows.
        prompt: Tokens of the prompt, out of `TOKENS` for prompt and reply.
        chunk_bits: Logits held at once by `fused`, as a power of 2.
    """
    import torch
    from transformers import PrinterCallback

    from pipelines.training import token_logprobs

    torch.set_num_threads(1)
    if chunk_bits is not None:
        token_logprobs.token_logprobs.__kwdefaults__["max_logits"] = 2**chunk_bits
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(name, vocabulary, prompt, Path(folder))
        trainer.remove_callback(PrinterCallback)
        clock = _clock()
        trainer.add_callback(clock)
        trainer.train()
    num_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    state = num_parameters * STATE_BYTES / MIB
    peak = _status("VmHWM") - clock.before
    return {
        "peak": peak,
        "above_state": peak - state,
        "wall": statistics.median(clock.wall[1:]),
        "cpu": statistics.median(clock.cpu[1:]),
        "loss": trainer.state.log_history[0]["loss"],
    }


def _trainer(name: str, vocabulary: int, prompt: int, folder: Path) -> Any:
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM

    from pipelines.stages import LoraSettings, ModelSettings, Stage, TrainSettings
    from pipelines.training import fused_orpo, orpo
    from pipelines.training.arguments import shared_arguments
    from pipelines.training.parts import Parts

    trainers = {"trl": orpo.orpo_trainer, "fused": fused_orpo.fused_orpo_trainer, "liger": _liger_trainer}
    # Everything is imported: what memory rises to from here is the training's.
    Path("/proc/self/clear_refs").write_text("5")
    _clock.before = _status("VmRSS")  # type: ignore[attr-defined]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=1536,
        num_hidden_layers=LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    generator = torch.Generator().manual_seed(1)

    def ids(count: int) -> list[int]:
        return torch.randint(1, vocabulary, (count,), generator=generator).tolist()

    rows = [
        {"prompt_ids": ids(prompt), "chosen_ids": ids(TOKENS - prompt), "rejected_ids": ids(TOKENS - prompt)}
        for _ in range(PAIRS)
    ]
    settings = TrainSettings(
        kind="orpo",
        model=ModelSettings(name="local"),
        tuning="full",
        lora=LoraSettings(),
        dtype="float32",
        effective_batch=PAIRS,
        micro_batch=PAIRS,
        max_length=TOKENS,
        gradient_checkpointing=False,
        implementation="trl" if name == "trl" else "fused",
        nll="completion",
        nll_weight=1.0,
        mean_over="step",
        arguments={"max_steps": STEPS, "learning_rate": 1e-4, "beta": 0.1},
    )
    stage = Stage(id="orpo-000000000000", settings=settings, seed=0, threads=1, device="cpu")
    parts = Parts(
        settings=settings,
        policy=LlamaForCausalLM(config),
        reference_model=None,
        tokenizer=_tokenizer(),
        pairs=Dataset.from_list(rows),
    )
    return trainers[name](parts, shared_arguments(stage, folder))


def _liger_trainer(parts: Any, arguments: dict[str, Any]) -> Any:
    """The fused trainer with liger-kernel's loss in the place of its own."""
    from liger_kernel.chunked_loss import LigerFusedLinearORPOLoss

    from pipelines.training import fused_orpo
    from pipelines.training.head import last_hidden_state

    loss_of = LigerFusedLinearORPOLoss(beta=arguments["beta"], compiled=False)

    def compute_loss(
        model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        del return_outputs, num_items_in_batch
        with last_hidden_state(trainer.model) as kept:
            model(
                inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                use_cache=False,
                logits_to_keep=1,
            )
        targets = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)[:, 1:]
        return loss_of(trainer.model.lm_head.weight, kept[0][:, :-1], targets)[0]

    trainer = fused_orpo.fused_orpo_trainer(parts, arguments)
    trainer.compute_loss = compute_loss
    return trainer


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Seconds of each optimizer step, by the wall and of this process."""

        def __init__(self) -> None:
            self.before: float = _clock.before  # type: ignore[attr-defined]
            self.wall: list[float] = []
            self.cpu: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.wall.append(-time.perf_counter())
            self.cpu.append(-time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.wall[-1] += time.perf_counter()
            self.cpu[-1] += time.process_time()

    return Clock()


def _status(name: str) -> float:
    """A line of /proc/self/status in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def _in_a_process(name: str, vocabulary: int, options: argparse.Namespace) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.fused_orpo",
        "--one",
        name,
        "--vocabularies",
        str(vocabulary),
    ]
    command += ["--prompt", str(options.prompt)]
    command += [] if options.chunk_bits is None else ["--chunk-bits", str(options.chunk_bits)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(name, vocabulary, found, file=sys.stderr, flush=True)
    return found


def _print(rounds: list[dict[str, dict[str, float]]], names: list[str], vocabulary: int, prompt: int) -> None:
    print(
        f"\nVocabulary {vocabulary}, {PAIRS} pairs of {TOKENS} tokens, {prompt} of them prompt, {len(rounds)} rounds\n"
    )
    print(
        "| | peak, MiB | above weights, gradients, optimizer, MiB | share of trl | step's processor time by trl's (lowest to highest) |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        peak, above = (statistics.median(one[name][key] for one in rounds) for key in ("peak", "above_state"))
        share = above / statistics.median(one["trl"]["above_state"] for one in rounds)
        times = [one[name]["cpu"] / one["trl"]["cpu"] for one in rounds]
        spread = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        print(f"| {name} | {peak:.0f} | {above:.0f} | {share:.2f} | {spread} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[49152, 128000])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--prompt", type=int, default=1, help="1: the loss covers every token, none can be skipped"
    )
    parser.add_argument("--chunk-bits", type=int, help="logits held at once by fused, a power of 2")
    parser.add_argument("--one", choices=["trl", "fused", "liger"], help="measure in this process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
