"""Follows the memory that tensors hold, by part and by moment, and counts floating-point operations.

Works on fake tensors as on real ones: what is followed is their storages.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from pipelines.forecast.request import MemoryPhase, Part, PartBytes

aten = torch.ops.aten


class Moment(NamedTuple):
    """A stretch of a training step that looks alike in models of every depth."""

    phase: MemoryPhase
    place: str


class Flops(NamedTuple):
    """Operations of one phase."""

    matmul: float = 0.0
    attention: float = 0.0


@dataclass
class _Held:
    """A storage that lives: which part it belongs to, and how much of it counts."""

    part: Part
    num_bytes: int


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, knows how many bytes live in each part and the peak of each moment.

    A new storage counts as `logits` where its last dimension is one of `logit_widths`, else as `activations`, until
    `tag` says what it is. Results that depend on data, which fake tensors do not have, are replaced by constants; a
    selection by a mask selects everything.

    Args:
        logit_widths: Last dimensions of logits (the vocabulary, and the width of the tiles in which a fused head goes
            through it), each with the share of such a storage that is ever written: a CPU's process holds no more of it.
    """

    def __init__(self, logit_widths: Mapping[int, float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peaks: dict[Moment, PartBytes] = {}
        self.flops: dict[MemoryPhase, Flops] = {}
        self._widths = logit_widths
        self._live: dict[Part, int] = dict.fromkeys(_FOLLOWED, 0)
        self._parts: weakref.WeakKeyDictionary[torch.UntypedStorage, _Held] = weakref.WeakKeyDictionary()
        self._moment = Moment("load", "start")
        self._total = 0
        self._counting = True
        self._lent: tuple[weakref.ref[torch.UntypedStorage], _Held, int] | None = None

    def at(self, *, phase: MemoryPhase | None = None, place: str) -> None:
        """A new moment begins; the phase stays if none is given."""
        self._moment = Moment(phase or self._moment.phase, place)
        self._note_peak()

    @contextmanager
    def within(self, phase: MemoryPhase, place: str) -> Iterator[None]:
        """What happens inside belongs to another phase."""
        outside = self._moment
        self.at(phase=phase, place=place)
        try:
            yield
        finally:
            self._moment = outside
            self._note_peak()

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Storages made inside do not count: temporaries that another device's kernels do not need."""
        counting, self._counting = self._counting, False
        try:
            yield
        finally:
            self._counting = counting

    def tag(self, tensor: torch.Tensor, part: Part) -> None:
        """The tensor's storage belongs to `part` from now on."""
        storage = tensor.untyped_storage()
        if storage not in self._parts:
            self._add(storage, part)
            return
        held = self._parts[storage]
        if held.part != part:
            self._live[held.part] -= held.num_bytes
            self._live[part] += held.num_bytes
            held.part = part
            self._note_peak()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, or what stands for it, and note what it made."""
        self._give_back()
        if func is aten._local_scalar_dense.default:
            return _scalar_for(args[0].dtype)
        if (mask := _mask_of(func, args)) is None:
            out = func(*args, **(kwargs or {}))
        elif func in _PUTS:
            out = args[0]
        else:
            out = args[0].new_empty((mask.numel(), *args[0].shape[mask.dim() :]))
        self._count_flops(func, args, kwargs or {}, out)
        if self._moment.phase == "backward" and _sums_gradients(func, args, kwargs):
            self._take_over(args[0].untyped_storage())
        if self._counting:
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor) and leaf.untyped_storage() not in self._parts:
                    share = self._widths.get(leaf.shape[-1]) if leaf.dim() >= 2 else None
                    if share is None:
                        self._add(leaf.untyped_storage(), "activations")
                    else:
                        self._add(leaf.untyped_storage(), "logits", share)
        return out

    def _add(self, storage: torch.UntypedStorage, part: Part, share: float = 1.0) -> None:
        held = _Held(part, round(storage.nbytes() * share))
        self._parts[storage] = held
        self._live[part] += held.num_bytes
        self._total += held.num_bytes
        weakref.finalize(storage, self._remove, held)
        self._note_peak()

    def _remove(self, held: _Held) -> None:
        self._live[held.part] -= held.num_bytes
        self._total -= held.num_bytes

    def _take_over(self, storage: torch.UntypedStorage) -> None:
        """Let the sum that comes next stand in the place of its first term.

        Autograd adds gradients in place where nothing else holds one of them, but never under a dispatch mode.
        """
        if (held := self._parts.get(storage)) is not None and held.num_bytes:
            self._lent = weakref.ref(storage), held, held.num_bytes
            self._live[held.part] -= held.num_bytes
            self._total -= held.num_bytes
            held.num_bytes = 0

    def _give_back(self) -> None:
        """A first term that outlives the addition was not added to in place."""
        if self._lent is None:
            return
        storage, held, num_bytes = self._lent
        self._lent = None
        if storage() is not None:
            held.num_bytes = num_bytes
            self._live[held.part] += num_bytes
            self._total += num_bytes
            self._note_peak()

    def _note_peak(self) -> None:
        # At equal heights the later one: by then optimizer states are known as such.
        if self._total >= sum(self.peaks.get(self._moment, {}).values()):
            self.peaks[self._moment] = dict(self._live)

    def _count_flops(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        packet = func._overloadpacket
        if packet not in _FLOPS:
            return
        count, attention = _FLOPS[packet]
        flops = float(count(*args, **kwargs, out_val=out))
        matmul_before, attention_before = self.flops.get(self._moment.phase, Flops())
        self.flops[self._moment.phase] = (
            Flops(matmul_before, attention_before + flops)
            if attention
            else Flops(matmul_before + flops, attention_before)
        )


def _sums_gradients(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    """Whether this is an addition of two gradients by autograd, as far as can be told from inside of it."""
    if func is not aten.add.Tensor or kwargs or torch.is_grad_enabled():
        return False
    first, second = args
    return isinstance(second, torch.Tensor) and (first.shape, first.dtype) == (second.shape, second.dtype)


def _cpu_attention_flops(query: Any, key: Any, value: Any, *_: Any, out_val: Any = None, **__: Any) -> float:
    del out_val
    return float(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


def _cpu_attention_backward_flops(
    grad: Any, query: Any, key: Any, value: Any, *_: Any, out_val: Any = None, **__: Any
) -> float:
    del out_val
    shapes = (grad.shape, query.shape, key.shape, value.shape)
    return float(sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]


def _flop_counts() -> dict[Any, tuple[Callable[..., Any], bool]]:
    """Operation to its count (torch's own, and the CPU's attention, which torch has none for) and whether it attends."""
    counts = {packet: (count, "attention" in str(packet)) for packet, count in flop_registry.items()}
    counts[aten._scaled_dot_product_flash_attention_for_cpu] = (_cpu_attention_flops, True)
    counts[aten._scaled_dot_product_flash_attention_for_cpu_backward] = (_cpu_attention_backward_flops, True)
    counts[aten.addmm_] = (flop_registry[aten.addmm], False)
    # Eager attention multiplies in batches.
    for packet in (aten.bmm, aten.baddbmm):
        counts[packet] = (flop_registry[packet], True)
    return counts


def _scalar_for(dtype: torch.dtype) -> bool | int | float:
    """What `.item()` gives. False for truths: `torch.all(mask)` then says that there is padding, as there mostly is."""
    if dtype == torch.bool:
        return False
    return 0.5 if dtype.is_floating_point else 1


def _mask_of(func: Any, args: tuple[Any, ...]) -> torch.Tensor | None:
    """The mask, if an operation selects by one."""
    if func is aten.masked_select.default:
        return args[1]  # type: ignore[no-any-return]
    if func is not aten.index.Tensor and func not in _PUTS:
        return None
    first = args[1][0] if args[1] else None
    return first if isinstance(first, torch.Tensor) and first.dtype == torch.bool else None


# They write into their first argument where a mask says; here there is nothing to write.
_PUTS = (aten.index_put_.default, aten._index_put_impl_.default)
_FOLLOWED: tuple[Part, ...] = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "reference",
    "adapter",
)
_FLOPS = _flop_counts()
