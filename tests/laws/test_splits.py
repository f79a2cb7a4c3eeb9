"""What every kind of split promises: the examples of tensors that are held in memory, in one order, time after time."""

import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from connect.paths.neb import Band
from landscape import (
    Combination,
    EmpiricalRisk,
    Interrupted,
    Keeping,
    ParameterSpace,
    Problem,
    Recipe,
    Recomputed,
    SinglePoint,
    descend,
    load_checkpoint,
)
from landscape.errors import ConfigError, ProblemError
from landscape.problems.datasets import as_data, as_split
from landscape.problems.splits import OrderedSplit, StreamedSplit, TensorSplit, TypedSplit, runs
from landscape.problems.streams import Stream
from landscape.risk.ranks import Ranks
from tests.oracles import Signalling, WithBuffers
from tests.points import gradient_at, product_at

COUNT, SIZES = 23, (4, 7, 2, 10)
X = torch.randn(COUNT, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = (X.sum(dim=1) > 0).long() + (X[:, 0] > 1).long()
CPU = torch.device("cpu")


class Numbers(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


def batches():
    return zip(X.split(SIZES), Y.split(SIZES), strict=True)


def stacked(examples):
    return tuple(map(torch.stack, zip(*examples, strict=True)))


def loader(**options):
    return DataLoader(TensorDataset(X, Y), batch_size=5, **options)


SPLITS = {
    "tensors": lambda: TensorSplit((X, Y)),
    "typed": lambda: TypedSplit(TensorSplit((X, Y)), torch.float64),
    "read on demand": lambda: StreamedSplit(TensorDataset(X, Y), CPU, workers=0),
    "collated": lambda: as_split((TensorDataset(X, Y), stacked)),
    "function": lambda: as_split(batches),
    "typed stream": lambda: as_split(lambda: ((x.float(), y) for x, y in batches())).of_type(torch.float64),
    "loader": lambda: as_split(loader()),
    "one batch": lambda: as_split(DataLoader(TensorDataset(X, Y), batch_size=50)),
    "workers": lambda: as_split(loader(num_workers=1, persistent_workers=True)),
    "iterable": lambda: as_split(Numbers()),
    "iterable, collated": lambda: as_split((Numbers(), stacked)),
    "sample of a stream": lambda: Stream(batches).part(slice(0, COUNT)),
}
STREAMS = ("function", "typed stream", "loader", "one batch", "workers", "iterable", "iterable, collated")


@pytest.fixture(params=SPLITS)
def split(request):
    return SPLITS[request.param]()


def risk_on(split, **options):
    torch.manual_seed(0)
    problem = Problem.of(WithBuffers().double(), {"train": split})
    statistics = Recomputed(problem.data.splits["train"], problem.loss, 6)
    options = {"batch_size": 6, "statistics": statistics, **options}
    return EmpiricalRisk(ParameterSpace(problem.model, dtype=torch.float64), problem, **options)


def close(got, expected):
    # numbers of the typed stream were in single precision on the way
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_losses_derivatives_and_statistics_are_those_of_tensors_in_memory(split):
    seen = []
    for examples in (TensorSplit((X, Y)), split):
        risk = risk_on(examples)
        theta = risk.space.theta.clone()
        with risk.at(theta) as here:
            measured = here.measure()["train"]
            predicted = here.predict("train")
        statistics = risk.space.statistics.clone()
        derivatives = gradient_at(risk, theta), product_at(risk, theta, torch.ones_like(theta))
        seen.append((measured.losses, measured.right, predicted.log_probabilities, statistics, *derivatives))
        assert (risk.size("train"), len(measured.losses)) == (COUNT, COUNT)
    for expected, got in zip(*seen, strict=True):
        close(got, expected)


def test_a_second_pass_gives_the_bits_of_the_first(split):
    risk = risk_on(split)
    theta = risk.space.theta.clone()
    first, second = ((gradient_at(risk, theta), product_at(risk, theta, theta)) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize(
    "indices",
    [
        [slice(0, 3), slice(3, 12), slice(12, 23)],
        [slice(9, 14), slice(9, 14), slice(0, 2)],
        [torch.tensor([3, 4, 5]), torch.tensor([12, 14, 22])],
        [torch.tensor([20, 2, 11, 2]), slice(22, 23)],
    ],
)
def test_any_positions_are_given_in_their_order(split, indices):
    for index, (x, y) in zip(indices, split.batches(indices), strict=True):
        close(x, X[index])
        assert torch.equal(y, Y[index])


def test_which_splits_have_an_order_of_their_own():
    assert {name for name in SPLITS if isinstance(SPLITS[name](), OrderedSplit)} == set(STREAMS)


def test_runs_cover_a_pass_once(split):
    positions = runs(split, 6)
    assert [i for run in positions for i in range(run.start, run.stop)] == list(range(COUNT))


def test_what_is_given_out_is_nobody_elses(split):
    for _ in range(2):
        for index, (x, _) in zip(runs(split, 6), split.batches(runs(split, 6)), strict=True):
            close(x, X[index])
            x.zero_()


@pytest.mark.parametrize("name", SPLITS)
def test_the_fingerprint_is_that_of_the_examples(name, monkeypatch):
    one, again = (SPLITS[name]().to(CPU).fingerprint() for _ in range(2))
    assert one == again
    for part, changed in (("X", X + 1), ("Y", (Y + 1) % 3)):
        with monkeypatch.context() as patch:
            patch.setitem(globals(), part, changed)
            assert SPLITS[name]().fingerprint() != one


def test_a_sample_is_fixed_and_parts_share_nothing(split):
    risk = risk_on(split)
    samples = [risk.select(sample=7, part=part) for part in (0, 0, 1)]
    theta = risk.space.theta.clone()
    losses = []
    for sample in samples:
        with sample.at(theta) as here:
            losses.append(here.measure()["train"].losses)
    assert torch.equal(losses[0], losses[1])
    assert not set(losses[0].tolist()) & set(losses[2].tolist())
    with pytest.raises(ConfigError, match="24 samples are asked for, but the split has 23"):
        risk.select(sample=24)


def plain_descent(indices, epochs, lr):
    """SGD as torch does it, over batches in their order; the parameters, and the running statistics."""
    torch.manual_seed(0)
    model = WithBuffers().double().train()
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        for index in indices:
            optimiser.zero_grad()
            F.cross_entropy(model(X[index]), Y[index]).backward()
            optimiser.step()
    return model.state_dict()


RECIPE = Recipe(epochs=3, lr=0.05, batch_size=6, weight_decay=0.0, nesterov=False, schedule="constant")


@pytest.mark.parametrize("name", STREAMS)
def test_an_epoch_is_one_pass_over_a_stream(name):
    split = SPLITS[name]()
    risk = risk_on(split)
    trained = descend(risk, risk.space.theta.clone()[None], Combination(SinglePoint()), RECIPE)
    expected = plain_descent(runs(split, 6), 3, 0.05)
    close(trained.points[0], risk.space.flatten(expected))
    close(risk.space.statistics, risk.space.statistics_of(expected))


@pytest.mark.parametrize("name", sorted(set(SPLITS) - set(STREAMS)))
def test_a_fit_is_the_same_from_every_split_whose_order_is_free(name):
    split = SPLITS[name]()
    points = []
    for examples in (TensorSplit((X, Y)), split):
        risk = risk_on(examples)
        points.append(descend(risk, risk.space.theta.clone()[None], Combination(SinglePoint()), RECIPE, seed=3).points)
    close(points[1], points[0])


@pytest.mark.parametrize("after", [1, 4, 6])
@pytest.mark.parametrize("name", ["tensors", "collated", "function", "iterable"])
def test_an_interrupted_fit_ends_at_the_same_bits(tmp_path, name, after):
    def run(**options):
        risk = risk_on(SPLITS[name]())
        start = risk.space.theta.clone()[None]
        return descend(risk, start, Combination(SinglePoint()), RECIPE, seed=3, **options).points

    keeping = Keeping(tmp_path / "state.safetensors", resume=True)
    with pytest.raises(Interrupted):
        run(keeping=keeping, report=Signalling(after))
    assert torch.equal(run(keeping=keeping), run())


@pytest.mark.parametrize("name", ["function", "iterable"])
def test_images_of_a_band_see_the_same_batches_of_a_stream(name):
    """Several gradients a step; the network in memory, batch by batch in the stream's order, is the reference."""
    split = SPLITS[name]()
    risk = risk_on(split)
    a = risk.space.theta.clone()
    band = Band(images=4, spring=0.0)
    ends = a, a + 0.3 * torch.linspace(-1, 1, len(a), dtype=a.dtype)
    found = band.train(risk, band.begin(*ends), RECIPE)

    class Held:
        """Tensors in memory that are read in the stream's order."""

        def __init__(self):
            self._held = TensorSplit((X, Y))

        def __getattr__(self, attribute):
            return getattr(self._held, attribute)

        def __len__(self):
            return COUNT

        def to(self, device):
            return self

        def runs(self, batch_size):
            return runs(split, batch_size)

        def part(self, run):
            raise NotImplementedError

        of_type = part

    expected = band.train(risk_on(Held()), band.begin(*ends), RECIPE)
    close(found.points, expected.points)


@pytest.mark.parametrize("accumulate", [2, 3])
@pytest.mark.parametrize("name", ["function", "iterable"])
def test_parts_of_a_batch_have_its_gradient(name, accumulate):
    torch.manual_seed(0)
    problem = Problem.of(torch.nn.Linear(5, 3).double(), {"train": SPLITS[name]()})
    risk = EmpiricalRisk(ParameterSpace(problem.model, dtype=torch.float64), problem, batch_size=6)
    theta, indices = risk.space.theta.clone(), risk.runs(6)
    whole = [(loss.clone(), g.clone()) for loss, g in risk.batch_gradient(theta, indices)]
    parts = [(loss.clone(), g.clone()) for loss, g in risk.batch_gradient(theta, indices, accumulate=accumulate)]
    for expected, got in zip(whole, parts, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["function", "loader"])
def test_processes_share_each_batch_of_a_stream(name, monkeypatch):
    """Each of two processes takes its part of every batch; what they would sum is the whole batch's gradient."""
    torch.manual_seed(0)
    problem = Problem.of(torch.nn.Linear(5, 3).double(), {"train": SPLITS[name]()})
    monkeypatch.setattr(Ranks, "sum_", lambda self, *tensors: None)
    gradients = []
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        risk = EmpiricalRisk(
            ParameterSpace(problem.model, dtype=torch.float64), problem, batch_size=6, ranks=Ranks(rank, size)
        )
        passing = risk.batch_gradient(risk.space.theta.clone(), risk.runs(6))
        gradients.append(torch.stack([g.clone() for _, g in passing]))
    torch.testing.assert_close(gradients[1] + gradients[2], gradients[0], rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------ ragged sequences

LENGTHS = (3, 5, 1, 4, 2, 6, 3)
SENTENCES = [torch.arange(1, length + 1) * (i + 1) % 11 + 1 for i, length in enumerate(LENGTHS)]


def padded(sentences):
    ids = torch.nn.utils.rnn.pad_sequence(sentences, batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def ragged_batches():
    yield padded(SENTENCES[:3])
    yield padded(SENTENCES[3:5])
    yield padded(SENTENCES[5:])


class Sentences(IterableDataset):
    def __iter__(self):
        return iter(SENTENCES)


class Indexed(torch.utils.data.Dataset):
    def __len__(self):
        return len(SENTENCES)

    def __getitem__(self, index):
        return SENTENCES[index]


class Mean(torch.nn.Module):
    """The mean of the embeddings of a sentence's tokens, in two numbers."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(13, 4, padding_idx=0)
        self.last = torch.nn.Linear(4, 2)

    def forward(self, batch):
        mask = batch["attention_mask"][..., None]
        return self.last((self.embedding(batch["input_ids"]) * mask).sum(dim=1) / mask.sum(dim=1))


def spread(model, batch):
    return model(batch).square().sum(dim=1)


RAGGED = {
    "function": lambda: ragged_batches,
    "loader": lambda: DataLoader(Indexed(), batch_size=3, collate_fn=padded),
    "iterable": lambda: (Sentences(), padded),
    "collated": lambda: (Indexed(), padded),
}


@pytest.mark.parametrize("name", RAGGED)
def test_batches_of_their_own_lengths_weigh_each_example_the_same(name):
    torch.manual_seed(0)
    problem = Problem.of(Mean(), {"train": RAGGED[name]()}, spread)
    risk = EmpiricalRisk(ParameterSpace(problem.model), problem, batch_size=3)
    theta = risk.space.theta.clone()
    expected = torch.cat([spread(problem.model, padded([sentence])) for sentence in SENTENCES])
    wanted = torch.autograd.grad(expected.mean(), list(problem.model.parameters()))
    expected = expected.detach().double()
    with risk.at(theta) as here:
        measured = here.measure()["train"]
        torch.testing.assert_close(measured.losses, expected, rtol=1e-5, atol=1e-6)
        assert measured.loss == pytest.approx(float(expected.mean()), rel=1e-5)
        torch.testing.assert_close(here.gradient(), torch.cat([g.flatten() for g in wanted]), rtol=1e-5, atol=1e-6)
    with risk.select(sample=5).at(theta) as here:
        assert here.measure()["train"].losses.shape == (5,)
    recipe = Recipe(epochs=2, lr=0.1, batch_size=3)
    trained = [descend(risk, theta.clone()[None], Combination(SinglePoint()), recipe).points for _ in range(2)]
    assert torch.equal(*trained)
    with risk.at(trained[0][0]) as here:
        assert here.measure()["train"].loss < measured.loss


# ------------------------------------------------------------------ what sources draw


def drawing():
    for size in SIZES:
        noise = torch.rand(size, 1) + random.random() + np.random.random()
        yield torch.rand(size, 5).double() + noise, torch.randint(3, (size,))


@pytest.mark.parametrize(
    "source",
    [
        lambda: drawing,
        lambda: loader(shuffle=True),
        lambda: loader(shuffle=True, generator=torch.Generator().manual_seed(5)),
        lambda: loader(sampler=torch.utils.data.RandomSampler(X, generator=torch.Generator().manual_seed(5))),
    ],
)
def test_what_a_source_draws_is_the_same_in_every_pass_and_changes_nobody_elses(source):
    torch.manual_seed(3)
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    stream = Stream(source())
    passes = []
    for seed in (1, 2):
        read = []
        for batch in stream.batches(stream.runs(6)):
            torch.manual_seed(seed)  # as dropout would be seeded between batches
            read.append(batch)
        passes.append(read)
    for first, second in zip(*passes, strict=True):
        assert all(map(torch.equal, first, second))
    torch.manual_seed(3)
    assert (torch.get_rng_state() == state[0]).all()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state[1:]
    assert Stream(source()).fingerprint() == stream.fingerprint()


def test_shuffling_takes_each_example_once():
    stream = Stream(loader(shuffle=True))
    labels = torch.cat([x[:, 0] for x, _ in stream.batches(stream.runs(6))])
    assert not torch.equal(labels, X[:, 0])
    assert torch.equal(labels.sort().values, X[:, 0].sort().values)


# ------------------------------------------------------------------ what is no stream


def test_an_endless_source_is_bounded_and_else_told_of(monkeypatch, caplog):
    def endless():
        while True:
            yield from batches()

    stream = Stream(endless, steps=6)
    assert [run.stop - run.start for run in stream.runs(1)] == [*SIZES, *SIZES[:2]]
    assert len(Stream(Numbers(), steps=9)) == 9
    monkeypatch.setattr("landscape.problems.streams._LONG", -1.0)
    assert len(Stream(endless, steps=2)) == 11
    assert caplog.messages == [
        "note: 4 examples of the stream endless are counted so far; if it never ends, bound it by "
        "Stream(source, steps=N)."
    ]


def changing(later):
    """A source that gives something else from its second pass on."""
    passes = iter([batches()])
    return lambda: next(passes, None) or later()


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (lambda: iter(()), "now begins with other ones"),
        (lambda: ((x + 1, y) for x, y in batches()), "now begins with other ones"),
        (lambda: list(batches())[:2], "now gives fewer"),
        (lambda: [*batches(), (X, Y)], "now gives more"),
        (lambda: zip(X.split([4, 6, 13]), Y.split([4, 6, 13]), strict=True), "now gives them in other sizes"),
    ],
)
def test_a_source_that_gives_other_examples_later_is_refused(later, message):
    stream = Stream(changing(later))
    assert len(stream) == COUNT
    with pytest.raises(ProblemError, match=rf"had 23 examples when it was counted, and {message}; it must give the"):
        list(stream.batches(stream.runs(6)))


def test_an_iterator_serves_for_one_pass_only():
    with pytest.raises(ProblemError, match="an iterator ends with its first pass, so give a function that begins anew"):
        as_data({"train": batches()})
    once = batches()
    stream = Stream(lambda: once)
    assert len(stream) == COUNT
    with pytest.raises(ProblemError, match="now begins with other ones"):
        list(stream.batches(stream.runs(6)))


def failing():
    yield X, Y
    raise ValueError("no luck")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (list, "has no example"),
        (lambda: 3, "failed: TypeError: 'int' object is not iterable"),
        (failing, "the stream failing failed: ValueError: no luck"),
        (lambda: [(X, Y[:-1])], "must share their first dimension"),
        (lambda: ["a text"], "a batch holds str, expected tensors"),
        (DataLoader(["a", "b"]), "a batch holds str"),
        (DataLoader(TensorDataset(X), collate_fn=lambda rows: {}), "must share their first dimension"),
    ],
)
def test_what_a_source_does_wrong_is_said(source, message):
    with pytest.raises(ProblemError, match=message):
        len(Stream(source))


def test_wrong_arguments_are_said():
    with pytest.raises(ConfigError, match="steps is 0"):
        Stream(batches, steps=0)
    with pytest.raises(ConfigError, match="collate is for the examples of an iterable data set"):
        Stream(loader(), collate=stacked)
    with pytest.raises(ProblemError, match="source is int, expected a DataLoader"):
        Stream(3)


def test_ragged_batches_are_not_joined():
    stream = Stream(ragged_batches)
    with pytest.raises(ProblemError, match="batches of a stream do not go together into one"):
        list(stream.batches([slice(0, 5)]))


def test_other_examples_have_another_fingerprint():
    def other(change):
        return Stream(partial(map, change, list(batches())))

    whole = Stream(batches).fingerprint()
    assert other(lambda batch: batch).fingerprint() == whole
    assert other(lambda batch: (batch[0] + 1, batch[1])).fingerprint() != whole
    assert Stream(batches, steps=3).fingerprint() != whole


# ------------------------------------------------------------------ from end to end

OWN = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def model():
    return torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6), torch.nn.Tanh(), torch.nn.Linear(6, 2))

def data():
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()
    def test():
        yield x[:7], y[:7]
        yield x[7:9], y[7:9]
    return DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True), test
"""


def test_a_loader_of_the_users_goes_through_training_a_line_and_a_path(call, tmp_path):
    from connect.app import cli as connect_cli

    (tmp_path / "mine.py").write_text(OWN)
    problem = ["--model", f"{tmp_path}/mine.py:model", "--data", f"{tmp_path}/mine.py:data"]
    a, b = (tmp_path / f"{name}.safetensors" for name in "ab")
    for seed, out in enumerate((a, b)):
        status, _, errors = call("train", *problem, "--epochs", 9, "--lr", 0.1, "--seed", seed, "--out", out)
        assert status == 0, errors
        assert load_checkpoint(out).metadata["test_accuracy"] > 0.6
    ends = ["--a", a, "--b", b]
    assert call("line", *problem, *ends, "--range", "0:1:3", "--out", tmp_path / "l.h5")[0] == 0
    status, _, errors = call("hessian", *problem, "--checkpoint", a, "--top", 1, "--samples", 20)
    assert status == 0, errors
    quick = ["--epochs", 2, "--points", 5, "--plane-points", 0]
    status, _, errors = call("fit", *problem, *ends, *quick, "--out", tmp_path / "path", program=connect_cli)
    assert status == 0, errors
