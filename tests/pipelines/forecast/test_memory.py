"""A stage's memory and work, forecast from its shape, against formulas written out by hand."""

from __future__ import annotations

import pytest
from transformers import PretrainedConfig

from pipelines.forecast.fakes import of_depth
from pipelines.forecast.memory import stage_answer
from pipelines.forecast.rehearsal import rehearse
from pipelines.forecast.request import StageAnswer
from pipelines.stages import TrainSettings
from tests.pipelines.forecast.tiny_shapes import (
    HEAD_SIZE,
    HEADS,
    HIDDEN,
    INNER,
    KV_HEADS,
    LAYERS,
    LENGTH,
    VOCABULARY,
    settings,
    shape,
)
from tests.stock_orpo import needs_stock_orpo

FLOAT32, BFLOAT16 = 4, 2
QUERIES, KEYS = HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE
ATTENTION = HIDDEN * QUERIES + 2 * HIDDEN * KEYS + QUERIES * HIDDEN
MLP = 3 * HIDDEN * INNER


def llama_parameters(layers: int, *, tied: bool) -> int:
    heads = 1 if tied else 2
    return heads * VOCABULARY * HIDDEN + layers * (ATTENTION + MLP + 2 * HIDDEN) + HIDDEN


def qwen3_parameters(layers: int) -> int:
    """Llama's, and a norm of queries and of keys in each layer."""
    return llama_parameters(layers, tied=True) + layers * 2 * HEAD_SIZE


def gemma3_parameters(layers: int) -> int:
    """Qwen's, and two more norms in each layer: around attention and MLP, before and after."""
    return qwen3_parameters(layers) + layers * 2 * HIDDEN


def gpt2_parameters(layers: int) -> int:
    """Learnt positions, biases everywhere, an MLP of four times the width, a head tied to the embeddings."""
    attention = HIDDEN * 3 * HIDDEN + 3 * HIDDEN + HIDDEN * HIDDEN + HIDDEN
    mlp = 2 * HIDDEN * 4 * HIDDEN + 4 * HIDDEN + HIDDEN
    norms = 2 * 2 * HIDDEN
    return (VOCABULARY + 48) * HIDDEN + layers * (attention + mlp + norms) + 2 * HIDDEN


def answer(
    config: PretrainedConfig, stage: TrainSettings, *, micro_batches: list[int] | None = None
) -> StageAnswer:
    return stage_answer(config, stage, length=LENGTH, device="cpu", micro_batches=micro_batches or [])


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (shape("llama", tie_word_embeddings=False), llama_parameters(LAYERS, tied=False)),
        (shape("qwen3", tie_word_embeddings=True), qwen3_parameters(LAYERS)),
        (shape("gemma3_text", tie_word_embeddings=True, sliding_window=16), gemma3_parameters(LAYERS)),
        (shape("gpt2"), gpt2_parameters(LAYERS)),
    ],
    ids=["llama", "qwen3", "gemma3", "gpt2"],
)
def test_weights_gradients_and_adam_states_are_the_formulas_to_the_byte(
    config: PretrainedConfig, parameters: int
) -> None:
    found = answer(config, settings("sft"))
    assert found.num_parameters == found.num_trainable_parameters == parameters
    assert found.largest["weights"] == parameters * FLOAT32
    assert found.largest["gradients"] == parameters * FLOAT32
    assert found.largest["optimizer"] == 2 * parameters * FLOAT32


@pytest.mark.slow
def test_in_bfloat16_adam_keeps_its_states_in_bfloat16_too() -> None:
    config = shape("llama", tie_word_embeddings=True)
    found = answer(config, settings("orpo", dtype="bfloat16"))
    parameters = llama_parameters(LAYERS, tied=True)
    assert found.largest["weights"] == parameters * BFLOAT16
    assert found.largest["optimizer"] == 2 * parameters * BFLOAT16


def test_an_adapter_alone_has_gradients_and_states() -> None:
    config = shape("llama", tie_word_embeddings=True)
    found = answer(config, settings("dpo", tuning="lora", reference="adapter"))
    rank = 4
    ends = [(HIDDEN, QUERIES), (HIDDEN, KEYS), (HIDDEN, KEYS), (QUERIES, HIDDEN)]
    ends += [(HIDDEN, INNER), (HIDDEN, INNER), (INNER, HIDDEN)]
    adapter = LAYERS * sum(rank * (into + out) for into, out in ends)
    assert found.num_trainable_parameters == adapter
    assert found.largest["weights"] == llama_parameters(LAYERS, tied=True) * FLOAT32
    assert (
        found.largest["adapter"]
        == found.largest["gradients"]
        == found.largest["reference"]
        == adapter * FLOAT32
    )
    assert found.largest["optimizer"] == 2 * adapter * FLOAT32


def test_a_copied_reference_is_the_weights_again_and_a_precomputed_one_nothing() -> None:
    config = shape("llama", tie_word_embeddings=True)
    copied = answer(config, settings("dpo", reference="copy"))
    precomputed = answer(config, settings("dpo", reference="precomputed"))
    assert copied.largest["reference"] == copied.largest["weights"]
    assert precomputed.largest["reference"] == 0
    # The pass that computes them comes before the training: no gradients, no states.
    parts = precomputed.phases["reference"]
    assert parts["weights"] > 0
    assert parts["gradients"] == parts["optimizer"] == 0


@pytest.mark.parametrize("kind", ["sft", pytest.param("orpo", marks=pytest.mark.slow)])
def test_two_three_and_five_layers_lie_on_one_line_in_every_moment(kind: str) -> None:
    config = shape("llama", tie_word_embeddings=False)
    two, three, five = (
        rehearse(
            of_depth(config, depth),
            settings(kind, gradient_checkpointing=kind == "sft"),
            length=LENGTH,
            device="cpu",
        ).peaks
        for depth in (2, 3, 5)
    )
    for moment in two:
        low, high, found = (sum(peaks[moment].values()) for peaks in (two, three, five))
        assert low + 3 * (high - low) == pytest.approx(found, rel=0.005), moment


@pytest.mark.slow
def test_a_deep_model_is_forecast_from_shallow_ones() -> None:
    """Six layers as they are, against the line through two and three."""
    config = shape("llama", tie_word_embeddings=False)
    stage = settings("sft")
    whole = rehearse(config, stage, length=LENGTH, device="cpu")
    forecast = answer(config, stage)
    peak = max(sum(parts.values()) for parts in whole.peaks.values())
    assert max(sum(parts.values()) for parts in forecast.phases.values()) == pytest.approx(peak, rel=0.005)
    flops = sum(whole.flops[phase].matmul for phase in ("forward", "backward"))
    assert forecast.work.matmul_flops == pytest.approx(flops, rel=1e-9)


@needs_stock_orpo
def test_only_the_stock_orpo_holds_whole_logits() -> None:
    """One micro-batch of ORPO is 2 x 2 sequences; the fused head's tile has one row a token and TRL's own width."""
    tile = 2 * (LENGTH - 1) * 32768 * FLOAT32
    sft = stage_answer(shape("llama"), settings("sft"), length=LENGTH, device="cuda", micro_batches=[])
    orpo = answer(shape("llama"), settings("orpo"))
    assert sft.largest["logits"] == tile
    assert orpo.largest["logits"] >= 2 * 4 * LENGTH * VOCABULARY * FLOAT32  # they and their gradient


def test_the_fused_orpo_holds_no_whole_logits_and_works_the_head_twice_forwards() -> None:
    """Chosen and rejected are stacked; the head's pass over all their tokens is made again in the backward pass.

    Its logits come in chunks of 16 MiB, as wide as the tokens leave room for; two of them live where one follows the other.
    Beside it the model itself computes the logits of each sequence's last place.
    """
    vocabulary, sequences = 262_144, 4
    config = shape("llama", tie_word_embeddings=False, vocab_size=vocabulary)
    found = answer(config, settings("orpo", implementation="fused"))
    assert found.largest["logits"] == 0
    whole = sequences * LENGTH * vocabulary * FLOAT32
    assert 2**24 <= found.phases["forward"]["activations"] < whole / 2
    assert (
        found.largest["weights"]
        == (llama_parameters(LAYERS, tied=False) + 2 * (vocabulary - VOCABULARY) * HIDDEN) * FLOAT32
    )
    layers = LAYERS * (ATTENTION + MLP) * sequences * LENGTH
    head = vocabulary * HIDDEN * sequences
    assert found.work.matmul_flops == 6 * layers + (8 * (LENGTH - 1) + 2) * head


@pytest.mark.slow
def test_checkpointing_trades_activations_for_work() -> None:
    config = shape("llama")
    kept = answer(config, settings("orpo"))
    recomputed = answer(config, settings("orpo", gradient_checkpointing=True))
    assert recomputed.phases["forward"]["activations"] < kept.phases["forward"]["activations"]
    assert recomputed.work.matmul_flops > 1.1 * kept.work.matmul_flops


def test_the_work_of_a_full_sft_step_is_three_forward_passes_and_the_heads_second() -> None:
    """Two operations a weight and token forwards, four backwards; the fused head computes its logits twice."""
    found = answer(shape("llama", tie_word_embeddings=False), settings("sft"))
    layers = LAYERS * (ATTENTION + MLP) * 2 * LENGTH
    head = VOCABULARY * HIDDEN * 2 * (LENGTH - 1)
    assert found.work.matmul_flops == 6 * layers + 8 * head
    # Scores and their product with the values, as if nothing were masked; the backward pass computes scores anew.
    attention = LAYERS * 2 * 2 * HEADS * 2 * LENGTH * LENGTH * HEAD_SIZE
    assert found.work.attention_flops == pytest.approx(attention * 3.5)


@pytest.mark.slow
def test_the_peak_grows_with_the_micro_batch_along_a_line() -> None:
    config, stage = shape("llama"), settings("orpo", effective_batch=8)
    line = answer(config, stage, micro_batches=[1, 2, 6]).peak_by_micro_batch
    whole = answer(config, settings("orpo", micro_batch=6, effective_batch=12))
    assert line[2] == max(sum(parts.values()) for parts in answer(config, stage).phases.values())
    assert line[6] == pytest.approx(max(sum(parts.values()) for parts in whole.phases.values()), rel=0.005)
    assert line[1] < line[2]


def test_four_bit_weights_follow_their_formula() -> None:
    config = shape("llama", tie_word_embeddings=False)
    found = answer(config, settings("sft", tuning="qlora", dtype="bfloat16"))
    packed = LAYERS * (ATTENTION + MLP)
    others = llama_parameters(LAYERS, tied=False) - packed
    assert found.largest["weights"] == packed // 2 + packed // 64 * 4 + others * FLOAT32
    assert found.method == "fake tensors, 4-bit weights by formula"
