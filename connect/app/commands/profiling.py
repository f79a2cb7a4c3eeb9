"""Measure a saved path again."""

import numpy as np

from connect.app.commands.pictures import draw_result
from connect.app.commands.saved import open_path
from connect.app.commands.summaries import ProfileSummary, told
from connect.app.config import ProfileConfig
from connect.measures.planes import measure_plane
from connect.measures.profiles import path_facts, profile
from landscape.app.commands.curvatures import curvature_figures, curvature_metrics, curvature_provenance
from landscape.app.run import running
from landscape.problems.kinds import has_attention
from landscape.runtime.progress import Reporter, silent
from landscape.storage.outputs import OutputFiles


def profile_path(config: ProfileConfig, report: Reporter = silent) -> ProfileSummary:
    """Measure a saved path and the straight line between its ends, on demand also their plane, and draw all.

    Batch-norm statistics are recomputed from the training data at every point.

    Args:
        config: the path, splits, curvature and files.
        report: progress reporter.

    Raises:
        LandscapeError: the subclass says what is wrong; all that can be checked is checked before any computing.
    """
    out = config.out or config.saved.path.with_name(f"{config.saved.path.stem}_profile.h5")
    plane = out.with_name(f"{out.stem.removesuffix('_profile')}_plane.h5")
    beside = [plane.name] if config.plane_points else []
    with running(config, report, OutputFiles.beside(out, *beside)) as run:
        saved = open_path(run, seed=config.seed if config.map.curvature else None)
        provenance = {**saved.provenance, **curvature_provenance(config.map, config.curvature, saved.risk)}
        measured = profile(
            saved.path,
            saved.risk,
            np.linspace(0, 1, config.verdict.points),
            tolerance=config.verdict.tolerance,
            metrics=curvature_metrics(config.map, config.curvature, saved.risk, config.seed),
            writer=saved.subject.writer("profile", provenance, path_facts(saved.path)),
            report=report,
        )
        if config.plane_points:
            measure_plane(
                saved.path,
                saved.risk,
                measured,
                run.outputs.at(plane),
                points=config.plane_points,
                provenance=provenance,
                resume=run.resume,
                report=report,
            )
        curved = [measured.sweeps[name] for name in ("path", "straight")]
        written = [out, plane] if config.plane_points else [out]
        run.outputs.commit()
        return ProfileSummary(
            **told(measured, config.verdict, attends=has_attention(saved.setting.space.network)),  # type: ignore[arg-type]
            files=[*map(str, written), *(picture for file in written for picture in draw_result(file))],
            **vars(curvature_figures(config.map, curved)),
        )
