"""The spectrum of the Hessian at a checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.app.checkpoints import load_network
from landscape.app.commands.curvatures import sampled
from landscape.app.commands.pictures import draw_result
from landscape.app.commands.summaries import wrote
from landscape.app.config import HessianConfig
from landscape.app.memory import hessian_need
from landscape.app.run import running
from landscape.curvature.density import spectral_density
from landscape.curvature.lanczos import lanczos
from landscape.curvature.restriction import Product, Restriction
from landscape.curvature.trace import hutch_plus_plus, layer_traces
from landscape.errors import Interrupted
from landscape.risk.empirical import SelectedRisk
from landscape.runtime.interrupts import stoppable
from landscape.runtime.progress import Reporter, silent
from landscape.runtime.seeds import mixed_seed
from landscape.space.parameters import ParameterSpace
from landscape.storage.checkpoints import Checkpoint, save_tensors
from landscape.storage.outputs import OutputFiles
from landscape.storage.results import Sweep
from landscape.storage.store import ResultWriter

_MOST = 500


@dataclass(frozen=True)
class HessianSummary:
    """Ends of the spectrum, and what else was asked for; None for what was not.

    Attributes:
        top: the largest eigenvalues, largest first.
        bottom: the smallest, smallest first.
        residuals: of all of them, in that order: each is at most so far from an eigenvalue.
        converged: whether all residuals are within the tolerance.
        trace: the estimate.
        trace_error: its standard error.
        products: with the Hessian, in all.
        seconds: that all took.
        files: that were written.
    """

    top: Sequence[float]
    bottom: Sequence[float]
    residuals: Sequence[float]
    converged: bool
    trace: float | None
    trace_error: float | None
    products: int
    seconds: float
    files: Sequence[str]

    def text(self) -> str:
        """The summary in words."""
        lines = [f"largest eigenvalues {_listed(self.top)}", f"smallest eigenvalues {_listed(self.bottom)}"]
        lines += [] if self.converged else ["not all of them converged; see residuals"]
        if self.trace is not None:
            lines.append(f"trace {self.trace:.5g}, standard error {self.trace_error:.2g}")
        lines.append(f"{self.products} products in {self.seconds:.0f} s")
        return "\n".join([*lines, *([wrote(self.files)] if self.files else [])])


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def hessian(config: HessianConfig, report: Reporter = silent) -> HessianSummary:
    """Find eigenvalues at both ends of the Hessian's spectrum at a checkpoint, its density and its trace.

    Each of these is on disk when it is done, and a resume goes on with the next. Without a file nothing is written.

    Args:
        config: checkpoint, parameters, what to find, how exactly, and files.
        report: progress reporter; a unit is a product.

    Raises:
        ProblemError: the network cannot be differentiated twice; the operation is named.
        LandscapeError: the subclass says what else is wrong.
    """
    places = [OutputFiles.beside(config.out, _vectors_file(config.out).name)] if config.out else []
    with running(config, report, *places) as run:
        checkpoint = load_network(config.checkpoints, config.checkpoint)
        setting, networks, statistics = run.load([checkpoint])
        hessian_need(config.curvature.held(config.top)).require(setting.space)
        setting.require_curvature(config.curvature.parameters, config.curvature.samples, config.split)
        subject = run.subject(setting, statistics, config.split)
        restriction = Restriction(setting.space.select(config.curvature.parameters))
        risk = sampled(config.curvature.samples, subject.risk)
        writer = subject.writer("spectrum", subject.provenance({"checkpoint": checkpoint}))
        stages = _Stages(config, risk, networks.thetas[0][:], restriction, writer, report)
        stages.measure(checkpoint)
        facts = writer.result.facts
        ends, trace = facts["ends"], facts.get("trace", {})
        return HessianSummary(
            top=ends["top"],
            bottom=ends["bottom"],
            residuals=ends["residuals"],
            converged=ends["converged"],
            trace=trace.get("value"),
            trace_error=trace.get("error"),
            products=sum(stage["products"] for stage in facts.values()),
            seconds=run.seconds,
            files=run.finish(draw_result, _vectors_file(config.out) if config.out else None),
        )


Probe = Callable[[int], Tensor]
Work = Callable[[Product, Probe], Mapping[str, Any]]


@dataclass(frozen=True)
class _Stages:
    """Pieces of work with products of one Hessian, each of which is stored when it is done."""

    config: HessianConfig
    risk: SelectedRisk
    theta: Tensor
    restriction: Restriction
    writer: ResultWriter
    report: Reporter

    def measure(self, checkpoint: Checkpoint) -> None:
        """Do all that the configuration asks for; `checkpoint` is where the Hessian is taken."""
        config, space, out = self.config, self.risk.space, self.writer.path
        unwritten = out is not None and not _vectors_file(out).exists()
        self.run("ends", _MOST, partial(_ends, config, space, self.restriction, checkpoint, out), again=unwritten)
        if config.trace:
            self.run("trace", config.trace_products, partial(_trace, config))
        if config.layers:
            self.run("layers", config.trace_products, partial(_layers, config, space))
        if config.density:
            self.run("density", config.probes * config.steps, partial(_density, config, self.writer))

    def run(self, name: str, products: int, work: Work, *, again: bool = False) -> None:
        """Do a piece of work, unless the file holds it already, and store what it found and the products it took."""
        if name in self.writer.result.facts and not again:
            return
        taken = 0
        seeds = mixed_seed(self.config.seed, *name.encode())

        def probe(index: int) -> Tensor:
            return self.restriction.random(torch.Generator().manual_seed(mixed_seed(seeds, index)), self.theta)

        with (
            stoppable() as stop,
            self.report(name, products) as progress,
            self.risk.at(self.theta) as here,
        ):
            matrix_times = here.hessian(self.restriction.chosen, self.config.matrix)

            def product(vector: Tensor) -> Tensor:
                nonlocal taken
                if stop.requested:
                    kept = f"what is done is in {self.writer.path}, go on with --resume"
                    raise Interrupted(f"stopped; {kept if self.writer.path else 'nothing is kept without --out'}.")
                taken += 1
                progress.advance()
                return matrix_times(vector)

            figures = work(self.restriction.block(product), probe)
        self.writer.note({name: {**figures, "products": taken}}, flush=True)


def _ends(
    config: HessianConfig,
    space: ParameterSpace,
    restriction: Restriction,
    checkpoint: Checkpoint,
    out: Path | None,
    product: Product,
    probe: Probe,
) -> Mapping[str, Any]:
    """Eigenvalues at both ends; their vectors go into a file of their own, if there is one for the result."""
    extremes = lanczos(
        product,
        probe(0),
        top=config.top,
        bottom=config.top,
        tolerance=config.curvature.tolerance,
        most_products=_MOST * config.top,
        most_vectors=config.curvature.vectors,
    )
    if out:
        vectors = {
            f"{end}.{index}.{name}": tensor
            for end, each in (("top", extremes.top_vectors), ("bottom", extremes.bottom_vectors))
            for index, vector in enumerate(each)
            for name, tensor in space.unflatten(restriction.extend(vector)).items()
        }
        save_tensors(_vectors_file(out), vectors, {"kind": "eigenvectors", "checkpoint": checkpoint.fingerprint})
    return {
        "top": extremes.top.tolist(),
        "bottom": extremes.bottom.tolist(),
        "residuals": [*extremes.top_residuals.tolist(), *extremes.bottom_residuals.tolist()],
        "converged": extremes.converged,
    }


def _trace(config: HessianConfig, product: Product, probe: Probe) -> Mapping[str, Any]:
    estimate = hutch_plus_plus(product, probe, config.trace_products)
    return {"value": estimate.value, "error": estimate.error}


def _layers(config: HessianConfig, space: ParameterSpace, product: Product, probe: Probe) -> Mapping[str, Any]:
    """Each chosen tensor's own block: its trace, from products that all share, and its largest eigenvalue."""
    chosen = space.select(config.curvature.parameters)
    segments = [segment for segment in space.segments if chosen[segment.offset]]
    edges = np.cumsum([0, *(segment.size for segment in segments)]).tolist()
    places = {segment.name: slice(*ends) for segment, ends in zip(segments, pairwise(edges), strict=True)}
    traces = layer_traces(product, probe, places, config.trace_products)
    blocks = {}
    for name, place in places.items():
        start = probe(config.trace_products)
        inside = torch.zeros(len(start), dtype=torch.bool, device=start.device)
        inside[place] = True
        own = Restriction(inside)
        extremes = lanczos(
            own.block(product),
            own.restrict(start),
            top=1,
            bottom=0,
            tolerance=config.curvature.tolerance,
            most_products=_MOST,
        )
        blocks[name] = {"top": float(extremes.top), "trace": traces[name].value, "trace_error": traces[name].error}
    return {"blocks": blocks}


def _density(config: HessianConfig, writer: ResultWriter, product: Product, probe: Probe) -> Mapping[str, Any]:
    density = spectral_density(product, probe, probes=config.probes, steps=config.steps)
    done = np.ones(len(density.values), dtype=bool)
    writer.update("density", Sweep({"eigenvalue": density.values}, {"density": density.density}, done))
    return {"width": density.width, "nodes": density.nodes.tolist(), "weights": density.weights.tolist()}


def _vectors_file(out: Path) -> Path:
    return out.with_name(f"{out.stem}_vectors.safetensors")
