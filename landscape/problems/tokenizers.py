"""From text to tokens: by a tokenizer of transformers, or a function of the user's."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import ConfigError, LandscapeError, MissingDataError, ProblemError
from landscape.problems.code import at_home, load
from landscape.problems.libraries.importing import optional

_Encode = Callable[[str], Any]


def encoded(files: Sequence[Path], tokenizer: str, vocabulary: int | None) -> tuple[Tensor, int]:
    """The tokens `[N]` of files, one after the other, int32, and how many different ones there may be.

    Args:
        files: of UTF-8 text.
        tokenizer: a folder that transformers wrote, or `path/file.py:encode`.
        vocabulary: how many there may be; by default what the tokenizer says.

    Raises:
        MissingDataError: a file cannot be read.
        ProblemError: a file is not UTF-8, or the tokenizer fails or gives something else.
        ConfigError: the tokenizer cannot be found, or its vocabulary is not known.
    """
    whole = "".join(map(_decoded, files))
    encode, size = _users(tokenizer) if ":" in tokenizer else _transformers(Path(tokenizer).expanduser())
    size = vocabulary or size
    if type(size) is not int or size < 1:
        raise ConfigError(f"the vocabulary of {tokenizer} has the size {size!r}; give it as the argument vocabulary.")
    try:
        with at_home(tokenizer):
            tokens = np.asarray(encode(whole))
    except LandscapeError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ProblemError(f"the tokenizer {tokenizer} failed: {type(error).__name__}: {error}") from error
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        got = f"{tokens.dtype} of shape {tokens.shape}"
        raise ProblemError(f"the tokenizer {tokenizer} must give whole numbers [N]; got {got}.")
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < size:
        got = f"tokens from {tokens.min()} to {tokens.max()}"
        raise ProblemError(
            f"the tokenizer {tokenizer} has a vocabulary of {size}, expected 0 to {size - 1}; got {got}."
        )
    return torch.from_numpy(tokens.astype(np.int32)), size


def _decoded(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise MissingDataError(f"the text {file} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise ProblemError(
            f"{file} is not UTF-8 at byte {error.start}, expected so for a tokenizer; leave it out to take bytes."
        ) from error


def _users(tokenizer: str) -> tuple[_Encode, Any]:
    place, _, name = tokenizer.rpartition(":")
    encode = getattr(load(place), name, None)
    if not callable(encode):
        raise ConfigError(f"{place} has no function {name!r}, which the tokenizer {tokenizer!r} names.")
    return encode, getattr(encode, "vocabulary", None)


def _transformers(folder: Path) -> tuple[_Encode, Any]:
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder.absolute()}; a tokenizer is a folder, or path/file.py:encode.")
    transformers = optional("transformers", "hf")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (Exception, SystemExit) as error:  # a damaged folder may raise anything
        raise ProblemError(f"{folder} holds no tokenizer of transformers: {error}") from error
    return lambda whole: tokenizer.encode(whole, add_special_tokens=False, verbose=False), len(tokenizer)
