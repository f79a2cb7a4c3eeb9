"""Networks of PEFT: a frozen base with adapters, from a folder that `save_pretrained` of a `PeftModel` wrote.

That folder holds the adapters alone, so the base's weights are read from a folder of their own, and keep their type.
"""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from landscape.errors import ConfigError, ProblemError
from landscape.problems.libraries.huggingface import folder_of, pretrained_base, read_json
from landscape.problems.libraries.importing import optional

_log = logging.getLogger(__name__)
ADAPTER_CONFIG = "adapter_config.json"
_CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}  # of bases, by PEFT's name of the task


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters of PEFT."""
    return (folder / ADAPTER_CONFIG).is_file()


def base_folder(folder: Path, base: str | None) -> Path:
    """Where the base of a folder of adapters lies.

    Args:
        folder: that of the adapters.
        base: the base's; by default the one that the adapters name.

    Raises:
        ConfigError: there is none, or the adapters name a model of a hub.
    """
    if base is not None:
        return folder_of(base)
    named = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(named, str) or not Path(named).is_dir():
        raise ConfigError(
            f"{folder} holds adapters of {named!r}, which is not a folder here; name the base's folder by the model's "
            "argument 'base'."
        )
    return Path(named)


def adapted_model(folder: Path, base: str | None = None, architecture: str | None = None, **settings: Any) -> nn.Module:
    """A frozen base with trainable adapters as they begin.

    Args:
        folder: holds adapter_config.json.
        base: the base's folder; by default the one that the adapters name.
        architecture: the base's class; by default that of the adapters' task, or the one that its config.json names.
        settings: entries of the base's configuration to change, such as `num_labels`.

    Raises:
        ConfigError: as `transformers_model`; or the base is not a folder here.
        ProblemError: the base's folder lacks weights that the adapters do not replace.
    """
    peft = optional("peft", "hf")
    place = base_folder(folder, base)
    _log.warning("the base of %s is read from %s.", folder, place)
    config = peft.PeftConfig.from_pretrained(str(folder))
    named = (config.auto_mapping or {}).get("base_model_class") or _CLASSES.get(config.task_type)
    network, random = pretrained_base(place, architecture or named, settings)
    replaced = tuple(getattr(config, "modules_to_save", None) or ())
    lacking = sorted(name for name in random if not any(part in replaced for part in name.split(".")))
    if lacking:
        raise ProblemError(
            f"{place} does not hold {lacking[0]} of {type(network).__name__}, nor would the adapters; is it the base "
            f"of {folder}?"
        )
    config.inference_mode = False
    config.base_model_name_or_path = network.name_or_path
    adapted: nn.Module = peft.get_peft_model(network, config)
    return adapted
