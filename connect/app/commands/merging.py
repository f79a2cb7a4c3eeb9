"""Write the weighted average of two networks as an ordinary checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from connect.app.commands.aligning import symmetries_of
from connect.app.config import MergeConfig
from connect.symmetry.aligning import align
from landscape.app.checkpoints import load_network, require_different
from landscape.app.commands.summaries import figures_at, wrote
from landscape.app.run import running
from landscape.errors import ConfigError
from landscape.runtime.progress import Reporter, silent
from landscape.space.pieces import equal
from landscape.storage.checkpoints import require_same_layout, save_tensors
from landscape.storage.outputs import OutputFiles

_HEADINGS = {
    "train_loss": "train loss", "train_accuracy": "train accuracy", "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MergeSummary:
    """The average beside the networks that it is of.

    Attributes:
        t: the share of b in it.
        align: how b was aligned to a before; None where it was not.
        distance: length of the difference of both networks' parameters, after that.
        a: loss and accuracy of a on the training and the test split, NaN for a split that there is not.
        b: those of b.
        merged: those of the average.
        files: what was written.
    """

    t: float
    align: str | None
    distance: float
    a: Mapping[str, float]
    b: Mapping[str, float]
    merged: Mapping[str, float]
    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        rows = {"a": self.a, "b": self.b, f"merged at t = {self.t:g}": self.merged}
        shown = [name for name in _HEADINGS if not np.isnan(self.merged[name])]
        width = max(map(len, rows))
        lines = [" ".join([" " * width, *(f"{_HEADINGS[name]:>14}" for name in shown)])]
        for label, figures in rows.items():
            lines.append(" ".join([f"{label:{width}}", *(f"{figures[name]:14.4f}" for name in shown)]))
        lines.append(f"distance {self.distance:.5g}" + (f", aligned by {self.align}" if self.align else ""))
        return "\n".join([*lines, wrote(self.files)])


def merge(config: MergeConfig, report: Reporter = silent) -> MergeSummary:
    """Average two networks, one of which may be aligned to the other before, and measure what comes out.

    Batch-norm statistics are recomputed from the training data for each of the three.

    Args:
        config: checkpoints, share, alignment and file.
        report: not used.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    with running(config, report, OutputFiles.beside(config.out)) as run:
        checkpoints = [load_network(config.checkpoints, file) for file in (config.a, config.b)]
        require_different(*checkpoints)
        require_same_layout(*checkpoints)
        setting, networks, statistics = run.load(checkpoints, batch_norm="recomputed")
        if equal(*networks.thetas):
            raise ConfigError(f"{config.a} and {config.b} hold the same weights; there is nothing to merge.")
        subject = run.subject(setting, statistics)
        a, b = (theta[:] for theta in networks.thetas)
        if config.align:
            symmetries = symmetries_of(setting, config.seed)
            b = align(subject.risk, symmetries, a, b, config.align, seed=config.seed).theta
        merged = torch.lerp(a, b, config.t)
        figures = [figures_at(subject.risk, theta) for theta in (a, b, merged)]
        with subject.risk.at(merged) as here:
            state = here.module().state_dict()
        tensors = {name: t for name, t in state.items() if hasattr(t, "dtype") and setting.space.is_stored(name)}
        provenance = subject.provenance(dict(zip(("a", "b"), checkpoints, strict=True)))
        metadata = {"problem": setting.carried(), "provenance": provenance, "t": config.t, **figures[2]}
        save_tensors(run.outputs.at(config.out), tensors, metadata)
        return MergeSummary(
            t=config.t,
            align=config.align,
            distance=float(torch.linalg.vector_norm((b - a).double())),
            a=figures[0],
            b=figures[1],
            merged=figures[2],
            files=run.finish(),
        )
