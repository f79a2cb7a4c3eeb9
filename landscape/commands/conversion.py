"""Between our result files and the layout of the loss-landscape repository."""

from landscape.commands.summaries import FilesSummary
from landscape.config import ConvertConfig
from landscape.errors import ResultError
from landscape.files import refuse_existing
from landscape.foreign import save_foreign_result
from landscape.progress import Reporter, silent
from landscape.store import load_result, save_result


def convert(config: ConvertConfig, report: Reporter = silent) -> FilesSummary:
    """Write a line or a surface in the layout of the loss-landscape repository, or one of that layout in ours.

    Args:
        config: the two files.
        report: told nothing; it is quick.

    Raises:
        ResultError: the file is no line or surface.
        ConfigError: the output is there already.
    """
    refuse_existing(config.out, config.overwrite)
    result = load_result(config.result)
    if list(result.measured) != [""]:
        raise ResultError(
            f"{config.result} holds {len(result.measured)} sweeps; only one line or surface is converted."
        )
    if "layout" in result.provenance:
        save_result(config.out, result)
    else:
        save_foreign_result(config.out, result)
    return FilesSummary(files=[str(config.out)])
