"""Libraries that not everybody has."""

import importlib
from typing import Any

from landscape.errors import ConfigError


def optional(library: str, extra: str) -> Any:
    """Import a library.

    Args:
        library: its name.
        extra: the extra of this project that installs it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise ConfigError(
            f"the library {library} is needed here, and not installed; pip install 'mode-connectivity[{extra}]'."
        ) from error
