"""Texts as blocks of tokens."""

import json
import resource

import pytest
import torch

from landscape import ProblemSpecification, build_problem
from landscape.errors import ConfigError, MissingDataError, ProblemError
from landscape.problems.registry import DATASETS, resolve
from landscape.problems.text import text


def blocks(split):
    (batch,) = split.batches([slice(0, len(split))])
    return batch["input_ids"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.txt"
    path.write_bytes(bytes(range(256)) * 4 + b"end")
    return path


def test_bytes_are_cut_into_blocks_the_last_of_which_are_for_test(file, caplog):
    data = text(str(file), block=32, test_share=0.25)
    train, test = (blocks(data.splits[name]) for name in ("train", "test"))
    assert torch.cat([train, test]).flatten().tolist() == list(range(256)) * 4
    assert (train.shape, test.shape, train.dtype) == ((24, 32), (8, 32), torch.int64)
    assert (data.input_shape, data.classes) == ((32,), 256)
    assert caplog.messages == [f"note: the last 3 of the 1027 tokens of {file} fill no block, and are left out."]


@pytest.mark.parametrize(("share", "test"), [(0.001, 1), (0.1, 1), (0.5, 5), (0.999, 9), (0, 0)])
def test_every_split_has_a_block(tmp_path, share, test):
    (tmp_path / "t").write_bytes(b"x" * 10)
    sizes = {name: len(split) for name, split in text(str(tmp_path / "t"), block=1, test_share=share).splits.items()}
    assert sizes == {"train": 10 - test, **({"test": test} if test else {})}


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b").mkdir()
    for name, content in {"c": b"56", "a": b"12", "b/x": b"34", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
    assert bytes(blocks(text(str(tmp_path), block=3, test_share=0).splits["train"]).flatten().tolist()) == b"123456"


def test_indices_and_fingerprints_are_those_of_the_blocks(file):
    split = text(str(file), block=16).splits["train"]
    whole = blocks(split)
    picked, run = split.batches([torch.tensor([5, 0, 5]), slice(3, 7)])
    assert torch.equal(picked["input_ids"], whole[[5, 0, 5]])
    assert torch.equal(run["input_ids"], whole[3:7])
    before = split.fingerprint()
    assert text(str(file), block=16).splits["train"].fingerprint() == before
    assert text(str(file), block=32).splits["train"].fingerprint() != before
    file.write_bytes(b"!" + file.read_bytes()[1:])
    assert text(str(file), block=16).splits["train"].fingerprint() != before


def test_the_registry_takes_the_form_and_a_network_fits(file):
    problem = build_problem(
        ProblemSpecification(
            model="gpt", data=f"text:{file}", model_args={"width": 8, "layers": 1, "heads": 2}, data_args={"block": 8}
        )
    )
    ids = blocks(problem.data.splits["train"])[:3]
    assert problem.model.eval()(ids).shape == (3, 8, 256)


def test_a_name_is_found_from_any_folder(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def encode(text): return [0] * len(text)")
    specification = ProblemSpecification.from_mapping(
        {"model": "gpt", "data": "text:some.txt", "data_args": {"tokenizer": "mine.py:encode"}}, "a test"
    )
    assert specification.data == f"text:{file}"
    assert specification.data_args == {"tokenizer": f"{tmp_path}/mine.py:encode"}


def test_a_large_file_is_mapped(tmp_path):
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(2**30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    split = text(str(tmp_path / "large"), block=1024).splits["train"]
    (batch,) = split.to(torch.device("cpu")).batches([slice(1000, 1010)])
    assert batch["input_ids"].shape == (10, 1024)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


TOKENIZER = """
def words(text):
    return [min(len(word), 9) for word in text.split()]

words.vocabulary = 10

def unsized(text): return [ord(letter) for letter in text]
def fails(text): raise ValueError("no luck")
def floats(text): return [0.5]
"""


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TOKENIZER)
    return path


def test_a_users_tokenizer_gives_the_tokens(tmp_path, code):
    (tmp_path / "t").write_text("a bb ccc d\nee fff")
    data = text(str(tmp_path / "t"), block=2, tokenizer=f"{code}:words", test_share=0)
    assert blocks(data.splits["train"]).tolist() == [[1, 2], [3, 1], [2, 3]]
    assert data.classes == 10
    assert text(str(tmp_path / "t"), block=2, tokenizer=f"{code}:unsized", vocabulary=128).classes == 128


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tokenizer": "{code}:unsized"}, ConfigError, "has the size None; give it as the argument vocabulary"),
        ({"tokenizer": "{code}:words", "vocabulary": 2}, ProblemError, r"expected 0 to 1; got tokens from 5 to 5"),
        ({"tokenizer": "{code}:nothing"}, ConfigError, "has no function 'nothing'"),
        ({"tokenizer": "{code}:fails", "vocabulary": 2}, ProblemError, "failed: ValueError: no luck"),
        ({"tokenizer": "{code}:floats", "vocabulary": 2}, ProblemError, r"whole numbers \[N\]; got float64"),
        ({"tokenizer": "nowhere"}, ConfigError, "there is no folder .*nowhere; a tokenizer is a folder"),
        ({"block": 0}, ConfigError, "block is 0"),
        ({"block": 2.0}, ConfigError, "block is 2.0"),
        ({"test_share": 1}, ConfigError, r"test_share is 1, expected a number in \[0, 1\)"),
        ({"block": 6}, ProblemError, "holds 11 tokens, expected 2 blocks of 6 at least"),
    ],
)
def test_wrong_arguments_are_said(tmp_path, code, arguments, error, message):
    (tmp_path / "t").write_text("hello there")
    named = {key: value.format(code=code) if isinstance(value, str) else value for key, value in arguments.items()}
    with pytest.raises(error, match=message):
        text(str(tmp_path / "t"), **named)


def test_a_text_that_is_not_there_or_not_utf8_is_said(tmp_path, code):
    with pytest.raises(ConfigError, match="has no name, expected text:FILE"):
        text("")
    with pytest.raises(MissingDataError, match="nothing does not exist; name a file"):
        text(str(tmp_path / "nothing"))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(MissingDataError, match="empty holds no text"):
        text(str(tmp_path / "empty"))
    (tmp_path / "bytes").write_bytes(b"abc\xff" * 100)
    assert len(text(str(tmp_path / "bytes")).splits["train"]) == 2
    with pytest.raises(ProblemError, match="bytes is not UTF-8 at byte 3"):
        text(str(tmp_path / "bytes"), tokenizer=f"{code}:words")


def test_an_unknown_form_or_one_of_another_kind_is_said(file):
    with pytest.raises(ConfigError, match="cannot import 'text'"):
        resolve(f"text:{file}", {"mlp": None}, "model")
    assert resolve(f"text:{file}", DATASETS, "data")(block=8).input_shape == (8,)


def test_a_file_names_no_tokenizer_that_is_run(call, tmp_path, file, caplog):
    """What a checkpoint carries is run only where the user names it too."""
    (tmp_path / "mine.py").write_text(
        "import pathlib\n\n"
        f"def encode(text):\n    pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n    return list(text.encode())\n"
    )
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "def model(): return torch.nn.Linear(4, 1)\n"
        "def loss(model, batch): return model(batch['input_ids'].float())[:, 0].square()\n"
    )
    file.write_text("some words " * 20)
    arguments = {"block": 4, "tokenizer": f"{tmp_path}/mine.py:encode", "vocabulary": 256}
    own = ["--model", f"{tmp_path}/own.py:model", "--loss", f"{tmp_path}/own.py:loss"]
    out = tmp_path / "a.safetensors"
    named = ["--data", f"text:{file}", "--data-args", json.dumps(arguments)]
    status, _, errors = call("train", *own, *named, "--epochs", 1, "--out", out)
    assert status == 0, errors
    (tmp_path / "ran").unlink()
    for given in ([], named[:2]):
        status, _, errors = call("line", *own, *given, "--a", out, "--range", "0:1:2", "--out", tmp_path / "l.h5")
        assert status == 2
        assert "--data-args" in errors
        assert not (tmp_path / "ran").exists()
    caplog.clear()
    status, _, errors = call("line", *own, *named[2:], "--a", out, "--range", "0:1:2", "--out", tmp_path / "l.h5")
    assert status == 0, errors
    assert f"the data are read from {file}, as {out} says; --data names others." in caplog.messages
    assert (tmp_path / "ran").exists()


@pytest.mark.foreign
def test_a_tokenizer_of_transformers_gives_its_own_tokens(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    words = ["the", "cat", "sat", "on", "mat", "a"]
    model = tokenizers.models.WordLevel({"?": 0, **{word: i + 1 for i, word in enumerate(words)}}, unk_token="?")
    own = tokenizers.Tokenizer(model)
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=own, unk_token="?").save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "t").write_text("the cat sat on the big mat")
    data = text(str(tmp_path / "t"), block=2, tokenizer=str(tmp_path / "tokenizer"), test_share=0)
    assert blocks(data.splits["train"]).tolist() == [[1, 2], [3, 4], [1, 0]]
    assert data.classes == 7
