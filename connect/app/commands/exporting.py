"""Write a network on a path as an ordinary checkpoint."""

from pathlib import Path as FilePath

from connect.app.commands.saved import open_path
from connect.app.config import ExportConfig
from landscape.app.commands.summaries import FilesSummary
from landscape.app.options import files_in
from landscape.runtime.progress import Reporter, silent
from landscape.storage.checkpoints import save_tensors
from landscape.storage.outputs import OutputFiles, writing


def export(config: ExportConfig, report: Reporter = silent) -> FilesSummary:
    """Write the network at t as a checkpoint that carries its problem, with batch-norm statistics recomputed there.

    Args:
        config: path, t and file.
        report: told nothing; it takes one pass over the training data.

    Raises:
        LandscapeError: the subclass says what is wrong.
    """
    with writing(
        OutputFiles.beside(config.out),
        read=files_in(config),
        resume=config.output.resume,
        overwrite=config.output.overwrite,
    ) as outputs:
        _export(config, outputs.at(config.out))
        outputs.commit()
    return FilesSummary(files=[str(config.out)])


def _export(config: ExportConfig, out: FilePath) -> None:
    saved = open_path(config)
    network = saved.path.module(config.t)
    with saved.risk.at(saved.path(config.t)) as here:
        measured = here.measure()
    figures = {
        f"{split}_{quantity}": getattr(measured[split], quantity) if split in measured else float("nan")
        for split in ("train", "test")
        for quantity in ("loss", "accuracy")
    }
    carried = {"problem": saved.setting.carried(), "provenance": dict(saved.provenance), "t": config.t}
    state = {name: tensor for name, tensor in network.state_dict().items() if hasattr(tensor, "dtype")}
    save_tensors(out, state, {**carried, **figures})
