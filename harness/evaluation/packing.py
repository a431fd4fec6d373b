"""Rows of token ids for one forward pass: a prompt with all its replies in one row, or each reply in a row of its own.

Shapes: b rows, t tokens, c reply tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# A batch ends early where its shortest item would be shorter than this share of its longest.
LEAST_FILLED = 0.9
PROMPT = 0  # its segment; replies count from 1


@dataclass(frozen=True)
class Prompted:
    """Replies to one prompt, to be scored.

    Attributes:
        prompt_ids: At least one token: what the first token of each reply is conditioned on.
        replies: At least one reply of at least one token; a reply's end of turn is one of them.
    """

    prompt_ids: list[int]
    replies: list[list[int]]

    @property
    def shared_length(self) -> int:
        """Tokens where the prompt is counted once."""
        return len(self.prompt_ids) + sum(map(len, self.replies))

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest reply."""
        return len(self.prompt_ids) + max(map(len, self.replies))


@dataclass(frozen=True)
class Packed:
    """What goes into one forward pass, padded on the right, and where the predictions of reply tokens come out.

    Attributes:
        ids_bt: Token ids.
        positions_bt: Each reply goes on counting where its prompt ends.
        segments_bt: 0 in the prompt, the reply's number from 1 on in a reply; padding counts as the last reply.
        rows_c: Row of each reply token, item by item and reply by reply.
        places_c: Place in its row whose prediction is that token.
        targets_c: The token.
    """

    ids_bt: Tensor
    positions_bt: Tensor
    segments_bt: Tensor
    rows_c: Tensor
    places_c: Tensor
    targets_c: Tensor


def together(items: list[Prompted], device: torch.device) -> Packed:
    """One row an item: its prompt, then every reply."""
    return _packed(items, device)


def apart(items: list[Prompted], device: torch.device) -> Packed:
    """One row a reply, each with the prompt before it."""
    return _packed([Prompted(item.prompt_ids, [reply]) for item in items for reply in item.replies], device)


def attention_mask(segments_bt: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the attention scores: a token sees the prompt and its own reply, and nothing after itself.

    Padding stands behind everything, so that no other token sees it.

    Returns:
        (b, 1, t, t) of 0 and the lowest number of `dtype`.
    """
    tokens = segments_bt.shape[1]
    earlier_tt = torch.ones(tokens, tokens, dtype=torch.bool, device=segments_bt.device).tril()
    own_btt = segments_bt[:, :, None] == segments_bt[:, None, :]
    seen_btt = earlier_tt & (own_btt | (segments_bt == PROMPT)[:, None, :])
    mask_btt = torch.zeros(seen_btt.shape, dtype=dtype, device=segments_bt.device)
    return mask_btt.masked_fill_(~seen_btt, torch.finfo(dtype).min)[:, None]


def batches(
    items: list[Prompted], batch_size: int, length: Callable[[Prompted], int], *, among: list[int]
) -> Iterator[list[int]]:
    """Positions of items of similar length, the longest first: little padding, and a lack of memory shows at once.

    Args:
        items: All items.
        batch_size: The most items of a batch.
        length: Tokens of an item's row.
        among: Positions in `items` to be spread over batches.
    """
    batch: list[int] = []
    for place in sorted(among, key=lambda place: (-length(items[place]), place)):
        if batch and (
            len(batch) == batch_size or length(items[place]) < LEAST_FILLED * length(items[batch[0]])
        ):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _packed(items: list[Prompted], device: torch.device) -> Packed:
    width = max(item.shared_length for item in items)
    ids, positions, segments = [], [], []
    rows: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    for row, item in enumerate(items):
        prompt = len(item.prompt_ids)
        own_ids, own_positions, own_segments = list(item.prompt_ids), list(range(prompt)), [PROMPT] * prompt
        for number, reply in enumerate(item.replies, start=1):
            rows += [row] * len(reply)
            places += [prompt - 1, *range(len(own_ids), len(own_ids) + len(reply) - 1)]
            targets += reply
            own_ids += reply
            own_positions += range(prompt, prompt + len(reply))
            own_segments += [number] * len(reply)
        padding = width - len(own_ids)
        ids.append(own_ids + [0] * padding)
        positions.append(own_positions + [0] * padding)
        segments.append(own_segments + [len(item.replies)] * padding)
    made = (torch.tensor(made, device=device) for made in (ids, positions, segments, rows, places, targets))
    return Packed(*made)
