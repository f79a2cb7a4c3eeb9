"""A text as blocks of tokens, for language models: `text:FILE`, or `text:FOLDER` with files of text.

Tokens are the bytes of the text, or what a tokenizer makes of it. Blocks follow each other without overlap; the last of
them are for test, whatever the seed, and what is left at the end and fills no block is left out.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import ConfigError, MissingDataError, ProblemError
from landscape.problems.datasets import Data
from landscape.problems.splits import TokenSplit
from landscape.problems.tokenizers import encoded

_BYTES = 256
_log = logging.getLogger(__name__)


def text(
    file: str,
    block: int = 128,
    tokenizer: str | None = None,
    vocabulary: int | None = None,
    test_share: float = 0.1,
) -> Data:
    """The blocks of a text, `{"input_ids": [B, block]}`, int64.

    Args:
        file: a file, or a folder whose files are read in the order of their names, those in its own folders too.
        block: tokens in a block.
        tokenizer: a folder that transformers wrote a tokenizer into, or `path/file.py:encode`, a function from a text
            to a list of whole numbers; by default each byte is a token.
        vocabulary: the number of different tokens of such a function; it may have an attribute of this name instead.
        test_share: of the blocks, in [0, 1); at least one unless it is 0, which leaves the test split out.

    Returns:
        The data; `input_shape` is `(block,)`, and `classes` the number of different tokens.

    Raises:
        MissingDataError: there is no such file, or no text in it.
        ProblemError: the text makes less than two blocks; or a tokenizer is named, and the text is not UTF-8, or the
            tokenizer fails.
        ConfigError: an argument is out of range, or a tokenizer cannot be found.
    """
    _require(block, vocabulary, test_share)
    if not file:
        raise ConfigError("the text has no name, expected text:FILE or text:FOLDER.")
    files = _files(Path(file).expanduser())
    tokens, vocabulary = (_bytes(files), _BYTES) if tokenizer is None else encoded(files, tokenizer, vocabulary)
    count = len(tokens) // block
    if count < 2:
        raise ProblemError(f"{file} holds {len(tokens):,} tokens, expected 2 blocks of {block} at least; lower block.")
    left = len(tokens) - count * block
    if left:
        _log.warning(
            "note: the last %d of the %d tokens of %s fill no block, and are left out.", left, len(tokens), file
        )
    blocks = tokens[: count * block].view(count, block)
    test = min(max(1, round(test_share * count)), count - 1) if test_share else 0
    splits = {"train": TokenSplit(blocks[: count - test])}
    return Data(splits | ({"test": TokenSplit(blocks[-test:])} if test else {}), (block,), vocabulary)


def _require(block: Any, vocabulary: Any, test_share: Any) -> None:
    for name, value in (("block", block), ("vocabulary", vocabulary)):
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(f"{name} is {value!r}, expected a whole number of at least 1.")
    if isinstance(test_share, bool) or not isinstance(test_share, int | float) or not 0 <= test_share < 1:
        raise ConfigError(f"test_share is {test_share!r}, expected a number in [0, 1).")


def _files(place: Path) -> list[Path]:
    try:
        inside = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
        files = [file for file in inside if file.is_file() and file.stat().st_size]
    except OSError as error:
        raise MissingDataError(f"the text {place} cannot be read: {error}.") from error
    if not files:
        state = "holds no text" if place.exists() else "does not exist"
        raise MissingDataError(f"{place.absolute()} {state}; name a file, or a folder of files, as text:FILE.")
    return files


def _bytes(files: Sequence[Path]) -> Tensor:
    """The bytes of files, one after the other; those of a single file are mapped, not read."""
    try:
        if len(files) == 1:
            return torch.from_numpy(np.memmap(files[0], np.uint8, mode="c"))
        return torch.from_numpy(np.concatenate([np.fromfile(file, np.uint8) for file in files]))
    except OSError as error:
        raise MissingDataError(f"the text {files[0]} cannot be read: {error}.") from error
