"""Measure a saved path again."""

from pathlib import Path as FilePath

import numpy as np

from connect.app.commands.pictures import draw_result
from connect.app.commands.saved import open_path
from connect.app.commands.summaries import ProfileSummary, told
from connect.app.config import ProfileConfig
from connect.measures.planes import measure_plane
from connect.measures.profiles import lengths, profile
from landscape.app.commands.curvatures import curvature_figures, curvature_metrics, curvature_provenance
from landscape.app.options import files_in
from landscape.runtime.progress import Reporter, silent
from landscape.storage.outputs import OutputFiles, Outputs, writing
from landscape.storage.results import Result
from landscape.storage.store import ResultWriter


def profile_path(config: ProfileConfig, report: Reporter = silent) -> ProfileSummary:
    """Measure a saved path and the straight line between its ends, on demand also their plane, and draw all.

    Batch-norm statistics are recomputed from the training data at every point.

    Args:
        config: the path, splits, curvature and files.
        report: told of progress.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    out = config.out or config.saved.path.with_name(f"{config.saved.path.stem}_profile.h5")
    plane = out.with_name(f"{out.stem.removesuffix('_profile')}_plane.h5")
    files = OutputFiles.beside(out, *([plane.name] if config.plane_points else []))
    with writing(
        files, read=files_in(config), resume=config.output.resume, overwrite=config.output.overwrite
    ) as outputs:
        return _profiled(config, outputs, out, plane, report)


def _profiled(
    config: ProfileConfig, outputs: Outputs, final: FilePath, plane: FilePath, report: Reporter
) -> ProfileSummary:
    out, written = outputs.at(final), [final, plane] if config.plane_points else [final]
    saved = open_path(
        config,
        config.split,
        begun=out if config.output.resume else None,
        points=config.verdict.points,
        tolerance=config.verdict.tolerance,
        seed=config.seed if config.map.curvature else None,
    )
    provenance = {**saved.provenance, **curvature_provenance(config.map, config.curvature, saved.risk)}
    metrics = curvature_metrics(config.map, config.curvature, saved.risk, config.seed)
    begun = Result("profile", {}, provenance=provenance, facts=lengths(saved.path))
    writer = ResultWriter(out, begun, resume=config.output.resume)
    measured = profile(
        saved.path,
        saved.risk,
        np.linspace(0, 1, config.verdict.points),
        tolerance=config.verdict.tolerance,
        metrics=metrics,
        writer=writer,
        report=report,
    )
    if config.plane_points:
        measure_plane(
            saved.path,
            saved.risk,
            measured,
            outputs.at(plane),
            points=config.plane_points,
            provenance=provenance,
            resume=config.output.resume,
            report=report,
        )
    curved = [measured.sweeps[name] for name in ("path", "straight")]
    outputs.commit()
    return ProfileSummary(
        **told(measured, config.verdict),  # type: ignore[arg-type]
        files=[*map(str, written), *(picture for file in written for picture in draw_result(file))],
        **vars(curvature_figures(config.map, curved)),
    )
