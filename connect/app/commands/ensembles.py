"""Average the predictions of networks on a path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connect.app.commands.pictures import draw_result
from connect.app.commands.saved import open_path
from connect.app.config import EnsembleConfig
from connect.measures.ensembles import measure_ensemble
from connect.measures.similarity import sampling_in_words
from landscape.app.commands.summaries import wrote
from landscape.app.run import running
from landscape.runtime.progress import Reporter, silent
from landscape.storage.outputs import OutputFiles


@dataclass(frozen=True, kw_only=True)
class EnsembleSummary:
    """What averaging brings.

    Attributes:
        scores: by what was scored, each with `accuracy`, `nll` and `calibration_error`.
        t: where the members lie on the path, in the order in which they join.
        diversity: share of examples that two members class differently, mean over all pairs.
        diversity_of_ends: the same of the two ends.
        split: the examples.
        files: what was written.
        positions: how many are "held" of how many, "of", where examples have more than can be held; else empty.
    """

    scores: Mapping[str, Mapping[str, float]]
    t: Sequence[float]
    diversity: float
    diversity_of_ends: float
    split: str
    files: Sequence[str]
    positions: Mapping[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """The summary as a table."""
        width = max(len(name) for name in self.scores) + 2
        lines = [f"{self.split + ' split':{width}}{'accuracy':>10}{'NLL':>10}{'calibration':>13}"]
        for name, score in self.scores.items():
            figures = f"{score['accuracy']:>10.4f}{score['nll']:>10.4f}{score['calibration_error']:>13.4f}"
            lines.append(f"{name:{width}}{figures}")
        diversity = (
            f"two members differ on {self.diversity:.2%} of the examples, the two ends on {self.diversity_of_ends:.2%}"
        )
        over = [sampling_in_words(self.positions)] if self.positions else []
        return "\n".join([*lines, diversity, *over, wrote(self.files)])


def ensemble(config: EnsembleConfig, report: Reporter = silent) -> EnsembleSummary:
    """Average the predictions of several networks on a path, and draw what each further one brings.

    Args:
        config: path, members and files.
        report: progress reporter; a unit is a network.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    out = config.out or config.saved.path.with_name(f"{config.saved.path.stem}_ensemble.h5")
    with running(config, report, OutputFiles.beside(out)) as run:
        candidates = config.candidates if config.choose == "greedy" else None
        saved = open_path(run, candidates=candidates)
        writer = saved.subject.writer("ensemble", saved.provenance)
        result = measure_ensemble(
            saved.path,
            saved.risk,
            config.members,
            split=config.split,
            candidates=candidates,
            writer=writer,
            report=report,
        )
        joining = result.sweeps["members"].values["t"].tolist()
        return EnsembleSummary(**result.facts, t=joining, files=run.finish(draw_result))
