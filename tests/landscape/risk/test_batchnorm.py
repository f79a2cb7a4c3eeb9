import copy

import pytest
import torch
from torch import nn

from landscape import EmpiricalRisk, Frozen, Interpolated, ParameterSpace, Problem, Recomputed
from landscape.problems.splits import TensorSplit
from tests.oracles import networks, problem_of
from tests.points import measure_at, value_at


def recomputed(name, batch_size):
    problem = problem_of(name)
    space = ParameterSpace(problem.model)
    theta = space.flatten(problem.model.state_dict()) * 1.3
    risk = EmpiricalRisk(
        space, problem, statistics=Recomputed(problem.data.splits["train"], problem.loss, batch_size), batch_size=4
    )
    return risk, space, theta


@pytest.mark.parametrize("name", ["buffers", "convolutions"])
def test_one_batch_gives_what_torch_gives_in_training_mode(name):
    risk, space, theta = recomputed(name, 1000)
    inputs, _ = networks()[name][1]
    reference = space.module(theta)
    for module in reference.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
            module.momentum = 1.0
    reference(inputs)
    value_at(risk, theta)
    torch.testing.assert_close(space.statistics, space.statistics_of(reference.state_dict()))


def test_batches_are_pooled_to_the_statistics_of_all_inputs():
    """For the first layer, whose inputs no batch norm changes, the pooled statistics are exact whatever the batches."""
    risk, space, theta = recomputed("buffers", 4)
    inputs, _ = networks()["buffers"][1]
    value_at(risk, theta)
    module = space.module(theta)
    outputs = module.first(inputs[:, module.order])
    torch.testing.assert_close(module.norm.running_mean, outputs.mean(dim=0))
    torch.testing.assert_close(module.norm.running_var, outputs.var(dim=0))


def test_a_layer_that_runs_twice_sees_both_inputs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.norm = nn.BatchNorm1d(4, affine=False)

        def forward(self, x):
            self.seen = [self.linear(x), self.linear(2 * x)]
            return self.norm(self.seen[0]) + self.norm(self.seen[1])

    inputs, labels = torch.randn(12, 4), torch.randint(4, (12,))
    problem = Problem.of(Twice(), {"train": (inputs, labels)})
    space = ParameterSpace(problem.model)
    Recomputed(problem.data.splits["train"], problem.loss, 12).place(space, space.theta)
    seen = torch.cat(space.network.seen)
    torch.testing.assert_close(space.statistics, torch.cat([seen.mean(dim=0), seen.var(dim=0)]))


def test_dropout_stays_off_and_counters_stay_put():
    risk, space, theta = recomputed("convolutions", 8)
    counters = {n: b for n, b in space.buffers().items() if n.endswith("num_batches_tracked")}
    assert measure_at(risk, theta)["train"].loss == measure_at(risk, theta)["train"].loss
    assert all(torch.equal(space.buffers()[name], counter) for name, counter in counters.items())
    assert not any(module.training for module in space.network.modules())
    assert all(norm.momentum == 0.1 for norm in space.norms)


def test_statistics_follow_the_weights_under_recomputation_only():
    """A scaled convolution before a batch norm leaves the outputs alone once the statistics are recomputed."""
    risk, space, theta = recomputed("buffers", 1000)
    scaled = theta.clone()
    for segment in space.segments:
        if segment.name.startswith("first."):
            segment.view(scaled).mul_(3.0)
    assert float(value_at(risk, scaled)) == pytest.approx(float(value_at(risk, theta)), abs=1e-4)
    problem = problem_of("buffers")
    statistics = Frozen(space.statistics_of(problem.model.state_dict()))
    frozen = EmpiricalRisk(space, problem, statistics=statistics, batch_size=5)
    assert abs(float(value_at(frozen, scaled)) - float(value_at(frozen, theta))) > 1e-3


def test_interpolation_is_exact_at_the_known_points_and_linear_between():
    space = ParameterSpace(networks()["buffers"][0])
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3, space.dimension, generator=generator)
    statistics = torch.rand(3, len(space.statistics), generator=generator)
    policy = Interpolated(points, statistics)
    for shares in ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0.3, 0.5]):
        weights = torch.tensor(shares, dtype=torch.float32)
        policy.place(space, weights @ points)
        torch.testing.assert_close(space.statistics, weights @ statistics, atol=1e-4, rtol=1e-4)
    assert not space.buffers()["mask"][:2].any()
    assert space.buffers()["order"].tolist() == [4, 3, 2, 1, 0]


def test_extrapolated_variances_never_turn_negative():
    space = ParameterSpace(networks()["buffers"][0])
    points = torch.stack([torch.zeros(space.dimension), torch.ones(space.dimension)])
    statistics = torch.stack([torch.ones(len(space.statistics)), torch.zeros(len(space.statistics))])
    Interpolated(points, statistics).place(space, 3 * points[1])
    norm = space.network.norm
    assert (norm.running_var == 0).all()
    torch.testing.assert_close(norm.running_mean, torch.full((6,), -2.0), atol=1e-4, rtol=0)


def test_interpolation_between_points_on_a_line_stays_between_their_statistics():
    space = ParameterSpace(networks()["buffers"][0])
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, space.dimension, generator=generator)
    points = torch.stack([a, torch.lerp(a, b, 0.5), b])
    statistics = torch.stack([torch.zeros(12), torch.full((12,), 0.5), torch.ones(12)])
    Interpolated(points, statistics).place(space, torch.lerp(a, b, 0.3))
    torch.testing.assert_close(space.statistics, torch.full((12,), 0.3), atol=1e-3, rtol=0)


def test_one_bad_point_does_not_spoil_the_next():
    risk, _, theta = recomputed("buffers", 8)
    before = float(value_at(risk, theta))
    value_at(risk, 1e25 * theta)
    assert not torch.isfinite(risk.space.statistics).all()
    assert float(value_at(risk, theta)) == before


def test_the_order_of_the_data_matters_little():
    """Examples are taken in a fixed random order, so that data sorted by class make no batches of one class."""
    problem = problem_of("convolutions")
    images, labels = (part.repeat(40, *[1] * (part.ndim - 1)) for part in problem.data.splits["train"].tensors)
    images = images + 2.0 * labels.view(-1, 1, 1, 1)
    space = ParameterSpace(problem.model)
    gathered = []
    for order in (labels.argsort(), torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))):
        split = TensorSplit((images[order], labels[order]))
        Recomputed(split, problem.loss, 64).place(space, space.theta)
        gathered.append(space.statistics.clone())
    torch.testing.assert_close(gathered[0], gathered[1], rtol=0.02, atol=1e-3)


def test_a_layer_that_takes_no_part_keeps_its_statistics():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 2), nn.BatchNorm1d(3)

        def forward(self, x):
            return self.used(x)

    problem = Problem.of(Idle(), {"train": (torch.randn(5, 4), torch.zeros(5, dtype=torch.long))})
    problem.model.idle.running_mean.fill_(2.0)
    space = ParameterSpace(copy.deepcopy(problem.model))
    Recomputed(problem.data.splits["train"], problem.loss).place(space, space.theta)
    assert space.statistics.tolist() == [2.0] * 3 + [1.0] * 3
