"""Which hidden unit each coordinate of a tensor belongs to.

A network computes the same when its hidden units are numbered otherwise. To find how they may be, every tensor that a
forward pass touches is labelled: each coordinate of an axis carries the number of a unit, and operations say which
units are one and the same (an addition), which stay apart (a concatenation), and which must keep their places (whatever
meets an input). Labels are arrays of integers, so that chunks, shuffles, heads and concatenations are what they are for
the tensors themselves: the same indexing.

A block of labels spans one axis or several. Where an operation treats the axes of a block apart, such as a product of
queries and keys that sums over the inside of a head but not over heads, the rows of the block become units of their
own, the parents of what lies in them: they move as wholes, and what lies in them moves within.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Units = np.ndarray  # of integers
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """The units along one or several axes.

    Attributes:
        axes: ascending.
        units: one for each place, with the sizes of those axes.
    """

    axes: tuple[int, ...]
    units: Units


@dataclass(frozen=True)
class Labels:
    """What is known of a tensor's axes: each is in a block, or fixed, or the same at every place.

    An axis is fixed when its places mean something, such as examples, pixels or inputs, and uniform when values do not
    depend on the place. Axes of size 1 are uniform.

    Attributes:
        shape: of the tensor.
        blocks: over disjoint sets of axes.
        fixed: axes.
    """

    shape: Shape
    blocks: tuple[Block, ...] = ()
    fixed: frozenset[int] = frozenset()

    def block(self, axis: int) -> Block | None:
        """The block that spans an axis."""
        return next((block for block in self.blocks if axis in block.axes), None)

    def moved(self, axes: dict[int, int], shape: Shape) -> "Labels":
        """The same, with axes by other numbers; those that are not named must be uniform."""
        blocks = []
        for block in self.blocks:
            order = sorted(range(len(block.axes)), key=lambda i: axes[block.axes[i]])
            blocks.append(Block(tuple(axes[block.axes[i]] for i in order), block.units.transpose(order)))
        return Labels(shape, tuple(blocks), frozenset(axes[axis] for axis in self.fixed))

    def permuted(self, order: Sequence[int]) -> "Labels":
        """Those of the transposed tensor."""
        places = {axis: place for place, axis in enumerate(order)}
        return self.moved(places, tuple(self.shape[axis] for axis in order))

    def inserted(self, axis: int) -> "Labels":
        """Those of a tensor with another axis of size 1."""
        axes = {old: old + (old >= axis) for old in range(len(self.shape))}
        return self.moved(axes, (*self.shape[:axis], 1, *self.shape[axis:]))

    def dropped(self, axes: Iterable[int]) -> "Labels":
        """Those of a tensor without some axes, which must be uniform or fixed."""
        gone = set(axes)
        kept = [axis for axis in range(len(self.shape)) if axis not in gone]
        left = replace(self, fixed=self.fixed - gone)
        return left.moved({axis: place for place, axis in enumerate(kept)}, tuple(self.shape[axis] for axis in kept))

    def broadcast(self, shape: Shape) -> "Labels":
        """Those of the tensor broadcast to a shape."""
        lead = len(shape) - len(self.shape)
        return self.moved({axis: axis + lead for axis in range(len(self.shape))}, shape)

    def sized(self, shape: Shape) -> "Labels":
        """The same of a tensor whose fixed and uniform axes have other sizes."""
        return replace(self, shape=shape)


def uniform(shape: Sequence[int]) -> Labels:
    """Those of a tensor that is the same everywhere."""
    return Labels(tuple(shape))


def fixed(shape: Sequence[int]) -> Labels:
    """Those of a tensor whose every place means something."""
    return Labels(tuple(shape), fixed=frozenset(axis for axis, size in enumerate(shape) if size > 1))


class Universe:
    """All units of a network, and what is known of them."""

    def __init__(self) -> None:
        self.count = 0
        self._same: list[tuple[Units, Units]] = []
        self._pinned: list[Units] = []
        self._parents: list[tuple[Units, Units]] = []
        self._rows: dict[tuple[Shape, bytes], Units] = {}

    # ------------------------------------------------------------------ units

    def fresh(self, *shape: int) -> Units:
        """New units."""
        units = np.arange(self.count, self.count + prod(shape)).reshape(shape)
        self.count += units.size
        return units

    def unify(self, one: Units, other: Units) -> None:
        """State that units are the same, one by one."""
        one, other = np.broadcast_arrays(one, other)
        self._same.append((one.ravel(), other.ravel()))

    def pin(self, units: Units) -> None:
        """State that units must keep their places."""
        self._pinned.append(units.ravel())

    def pinned(self, *shape: int) -> Units:
        """New units that keep their places."""
        units = self.fresh(*shape)
        self.pin(units)
        return units

    def relate(self, children: Units, parents: Units) -> None:
        """State that children move with their parents."""
        children, parents = np.broadcast_arrays(children, parents)
        self._parents.append((children.ravel(), parents.ravel()))

    def pin_labels(self, labels: Labels) -> None:
        """State that all units of a tensor must keep their places."""
        for block in labels.blocks:
            self.pin(block.units)

    def rows(self, block: Block, axes: Sequence[int]) -> Units:
        """The units of a block's rows, which lie at the places along some of its axes: parents of what lies in them."""
        if tuple(axes) == block.axes:
            return block.units
        kept = [block.axes.index(axis) for axis in axes]
        rest = [place for place in range(len(block.axes)) if place not in kept]
        shape = tuple(block.units.shape[place] for place in kept)
        inside = np.ascontiguousarray(block.units.transpose(kept + rest).reshape(*shape, -1))
        if inside.shape[-1] == 1:
            return inside[..., 0]
        key = (inside.shape, inside.tobytes())
        if key not in self._rows:
            contents, which = np.unique(inside.reshape(-1, inside.shape[-1]), axis=0, return_inverse=True)
            rows = self.fresh(len(contents))
            self.relate(contents, rows[:, None])
            self._rows[key] = rows[which.ravel()].reshape(shape)
        return self._rows[key]

    def chosen(self, units: Units) -> None:
        """State that units were cut out of an axis: they move among themselves."""
        key = ((), np.ascontiguousarray(units).tobytes())
        if key not in self._rows:
            self._rows[key] = self.pinned(1)
            self.relate(units, self._rows[key])

    # ------------------------------------------------------------------ labels

    def combine(self, shape: Sequence[int], *several: Labels) -> Labels:
        """Those of an elementwise function of tensors that are broadcast to a shape."""
        shape = tuple(shape)
        labels = [each.broadcast(shape) for each in several]
        blocks: list[Block] = []
        for axes in _joined(len(shape), (block.axes for each in labels for block in each.blocks)):
            blocks.append(self._joint(axes, labels))
        covered = {axis for block in blocks for axis in block.axes}
        return Labels(shape, tuple(blocks), frozenset(a for each in labels for a in each.fixed if a not in covered))

    def _joint(self, axes: tuple[int, ...], several: Sequence[Labels]) -> Block:
        """The block over axes that blocks of one or the other tensor span together."""
        parts = [block for labels in several for block in labels.blocks if set(block.axes) <= set(axes)]
        widest = max(parts, key=lambda block: len(block.axes))
        if widest.axes != axes:  # blocks that overlap: no such operation is known, so that all stay where they are
            for block in parts:
                self.pin(block.units)
            return Block(axes, self.pinned(*(several[0].shape[axis] for axis in axes)))
        for block in parts:
            if block is not widest:
                self.unify(self.rows(widest, block.axes), block.units)
        for labels in several:
            if here := tuple(sorted(labels.fixed & set(axes))):
                self.pin(self.rows(widest, here))
        return widest

    def reduced(self, labels: Labels, axes: Iterable[int], keep: bool = False) -> Labels:
        """Those of a function, such as a sum, that does not depend on the order along some axes."""
        gone = {axis % len(labels.shape) for axis in axes} if labels.shape else set()
        blocks = []
        for block in labels.blocks:
            left = tuple(axis for axis in block.axes if axis not in gone)
            if left:
                blocks.append(Block(left, self.rows(block, left)))
        shape = tuple(1 if axis in gone else size for axis, size in enumerate(labels.shape))
        kept = Labels(shape, tuple(blocks), labels.fixed - gone)
        return kept if keep else kept.dropped(gone)

    def apart(self, labels: Labels, axis: int) -> Labels:
        """The same where a function acts on each place of an axis by itself, but not alike: the places are pinned."""
        block = labels.block(axis)
        if block:
            self.pin(self.rows(block, (axis,)))
        return labels

    def taken(self, labels: Labels, axis: int, places: np.ndarray | slice) -> Labels:
        """Those of a tensor that takes some places of an axis, in some order."""
        block = labels.block(axis)
        size = len(np.arange(labels.shape[axis])[places])
        shape = tuple(size if a == axis else s for a, s in enumerate(labels.shape))
        if block is None:
            return replace(labels, shape=shape, fixed=labels.fixed - {axis} if size == 1 else labels.fixed)
        index = tuple(places if a == axis else slice(None) for a in block.axes)
        units = block.units[index]
        if units.size < block.units.size:
            self.chosen(units)
        others = tuple(each for each in labels.blocks if each is not block)
        if size == 1:
            left = tuple(a for a in block.axes if a != axis)
            if not left:
                self.pin(units)
                return Labels(shape, others, labels.fixed)
            units = units.squeeze(block.axes.index(axis))
            return Labels(shape, (*others, Block(left, units)), labels.fixed)
        return Labels(shape, (*others, Block(block.axes, units)), labels.fixed)

    def selected(self, labels: Labels, axis: int, place: int) -> Labels:
        """Those of a tensor at one place of an axis."""
        return self.taken(labels, axis, np.array([place % labels.shape[axis]])).dropped([axis])

    def concatenated(self, several: Sequence[Labels], axis: int) -> Labels:
        """Those of tensors one after the other along an axis."""
        sizes = [labels.shape[axis] for labels in several]
        shape = tuple(sum(sizes) if a == axis else size for a, size in enumerate(several[0].shape))
        spans = (block.axes for labels in several for block in labels.blocks)
        axes = next((joint for joint in _joined(len(shape), spans) if axis in joint), None)
        if axes is None:
            single = tuple(1 if a == axis else size for a, size in enumerate(shape))
            rest = self.combine(single, *(replace(e, shape=single, fixed=e.fixed - {axis}) for e in several))
            return Labels(shape, rest.blocks, rest.fixed | {axis})
        units = np.concatenate([self._over(labels, axes) for labels in several], axes.index(axis))
        single = tuple(1 if a in axes else size for a, size in enumerate(shape))
        rest = self.combine(single, *(_without(labels, axes, single) for labels in several))
        return Labels(shape, (*rest.blocks, Block(axes, units)), rest.fixed)

    def _over(self, labels: Labels, axes: tuple[int, ...]) -> Units:
        """Units at all places along some axes, whose blocks lie within them."""
        shape = tuple(labels.shape[axis] for axis in axes)
        blocks = [block for block in labels.blocks if set(block.axes) <= set(axes)]
        loose = [axis for axis in axes if not any(axis in block.axes for block in blocks)]
        is_alike = not any(axis in labels.fixed for axis in loose)
        spread = []
        for block in blocks:
            index = tuple(slice(None) if axis in block.axes else None for axis in axes)
            spread.append(np.broadcast_to(block.units[index], shape))
        if not blocks:
            return self.fresh(*shape) if is_alike else self.pinned(*shape)
        if len(blocks) == 1 and (not is_alike or all(labels.shape[axis] == 1 for axis in loose)):
            return spread[0]
        units = self.fresh(*shape)
        for parents in spread:
            self.relate(units, parents)
        return units

    def reshaped(self, labels: Labels, shape: Sequence[int]) -> Labels:
        """Those of the tensor in another shape, with its numbers in the same order."""
        shape = tuple(shape)
        if shape == labels.shape:
            return labels
        pieces = list(_pieces(labels.shape, shape))
        number = {axis: k for k, (old, _) in enumerate(pieces) for axis in old}
        spans = (tuple({number[axis] for axis in block.axes}) for block in labels.blocks)
        blocks, settled = [], set[int]()
        for joint in _joined(len(pieces), spans):
            old = tuple(axis for k in joint for axis in pieces[k][0])
            new = tuple(axis for k in joint for axis in pieces[k][1])
            units = self._over(labels, old).reshape([shape[axis] for axis in new])
            blocks.append(Block(new, units))
            settled |= set(joint)
        left = frozenset(
            axis for k, (old, new) in enumerate(pieces) if k not in settled and labels.fixed & set(old) for axis in new
        )
        return _settled(Labels(shape, tuple(blocks), left))

    # ------------------------------------------------------------------ what follows

    def classes(self) -> tuple[Units, np.ndarray, np.ndarray]:
        """What all statements come to.

        Returns:
            The class of every unit `[count]`; whether each class keeps its place; pairs of classes `[k, 2]`, child and
            parent, without repetition.
        """
        one, other = _gathered(self._same)
        edges = coo_array((np.ones(len(one), bool), (one, other)), shape=(self.count, self.count))
        number, classes = connected_components(edges, directed=False)
        is_pinned = np.zeros(number, bool)
        is_pinned[classes[np.concatenate([np.empty(0, int), *self._pinned])]] = True
        children, parents = _gathered(self._parents)
        pairs = np.unique(np.stack([classes[children], classes[parents]], axis=1), axis=0)
        return classes, is_pinned, pairs[pairs[:, 0] != pairs[:, 1]]


def _gathered(pairs: Sequence[tuple[Units, Units]]) -> tuple[Units, Units]:
    none = np.empty(0, np.int64)
    return np.concatenate([none, *(a for a, _ in pairs)]), np.concatenate([none, *(b for _, b in pairs)])


def _joined(count: int, spans: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """The sets of axes that spans cover together, where those that overlap are joined."""
    sets: list[set[int]] = []
    for span in spans:
        touching = [each for each in sets if each & set(span)]
        sets = [each for each in sets if each not in touching] + [set(span).union(*touching)]
    return sorted(tuple(sorted(each)) for each in sets)


def _without(labels: Labels, axes: Sequence[int], shape: Shape) -> Labels:
    """What is left of labels without some axes, which have size 1 in the shape."""
    blocks = tuple(block for block in labels.blocks if not set(block.axes) & set(axes))
    return Labels(shape, blocks, labels.fixed - set(axes))


def _pieces(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest runs of axes, longer than 1, of one shape and of the other that hold as many numbers."""
    before = [axis for axis, size in enumerate(old) if size != 1]
    after = [axis for axis, size in enumerate(new) if size != 1]
    i = j = 0
    while i < len(before) and j < len(after):
        left, right = [before[i]], [after[j]]
        i, j = i + 1, j + 1
        while (here := prod(old[a] for a in left)) != (there := prod(new[a] for a in right)):
            if here < there:
                left.append(before[i])
                i += 1
            else:
                right.append(after[j])
                j += 1
        yield left, right


def _settled(labels: Labels) -> Labels:
    """The same with blocks over no axis along which their units do not change; such an axis is fixed."""
    blocks, still = [], set[int]()
    for block in labels.blocks:
        units, axes = block.units, list(block.axes)
        for axis in block.axes if len(block.axes) > 1 else ():
            place = axes.index(axis)
            first = units.take([0], place)
            if len(axes) > 1 and (units == first).all():
                units = first.squeeze(place)
                axes.remove(axis)
                still.add(axis)
        blocks.append(Block(tuple(axes), units))
    return replace(labels, blocks=tuple(blocks), fixed=labels.fixed | still)
