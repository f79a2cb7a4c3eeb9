"""Bring a network's hidden units in the order of another's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from connect.app.config import AlignConfig
from connect.symmetry.groups import Group
from connect.symmetry.matching import Matching, match_weights
from connect.symmetry.symmetries import Symmetries, find_symmetries
from landscape.app.checkpoints import load_network, require_different
from landscape.app.commands.summaries import wrote
from landscape.app.options import stated
from landscape.app.run import running
from landscape.app.setting import Setting, open_setting
from landscape.errors import ConfigError, ProblemError
from landscape.problems.outputs import run as run_network
from landscape.problems.splits import first_few
from landscape.runtime.progress import Reporter, silent
from landscape.space.pieces import equal
from landscape.storage.checkpoints import Checkpoint, require_same_layout, save_tensors
from landscape.storage.outputs import OutputFiles

_EXAMPLES = 4  # that symmetries are proven on
_FIGURES = ("recipe", "seed", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True, kw_only=True)
class AlignSummary:
    """Which units may change places, and how far that brought one network to another.

    Attributes:
        groups: of units: the axis each begins at, the number of its components, and of the units inside of each that
            move by themselves.
        verified: how many of the groups are proven, which is all that are used.
        deviation: the largest change of an output under random permutations, relative to the largest output.
        pinned: what keeps its place though it was to move: where it begins, and why.
        unknown: operations that no rule is known for, and how often they were met; they pin what they are given.
        free_share: share of the parameters that lie on an axis which a group moves, in [0, 1].
        objective_before: sum of products of both networks' weights.
        objective: the same after the alignment.
        distance_before: length of the difference of both networks' parameters.
        distance: the same after the alignment.
        files: what was written.
        explain: whether the groups are listed in words.
    """

    groups: Sequence[Mapping[str, Any]]
    verified: int
    deviation: float
    pinned: Sequence[Mapping[str, str]]
    unknown: Mapping[str, int]
    free_share: float
    objective_before: float | None
    objective: float | None
    distance_before: float | None
    distance: float | None
    files: Sequence[str]
    explain: bool

    def text(self) -> str:
        """The summary in words."""
        count = len(self.groups)
        lines = [
            f"{count} group{'' if count == 1 else 's'} of units may change places, {self.verified} proven (outputs "
            f"changed by {self.deviation:.0e} at most); they move {100 * self.free_share:.2f} % of the parameters"
        ]
        if self.explain:
            width = max((len(group["name"]) for group in self.groups), default=0)
            lines += [f"  {group['name']:{width}}  {_size(group)}" for group in self.groups]
        lines += [f"  pinned: {each['name']}: {each['reason']}" for each in self.pinned]
        lines += [f"  {name}: no rule is known; {times} times" for name, times in self.unknown.items()]
        if self.distance is not None:
            lines.append(
                f"sum of products of weights {self.objective_before:.5g}, aligned {self.objective:.5g}; "
                f"distance {self.distance_before:.5g}, aligned {self.distance:.5g}"
            )
        return "\n".join([*lines, *([wrote(self.files)] if self.files else [])])


def align_checkpoint(config: AlignConfig, report: Reporter = silent) -> AlignSummary:
    """Permute the hidden units of b so that its weights come close to a's, and write it as an ordinary checkpoint.

    Args:
        config: checkpoints, method and file.
        report: not used.

    Raises:
        LandscapeError: the subclass says what is wrong.
    """
    places = [OutputFiles.beside(config.out)] if config.out else []
    with running(config, report, *places) as run:
        checkpoints = [load_network(config.checkpoints, file) for file in (config.a, config.b) if file]
        require_different(*checkpoints)
        for other in checkpoints[1:]:
            require_same_layout(checkpoints[0], other)
        trust = config.checkpoints.trust_code
        setting = open_setting(config.problem, config.compute, checkpoints, trust_code=trust)
        thetas = setting.load_all(checkpoints).thetas
        if len(thetas) > 1 and equal(*thetas):
            raise ConfigError(f"{config.a} and {config.b} hold the same weights; there is nothing to align.")
        symmetries = symmetries_of(setting, config.seed)
        if len(checkpoints) == 1:
            return _summary(config, symmetries, None, (None, None), [])
        a, b = (_state(setting, checkpoint) for checkpoint in checkpoints)
        matching = match_weights(symmetries, a, b, restarts=config.restarts, seed=config.seed)
        aligned = _with_ties(setting, symmetries.permute(b, matching.permutations))
        distances = tuple(_distance(setting, a, other) for other in (b, aligned))
        files: list[str] = []
        if run.out:
            _save(run.out, setting, aligned, checkpoints, config)
            files = run.finish()
        return _summary(config, symmetries, matching, distances, files)


def symmetries_of(setting: Setting, seed: int) -> Symmetries:
    """The symmetries of a setting's network, proven on its first examples; only what is trainable moves."""
    split = next(iter(setting.problem.data.splits.values()))
    batch = first_few(split, _EXAMPLES, setting.space.device)
    outputs, loss = setting.problem.outputs, setting.problem.loss

    def run(network: nn.Module, example: Any) -> Tensor:
        try:
            return outputs.scores(run_network(network, example)).values
        except ProblemError:
            losses = loss(network, example)
            return losses[0] if isinstance(losses, tuple) else losses

    names = {segment.name for segment in setting.space.segments}
    return find_symmetries(setting.space.network, batch, run=run, names=names, seed=seed)


def _state(setting: Setting, checkpoint: Checkpoint) -> dict[str, Tensor]:
    return setting.space.state_dict(setting.load(checkpoint))


def _with_ties(setting: Setting, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state in which tied tensors are what the first of them is."""
    tied = {alias: state[name] for name, *aliases in setting.space.layout.ties for alias in aliases if name in state}
    return {**state, **tied}


def _distance(setting: Setting, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    names = [segment.name for segment in setting.space.segments]
    return math.sqrt(sum(float((a[name].double() - b[name].double()).square().sum()) for name in names))


def _save(
    file: Path, setting: Setting, state: Mapping[str, Tensor], checkpoints: Sequence[Checkpoint], config: AlignConfig
) -> None:
    """Write the aligned network; what is known of b is so of it, since it computes the same."""
    named = dict(zip(("a", "b"), checkpoints, strict=True))
    known = {name: checkpoints[1].metadata[name] for name in _FIGURES if name in checkpoints[1].metadata}
    provenance = setting.provenance(named, **stated(config))
    save_tensors(file, state, {**known, "problem": setting.carried(), "provenance": provenance})


def _size(group: Mapping[str, Any]) -> str:
    inside = " and ".join(map(str, group["inner"]))
    return f"{group['components']} units" if not inside else f"{group['components']} of {inside} units each"


def _described(group: Group) -> dict[str, Any]:
    return {"name": group.name, "components": group.components, "inner": list(group.inner)}


def _summary(
    config: AlignConfig,
    symmetries: Symmetries,
    matching: Matching | None,
    distances: Sequence[float | None],
    files: Sequence[str],
) -> AlignSummary:
    return AlignSummary(
        groups=[_described(group) for group in symmetries.groups],
        verified=len(symmetries.groups),
        deviation=symmetries.deviation,
        pinned=[asdict(each) for each in symmetries.pinned],
        unknown=dict(symmetries.unknown),
        free_share=symmetries.free_share,
        objective_before=matching.before if matching else None,
        objective=matching.objective if matching else None,
        distance_before=distances[0],
        distance=distances[1],
        files=files,
        explain=config.explain,
    )
