"""Networks by the folder that `save_pretrained` wrote: those of transformers, and PEFT's adapters on a base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from landscape.errors import ConfigError
from landscape.problems.libraries.adapters import ADAPTER_CONFIG, adapted_model, base_folder, is_adapter
from landscape.problems.libraries.huggingface import CONFIG, folder_of, transformers_model, weight_files

FAMILY = "hf:"


def folder_model(folder: str, base: str | None = None, **arguments: Any) -> nn.Module:
    """The network of a folder.

    Args:
        folder: holds config.json, or adapter_config.json.
        base: the folder of the base that adapters are on; by default the one that they name.
        arguments: further ones of `transformers_model` or `adapted_model`.

    Raises:
        ConfigError: as these; or a base is named for what is not an adapter.
    """
    place = folder_of(folder)
    if is_adapter(place):
        return adapted_model(place, base, **arguments)
    if base is not None:
        raise ConfigError(f"{place} holds no {ADAPTER_CONFIG}, so it has no base; leave the argument 'base' out.")
    return transformers_model(place, **arguments)


def describes_network(folder: Path) -> bool:
    """Whether a folder says which network its tensors are of."""
    return is_adapter(folder) or (folder / CONFIG).is_file()


def reads_weights(model: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a model by that name takes weights from a folder when it is built with the arguments."""
    adapted = model.startswith(FAMILY) and is_adapter(folder_of(model.removeprefix(FAMILY)))
    return adapted or (model.startswith(FAMILY) and bool(arguments.get("pretrained")))


def files_read(model: str, arguments: Mapping[str, Any]) -> list[Path]:
    """The files on which a network by its folder depends; none for other models.

    Args:
        model: its name, such as "hf:FOLDER".
        arguments: those that it was built with.

    Raises:
        ConfigError: a folder is gone.
    """
    if not model.startswith(FAMILY):
        return []
    place = folder_of(model.removeprefix(FAMILY))
    if is_adapter(place):
        return [place / ADAPTER_CONFIG, *weight_files(base_folder(place, arguments.get("base")))]
    return weight_files(place) if reads_weights(model, arguments) else [place / CONFIG]
