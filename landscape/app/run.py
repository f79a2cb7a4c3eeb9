"""One run of a command: its outputs, what it measures, and what its results follow from."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from landscape.app.options import files_in, stated
from landscape.app.setting import Networks, Setting, open_setting
from landscape.risk.batchnorm import Interpolated, StatisticsPolicy
from landscape.risk.empirical import EmpiricalRisk
from landscape.risk.ranks import Ranks
from landscape.runtime.progress import Reporter
from landscape.storage.checkpoints import Checkpoint
from landscape.storage.outputs import OutputFiles, Outputs, writing
from landscape.storage.results import Array, Result
from landscape.storage.store import ResultWriter, begun_batch_size


@dataclass(frozen=True)
class Run:
    """A command at work.

    Attributes:
        config: with the groups `problem`, `compute`, `checkpoints` and `output`.
        outputs: which are claimed.
        place: the file or folder that the user named; None where nothing is written.
        report: the progress reporter.
        started: when it began, in seconds.
    """

    config: Any
    outputs: Outputs
    place: Path | None
    report: Reporter
    started: float = field(default_factory=perf_counter)

    @property
    def resume(self) -> bool:
        """Whether it goes on with what is there."""
        return bool(self.config.output.resume)

    @property
    def out(self) -> Path | None:
        """Where `place` is written until all is whole."""
        return self.outputs.at(self.place) if self.place else None

    def load(
        self,
        checkpoints: Sequence[Checkpoint],
        *,
        bearers: Sequence[Checkpoint] | None = None,
        batch_norm: str | None = None,
    ) -> tuple[Setting, Networks, StatisticsPolicy]:
        """Build the setting that checkpoints belong to, and load them there.

        The network does not run. What else can be refused is to be refused before `subject` runs it.

        Args:
            checkpoints: of one network.
            bearers: those that may carry the problem along; by default all.
            batch_norm: the policy, where it is not the options' choice.

        Raises:
            LandscapeError: the subclass says what is wrong.
        """
        config = self.config
        reading = replace(config.checkpoints, batch_norm=batch_norm or config.checkpoints.batch_norm)
        bearers = checkpoints if bearers is None else bearers
        setting = open_setting(config.problem, config.compute, bearers, trust_code=reading.trust_code)
        networks = setting.load_all(checkpoints)
        return setting, networks, setting.policy(reading, networks)

    def subject(
        self,
        setting: Setting,
        statistics: StatisticsPolicy,
        split: str = "all",
        begun: Path | int | None = None,
        ranks: Ranks | None = None,
    ) -> "Subject":
        """The loss in a setting, for which the network runs on a few examples.

        Args:
            setting: problem and space.
            statistics: the batch-norm policy.
            split: the splits to measure, as `--split` names them.
            begun: the result whose batch size a resume keeps, by default the output if it is one; or the size.
            ranks: the processes that share each batch of a fit.

        Raises:
            LandscapeError: the subclass says what is wrong.
        """
        own = self.out if self.out and self.out.suffix == ".h5" else None
        begun = begun or own if self.resume else None
        size = begun_batch_size(begun) if isinstance(begun, Path) else begun
        risk = setting.risk(self.config.compute, statistics, setting.splits(split), size, ranks)
        return Subject(self, setting, statistics, risk)

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return perf_counter() - self.started

    def finish(self, draw: Callable[[Path], list[str]] | None = None, *others: Path | None) -> list[str]:
        """Put the outputs in place, draw the result, and return the names of all files.

        Args:
            draw: draws the result and returns the pictures' files.
            others: what was written beside the result; None for what was not.
        """
        self.outputs.commit()
        files = [str(file) for file in (self.place, *others) if file]
        return [*files, *(draw(self.place) if draw and self.place else [])]


@dataclass(frozen=True)
class Subject:
    """What a run measures.

    Attributes:
        run: the run.
        setting: problem and space.
        statistics: the batch-norm policy.
        risk: the loss.
    """

    run: Run
    setting: Setting
    statistics: StatisticsPolicy
    risk: EmpiricalRisk

    @property
    def evaluation(self) -> dict[str, Any]:
        """How values are measured, as far as they follow from it; a network without batch norm has no policy."""
        size = self.run.config.checkpoints.statistics_batch_size
        policy = self.statistics.name if self.setting.space.norms else None
        moved = isinstance(self.statistics, Interpolated) and self.statistics.buffers
        buffers = {"buffers": self.statistics.name} if moved else {}
        return {"batch_norm": policy, **buffers, "statistics_batch_size": size, **self.risk.evaluation()}

    def provenance(
        self,
        checkpoints: Mapping[str, Checkpoint],
        *,
        evaluated: bool = True,
        but: Collection[str] = (),
        **resolved: Any,
    ) -> dict[str, Any]:
        """What a result follows from.

        Args:
            checkpoints: by their parts in it.
            evaluated: whether it follows from measured values.
            but: further options that it does not follow from.
            resolved: what options lead to, in their place, and whatever else it follows from.
        """
        settings = {**stated(self.run.config), **self.evaluation}
        others = {*but, *(() if evaluated else self.evaluation)}
        settings = {name: value for name, value in settings.items() if name not in others}
        return self.setting.provenance(checkpoints, **{**settings, **resolved})

    def writer(
        self,
        kind: str,
        provenance: Mapping[str, Any],
        facts: Mapping[str, Any] | None = None,
        marks: Mapping[str, Array] | None = None,
    ) -> ResultWriter:
        """What keeps the result of a kind at the run's place.

        Raises:
            ProvenanceError: the file to resume was measured under other settings.
        """
        begun = Result(kind, {}, marks or {}, provenance, facts or {})
        return ResultWriter(self.run.out, begun, resume=self.run.resume)


@contextmanager
def running(config: Any, report: Reporter, *places: OutputFiles, read: Iterable[Path] | None = None) -> Iterator[Run]:
    """Claim the outputs of a command while it runs.

    Args:
        config: the command's.
        report: the progress reporter.
        places: what is written, the result or the folder of all first.
        read: what is read; by default every file that the configuration names but `out`.

    Raises:
        BusyError, ConfigError, StorageError: as `writing`.
    """
    read = files_in(config) if read is None else read
    output = config.output
    with writing(*places, read=read, resume=output.resume, overwrite=output.overwrite) as outputs:
        yield Run(config, outputs, places[0].root if places else None, report)
