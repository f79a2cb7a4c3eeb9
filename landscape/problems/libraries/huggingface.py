"""Networks of transformers from a folder that `save_pretrained` wrote: the architecture that its config.json tells.

The architecture is one of transformers' own classes: code that a folder brings along, or that its configuration has
fetched, is never run. Nothing is looked up on the network.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from landscape.errors import ConfigError
from landscape.problems.libraries.importing import optional
from landscape.runtime.suggestions import nearest

CONFIG = "config.json"
_EXTRA = "hf"
_ATTENTIONS = (None, "eager", "sdpa")  # others are fetched as compiled code, or have no second derivatives
_WEIGHTS = (".safetensors", ".bin", ".index.json")


def transformers_model(
    folder: Path, architecture: str | None = None, pretrained: bool = False, **settings: Any
) -> nn.Module:
    """A network of transformers, without a cache of keys and values.

    Args:
        folder: holds config.json.
        architecture: the class, such as "BertForMaskedLM" or "AutoModelForMaskedLM"; by default config.json names it.
        pretrained: with the folder's weights, in single precision; by default with random ones.
        settings: entries of the configuration to change, such as `num_labels`.

    Raises:
        ConfigError: transformers is not installed or has no such model; the architecture or a setting is unknown.
    """
    transformers = optional("transformers", _EXTRA)
    with _alone(transformers):
        config = _configuration(transformers, folder, settings)
        built = _class(transformers, config, architecture, folder)
        return _pretrained(built, config, folder, "float32")[0] if pretrained else built(config)


def pretrained_base(folder: Path, architecture: str | None, settings: Mapping[str, Any]) -> tuple[nn.Module, set[str]]:
    """A network with a folder's weights in their own type.

    Args:
        folder: holds config.json and the weights.
        architecture: the class; by default the one that config.json names.
        settings: entries of the configuration to change.

    Returns:
        The network, and the names of the parameters that the folder does not hold, which are random.

    Raises:
        ConfigError: as `transformers_model`.
    """
    transformers = optional("transformers", _EXTRA)
    with _alone(transformers):
        config = _configuration(transformers, folder, settings)
        return _pretrained(_class(transformers, config, architecture, folder), config, folder, "auto")


def folder_of(name: str) -> Path:
    """The folder of a name; raises ConfigError where there is none."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder}, expected one with {CONFIG} as save_pretrained writes it; models of a hub "
            "are not looked up: download them first."
        )
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder that decide a network with its weights: the configuration, and all that holds tensors."""
    return sorted(path for path in folder.iterdir() if path.name == CONFIG or path.name.endswith(_WEIGHTS))


def read_json(file: Path) -> dict[str, Any]:
    """The content of a file that holds one JSON object; raises ConfigError where it does not."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds {type(content).__name__}, expected an object.")
    return content


def _configuration(transformers: Any, folder: Path, settings: Mapping[str, Any]) -> Any:
    """The configuration of a folder with some settings changed."""
    file = folder / CONFIG
    written = read_json(file)
    kind = written.get("model_type")
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING
    if kind not in known:
        brought = " and brings code along, which is never run" if "auto_map" in written else ""
        raise ConfigError(
            f"{file} is of model_type {kind!r}, which transformers {transformers.__version__} has not{brought}; name a "
            "function of your own that builds the network."
        )
    for name, value in _entries([written, settings]):
        if name.endswith("attn_implementation") and value not in _ATTENTIONS:
            raise ConfigError(f"the attention of {file} is to be {value!r}, expected eager or sdpa; change that entry.")
    config, unknown = known[kind].from_dict(written, return_unused_kwargs=True, **settings)
    for name in unknown:
        raise ConfigError(f"a {type(config).__name__} has no {name!r}{nearest(name, config.to_dict())}")
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return config


def _entries(values: Any) -> Iterator[tuple[str, Any]]:
    """The names and values of a JSON object and of all that are inside it."""
    if isinstance(values, Mapping):
        yield from values.items()
        values = list(values.values())
    for inner in values if isinstance(values, list) else ():
        yield from _entries(inner)


def _class(transformers: Any, config: Any, architecture: str | None, folder: Path) -> Any:
    """The class of transformers that a name, or else a configuration, asks for."""
    name = architecture or next(iter(config.architectures or ()), None)
    if name is None:
        raise ConfigError(
            f"{folder / CONFIG} does not say which architecture it is for; name it by the model's argument "
            "'architecture', such as GPT2LMHeadModel."
        )
    found: Any = getattr(transformers, name, None)
    if hasattr(found, "_model_mapping"):
        found = found._model_mapping.get(type(config), found)
    is_network = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    if not is_network:
        classes = [known for known in dir(transformers) if known[0].isupper()]
        raise ConfigError(f"transformers has no architecture {name!r}{nearest(name, classes)}")
    if not isinstance(config, found.config_class or ()):
        raise ConfigError(
            f"{name} is not built from a {type(config).__name__}, which {folder / CONFIG} is; name an architecture of "
            f"model_type {config.model_type!r}."
        )
    return found


def _pretrained(built: Any, config: Any, folder: Path, dtype: str) -> tuple[nn.Module, set[str]]:
    """A class's network with a folder's weights, and the names of the parameters that these leave random."""
    network, report = built.from_pretrained(
        str(folder), config=config, local_files_only=True, dtype=dtype, output_loading_info=True
    )
    return network, set(report["missing_keys"])


@contextmanager
def _alone(transformers: Any) -> Iterator[None]:
    """Without the network, and without bars of progress."""
    constants = optional("huggingface_hub.constants", _EXTRA)
    bars = transformers.utils.logging
    offline, shown = constants.HF_HUB_OFFLINE, bars.is_progress_bar_enabled()
    try:
        constants.HF_HUB_OFFLINE = True
        bars.disable_progress_bar()
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        if shown:
            bars.enable_progress_bar()
