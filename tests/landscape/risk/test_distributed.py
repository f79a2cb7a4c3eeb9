"""Processes that share batches, against torch's own layers and against one process with the whole batch."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from connect import Bezier, GrowingBand, find_path
from connect.app import cli as connect_cli
from connect.paths.autoneb import parse_cycles
from landscape import EmpiricalRisk, Interrupted, Keeping, ParameterSpace, Problem, Recipe, load_checkpoint
from landscape.app import cli as landscape_cli
from landscape.app.commandline import run
from landscape.errors import ConfigError
from landscape.risk.ranks import Ranks, joined, synchronised
from tests.oracles import Signalling

CPU = torch.device("cpu")


# ------------------------------------------------------------------ two processes


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "tests.landscape.test_distributed"])
    process = context.Process(target=int)
    process.start()
    process.join()
    os.environ.pop("OMP_NUM_THREADS")
    if before is not None:
        os.environ["OMP_NUM_THREADS"] = before
    return context


@pytest.fixture
def together(processes, tmp_path):
    """Run a function in two processes that know each other; returns what each returned."""

    def both(function, *arguments):
        meeting = tmp_path / f"meeting{len(list(tmp_path.iterdir()))}"
        started = [
            processes.Process(target=_take_part, args=(meeting, rank, function, arguments), daemon=True)
            for rank in range(2)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(120)
        assert [process.exitcode for process in started] == [0, 0]
        return [torch.load(f"{meeting}.{rank}", weights_only=False) for rank in range(2)]

    return both


def _take_part(meeting, rank, function, arguments):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    with joined(CPU) as ranks:
        torch.save(function(ranks, *arguments), f"{meeting}.{rank}")
    dist.destroy_process_group()


def test_processes_share_sum_and_stop_together(together):
    def told(values):
        return torch.tensor(values, dtype=torch.float64)

    first, second = together(_counting)
    assert first["ranks"] == Ranks(0, 2)
    assert second["ranks"] == Ranks(1, 2)
    assert first["ranks"].first
    assert not second["ranks"].first
    for found in (first, second):
        assert torch.equal(found["sum"], told([3, 30]))
        assert found["any"] == [False, True, True, True]


def _counting(ranks):
    summed = torch.tensor([1.0, 10.0], dtype=torch.float64) * (ranks.rank + 1)
    parts = summed.split(1)
    ranks.sum_(*parts)
    flags = [False, ranks.rank == 0, ranks.rank == 1, True]
    return {"ranks": ranks, "sum": torch.cat(parts), "any": [ranks.any(flag, CPU) for flag in flags]}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_even_and_leave_nothing_out(size):
    for count in range(size, 40):
        shares = [Ranks(rank, size).share(count) for rank in range(size)]
        assert [i for share in shares for i in range(count)[share]] == list(range(count))
        lengths = [share.stop - share.start for share in shares]
        assert max(lengths) - min(lengths) <= 1
    with pytest.raises(ConfigError, match=rf"{size} processes cannot share {size - 1} examples; raise --batch-size"):
        Ranks(0, size).share(size - 1)


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(CPU) as ranks:
        assert ranks == Ranks(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with joined(CPU) as ranks:
        assert ranks == Ranks(0, 1)
    assert not dist.is_initialized()


# ------------------------------------------------------------------ batch norm

LAYERS = {
    "vectors": (nn.BatchNorm1d, (13, 4)),
    "sequences": (nn.BatchNorm1d, (13, 4, 5)),
    "images": (nn.BatchNorm2d, (13, 4, 3, 2)),
}
OPTIONS = {
    "usual": {},
    "momentum": {"momentum": 0.3},
    "cumulative": {"momentum": None},
    "no weights": {"affine": False},
    "large eps": {"eps": 0.5},
    "no statistics": {"track_running_stats": False},
}


def layer(kind, options):
    """A layer of batch norm in float64 whose weights and statistics are none of the usual."""
    norm = LAYERS[kind][0](4, **OPTIONS[options]).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in norm.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return norm


def batches(kind):
    """Two batches whose channels differ in mean and scale, and the weights of what is done with each output."""
    generator = torch.Generator().manual_seed(4)
    shape = LAYERS[kind][1]
    scale = torch.tensor([0.1, 1, 2, 5], dtype=torch.float64).view(1, 4, *[1] * (len(shape) - 2))
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4)]
    return [(drawn[i] * scale + scale.square(), drawn[i + 1]) for i in (0, 2)]


def passed(norm, part, kind, training):
    """Outputs, gradients and statistics after two batches, of each the examples of a part."""
    norm.train(training)
    found = {}
    for i, (inputs, weights) in enumerate(batches(kind)):
        x = inputs[part].clone().requires_grad_()
        norm.zero_grad()
        outputs = norm(x)
        (outputs.square() * weights[part] + outputs * weights[part].roll(1, 1)).sum().backward()
        gradients = {name: parameter.grad.clone() for name, parameter in norm.named_parameters()}
        found[i] = {"outputs": outputs.detach(), "inputs": x.grad, "weights": gradients}
    return found | {"state": {name: tensor.clone() for name, tensor in norm.state_dict().items()}}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", LAYERS)
def test_one_process_normalises_as_torch_does(monkeypatch, kind, options, training):
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: None)
    everything = slice(None)
    expected = passed(layer(kind, options), everything, kind, training)
    norm = layer(kind, options)
    with synchronised([norm], Ranks(0, 2)):
        assert "forward" in vars(norm)
        got = passed(norm, everything, kind, training)
    assert "forward" not in vars(norm)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_two_processes_normalise_as_one_with_the_whole_batch(together):
    """Their parts are uneven, so that nothing that weighs processes instead of examples passes."""
    cases = [(kind, options, training) for kind in LAYERS for options in OPTIONS for training in (True, False)]
    cases = [case for case in cases if case[1:] != ("no statistics", False)]
    first, second = together(_normalising, cases)
    for case, one, two in zip(cases, first, second, strict=True):
        kind, options, training = case
        whole = passed(layer(kind, options), slice(None), kind, training)
        torch.testing.assert_close(one["state"], whole["state"], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(two["state"], one["state"], rtol=0, atol=0)
        for i in range(2):
            for what in ("outputs", "inputs"):
                both = torch.cat([one[i][what], two[i][what]])
                torch.testing.assert_close(both, whole[i][what], rtol=1e-9, atol=1e-9)
            for name, gradient in whole[i]["weights"].items():
                both = one[i]["weights"][name] + two[i]["weights"][name]
                torch.testing.assert_close(both, gradient, rtol=1e-9, atol=1e-9)


def _normalising(ranks, cases):
    found = []
    for kind, options, training in cases:
        norm = layer(kind, options)
        with synchronised([norm], ranks):
            found.append(passed(norm, [slice(0, 5), slice(5, 13)][ranks.rank], kind, training))
    return found


def test_moments_of_half_precision_inputs_are_taken_in_float32(monkeypatch):
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: None)
    norm, reference = (nn.BatchNorm2d(4) for _ in range(2))
    x = (torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0)) + 30).bfloat16()
    with synchronised([norm], Ranks(0, 2)), torch.autocast("cpu", dtype=torch.bfloat16):
        got = norm(x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, reference(x.float()).bfloat16(), rtol=2**-7, atol=1e-3)
    torch.testing.assert_close(norm.running_var, reference.running_var)


# ------------------------------------------------------------------ fits

STEPS, EPOCHS, BATCH, EXAMPLES = 5, 10, 13, 65


class Pictures(nn.Module):
    """A small convolutional network, with batch norm or without."""

    def __init__(self, norm):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.last_norm = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.last(self.last_norm(torch.relu(self.second(x)).mean(dim=(2, 3))))


def setting(norm, ranks, precision="fp32"):
    """A risk on pictures that can be told apart, and two points."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(3, (EXAMPLES,), generator=generator)
    images = torch.randn(EXAMPLES, 2, 8, 8, generator=generator)
    images[:, 0] += (labels - 1.0)[:, None, None] * torch.linspace(0, 1, 8)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        models = [Pictures(norm) for _ in range(2)]
    space = ParameterSpace(models[0])
    a, b = (space.flatten(model.state_dict()) for model in models)
    problem = Problem.of(models[0], {"train": (images, labels)})
    return EmpiricalRisk(space, problem, batch_size=EXAMPLES, ranks=ranks, precision=precision), a, b


SGD = Recipe(lr=0.1, momentum=0.9, weight_decay=1e-3, schedule="linear")
ADAMW = Recipe.adamw(lr=0.02, clip=0.05)


def fitted(ranks, norm, accumulate, keeping=None, recipe=SGD, **more):
    """50 steps of a curve: control points, losses and running statistics."""
    risk, a, b = setting(norm, ranks)
    recipe = replace(recipe, epochs=EPOCHS, batch_size=BATCH, augment="crop,flip", accumulate=accumulate)
    path = find_path(risk, a, b, Bezier(4), recipe, seed=7, keeping=keeping, **more)
    return {"points": path.points, "losses": path.losses, "statistics": risk.space.statistics, "ends": (a, b)}


@pytest.mark.parametrize(
    ("norm", "accumulate", "recipe"),
    [*((norm, accumulate, SGD) for norm in (False, True) for accumulate in (1, 2)), (False, 2, ADAMW)],
    ids=str,
)
def test_two_processes_find_the_path_of_one_in_fifty_steps(together, norm, accumulate, recipe):
    """Batches of 13 examples: neither two processes nor two parts divide them."""
    assert EPOCHS * STEPS == 50
    assert STEPS * BATCH == EXAMPLES
    first, second = together(fitted, norm, accumulate, None, recipe)
    alone = fitted(Ranks(), norm, accumulate, recipe=recipe)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(first, alone, rtol=0, atol=1e-5)
    a, b = alone["ends"]
    straight = torch.stack([torch.lerp(a, b, i / 3) for i in range(4)])
    assert (alone["points"] - straight).abs().amax(dim=1)[1:3].min() > 0.05
    assert not norm or alone["losses"][-1] < 0.8 * alone["losses"][0]


def banded(ranks):
    """A growing band, whose insertions follow from exact losses; each process would choose its own batch size.

    Without batch norm: with it, what is lost to rounding grows tenfold in seven steps of a band so small.
    """
    risk, a, b = setting(False, ranks)
    risk = EmpiricalRisk(risk.space, Problem.of(Pictures(False), dict(risk._selection.data)), ranks=ranks)
    growth = GrowingBand(3, 7, parse_cycles("2x2@0.1,1x2@0.05"), sag=0.02)
    recipe = Recipe(batch_size=BATCH, augment="flip")
    path = find_path(risk, a, b, growth, recipe, seed=7)
    return {"points": path.points, "losses": path.losses, "batch size": risk.batch_size}


def test_two_processes_grow_the_band_of_one(together):
    first, second = together(banded)
    assert first["batch size"] == second["batch size"]
    assert len(first["points"]) > 3
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(first["points"], banded(Ranks())["points"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_one_process_stops_both_and_the_resumed_path_is_the_same_to_the_bit(together, tmp_path, told):
    state = tmp_path / "state.safetensors"
    whole, _ = together(fitted, True, 2)
    assert together(_interrupted, state, told) == ["stopped after 23 of 50 steps"] * 2
    assert state.exists()
    first, second = together(_resumed, state)
    torch.testing.assert_close(first, whole, rtol=0, atol=0)
    torch.testing.assert_close(second, whole, rtol=0, atol=0)


def _interrupted(ranks, state, told):
    keeping = Keeping(state, resume=True, writes=ranks.first)
    report = {"report": Signalling(23)} if ranks.rank == told else {}
    try:
        fitted(ranks, True, 2, keeping, **report)
    except Interrupted as error:
        return str(error).partition(";")[0]


def _resumed(ranks, state):
    return fitted(ranks, True, 2, Keeping(state, resume=True, writes=ranks.first))


def test_dropout_draws_anew_in_each_process(together):
    """Were the masks the same, examples that are the same would come out alike in both."""
    first, second = together(_dropped)
    assert not torch.equal(first, second)


def _dropped(ranks):
    """What each process's examples look like after dropout; they are all the same before."""
    seen = []

    class Noted(nn.Dropout):
        def forward(self, x):
            seen.append(super().forward(x))
            return seen[-1]

    model = nn.Sequential(Noted(0.5), nn.Linear(64, 2))
    space = ParameterSpace(model)
    problem = Problem.of(model, {"train": (torch.ones(8, 64), torch.zeros(8, dtype=torch.int64))})
    risk = EmpiricalRisk(space, problem, batch_size=8, ranks=ranks)
    find_path(risk, space.theta.clone(), space.theta + 1, recipe=Recipe(epochs=1, batch_size=8))
    return next(x.detach() for x in seen if (x == 0).any())


# ------------------------------------------------------------------ the command

PROGRAM = Path(sys.executable).with_name("connect")
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
PROBLEM = ["--model", "mlp", "--model-args", '{"widths": [16], "batch_norm": true}', "--data", "digits"]
OUTPUTS = ["path.png", "path.safetensors", "profile.h5"]


@pytest.fixture(scope="module")
def minima(tmp_path_factory):
    """Two trained networks."""
    folder = tmp_path_factory.mktemp("minima")
    files = [folder / "a.safetensors", folder / "b.safetensors"]
    for seed, file in enumerate(files):
        given = ["train", *PROBLEM, "--epochs", "2", "--seed", str(seed), "--out", str(file)]
        assert run("landscape", "", landscape_cli._COMMANDS, given) == 0
    return files


def fit_flags(minima, out, epochs, *more):
    given = ["fit", "--a", minima[0], "--b", minima[1], "--out", out, "--epochs", epochs, "--points", 5,
             "--tolerance", 0, "--plane-points", 0, "--eval-batch-size", 512, "--json", *more]  # fmt: skip
    return [str(argument) for argument in given]


def begin(minima, out, epochs, *more):
    """Begin a fit in two processes."""
    return subprocess.Popen(
        [*LAUNCHER, str(PROGRAM), *fit_flags(minima, out, epochs, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(minima, out, epochs, *more):
    """Run a fit in two processes to its end."""
    process = begin(minima, out, epochs, *more)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert sorted(file.name for file in out.iterdir()) == OUTPUTS
    return json.loads(printed)


@pytest.fixture(scope="module")
def undisturbed(minima, tmp_path_factory):
    """The folder of a fit in two processes, and its summary."""
    out = tmp_path_factory.mktemp("undisturbed") / "whole"
    return out, finish(minima, out, 30, "--accumulate", 2)


def children(process):
    """The processes that a launcher started."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def gone(pids):
    """Wait until processes have ended."""
    for _ in range(300):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def under_way(process, out):
    """Wait until a fit that keeps its state at every step has written some."""
    state = out / "fit.state.safetensors"
    before = state.stat().st_ino if state.exists() else None
    while not state.exists() or state.stat().st_ino == before:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    time.sleep(0.3)
    assert process.poll() is None
    return state


def contents(out):
    """What a path's file holds; the order of its header is of no account."""
    path = load_checkpoint(out / "path.safetensors")
    return path.metadata, path.fingerprint


@pytest.mark.fault
def test_the_command_in_two_processes_finds_the_path_of_one(minima, undisturbed, tmp_path, capsys):
    """`finish` takes the summary from standard output, which holds one JSON object and nothing else."""
    out, summary = undisturbed
    assert run("connect", "", connect_cli._COMMANDS, fit_flags(minima, tmp_path / "one", 30, "--accumulate", 2)) == 0
    alone = json.loads(capsys.readouterr().out)
    assert [Path(file).name for file in summary["files"]] == [Path(file).name for file in alone["files"]]
    two, one = (load_file(folder / "path.safetensors") for folder in (out, tmp_path / "one"))
    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)
    first = next(iter(one.values()))
    assert (first[1] - (first[0] + first[2]) / 2).abs().max() > 0.01
    assert summary["path"]["barrier"] == pytest.approx(alone["path"]["barrier"], abs=1e-4)


@pytest.mark.fault
def test_an_output_that_is_there_ends_all_processes(minima, undisturbed):
    out, _ = undisturbed
    before = {file: file.read_bytes() for file in out.iterdir()}
    process = begin(minima, out, 30)
    began = time.monotonic()
    printed, errors = process.communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert process.returncode != 0
    assert printed == ""
    assert "path.safetensors is there already; give --resume to go on with it, --overwrite" in errors
    assert {file: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.fault
def test_more_processes_than_examples_of_a_batch_are_refused(minima, tmp_path):
    process = begin(minima, tmp_path / "out", 1, "--batch-size", 4, "--accumulate", 4)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert printed == ""
    assert "2 processes cannot share 1 examples; raise --batch-size, lower --accumulate" in errors
    assert "Traceback (most recent call last):\n  File" not in errors.split("torch/distributed")[0]


@pytest.mark.fault
def test_a_terminated_launcher_leaves_a_state_that_ends_at_the_same_bits(minima, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = begin(minima, out, 30, "--accumulate", 2, "--save-every", 0)
    state = under_way(process, out)
    workers = children(process)
    assert len(workers) == 2
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert printed == ""
    assert "go on with --resume" in errors
    assert gone(workers)
    assert [file.name for file in out.iterdir()] == [state.name]
    refused = run("connect", "", connect_cli._COMMANDS, fit_flags(minima, out, 30, "--accumulate", 2, "--resume"))
    assert refused == 2  # a single process would sum in another order
    summary = finish(minima, out, 30, "--accumulate", 2, "--resume")
    assert contents(out) == contents(undisturbed[0])
    assert summary["path"] == undisturbed[1]["path"]


@pytest.mark.fault
@pytest.mark.parametrize("killed", [(0,), (1,), (0, 1)], ids=["first", "second", "both"])
def test_killed_processes_leave_a_state_that_ends_at_the_same_bits(minima, undisturbed, tmp_path, killed):
    out = tmp_path / "out"
    for _ in range(2):
        process = begin(minima, out, 30, "--accumulate", 2, "--save-every", 0, "--resume")
        under_way(process, out)
        workers = sorted(children(process))
        for which in killed:
            os.kill(workers[which], signal.SIGKILL)
        process.communicate(timeout=120)
        assert process.returncode != 0
        assert gone(workers)
        assert not (out / "path.safetensors").exists()
    finish(minima, out, 30, "--accumulate", 2, "--resume")
    assert contents(out) == contents(undisturbed[0])
