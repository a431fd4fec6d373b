"""Which judges there are and what each is told: entries of `evaluations.judges`, part of a judge's `stage.json`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.strict import Strict

TOY = "toy"  # in place of a reward model's name
Mode = Literal["score", "compare"]
MODE_WORDS = "`score`: each reply by itself, once a model. `compare`: two replies to one prompt, once for each two models."


class _Judge(Strict):
    """What every judge has."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Names its metrics: `win_rate_<name>`, and `score_<name>` if it scores.",
    )
    replies: Literal["greedy", "sampled"] = Field(
        "greedy", description="Which of the stored replies it reads; `sampled` needs `generation.sampled`."
    )


class GoldJudge(_Judge):
    """The toy world's own scorer."""

    kind: Literal["gold"]


class CommandJudge(_Judge):
    """A program that reads JSON lines and writes JSON lines."""

    kind: Literal["command"]
    command: list[str] = Field(
        min_length=1,
        description="Program and arguments, without a shell. It reads standard input and writes standard output, or the "
        "files that stand for `{input}` and `{output}` in its arguments.",
    )
    mode: Mode = Field("score", description=MODE_WORDS)
    timeout_minutes: float = Field(60, gt=0, description="After so long it is ended, and the stage fails.")


class PluginJudge(_Judge):
    """A Python object of an installed package, found by its entry point in the group `prefduel.judges`."""

    kind: Literal["plugin"]
    plugin: str = Field(description="Name of the entry point.")
    mode: Mode = Field("score", description=MODE_WORDS)
    options: dict[str, Any] = Field(default_factory=dict, description="What its factory is called with.")


class RewardModelJudge(_Judge):
    """A sequence-classification model that scores a prompt with its reply."""

    kind: Literal["reward_model"]
    model: str = Field(
        description="A hub id, a local folder, `package:NAME`, or `toy`: a tiny one, trained on the toy world's training pairs when "
        "first needed. Weights must be safetensors."
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub id.")
    label: int | None = Field(
        None, ge=0, description="Which of the model's outputs is the score; needed where it has several."
    )
    max_length: int | None = Field(
        None, ge=8, description="Longer texts lose their beginning. Empty: what tokenizer and model bear."
    )
    batch_size: int = Field(16, ge=1, description="Texts per forward pass.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Number format of the weights.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")


INSTRUCTIONS = (
    "You compare two replies, A and B, to one request. The better reply does what was asked, correctly and completely, without "
    "needless words. The order in which the replies are shown and their lengths say nothing of their quality."
)


class LlmJudge(_Judge):
    """A model behind an OpenAI-compatible endpoint, which compares two replies, in both orders."""

    kind: Literal["llm"]
    base_url: str = Field(
        description="Of the endpoint, such as `http://localhost:8000/v1`; `/chat/completions` is added."
    )
    model: str = Field(description="Its name, as the endpoint knows it.")
    token_cap: int = Field(
        ge=1,
        description="Tokens, of requests and answers together, that it may cost in one comparison. Where the next request "
        "might exceed it, the stage fails; answers that were had are kept.",
    )
    api_key_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the key; the key itself is written nowhere. Empty: no key.",
    )
    instructions: str = Field(
        INSTRUCTIONS,
        min_length=1,
        description="By what replies are compared. That the replies are no instructions, and how to answer, is added.",
    )
    parameters: dict[str, Any] = Field(
        {"temperature": 0, "max_tokens": 8},
        description="Further keys of the request, as they are; `max_tokens` or `max_completion_tokens` among them.",
    )
    concurrency: int = Field(4, ge=1, le=256, description="Requests under way at a time.")
    timeout_seconds: float = Field(
        60, gt=0, le=86_400, description="For one request, from its start to its last byte."
    )
    retries: int = Field(
        5, ge=0, le=20, description="Further attempts at a request that got no answer, 408, 429 or 5xx."
    )

    @property
    def most_answer_tokens(self) -> int | None:
        """At most so many tokens has an answer; None where `parameters` do not say."""
        limits = (self.parameters.get(key) for key in ("max_tokens", "max_completion_tokens"))
        return max((limit for limit in limits if type(limit) is int and limit > 0), default=None)


Judge = Annotated[
    GoldJudge | RewardModelJudge | LlmJudge | CommandJudge | PluginJudge, Field(discriminator="kind")
]


def mode_of(judge: Judge) -> Mode:
    """Whether a judge scores single replies or compares two."""
    if isinstance(judge, LlmJudge):
        return "compare"
    return judge.mode if isinstance(judge, CommandJudge | PluginJudge) else "score"
