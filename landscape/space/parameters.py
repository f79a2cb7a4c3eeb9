"""A network's parameters as one flat vector, and back.

With P trainable numbers a network is a point θ in R^P. `ParameterSpace` is the only place that knows how the two
correspond: names, shapes, memory formats, tied weights, which tensors move, and which rows form a filter. It holds a
private copy of the network whose parameters are views into one flat buffer, so that going to a θ is one copy of `[P]`
and a backward pass leaves the gradient in one `[P]`.
"""

import fnmatch
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from landscape.errors import LayoutError, NonFiniteError, ProblemError
from landscape.problems.copying import copied, is_plain, unwrapped
from landscape.space.buffers import OtherBuffers, RunningStatistics, keeps_statistics
from landscape.space.pieces import is_finite
from landscape.space.placement import Placement
from landscape.space.segments import distinct_parameters, segments_of
from landscape.storage.layouts import COUNTER, layout_differences
from landscape.storage.naming import Layout, Match

TrainableParameters = str | Callable[[str, nn.Parameter], bool]


class ParameterSpace:
    """The correspondence between a network and a flat vector θ `[P]`.

    Args:
        model: the network. It is copied; the original is never changed.
        trainable: which parameters are coordinates of the space: a name pattern with wildcards (`"*.lora_*"`), or a
            function of name and parameter. By default those that require a gradient. The others stay as they are.
        device: where the flat vectors live.
        dtype: the type of all floating-point tensors of the copy.

    Attributes:
        network: the private copy, at the point where `move_to` left it.
        theta: that point `[P]`, into which the copy's parameters are views.
        parameters: the copy's trainable parameters, one for each of the `segments`.
        norms: the layers of batch and instance norm that keep running statistics, in the network's order.
        statistics: their running means and variances `[S]`, the buffer itself.
        others: the further buffers.
        layout: the names and shapes of the tensors that its checkpoints hold.

    Raises:
        ProblemError: the network has no trainable parameter, or one without a shape yet, or of a complex type.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        trainable: TrainableParameters | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        tensors = distinct_parameters(model)
        moves = _predicate(trainable)
        moving = [(names, p) for names, p in tensors if moves(names[0], p)]
        fixed = [(names, p) for names, p in tensors if not moves(names[0], p)]
        if not moving:
            raise ProblemError(
                f"no parameter of {type(unwrapped(model)).__name__} is trainable"
                + (f" under {trainable!r}" if trainable is not None else "")
                + "; the space would have no dimension."
            )
        self._originals = {names[0]: weakref.ref(parameter) for names, parameter in moving}
        self.device = torch.device(device)
        self.dtype = dtype
        self.network = _converted(copied(model, [p for _, p in fixed]), {p.dtype for _, p in moving}, self).eval()
        self.segments = segments_of(self.network, moving)
        self.dimension = sum(segment.size for segment in self.segments)
        self.theta = torch.empty(self.dimension, device=self.device, dtype=dtype)
        self._gradient: Tensor | None = None
        self._is_replaced = False  # what does not move, by another than the network's own
        self.parameters = self._bind_parameters([name for names, _ in fixed for name in names])
        self._running = RunningStatistics(self.network, self.theta)
        self.norms, self.statistics = self._running.norms, self._running.flat
        self.others = OtherBuffers(self.network, self.norms)
        self.placement = Placement(self.theta, self.statistics, self.others)
        self.layout = self._laid_out([names for names, _ in tensors if len(names) > 1])

    def originals(self) -> dict[str, nn.Parameter]:
        """The trainable parameters, by name, of the network that was copied, as far as somebody else holds them."""
        held = {name: original() for name, original in self._originals.items()}
        return {name: parameter for name, parameter in held.items() if parameter is not None}

    @property
    def gradient(self) -> Tensor:
        """The buffer `[P]` where a backward pass through `network` adds its gradient; made on first use."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.theta)
        self._bind_gradient(self._gradient)
        return self._gradient

    def drop_gradient(self) -> None:
        """Give the gradient's memory back, until it is used again."""
        self._gradient = None
        for parameter in self.parameters:
            parameter.grad = None

    def move_to(self, theta: Tensor) -> None:
        """Take the network to the point θ `[P]`; statistics and all else stay.

        Raises:
            LayoutError: θ has another shape.
            PlaceError: the network is held where it is.
        """
        self.placement.occupancy.require_free()
        self.placement.move_to(theta)

    def require_fixed(self) -> None:
        """Check that training has changed no parameter that is not trainable; raises ProblemError where it has."""
        for name, (parameter, version) in self._fixed.items():
            if parameter._version != version:
                raise ProblemError(
                    f"{name} is not trainable, but the network changes it while it trains; freeze it in the network, "
                    "or make it a buffer."
                )

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """The point θ `[P]` of named tensors, of which only the trainable parameters matter.

        Raises:
            LayoutError: parameters are missing or shapes differ; the first of each are listed.
            NonFiniteError: a parameter holds NaN or infinity.
        """
        state = self.require_trainable(state)
        theta = torch.empty(self.dimension, device=self.device, dtype=self.dtype)
        for segment in self.segments:
            segment.view(theta).copy_(state[segment.name])
        return theta

    def require_trainable(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The named tensors by this network's names, if they hold a point; raises as `flatten`."""
        state = self.named(state)
        expected = {segment.name: segment.shape for segment in self.segments}
        self._require(layout_differences(expected, {n: t.shape for n, t in state.items() if n in expected}))
        self._require_finite(state, expected)
        return state

    def views(self, points: Tensor) -> dict[str, Tensor]:
        """The trainable tensors `[..., *shape]` of points `[..., P]` by name, as views into them."""
        return {segment.name: segment.view(points) for segment in self.segments}

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """The trainable tensors of θ `[P]` by name, as copies; a tied tensor appears under its first name."""
        return {n: view.clone(memory_format=torch.contiguous_format) for n, view in self.views(theta).items()}

    def statistics_of(self, state: Mapping[str, Tensor]) -> Tensor:
        """The running statistics `[S]` that a state dictionary holds; raises LayoutError where some are missing."""
        return self._running.of(self.named(state))

    def load(self, state: Mapping[str, Tensor]) -> Tensor:
        """Take everything from a state dictionary: point, statistics, fixed parameters and buffers.

        Returns:
            The point θ `[P]`.

        Raises:
            LayoutError, NonFiniteError: as `flatten`; or the state holds the trainable parameters alone, but another
                one has replaced the rest.
        """
        match = self.layout.match(state)
        self._require(match.differences)
        if match.is_partial and self._is_replaced:
            raise LayoutError(
                "it holds the trainable parameters alone, and what they belong to has been replaced by what another "
                "checkpoint holds; give both whole, or both with the trainable parameters alone."
            )
        state = self._completed(match)
        given = {} if match.is_partial else self._fixed
        self._require_finite(state, [*given, *self._running.names])
        theta = self.flatten(state)
        self._require_tied(match.tensors)
        self.placement.occupancy.require_free()
        self.placement.forget()
        if given:
            self._take_fixed(state)
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                if name in state and name not in self._fixed:
                    self._is_replaced |= not (name in self.layout.moving or _is_equal(tensor, state[name], name))
                    tensor.copy_(state[name])
        return theta

    def _require_tied(self, state: Mapping[str, Tensor]) -> None:
        for name, *aliases in self.layout.ties:
            for alias in aliases if name in state else ():
                if not torch.equal(state[alias], state[name]):
                    raise LayoutError(
                        f"{alias} is tied to {name} in the network, but the checkpoint holds two different tensors; "
                        "untie them in the network (tie_word_embeddings=False in a configuration of Hugging Face), or "
                        "take one of them out of the checkpoint."
                    )

    def _take_fixed(self, state: Mapping[str, Tensor]) -> None:
        """Have parameters that are not trainable hold a state's values, without a copy where the types agree."""
        for name, (parameter, _) in self._fixed.items():
            value = state[name].detach().to(device=parameter.device, dtype=parameter.dtype)
            if not torch.equal(value, parameter.data):
                parameter.data = value
                self._is_replaced = True
            self._fixed[name] = parameter, parameter._version

    def state_dict(self, theta: Tensor, statistics: Tensor | None = None) -> dict[str, Tensor]:
        """The state dictionary at θ `[P]`, as copies on the CPU; by default with the statistics `[S]` of now.

        It holds all tensors; but where a fixed one is of a kind that files do not hold, such as a quantised one, it is
        without the fixed ones, as the file of an adapter.
        """
        moved = dict(self.unflatten(theta))
        for segment in self.segments:
            moved.update(dict.fromkeys(segment.aliases, moved[segment.name]))
        moved.update(self._running.named(self.statistics if statistics is None else statistics))
        state = {name: moved.get(name, tensor) for name, tensor in self._tensors().items() if self.is_stored(name)}
        return {n: t.detach().to("cpu", copy=True).contiguous() for n, t in state.items()}

    def is_stored(self, name: str) -> bool:
        """Whether `state_dict` holds the tensor of that name."""
        return name not in self._fixed or self._stores_fixed

    @cached_property
    def _stores_fixed(self) -> bool:
        return all(is_plain(parameter) for parameter, _ in self._fixed.values())

    def module(self, theta: Tensor) -> nn.Module:
        """An independent network at θ `[P]`, in evaluation mode, that shares no memory with the space."""
        state = self.state_dict(theta)
        network = copied(self.network)
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if name in state:
                    tensor.copy_(state[name])
        return network.eval()

    def select(self, which: str) -> Tensor:
        """Which coordinates belong to some of the parameters, boolean `[P]`.

        Args:
            which: "weights" for tensors of more than one dimension, "all", or a name pattern with wildcards.

        Raises:
            ProblemError: there are none.
        """
        chosen = torch.zeros(self.dimension, dtype=torch.bool, device=self.device)
        for segment in self.segments:
            names = (segment.name, *segment.aliases)
            named = any(fnmatch.fnmatchcase(name, which) for name in names)
            if which == "all" or (len(segment.shape) > 1 if which == "weights" else named):
                segment.view(chosen)[...] = True
        if not chosen.any():
            raise ProblemError(f"no trainable parameter is among {which!r}; name weights, all, or a pattern of names.")
        return chosen

    def fixed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters of a state dictionary that are no coordinates of the space, if it holds them."""
        match = self.layout.match(state)
        return {} if match.is_partial else {name: match.tensors[name] for name in self._fixed}

    def named(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a state dictionary by this network's names; see `Layout.match`.

        A tied tensor may be there by one of its names alone. Where the state holds the trainable parameters alone, the
        others are those of now.

        Raises:
            LayoutError: several prefixes lead to different tensors that all fit.
        """
        return self._completed(self.layout.match(state))

    def _completed(self, match: Match) -> dict[str, Tensor]:
        """The tensors of a match, with those of now beside trainable parameters alone."""
        own = self._tensors() if match.is_partial else {}
        return {**{name: t for name, t in own.items() if name not in self.layout.moving}, **match.tensors}

    def buffers(self) -> dict[str, Tensor]:
        """The private copy's buffers by name (running statistics, counters, masks), as copies on the CPU."""
        return {n: b.detach().to("cpu", copy=True).contiguous() for n, b in self.network.named_buffers()}

    def load_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Put back what `buffers` gave; raises PlaceError while the network is held where it is."""
        self.placement.occupancy.require_free()
        self.placement.forget()
        for name, buffer in self.network.named_buffers():
            buffer.copy_(buffers[name])

    def differing_buffers(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The buffers beside running statistics that are not the same in several state dictionaries.

        Counters of batches are let pass: they change no output.

        Returns:
            Their values `[n, *shape]` by name, of their own types.
        """
        differing = {}
        for name in self.others.by_name:
            values = [state[name] for state in map(self.named, states) if name in state]
            if name.endswith(COUNTER) or len(values) < len(states):
                continue
            if any(not torch.equal(_comparable(value), _comparable(values[0])) for value in values):
                differing[name] = torch.stack([value.to(self.device) for value in values])
        return differing

    def require_fit(self, state: Mapping[str, Tensor]) -> None:
        """Check that a state dictionary has the keys and shapes of the network.

        Raises:
            LayoutError: it has not; the first missing and unexpected keys and shape mismatches are listed.
        """
        self._require(self.layout.match(state).differences)

    def _require(self, differences: str) -> None:
        if differences:
            raise LayoutError(f"the tensors do not fit {type(self.network).__name__}: {differences}")

    def _require_finite(self, state: Mapping[str, Tensor], names: Iterable[str]) -> None:
        for name in names:
            if not is_finite(state[name].reshape(-1)):
                raise NonFiniteError(f"{name} holds NaN or infinity; these weights cannot be used.")

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors of the private copy's state dictionary, which may hold a module's own extra state beside them."""
        return {name: value for name, value in self.network.state_dict().items() if isinstance(value, Tensor)}

    def _laid_out(self, ties: Sequence[Sequence[str]]) -> Layout:
        """What its checkpoints hold."""
        shapes = {name: tensor.shape for name, tensor in self._tensors().items()}
        moving = {name for segment in self.segments for name in (segment.name, *segment.aliases)}
        transient = {name for name, _ in self.network.named_buffers() if name not in shapes}
        return Layout(shapes, moving & shapes.keys(), self._fixed.keys() & shapes.keys(), ties, transient)

    def _bind_parameters(self, fixed: Sequence[str]) -> list[nn.Parameter]:
        """Make the trainable parameters views into θ; returns them, one for each segment."""
        own = dict(self.network.named_parameters(remove_duplicate=False))
        for parameter in own.values():
            parameter.requires_grad_(False)
        self._fixed = {name: (own[name], own[name]._version) for name in fixed}
        bound = []
        with torch.no_grad():
            for segment in self.segments:
                view = segment.view(self.theta)
                view.copy_(own[segment.name])
                parameter = own[segment.name]
                parameter.data = view
                parameter.requires_grad_(True)
                bound.append(parameter)
                for alias in segment.aliases:
                    prefix, _, local = alias.rpartition(".")
                    setattr(self.network.get_submodule(prefix), local, parameter)
        return bound

    def _bind_gradient(self, gradient: Tensor) -> None:
        first = self.parameters[0]
        if first.grad is not None and first.grad.data_ptr() == gradient.data_ptr():
            return
        for segment, parameter in zip(self.segments, self.parameters, strict=True):
            parameter.grad = segment.view(gradient)


def _converted(network: nn.Module, types: set[torch.dtype], space: "ParameterSpace") -> nn.Module:
    """The network on the space's device and of its type.

    Floating tensors of another type than the trainable ones, such as a frozen base in bfloat16, keep it, since the
    network converts between the two itself; only layers of batch norm are of one type with their statistics.
    """

    def convert(tensor: Tensor) -> Tensor:
        return tensor.to(device=space.device, dtype=space.dtype if tensor.dtype in types else tensor.dtype)

    network._apply(convert)
    for module in network.modules():
        if keeps_statistics(module):
            module.to(dtype=space.dtype)
    return network


def _is_equal(tensor: Tensor, value: Tensor, name: str) -> bool:
    """Whether a value would leave a buffer as it is; counters change no output."""
    return name.endswith(COUNTER) or torch.equal(tensor, value.to(tensor))


def _comparable(values: Tensor) -> Tensor:
    """Bytes, so that NaN equals itself."""
    return values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _predicate(trainable: TrainableParameters | None) -> Callable[[str, nn.Parameter], bool]:
    if trainable is None:
        return lambda name, parameter: parameter.requires_grad
    if isinstance(trainable, str):
        return lambda name, parameter: parameter.is_floating_point() and fnmatch.fnmatchcase(name, trainable)
    return trainable
