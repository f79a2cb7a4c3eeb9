"""Between our result files and the layout of the loss-landscape repository."""

from pathlib import Path

from landscape.app.commands.summaries import FilesSummary
from landscape.app.config import ConvertConfig
from landscape.app.options import files_in
from landscape.errors import ResultError
from landscape.runtime.progress import Reporter, silent
from landscape.storage.foreign import save_foreign_result
from landscape.storage.outputs import OutputFiles, writing
from landscape.storage.store import load_result, save_result, trusting


def convert(config: ConvertConfig, report: Reporter = silent) -> FilesSummary:
    """Write a line or a surface in the layout of the loss-landscape repository, or one of that layout in ours.

    Args:
        config: the two files.
        report: not used; it is quick.

    Raises:
        ResultError: the file is not a line or surface.
        ConfigError: the output is there already.
    """
    with writing(OutputFiles.beside(config.out), read=files_in(config), overwrite=config.overwrite) as outputs:
        _convert(config, outputs.at(config.out))
        outputs.commit()
    return FilesSummary(files=[str(config.out)])


def _convert(config: ConvertConfig, out: Path) -> None:
    result = load_result(config.result)
    if list(result.measured) != [""]:
        raise ResultError(
            f"{config.result} holds {len(result.measured)} sweeps; only one line or surface is converted."
        )
    with trusting(config.result):
        (save_result if "layout" in result.provenance else save_foreign_result)(out, result)
