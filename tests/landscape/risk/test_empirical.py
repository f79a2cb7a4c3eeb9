import collections
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset, TensorDataset

from landscape import EmpiricalRisk, ParameterSpace, Potential, Problem
from landscape.errors import ConfigError, ProblemError
from landscape.problems.splits import StreamedSplit
from tests.oracles import (
    MULLER_BROWN_MINIMA,
    MULLER_BROWN_SADDLES,
    as_double,
    muller_brown,
    networks,
    plain_loss,
    problem_of,
)
from tests.points import gradient_at, measure_at, product_at, value_at

NAMES = sorted(networks())


def risk_of(name, dtype=torch.float64, **options):
    problem = problem_of(name)
    problem = as_double(problem) if dtype == torch.float64 else problem
    space = ParameterSpace(problem.model, dtype=dtype)
    return EmpiricalRisk(space, problem, **{"batch_size": 5, **options}), space, problem


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_that_of_a_plain_loop(name):
    risk, space, problem = risk_of(name, torch.float32)
    theta = space.flatten(problem.model.state_dict())
    inputs, labels = networks()[name][1]
    measured = measure_at(risk, theta)
    assert measured["train"].loss == pytest.approx(plain_loss(problem.model, inputs, labels), abs=1e-6)
    assert measured["test"].loss == pytest.approx(plain_loss(problem.model, inputs[:9], labels[:9]), abs=1e-6)
    assert float(value_at(risk, theta)) == measured["train"].loss
    right = (problem.model.eval()(inputs).argmax(1) == labels).double().mean()
    assert measured["train"].accuracy == pytest.approx(float(right))
    assert measured["train"].losses.shape == (len(labels),)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [1, 7, 23, 100])
def test_nothing_depends_on_the_batch_size(name, batch_size):
    risk, space, problem = risk_of(name, batch_size=batch_size)
    reference, _, _ = risk_of(name, batch_size=5)
    theta = space.flatten(problem.model.state_dict())
    vector = torch.randn(space.dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(value_at(risk, theta), value_at(reference, theta))
    torch.testing.assert_close(gradient_at(risk, theta), gradient_at(reference, theta))
    torch.testing.assert_close(product_at(risk, theta, vector), product_at(reference, theta, vector))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_and_hessian_product_against_central_differences(name):
    risk, space, problem = risk_of(name)
    theta = space.flatten(problem.model.state_dict())
    vector = torch.randn(space.dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    step = 1e-5
    slope = (value_at(risk, theta + step * vector) - value_at(risk, theta - step * vector)) / (2 * step)
    torch.testing.assert_close(gradient_at(risk, theta) @ vector, slope, rtol=1e-6, atol=1e-8)
    bend = (gradient_at(risk, theta + step * vector) - gradient_at(risk, theta - step * vector)) / (2 * step)
    torch.testing.assert_close(product_at(risk, theta, vector), bend, rtol=1e-5, atol=1e-7)


def test_a_network_that_is_linear_in_a_parameter_has_a_hessian_product_too():
    model = torch.nn.Linear(2, 1, bias=False)

    def linear_loss(network, batch):
        return network(batch[0])[:, 0]

    problem = Problem.of(model, {"train": (torch.ones(3, 2),)}, linear_loss)
    space = ParameterSpace(model)
    product = product_at(EmpiricalRisk(space, problem, batch_size=2), space.theta, torch.ones(2))
    assert not product.any()


def test_tied_weights_gather_both_gradients():
    risk, space, problem = risk_of("tied", torch.float32)
    inputs, labels = networks()["tied"][1]
    model = problem.model.eval()
    F.cross_entropy(model(inputs), labels).backward()
    got = space.unflatten(gradient_at(risk, space.flatten(model.state_dict())))
    torch.testing.assert_close(got["embedding.weight"], model.embedding.weight.grad)


def test_data_that_are_read_on_demand_give_the_same_values():
    problem = problem_of("plain")
    inputs, labels = networks()["plain"][1]
    streamed = StreamedSplit(TensorDataset(inputs, labels), torch.device("cpu"), workers=2)
    space = ParameterSpace(problem.model)
    held = EmpiricalRisk(space, problem, splits=["train"], batch_size=4)
    read = EmpiricalRisk(space, Problem.of(problem.model, {"train": streamed}), batch_size=4)
    expected_loss = measure_at(held, space.theta)["train"].loss
    assert measure_at(read, space.theta)["train"].loss == pytest.approx(expected_loss, rel=1e-6)
    batches = [torch.tensor([3, 1]), slice(5, 9)]
    expected, streams = ([(loss, gradient.clone()) for loss, gradient in risk.batch_gradient(space.theta, batches)]
                         for risk in (held, read))  # fmt: skip
    torch.testing.assert_close(streams, expected)


def test_a_batch_may_be_a_dictionary_and_accuracy_may_be_unknown():
    model = torch.nn.Linear(3, 2)
    tokens = {"ids": torch.randn(11, 3), "weights": {"each": torch.rand(11)}}

    def weighted(network, batch):
        return network(batch["ids"]).square().sum(dim=1) * batch["weights"]["each"]

    space = ParameterSpace(model)
    risk = EmpiricalRisk(space, Problem.of(model, {"train": tokens}, weighted), batch_size=4)
    measured = measure_at(risk, space.theta)
    expected = (model(tokens["ids"]).square().sum(dim=1) * tokens["weights"]["each"]).mean().detach()
    assert measured["train"].loss == pytest.approx(float(expected), rel=1e-6)
    assert measured["train"].accuracy != measured["train"].accuracy


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, batch: model(batch[0]).sum(), r"shape \(\)"),
        (lambda model, batch: 3.0, "float"),
        (lambda model, batch: model(batch[0])[:1, 0], r"\(4,\); got shape \(1,\)"),
        (lambda model, batch: (model(batch[0])[:, 0], 0.5), "float"),
        (lambda model, batch: model(batch[0])[:, 0].repeat(2), r"got shape \(8,\)"),
        (lambda model, batch: model(batch[0][:, :2]), "failed on a batch"),
    ],
)
def test_a_loss_that_is_none_is_refused(loss, message):
    problem = Problem.of(torch.nn.Linear(3, 2), {"train": (torch.randn(4, 3),)}, loss)
    with pytest.raises(ProblemError, match=message):
        value_at(EmpiricalRisk(ParameterSpace(problem.model), problem, batch_size=2), torch.zeros(8))


def test_a_loss_without_a_gradient_is_refused():
    problem = Problem.of(torch.nn.Linear(3, 2), {"train": (torch.randn(4, 3),)}, lambda m, b: m(b[0])[:, 0].detach())
    risk = EmpiricalRisk(ParameterSpace(problem.model), problem, batch_size=2)
    with pytest.raises(ProblemError, match="has no gradient"):
        gradient_at(risk, torch.zeros(8))


def test_the_training_split_comes_first_whatever_the_order():
    model = torch.nn.Linear(1, 1, bias=False)
    splits = {"test": (torch.full((2, 1), 3.0),), "train": (torch.full((2, 1), 1.0),)}
    problem = Problem.of(model, splits, lambda network, batch: network(batch[0])[:, 0])
    risk = EmpiricalRisk(ParameterSpace(model), problem, batch_size=2)
    assert float(value_at(risk, torch.ones(1))) == 1.0
    assert list(measure_at(risk, torch.ones(1))) == ["train", "test"]


def test_named_tuples_stay_what_they_are():
    pair = collections.namedtuple("pair", ["x", "y"])
    items = [pair(torch.full((3,), float(i)), i % 2) for i in range(6)]

    class Pairs(Dataset):
        def __len__(self):
            return len(items)

        def __getitem__(self, index):
            return items[index]

    def loss(network, batch):
        return F.cross_entropy(network(batch.x), batch.y, reduction="none")

    model = torch.nn.Linear(3, 2)
    risk = EmpiricalRisk(ParameterSpace(model), Problem.of(model, {"train": Pairs()}, loss), batch_size=4)
    assert measure_at(risk, risk.space.theta)["train"].losses.shape == (6,)


def test_an_unknown_split_is_refused():
    with pytest.raises(ConfigError, match="no split 'dev'; they have train, test"):
        risk_of("plain", splits=["dev"])


def test_bf16_is_close_and_different():
    exact, space, problem = risk_of("convolutions", torch.float32)
    rough, _, _ = risk_of("convolutions", torch.float32, precision="bf16")
    theta = space.flatten(problem.model.state_dict())
    assert measure_at(rough, theta)["train"].loss != measure_at(exact, theta)["train"].loss
    assert measure_at(rough, theta)["train"].loss == pytest.approx(measure_at(exact, theta)["train"].loss, rel=0.02)


def test_the_known_points_of_muller_brown():
    surface = Potential(muller_brown, 2)
    for x, y, energy in MULLER_BROWN_MINIMA + MULLER_BROWN_SADDLES:
        theta = torch.tensor([x, y], dtype=torch.float64)
        assert measure_at(surface, theta)["potential"].loss == pytest.approx(energy, abs=1e-4)
        assert gradient_at(surface, theta).norm() < 0.01


def test_a_potential_knows_its_hessian():
    surface = Potential(muller_brown, 2)
    theta = torch.tensor([0.3, 0.4], dtype=torch.float64)
    dense = torch.autograd.functional.hessian(muller_brown, theta)
    torch.testing.assert_close(
        product_at(surface, theta, torch.tensor([1.0, -2.0]).double()), dense @ torch.tensor([1.0, -2.0]).double()
    )


def test_a_risk_does_not_hold_the_network_that_its_space_has_copied():
    problem = problem_of("plain")
    network = weakref.ref(problem.model)
    risk = EmpiricalRisk(ParameterSpace(problem.model), problem, batch_size=8)
    del problem
    gc.collect()
    assert network() is None
    assert risk.examples
