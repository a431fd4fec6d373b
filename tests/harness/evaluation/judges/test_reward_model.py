"""The judge `reward_model`: a trained head or nothing, the same scores in any batch; the toy's own agrees with gold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from harness.evaluation.judges.interface import Reply
from harness.evaluation.judges.reward_model import RewardModel
from pipelines.errors import DoesNotLoad, PipelineError
from pipelines.judge_settings import RewardModelJudge
from pipelines.toy.tokenizer import make_tokenizer

SHAPE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
}
REPLIES = [Reply(f"i{n}", "Ada on the team plan writes:", "thank you" + " sorry" * n) for n in range(7)]


def llama(folder: Path, kind: Any = LlamaForSequenceClassification, **more: Any) -> Any:
    """A model of random weights, with its head, and the toy's tokenizer."""
    tokenizer = make_tokenizer()
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=len(tokenizer), **SHAPE, pad_token_id=tokenizer.pad_token_id, **more)
    model = kind(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def judge(folder: Path, **changes: Any) -> RewardModel:
    settings = RewardModelJudge.model_validate(
        {"name": "rm", "kind": "reward_model", "model": str(folder), "batch_size": 3} | changes
    )
    return RewardModel(settings, None, "cpu", lambda done, total: None)


def test_a_score_is_the_models_own_and_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    model, tokenizer = llama(tmp_path, num_labels=1), make_tokenizer()
    by_hand = []
    for one in REPLIES:
        turns = [{"role": "user", "content": one.prompt}, {"role": "assistant", "content": one.reply}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            by_hand.append(model(input_ids=ids).logits.item())
    for batch_size in (1, 3, 16):
        assert judge(tmp_path, batch_size=batch_size).score(REPLIES) == pytest.approx(by_hand, abs=1e-5)
    assert judge(tmp_path).score(REPLIES[::-1]) == pytest.approx(by_hand[::-1], abs=1e-5)
    assert len(set(by_hand)) == 7


def test_a_text_that_is_too_long_loses_its_beginning(tmp_path: Path) -> None:
    llama(tmp_path, num_labels=1)
    first = Reply("a", "Ada writes:", "thank you" + " sorry" * 30)
    other = Reply("b", "Ben writes:", "thank you" + " sorry" * 30)
    scores = judge(tmp_path, max_length=20).score([first, other])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    whole = judge(tmp_path).score([first, other])
    assert abs(whole[0] - whole[1]) > 1e-4


def roberta(folder: Path, template: str | None = None) -> Any:
    """Its positions begin behind its padding's, so a text has two tokens less than its config says."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    torch.manual_seed(3)
    config = RobertaConfig(vocab_size=len(tokenizer), num_labels=1, **SHAPE, pad_token_id=1)
    model = RobertaForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def test_a_text_is_cut_to_the_positions_that_the_model_can_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roberta(tmp_path)
    replies = [Reply(f"i{n}", "Ada writes:", "thank you" + " sorry" * n) for n in (5, 80)]
    assert len(set(judge(tmp_path).score(replies))) == 2
    assert "1 of 2 texts fill max_length (62) and may be cut" in capsys.readouterr().out
    assert judge(tmp_path, max_length=62).score(replies) == judge(tmp_path).score(replies)


def test_a_max_length_beyond_the_models_positions_is_refused(tmp_path: Path) -> None:
    roberta(tmp_path)
    with pytest.raises(
        PipelineError, match=r"rm: .* has 62 learnt positions: max_length must be at most so many, got 63"
    ):
        judge(tmp_path, max_length=63)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no such thing') }}", "no such thing"),
        ("{% if messages %}", "Unexpected end of template"),
        ("{{ messages[5].content.away }}", "has no element 5|has no attribute"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
)
def test_a_chat_template_that_fails_is_one_line_that_names_judge_model_and_item(
    tmp_path: Path, template: str, said: str
) -> None:
    roberta(tmp_path, template)
    with pytest.raises(
        PipelineError, match=f"^judge rm: the model .*: its chat template does not render item i0: .*({said})"
    ) as raised:
        judge(tmp_path).score(REPLIES)
    assert "\n" not in str(raised.value)


def test_one_of_several_outputs_must_be_chosen(tmp_path: Path) -> None:
    model = llama(tmp_path, num_labels=3)
    with pytest.raises(PipelineError, match=r"has 3 outputs. Say in `label` which one is the score"):
        judge(tmp_path)
    with pytest.raises(PipelineError, match="there is no label 3"):
        judge(tmp_path, label=3)
    zero, two = judge(tmp_path, label=0).score(REPLIES), judge(tmp_path, label=2).score(REPLIES)
    assert zero != pytest.approx(two, abs=1e-3)
    assert model.config.num_labels == 3


def test_a_model_without_a_trained_head_is_refused_and_not_scored_with_random_numbers(tmp_path: Path) -> None:
    llama(tmp_path, LlamaForCausalLM)
    with pytest.raises(
        DoesNotLoad, match=r"is no trained sequence classifier: its weights lack score\.weight"
    ):
        judge(tmp_path, label=0)


def test_an_empty_folder_does_not_load_and_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DoesNotLoad, match=r"judge rm: the model .* does not load: ") as raised:
        judge(tmp_path)
    assert "\n" not in str(raised.value)


def test_without_a_chat_template_prompt_and_reply_are_two_texts(tmp_path: Path) -> None:
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3} | {f"w{n}": n for n in range(4, 20)}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(2)
    model = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=1, **SHAPE)).eval()
    model.save_pretrained(tmp_path)
    asked = [Reply("a", "w4 w5", "w6"), Reply("b", "w4", "w5 w6 w7 w8")]
    with torch.inference_mode():
        by_hand = [
            model(**tokenizer(one.prompt, one.reply, return_tensors="pt")).logits.item() for one in asked
        ]
    assert judge(tmp_path).score(asked) == pytest.approx(by_hand, abs=1e-5)


def test_without_a_pad_token_texts_are_scored_one_by_one(tmp_path: Path) -> None:
    llama(tmp_path, num_labels=1)
    with_padding = judge(tmp_path).score(REPLIES)
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert judge(tmp_path).score(REPLIES) == pytest.approx(with_padding, abs=1e-5)
