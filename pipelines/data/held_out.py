"""Prompts that another data stage holds out, so that SFT's own data set does not give them away."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.data.fingerprints import text_hash
from pipelines.data.forms import Message, readable
from pipelines.data.splitting import normalised


class HeldOut:
    """The prompts that nothing may be trained on.

    Args:
        pairs_file: Of the data stage that holds them out.
    """

    def __init__(self, pairs_file: Path) -> None:
        with pairs_file.open(encoding="utf-8") as lines:
            rows = map(json.loads, lines)
            self._prompts = {row["prompt_normalised"] for row in rows if row["split"] != "train"}

    def __contains__(self, prompt: list[Message]) -> bool:
        """Whether a prompt, or one of its user turns, is held out as it is or but for case, spacing and a closing mark."""
        turns = [message["content"] for message in prompt if message["role"] == "user"]
        return any(text_hash(normalised(text)) in self._prompts for text in (readable(prompt), *turns))
