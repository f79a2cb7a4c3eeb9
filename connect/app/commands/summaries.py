"""What the commands that measure a path say when they are done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connect.app.config import VerdictOptions
from connect.measures.summaries import PathSummary, Thresholds, judge, summarise
from connect.measures.training import Training
from landscape.app.commands.curvatures import CurvatureFigures
from landscape.app.commands.summaries import wrote
from landscape.storage.results import Result

_ROWS: tuple[tuple[str, str | tuple[str, str], str], ...] = (
    ("max {split} loss", "max_loss", ".4f"),
    ("barrier ({split} loss)", "barrier", ".4f"),
    ("  95 % of second samples", ("barrier_low", "barrier_high"), ".4f"),
    ("excess ({split} loss)", "excess", ".4f"),
    ("barrier ({error_split} error)", "error_barrier", ".4f"),
    ("  95 % of second samples", ("error_barrier_low", "error_barrier_high"), ".4f"),
    ("min test accuracy", "min_test_accuracy", ".4f"),
    ("length / straight", "length_ratio", ".3f"),
)


_OF_CYCLES = {"lr": "slower", "epochs": "longer"}


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """The learned path against the straight line, what that means, and the files that were written.

    Attributes:
        path: figures of the path.
        straight: figures of the straight line.
        verdict: "connected linearly", "connected by a curve", "not connected", "not trained" or "not found", which
            stands for a path whose training is not known.
        reason: the figures that the verdict rests on, and the thresholds.
        files: what was written.
        training: how far a path is trained that does not connect; see `Verdict`.
        remedies: what to try next for it, by the words of the flags.
    """

    path: PathSummary
    straight: PathSummary
    verdict: str
    reason: str
    files: Sequence[str]
    training: str = ""
    remedies: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The summary as a table."""
        return "\n".join([*self._rows(), wrote(self.files)])

    def _rows(self) -> list[str]:
        columns = (self.path.flat(), self.straight.flat())
        lines = [f"{'':26}{'path':>18}{'straight':>18}"]
        for label, names, form in _ROWS:
            shown = [_cell(figures, names, form) for figures in columns]
            if any("nan" not in cell for cell in shown):
                named = label.format(split=self.path.split, error_split=self.path.error_split)
                lines.append(f"{named:26}" + "".join(f"{cell:>18}" for cell in shown))
        return [*lines, f"{self.verdict}: {self.reason}", *([advice(self.remedies)] if self.remedies else [])]


@dataclass(frozen=True, kw_only=True)
class ProfileSummary(FitSummary, CurvatureFigures):
    """A path that was measured again, against the straight line; eigenvalues are those along both."""

    def text(self) -> str:
        """The summary as a table."""
        return "\n".join([*self._rows(), self.curvature_text() + wrote(self.files)])


def told(result: Result, options: VerdictOptions, *, attends: bool) -> dict[str, object]:
    """The figures of a profile and the verdict, as the summaries hold them.

    Args:
        result: the profile.
        options: what counts as connected.
        attends: whether the network has attention, for which AdamW is tried where SGD has failed.
    """
    paths = summarise(result)
    training = Training.from_flat(result.facts.get("training"))
    verdict = judge(paths, Thresholds(options.max_barrier, options.max_error_barrier), training)
    remedies = flagged(verdict.remedies, result.provenance, attends=attends)
    return {
        **paths,
        "verdict": verdict.words,
        "reason": verdict.reason,
        "training": verdict.training,
        "remedies": remedies,
    }


def flagged(remedies: Mapping[str, Any], provenance: Mapping[str, Any], *, attends: bool) -> dict[str, Any]:
    """What to try next by the words of the flags that a kind of path has; a growing band's rates are in its cycles."""
    recipe = provenance.get("fitted", provenance).get("recipe")
    by_sgd = isinstance(recipe, Mapping) and recipe.get("optimiser", "sgd") == "sgd"
    if attends and by_sgd and "lr" in remedies:
        return {"optimiser": "adamw", **{name: value for name, value in remedies.items() if name != "lr"}}
    if provenance.get("curve") != "autoneb":
        return dict(remedies)
    cycles = [words for name, words in _OF_CYCLES.items() if name in remedies]
    others = {"most_images" if name == "control_points" else name: value for name, value in remedies.items()}
    others = {name: value for name, value in others.items() if name not in _OF_CYCLES}
    return {**({"cycles": " and ".join(cycles)} if cycles else {}), **others}


def advice(remedies: Mapping[str, Any]) -> str:
    """What to try next, as a line with flags."""
    flags = {f"--{name.replace('_', '-')}": value for name, value in remedies.items()}
    words = (f"{value} {flag}" if isinstance(value, str) else f"{flag} {value}" for flag, value in flags.items())
    return f"what to try: {', '.join(words)}"


def _cell(figures: Mapping[str, Any], names: str | tuple[str, str], form: str) -> str:
    return " – ".join(f"{figures[name]:{form}}" for name in ([names] if isinstance(names, str) else names))
