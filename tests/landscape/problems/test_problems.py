"""Problems: the registry's own and a user's."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

import landscape
from landscape import ProblemSpecification, build_problem
from landscape.errors import ConfigError, ProblemError
from landscape.problems.datasets import as_data, as_split
from landscape.problems.models import MODELS
from landscape.problems.splits import StreamedSplit, TensorSplit, chunks


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"gpt"}))
def test_every_model_runs_on_any_channels_and_classes(name):
    model = MODELS[name](input_shape=(2, 8, 8), classes=7).eval()
    assert model(torch.randn(3, 2, 8, 8)).shape == (3, 7)


@pytest.mark.parametrize(
    ("depth", "count"), [(20, 272_474), (32, 466_906), (44, 661_338), (56, 855_770), (110, 1_730_714)]
)
def test_resnets_have_the_published_number_of_parameters(depth, count):
    """272,474 is published for ResNet-20; each further block of three stages adds 32,405 weights and biases."""
    model = MODELS[f"resnet{depth}"](input_shape=(3, 32, 32), classes=10)
    assert sum(p.numel() for p in model.parameters()) == count


def test_a_network_without_shortcuts_lacks_the_projections_only():
    model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10, shortcut=False)
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert sum(p.numel() for p in model.parameters()) == 272_474 - projections


def test_a_shortcut_leads_around_the_block():
    images = torch.randn(2, 16, 4, 4)
    for shortcut in (True, False):
        block = MODELS["resnet8"](input_shape=(1, 8, 8), classes=10, shortcut=shortcut).layer1[0].eval()
        torch.nn.init.zeros_(block.conv2.weight)
        torch.testing.assert_close(block(images), images.relu() if shortcut else torch.zeros_like(images))


def test_initial_weights_follow_the_seed_alone():
    specification = ProblemSpecification(model="mlp", data="digits")
    first, second, third = (build_problem(specification, seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


USER = """
    import torch
    from torch.utils.data import TensorDataset

    def model(width=3):
        return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 2))

    def data():
        x = torch.arange(40.0).view(10, 4)
        return TensorDataset(x, x[:, 0].long() % 2), (x[:3], x[:3, 0].long() % 2)

    def loss(model, batch):
        return (model(batch[0]) ** 2).sum(dim=1)

    def fails():
        raise ValueError("no luck")

    def number():
        return 3
"""


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(USER))
    return path


def test_a_users_own_model_data_and_loss_from_a_file(user_file):
    problem = build_problem(
        ProblemSpecification(
            model=f"{user_file}:model", data=f"{user_file}:data", loss=f"{user_file}:loss", model_args={"width": 5}
        )
    )
    assert problem.model[0].out_features == 5
    assert {name: len(split) for name, split in problem.data.splits.items()} == {"train": 10, "test": 3}
    (batch,) = problem.data.splits["train"].batches([slice(0, 4)])
    assert problem.loss(problem.model, batch).shape == (4,)


def test_a_users_own_module_from_the_current_folder(user_file, monkeypatch):
    monkeypatch.chdir(user_file.parent)
    problem = build_problem(ProblemSpecification(model="mine:model", data="mine:data"))
    assert problem.model[0].out_features == 3


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("resnet9", {}, "unknown model 'resnet9'; did you mean resnet8.* Known are cnn, densenet121, gpt, hf:, mlp"),
        ("nowhere.py:model", {}, "there is no file"),
        ("nowhere_at_all:model", {}, "cannot import 'nowhere_at_all'"),
        ("{file}:nothing", {}, "has no 'nothing'"),
        ("{file}:model", {"depth": 3}, "does not take"),
        ("{file}:fails", {}, "failed: ValueError: no luck"),
        ("{file}:number", {}, "returned int, expected a torch.nn.Module"),
        ("mlp", {"widths": "wide"}, "mlp failed|does not take"),
    ],
)
def test_what_is_wrong_with_a_model_is_said(user_file, model, arguments, message):
    specification = ProblemSpecification(
        model=model.format(file=user_file), data=f"{user_file}:data", model_args=arguments
    )
    if model == "mlp":
        specification = specification.updated(data="digits").updated(model_args=arguments)
    with pytest.raises((ConfigError, ProblemError), match=message):
        build_problem(specification)


def test_a_file_that_does_not_load_is_named(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name")
    with pytest.raises(ProblemError, match=r"broken\.py fails when it is loaded: ModuleNotFoundError"):
        build_problem(ProblemSpecification(model=f"{path}:model", data="digits"))


def test_small_data_sets_are_held_and_large_ones_read_on_demand():
    dataset = TensorDataset(torch.randn(9, 4), torch.arange(9))
    assert isinstance(as_split(dataset), TensorSplit)
    large = as_split(dataset, memory_limit=100)
    assert isinstance(large, StreamedSplit)
    assert (
        large.fingerprint()
        != as_split(TensorDataset(torch.randn(9, 4), torch.arange(9)), memory_limit=100).fingerprint()
    )


class Empty(Dataset):
    def __len__(self):
        return 0


@pytest.mark.parametrize(
    "examples", [(torch.zeros(3, 2), torch.zeros(4)), (torch.zeros(0, 2),), (), torch.tensor(3.0), Empty(), ("a", "b")]
)
def test_examples_that_are_none_are_refused(examples):
    with pytest.raises(ProblemError):
        as_split(examples)


@pytest.mark.parametrize("given", [3, {"test": torch.zeros(3)}, [torch.zeros(3)] * 3])
def test_data_without_a_training_split_are_refused(given):
    with pytest.raises(ProblemError, match="must return"):
        as_data(given)


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (1437, 128), (5, 100), (1, 1), (7, 7)])
def test_chunks_cover_everything_once_in_nearly_equal_runs(size, batch_size):
    runs = chunks(size, batch_size)
    assert [i for run in runs for i in range(run.start, run.stop)] == list(range(size))
    lengths = {run.stop - run.start for run in runs}
    assert max(lengths) <= batch_size
    assert max(lengths) - min(lengths) <= 1


OWN = """
import torch

def model():
    return torch.nn.Linear(3, 2)

def data():
    x = torch.linspace(-1, 1, 60).view(20, 3)
    return (x, (x[:, 0] > 0).long()), (x, (x[:, 0] > 0).long())

def loss(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
"""


def test_a_resume_notices_that_the_users_code_has_changed(call, tmp_path):
    code = tmp_path / "own.py"
    code.write_text(OWN)
    problem = ["--model", f"{code}:model", "--data", f"{code}:data", "--loss", f"{code}:loss"]
    out = tmp_path / "a.safetensors"
    assert call("train", *problem, "--epochs", 1, "--out", out)[0] == 0
    arguments = ["surface", "--checkpoint", out, *problem, "--points", 3, "--out", tmp_path / "s.h5"]
    assert call(*arguments)[0] == 0
    code.write_text(OWN.replace('reduction="none")', 'reduction="none") * 100'))
    status, _, errors = call(*arguments, "--resume")
    assert status == 2
    assert "code" in errors


DRAWS = """
import random
import numpy as np
import torch

ROWS = np.random.permutation(30)

def model():
    return torch.nn.Linear(2, 2)

def data():
    x = torch.cat([torch.rand(30, 1), torch.tensor(np.random.rand(30, 1), dtype=torch.float32)], dim=1)
    y = torch.tensor([random.randrange(2) for _ in range(30)])
    return (x[ROWS[:20]], y[ROWS[:20]]), (x[ROWS[20:]], y[ROWS[20:]])
"""


def test_what_a_factory_draws_by_any_generator_is_the_same_in_every_process(tmp_path):
    (tmp_path / "mine.py").write_text(DRAWS)
    program = (
        "import sys, random, numpy, torch\n"
        "from landscape import ProblemSpecification, build_problem\n"
        "numpy.random.seed(int(sys.argv[1])); random.seed(int(sys.argv[1])); torch.manual_seed(int(sys.argv[1]))\n"
        "state = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()\n"
        "built = build_problem(ProblemSpecification(model='mine.py:model', data='mine.py:data'))\n"
        "assert state == (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())\n"
        "print(built.data.fingerprints())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(landscape.__file__).parents[1])}  # from any folder
    settings = {"cwd": tmp_path, "capture_output": True, "text": True, "env": environment}
    runs = [subprocess.run([sys.executable, "-c", program, seed], check=True, **settings) for seed in ("1", "2")]
    assert runs[0].stdout == runs[1].stdout


UNSTEADY = """
import numpy as np
import torch

def model():
    return torch.nn.Linear(2, 2)

def data():
    x = torch.tensor(np.random.default_rng().random((20, 2)), dtype=torch.float32)
    return {"train": (x, (x[:, 0] > 0.5).long()), "test": (torch.ones(4, 2), torch.ones(4).long())}
"""


def test_data_that_a_checkpoint_was_not_trained_on_are_noted_once(call, tmp_path, caplog):
    (tmp_path / "mine.py").write_text(UNSTEADY)
    problem = ["--model", f"{tmp_path}/mine.py:model", "--data", f"{tmp_path}/mine.py:data"]
    outs = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, out in enumerate(outs):
        assert call("train", *problem, "--epochs", 1, "--seed", seed, "--out", out)[0] == 0
    assert not caplog.messages
    arguments = ["line", *problem, "--a", outs[0], "--b", outs[1], "--range", "0:1:2", "--out", tmp_path / "l.h5"]
    assert call(*arguments)[0] == 0
    (note,) = caplog.messages
    assert note.startswith(f"note: the train examples are not those that {outs[0]} was trained on;")


def test_no_note_is_made_of_the_same_data(call, tmp_path, caplog):
    out = tmp_path / "a.safetensors"
    assert call("train", "--model", "mlp", "--data", "digits", "--epochs", 0, "--out", out)[0] == 0
    assert call("line", "--a", out, "--range", "0:1:2", "--out", tmp_path / "l.h5")[0] == 0
    assert not caplog.messages


@pytest.mark.parametrize("kind", [lambda values: values, lambda values: values.numpy()])
def test_the_inputs_and_targets_of_one_split_are_not_taken_for_two_splits(kind):
    x, y = kind(torch.zeros(6, 2)), kind(torch.zeros(6).long())
    with pytest.raises(ProblemError, match=r"arrays of 6 rows each, expected \(train, test\).*\{'train': \(inputs"):
        as_data((x, y))
    assert len(as_data({"train": (x, y)}).splits["train"]) == 6
    assert len(as_data(((x, y), (x, y))).splits["test"]) == 6
    assert len(as_data((x, kind(torch.zeros(4, 2)))).splits["test"]) == 4


def test_a_loss_or_a_network_that_leaves_the_program_is_a_problem_of_theirs(call, tmp_path):
    (tmp_path / "mine.py").write_text(OWN + "\ndef leaves(model, batch):\n    import sys\n    sys.exit(7)\n")
    problem = ["--model", f"{tmp_path}/mine.py:model", "--data", f"{tmp_path}/mine.py:data"]
    arguments = ["train", *problem, "--loss", f"{tmp_path}/mine.py:leaves", "--out", tmp_path / "a.safetensors"]
    code, _, errors = call(*arguments)
    assert code == 2
    assert "the loss leaves failed on a batch: SystemExit: 7" in errors


class Leaving(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            sys.exit(3)
        return torch.zeros(2), index


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_a_data_set_that_leaves_while_it_is_read_is_a_problem_of_its_own(workers):
    split = StreamedSplit(Leaving(), torch.device("cpu"), workers)
    with pytest.raises(ProblemError, match="the data set Leaving failed"):
        list(split.batches([slice(0, 2), slice(2, 4)]))
