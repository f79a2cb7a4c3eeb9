"""Which tensor of a checkpoint is which of a network.

Trainers, wrappers and libraries change the names of tensors on their way to a file. Names are compared without the
marks that these leave in them. Where they then do not fit, one prefix is taken off the file's names, as Lightning's
`model.`, or one is put before them, as the `transformer.` that a network with a head has more than its body; and only
if the layout then fits exactly, and in one way.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from landscape.errors import LayoutError
from landscape.storage.layouts import first_of, is_bookkeeping, layout_differences, unmarked

_NORMALISED = re.compile(r"\bparametrizations\.(\w+)\.original([01])$")  # of new weight normalisation
_ADAPTER = re.compile(r"(\.(?:lora_|ia3_)\w+)\.default\b")
_MOST_PARTS = 256  # of a file that are tried, each in the time that the file is long
_SAVED_MODULE = re.compile(r"\.modules_to_save\.default\b")


def plain_name(name: str) -> str:
    """A tensor's name without what wrappers, parametrizations and adapters of the same network may add to it.

    Weight normalisation is told by its old names, `weight_g` and `weight_v`. PEFT's networks hold the adapter's name,
    which their files do not: `lora_A.default.weight`, and the modules that it trains whole under `modules_to_save`; a
    magnitude of DoRA has a module of its own there.
    """
    name = _NORMALISED.sub(lambda match: f"{match[1]}_{'gv'[int(match[2])]}", unmarked(name))
    name = _SAVED_MODULE.sub("", _ADAPTER.sub(r"\1", name))
    return name.removesuffix(".weight") if name.endswith(".lora_magnitude_vector.weight") else name


def is_derived(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is what a network makes itself, as earlier versions of it kept it in their files.

    That is a causal mask `[1, 1, n, n]`, the number that stands for masked scores, the numbers of positions, and the
    frequencies of rotary embeddings.
    """
    kind = name.rpartition(".")[2]
    values = tensor.detach()
    if kind == "masked_bias":
        return tensor.ndim == 0
    if kind == "position_ids":
        return not tensor.is_floating_point() and torch.equal(values.flatten(), torch.arange(tensor.numel()).to(values))
    if kind == "inv_freq":
        numbers = values.double()
        return tensor.ndim == 1 and bool((numbers[:1] == 1).all() and (numbers.diff() < 0).all())
    square = tensor.ndim == 4 and tensor.shape[:2] == (1, 1) and tensor.shape[2] == tensor.shape[3] > 1
    return square and torch.equal(values.float(), torch.ones_like(values, dtype=torch.float32).tril())


@dataclass(frozen=True)
class Match:
    """The tensors of a state dictionary by a network's names.

    Attributes:
        tensors: by those names; what the network does not know keeps a name of its own.
        differences: what does not fit, in words; empty where all does.
        notes: what was done so that it fits, in words.
        is_partial: it holds the parameters that move and none of the fixed ones, as the file of an adapter.
    """

    tensors: Mapping[str, Tensor]
    differences: str = ""
    notes: tuple[str, ...] = ()
    is_partial: bool = False


@dataclass(frozen=True)
class Layout:
    """The tensors that a network expects.

    Attributes:
        shapes: of all, by name.
        moving: the names of the parameters that move.
        fixed: the names of those that do not.
        ties: the names of each tensor that has several.
        transient: the names of buffers that the network makes itself and does not save.
    """

    shapes: Mapping[str, torch.Size]
    moving: Collection[str]
    fixed: Collection[str] = ()
    ties: Sequence[Sequence[str]] = ()
    transient: Collection[str] = ()

    def match(self, state: Mapping[str, Tensor]) -> Match:
        """Find the network's tensors in a state dictionary.

        Raises:
            LayoutError: several prefixes lead to different tensors that all fit.
        """
        direct = self._matched(state, "", "")
        if all(name in direct.tensors for name in self.moving):
            return direct
        hits = self._prefixes(state)
        enough = len(self._distinct)
        likely = [prefix for prefix, count in hits.items() if count >= enough]
        if len(likely) > _MOST_PARTS:
            return direct
        renamed = {prefix: self._matched(state, *prefix) for prefix in likely}
        fitting = {prefix: match for prefix, match in renamed.items() if not match.differences}
        if len(fitting) > 1 and not _are_same(list(fitting.values())):
            named = " and ".join(repr(strip or add) for strip, add in fitting)
            raise LayoutError(f"several of its parts fit, those whose names begin with {named}")
        if fitting:
            return next(iter(fitting.values()))
        strip, add = max(hits, key=lambda prefix: hits[prefix], default=("", ""))
        if 2 * hits[strip, add] < enough:
            return direct
        likeliest = self._matched(state, strip, add)
        change = f"without {strip!r}" if strip else f"with {add!r} before them"
        return replace(likeliest, differences=f"its names {change}: {likeliest.differences}")

    @cached_property
    def _plain(self) -> dict[str, str]:
        """The network's names by what files may call them; each by its own where two would be called the same."""
        times = Counter(plain_name(name) for name in self.shapes)
        return {plain if times[plain := plain_name(name)] == 1 else name: name for name in self.shapes}

    @cached_property
    def _distinct(self) -> set[str]:
        """The first names of the parameters that move."""
        return set(self.moving) - {name for names in self.ties for name in names[1:]}

    def _prefixes(self, state: Mapping[str, Tensor]) -> Counter[tuple[str, str]]:
        """What may be taken off a file's names, or put before them, and how many names are then the network's."""
        names = dict.fromkeys(map(plain_name, state))
        strips, adds = _heads(names, self._plain.keys()), _heads(self._plain.keys(), names)
        return Counter({**{(head, ""): count for head, count in strips}, **{("", head): count for head, count in adds}})

    def _matched(self, state: Mapping[str, Tensor], strip: str, add: str) -> Match:
        """The tensors by the network's names, once a prefix is taken off the file's or put before them."""
        tensors = {} if strip or add else {name: tensor for name, tensor in state.items() if name in self.shapes}
        left_out = []
        for name in [name for name in state if name not in tensors]:
            plain = plain_name(name)
            if not plain.startswith(strip):
                left_out.append(name)
                continue
            renamed = add + plain.removeprefix(strip)
            own = self._plain.get(renamed, renamed if strip or add else name)
            tensors[name if own in tensors else own] = state[name]
        for names in self.ties:
            present = next((tensors[name] for name in names if name in tensors), None)
            if present is not None:
                tensors = {**dict.fromkeys(names, present), **tensors}
        return self._judged(tensors, _renaming(strip, add, left_out))

    def _judged(self, tensors: Mapping[str, Tensor], notes: Sequence[str]) -> Match:
        is_partial = bool(self.fixed) and not any(name in tensors for name in self.fixed)
        expected = {n: s for n, s in self.shapes.items() if not is_partial or n in self.moving or n in tensors}
        others = {name: t for name, t in tensors.items() if name not in self.shapes and not is_bookkeeping(name, t)}
        derived = [name for name, t in others.items() if plain_name(name) in self._made or is_derived(name, t)]
        passed = {name for name in tensors if name not in self.shapes} - (others.keys() - set(derived))
        got = {name: tensor.shape for name, tensor in tensors.items() if name not in passed}
        notes = [*notes]
        if derived:
            notes.append(f"what the network makes itself was left out: {first_of(derived)}")
        if is_partial:
            notes.append("it holds the trainable parameters alone; the others stay as the network has them")
        return Match(tensors, layout_differences(expected, got), tuple(notes), is_partial)

    @cached_property
    def _made(self) -> set[str]:
        return {plain_name(name) for name in self.transient}


def _heads(names: Collection[str], tails: Collection[str]) -> Iterator[tuple[str, int]]:
    """What some names have before others', and how often."""
    deepest = max((tail.count(".") + 1 for tail in tails), default=0)
    heads: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for count in range(1, min(deepest, len(parts) - 1) + 1):
            tail = ".".join(parts[-count:])
            if tail in tails:
                heads[name.removesuffix(tail)] += 1
    yield from heads.items()


def _renaming(strip: str, add: str, left_out: list[str]) -> list[str]:
    """What was done to names, in words."""
    notes = [f"{strip!r} was taken off the names of its tensors"] if strip else []
    notes += [f"{add!r} was put before the names of its tensors"] if add else []
    beside = [name for name in left_out if "." in name]
    count = f"{len(beside)} others were" if len(beside) > 1 else "one other was"
    return notes + ([f"{count} left out: {first_of(beside)}"] if beside else [])


def _are_same(matches: Sequence[Match]) -> bool:
    """Whether all lead to the same values, as those of a module that is registered by two names."""
    return all(
        one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
        for one, other in pairwise(matches)
    )
