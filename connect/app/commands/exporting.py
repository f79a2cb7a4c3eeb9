"""Write a network on a path as an ordinary checkpoint."""

from connect.app.commands.saved import open_path
from connect.app.config import ExportConfig
from landscape.app.commands.summaries import FilesSummary, figures_at
from landscape.app.run import running
from landscape.runtime.progress import Reporter, silent
from landscape.storage.checkpoints import save_tensors
from landscape.storage.outputs import OutputFiles


def export(config: ExportConfig, report: Reporter = silent) -> FilesSummary:
    """Write the network at t as a checkpoint that carries its problem, with batch-norm statistics recomputed there.

    Args:
        config: path, t and file.
        report: not used; it takes one pass over the training data.

    Raises:
        LandscapeError: the subclass says what is wrong.
    """
    with running(config, report, OutputFiles.beside(config.out)) as run:
        saved = open_path(run, split=None)
        figures = figures_at(saved.risk, saved.path(config.t))
        state = saved.path.module(config.t).state_dict()
        stored = saved.setting.space.is_stored
        tensors = {name: tensor for name, tensor in state.items() if hasattr(tensor, "dtype") and stored(name)}
        carried = {"problem": saved.setting.carried(), "provenance": dict(saved.provenance), "t": config.t}
        save_tensors(run.outputs.at(config.out), tensors, {**carried, **figures})
        return FilesSummary(files=run.finish())
