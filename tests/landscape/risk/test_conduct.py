"""Networks that draw, differentiate, change what they are given or keep references: the same numbers every time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape import (
    Combination,
    EmpiricalRisk,
    Frozen,
    Interpolated,
    ParameterSpace,
    Problem,
    Recipe,
    Recomputed,
    SinglePoint,
    descend,
    lanczos,
    load_checkpoint,
    load_result,
    normalise,
)
from landscape.curvature.lanczos import tridiagonal
from landscape.errors import ConfigError, PlaceError, ProblemError
from landscape.plots.captions import describe
from landscape.problems.outputs import OUTPUTS, class_scores
from tests import unusual
from tests.points import gradient_at, measure_at, module_at, predict_at, product_at, value_at


def data(count=12):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=generator), torch.arange(count) % 3


def risk_of(model, loss="cross_entropy", examples=None, **options):
    space = ParameterSpace(model, dtype=options.pop("dtype", torch.float32))
    return EmpiricalRisk(space, Problem.of(model, {"train": examples or data()}, loss), **{"batch_size": 6, **options})


# ---------------------------------------------------------------------- buffers


def test_training_leaves_no_trace_in_a_measurement():
    model = unusual.Scaled()
    risk = risk_of(model)
    theta = risk.space.theta.clone()
    before = float(value_at(risk, theta))
    for _ in risk.batch_gradient(theta.clone(), [torch.arange(6), torch.arange(6, 12)]):
        pass
    trained = risk.buffers()["mean"]
    assert not torch.equal(trained, model.mean)
    assert float(value_at(risk, theta)) == before
    assert torch.equal(risk.buffers()["mean"], trained)  # a resume still goes on with those of the training


def test_a_second_half_of_a_training_goes_on_with_the_buffers_of_the_first():
    """Whatever is measured between two epochs."""

    def trained(measures):
        risk = risk_of(unusual.Scaled())
        theta = torch.full((risk.dimension,), 0.1)
        gradients = []
        for part in ([torch.arange(6)], [torch.arange(6, 12)]):
            gradients += [gradient.clone() for _, gradient in risk.batch_gradient(theta, part)]
            if measures:
                measure_at(risk, theta + 1)
        return torch.stack(gradients)

    assert torch.equal(trained(True), trained(False))


def test_what_training_left_can_be_taken_over():
    risk = risk_of(unusual.Scaled())
    theta = risk.space.theta.clone()
    list(risk.batch_gradient(theta, [torch.arange(12)]))
    risk.adopt_training()
    module = module_at(risk, theta)
    assert torch.equal(module.mean, risk.buffers()["mean"])
    x, y = data()
    with torch.no_grad():
        assert float(value_at(risk, theta)) == pytest.approx(float(F.cross_entropy(module(x), y)), rel=1e-6)


def test_a_frozen_parameter_that_training_changes_is_told_of():
    class Teacher(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.teacher = nn.Linear(4, 3), nn.Parameter(torch.zeros(3), requires_grad=False)

        def forward(self, x):
            if self.training:
                with torch.no_grad():
                    self.teacher.add_(1.0)
            return self.last(x) + self.teacher

    risk = risk_of(Teacher())
    with pytest.raises(ProblemError, match="teacher is not trainable"):
        descend(risk, risk.space.theta[None].clone(), Combination(SinglePoint()), Recipe(epochs=1, batch_size=12))


def test_statistics_that_somebody_wrote_to_are_put_back():
    risk = risk_of(unusual.plain(), examples=unusual.images()[0])
    theta = risk.space.theta.clone()
    before = float(value_at(risk, theta))
    risk.space.statistics.mul_(2.0)
    assert float(value_at(risk, theta)) == before


def test_interpolated_buffers_are_those_of_the_ends_at_the_ends():
    model = unusual.Scaled()
    space = ParameterSpace(model)
    points = torch.stack([torch.zeros(space.dimension), torch.ones(space.dimension)])
    means = torch.stack([torch.zeros(4), torch.tensor([2.0, float("-inf"), 4.0, 2.0])])
    means[0, 1] = float("-inf")
    policy = Interpolated(points, torch.empty(2, 0), {"mean": means})
    for share, expected in ((0.0, means[0]), (0.5, torch.tensor([1.0, float("-inf"), 2.0, 1.0])), (1.0, means[1])):
        space.move_to(torch.lerp(points[0], points[1], share))
        policy.place(space, space.theta)
        torch.testing.assert_close(space.buffers()["mean"], expected)


def test_two_risks_on_one_space_each_keep_their_own_buffers():
    """The buffers of a point belong to it, not to whoever asked last."""
    model = unusual.Scaled()
    space = ParameterSpace(model)
    problem = Problem.of(model, {"train": data()})
    points = torch.stack([torch.zeros(space.dimension), space.theta.clone()])
    moving = Interpolated(points, torch.empty(2, 0), {"mean": torch.stack([torch.zeros(4), torch.ones(4)])})
    moved = EmpiricalRisk(space, problem, statistics=moving, batch_size=6)
    still = EmpiricalRisk(space, problem, batch_size=6)
    first = float(value_at(moved, points[1])), float(value_at(still, points[1]))
    assert first[0] != first[1]
    assert (float(value_at(moved, points[1])), float(value_at(still, points[1]))) == first
    assert float(value_at(moved, points[1].clone())) == first[0]


def test_products_that_are_not_kept_begin_with_the_same_buffers(monkeypatch):
    monkeypatch.setattr("landscape.risk.products.available_bytes", lambda device: 0)
    risk = risk_of(unusual.Counting())
    theta, v = risk.space.theta.clone(), torch.linspace(-1, 1, risk.dimension)
    expected = product_at(risk, theta, v)
    with risk.at(theta) as here:
        product = here.hessian()
        for _ in range(3):
            assert torch.equal(product(v), expected)
    step = 1e-2
    slope = (gradient_at(risk, theta + step * v) - gradient_at(risk, theta - step * v)) / (2 * step)
    torch.testing.assert_close(expected, slope, rtol=1e-2, atol=1e-4)


def test_statistics_are_gathered_once_for_a_point_whatever_is_checked_there():
    class Counted(Recomputed):
        places = 0

        def place(self, space, theta):
            self.places += 1
            super().place(space, theta)

    model = unusual.plain()
    problem = Problem.of(model, {"train": unusual.images()[0]})
    recomputed = Counted(problem.data.splits["train"], problem.loss)
    risk = EmpiricalRisk(ParameterSpace(model), problem, statistics=recomputed, batch_size=48)
    theta = risk.space.theta.clone()
    first = product_at(risk, theta, torch.ones(risk.dimension))
    assert recomputed.places == 1
    assert torch.equal(product_at(risk, theta, torch.ones(risk.dimension)), first)
    value_at(risk, theta)
    assert recomputed.places == 1


# ---------------------------------------------------------------------- one place at a time


def test_a_network_is_at_one_point_at_a_time():
    risk = risk_of(unusual.two_layers())
    theta, v = risk.space.theta.clone(), torch.ones(risk.dimension)
    right = product_at(risk, theta, v)
    asked = [
        lambda: value_at(risk, theta + 1),
        lambda: measure_at(risk.select(splits=["train"], sample=3), theta),
        lambda: next(risk.batch_gradient(theta, [torch.arange(3)])),
        lambda: risk.load_buffers(risk.buffers()),
        lambda: risk.space.load(risk.space.state_dict(theta)),
        lambda: risk.space.move_to(theta),
    ]
    with risk.at(theta) as here:
        product = here.hessian()
        for ask in asked:
            with pytest.raises(PlaceError, match="held at one point"):
                ask()
        torch.testing.assert_close(product(v), right)
    assert float(value_at(risk, theta + 1)) != float(value_at(risk, theta))


def test_no_point_is_opened_between_two_batches_of_training():
    risk = risk_of(unusual.two_layers())
    theta = risk.space.theta.clone()
    batches = risk.batch_gradient(theta, [torch.arange(3), torch.arange(3, 6)])
    next(batches)
    with pytest.raises(PlaceError, match="a batch of training"):
        value_at(risk, theta)
    batches.close()
    value_at(risk, theta)


def test_a_point_answers_everything_in_any_order():
    """Under bf16 losses are measured with other statistics than derivatives, and neither disturbs the other."""
    model = unusual.plain()
    problem = Problem.of(model, {"train": unusual.images()[0]})
    recomputed = Recomputed(problem.data.splits["train"], problem.loss)
    risk = EmpiricalRisk(ParameterSpace(model), problem, statistics=recomputed, batch_size=24, precision="bf16")
    theta, v = risk.space.theta.clone(), torch.linspace(-1, 1, risk.dimension)
    expected = float(value_at(risk, theta)), gradient_at(risk, theta), product_at(risk, theta, v)
    with risk.at(theta) as here:
        product = here.hessian()
        for _ in range(2):
            assert torch.equal(product(v), expected[2])
            assert float(here.value()) == here.measure()["train"].loss == expected[0]
            assert torch.equal(product(v), expected[2])
            assert torch.equal(here.gradient(), expected[1])


# ---------------------------------------------------------------------- inputs, draws, derivatives


def test_inputs_that_are_changed_in_some_batches_only_are_told_of():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.calls = nn.Linear(4, 3), 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 20:
                x -= 0.5
            return self.last(x)

    risk = risk_of(Sometimes())
    asked = (value_at(risk, risk.space.theta.clone()) for _ in range(30))
    with pytest.raises(ProblemError, match="in place, but only in some batches"):
        list(asked)


def test_labels_that_a_loss_changes_stay_what_they_were():
    def shifting(model, batch):
        x, y = batch
        y += 1
        return F.cross_entropy(model(x), y % 3, reduction="none")

    x, y = data()
    risk = risk_of(nn.Linear(4, 3), shifting, (x, y))
    theta = risk.space.theta.clone()
    values = [float(value_at(risk, theta)) for _ in range(3)]
    assert values[0] == values[1] == values[2]
    assert torch.equal(y, torch.arange(12) % 3)


def test_what_is_drawn_follows_from_the_batch_and_leaves_the_generators_alone():
    class Drawing(nn.Module):
        """Draws from all three generators."""

        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, x):
            import random

            return self.last(x + torch.randn_like(x) + np.random.rand() + random.random())

    risk = risk_of(Drawing())
    theta, v = risk.space.theta.clone(), torch.linspace(-1, 1, risk.dimension)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = float(value_at(risk, theta)), gradient_at(risk, theta), product_at(risk, theta, v)
    measure_at(risk, theta + 1)
    again = float(value_at(risk, theta)), gradient_at(risk, theta), product_at(risk, theta, v)
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[2], again[2])
    step = 1e-2
    slope = (value_at(risk, theta + step * v) - value_at(risk, theta - step * v)) / (2 * step)
    assert float(first[1] @ v) == pytest.approx(float(slope), rel=1e-3)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert risk.depends_on_batch_size


@pytest.mark.parametrize(("name", "depends"), [("plain", False), ("norm_without_statistics", True), ("Training", True)])
def test_whether_values_depend_on_the_batch_size_is_seen(name, depends):
    model = getattr(unusual, name)()
    risk = risk_of(model, examples=unusual.images()[0], batch_size=None)
    assert risk.depends_on_batch_size == depends
    assert ("depends_on_batch_size" in risk.evaluation()) == depends
    assert ("values depend on the batch size, 256" in describe(risk.evaluation())) == depends
    if depends:
        assert risk.batch_size == 256  # and not whatever is fastest today


def test_a_network_that_reads_a_global_variable_is_refused():
    weight = nn.Linear(4, 3)

    class Borrowing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = weight

        def forward(self, x):
            return F.linear(x, elsewhere[0].weight, self.inner.bias)

    elsewhere = [weight]  # reached through a list, which stays the same object in a copy
    with pytest.raises(ProblemError, match=r"inner\.weight of the network that was given"):
        risk_of(Borrowing())


def test_functions_that_mean_parts_of_a_network_mean_those_of_the_copy():
    network = unusual.own_forward()
    seen = {}
    network[1].register_forward_hook(lambda module, inputs, output, first=network[0]: seen.update(weight=first.weight))
    space = ParameterSpace(network)
    space.move_to(torch.zeros(space.dimension))
    x = unusual.images()[0][0]
    assert not space.network(x).any()
    assert not seen["weight"].any()  # the hook's own dictionary is the one that was given
    assert network(x).any()


# ---------------------------------------------------------------------- types


def test_a_frozen_base_is_shared_and_keeps_its_type():
    model = unusual.Adapted()
    space = ParameterSpace(model)
    assert space.network.base.weight.data_ptr() == model.base.weight.data_ptr()
    assert space.network.base.weight.dtype == torch.bfloat16
    before = model.base.weight.clone()
    other = {name: torch.ones_like(tensor) for name, tensor in model.state_dict().items()}
    space.load(other)
    assert torch.equal(model.base.weight, before)
    assert (space.network.base.weight == 1).all()


def test_a_base_of_the_same_type_as_what_is_trained_is_cast_with_it():
    model = unusual.two_layers().bfloat16()
    model[0].requires_grad_(False)
    risk = risk_of(model)
    assert {p.dtype for p in risk.space.network.parameters()} == {torch.float32}
    assert np.isfinite(float(value_at(risk, risk.space.theta.clone())))


@pytest.mark.parametrize("kind", ["double network", "flag", "checkpoint"])
def test_double_precision_is_kept_to_the_last_digit(kind, tmp_path, call):
    torch.manual_seed(0)
    model = unusual.in_double()
    state = model.state_dict()
    torch.save(state, tmp_path / "a.pt")
    name = "two_layers" if kind != "double network" else "in_double"
    examples = "double_vectors" if kind == "double network" else "vectors"
    flags = ["--dtype", "float64"] if kind == "flag" else []
    file = unusual.__file__
    code, _, errors = call(
        "line", "--a", tmp_path / "a.pt", "--range=-1:1:3", "--split", "train", "--out", tmp_path / "l.h5",
        "--model", f"{file}:{name}", "--data", f"{file}:{examples}", *flags,
    )  # fmt: skip
    assert code == 0, errors
    x, y = unusual.vectors()[0]
    with torch.no_grad():
        expected = float(F.cross_entropy(model(x.double()), y))
    result = load_result(tmp_path / "l.h5")
    assert result.train_loss[0, 1] == pytest.approx(expected, rel=1e-14)
    assert result.provenance["dtype"] == "float64"


def test_training_in_double_precision_writes_it(tmp_path, call):
    file = unusual.__file__
    code, _, errors = call(
        "train", "--model", f"{file}:two_layers", "--data", f"{file}:vectors", "--dtype", "float64", "--epochs", 1,
        "--out", tmp_path / "a.safetensors",
    )  # fmt: skip
    assert code == 0, errors
    assert {tensor.dtype for tensor in load_checkpoint(tmp_path / "a.safetensors").state.values()} == {torch.float64}


def test_curvature_under_bf16_is_that_of_full_precision():
    """Statistics, too, are gathered in full precision for it."""
    model = unusual.plain()
    problem = Problem.of(model, {"train": unusual.images()[0]})
    products = []
    for precision in ("fp32", "bf16"):
        recomputed = Recomputed(problem.data.splits["train"], problem.loss)
        space = ParameterSpace(model)
        risk = EmpiricalRisk(space, problem, statistics=recomputed, batch_size=48, precision=precision)
        theta = space.theta.clone()
        value_at(risk, theta)
        products.append((product_at(risk, theta, torch.ones(risk.dimension)), gradient_at(risk, theta)))
    assert torch.equal(products[0][0], products[1][0])
    assert torch.equal(products[0][1], products[1][1])


# ---------------------------------------------------------------------- other inputs that made wrong numbers


def test_an_operator_may_return_its_argument():
    start = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = lanczos(lambda v: v, start)
    assert float(found.top) == pytest.approx(1)
    assert float(found.top_vectors.norm()) == pytest.approx(1)
    assert tridiagonal(lambda v: v, start, 3).tolist() == [[pytest.approx(1)]]


def test_an_unknown_normalisation_is_refused():
    space = ParameterSpace(nn.Linear(3, 2))
    with pytest.raises(ConfigError, match="'fliter'; known are filter, layer, none"):
        normalise(torch.ones(space.dimension), space.theta, space, "fliter")


def test_a_complex_loss_is_refused():
    def strange(model, batch):
        return model(batch[0])[:, 0] * 1j

    with pytest.raises(ProblemError, match="complex"):
        risk_of(nn.Linear(4, 3), strange)


def test_likelihood_of_a_loss_that_runs_the_network_twice_is_unknown():
    def mixed(model, batch):
        x, y = batch
        return F.cross_entropy(model(x), y, reduction="none") + F.cross_entropy(model(x.flip(0)), y, reduction="none")

    risk = risk_of(nn.Linear(4, 3), mixed)
    measured = measure_at(risk.select(calibrated=True), risk.space.theta.clone())["train"]
    assert np.isnan(measured.nll)
    assert np.isnan(measured.calibration_error)
    assert np.isfinite(measured.loss)
    with pytest.raises(ProblemError, match="more than once"):
        predict_at(risk, risk.space.theta.clone(), "train")


@pytest.mark.parametrize(("positions", "classes"), [(5, 7), (5, 5)])
def test_scores_of_tokens_have_their_classes_last(positions, classes):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, positions, classes, generator=generator)
    labels = torch.randint(classes, (2, positions), generator=generator)
    expected = float(F.cross_entropy(scores.flatten(0, 1), labels.flatten()))
    for outputs in ({"logits": scores}, type("Output", (), {"logits": scores})):
        found = class_scores(outputs, {"labels": labels})
        assert float(F.cross_entropy(found.scores, found.labels)) == pytest.approx(expected)
    alone = class_scores(scores, {"labels": labels})
    assert (
        alone is None
        if positions == classes
        else float(F.cross_entropy(alone.scores, alone.labels)) == pytest.approx(expected)
    )
    first = class_scores(scores.movedim(-1, 1), {"labels": labels}, OUTPUTS["classes_first"])
    assert float(F.cross_entropy(first.scores, first.labels)) == pytest.approx(expected)


def test_soft_labels_have_an_accuracy():
    x, y = data()
    soft = F.one_hot(y, 3) * 0.7 + 0.1
    model = nn.Linear(4, 3)
    hard, mild = risk_of(model, examples=(x, y)), risk_of(model, examples=(x, soft))
    theta = hard.space.theta.clone()
    assert measure_at(mild, theta)["train"].accuracy == measure_at(hard, theta)["train"].accuracy
    with torch.no_grad():
        assert float(value_at(mild, theta)) == pytest.approx(float(F.cross_entropy(model(x), soft)))


def test_statistics_of_a_frozen_policy_are_a_copy():
    space = ParameterSpace(unusual.plain())
    policy = Frozen(space.statistics)
    space.statistics.fill_(3.0)
    policy.place(space, space.theta)
    assert not (space.statistics == 3).all()


def curvature_of_a_string(model, batch):
    """A physics-informed loss of a mapping: u'' = -u, by derivatives in the inputs."""
    x = batch["x"].detach().requires_grad_(True)
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return (bend + u).square()[:, 0] + (u - batch["u"]).square()[:, 0]


def test_a_loss_that_differentiates_in_the_inputs_of_a_mapping_is_measured_and_trained():
    """Values, gradients in parts, and products, against a plain loop in double precision."""
    x = torch.linspace(0, 2, 12, dtype=torch.float64)[:, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    problem = Problem.of(model, {"train": {"x": x, "u": x.sin()}}, curvature_of_a_string)
    risk = EmpiricalRisk(ParameterSpace(model, dtype=torch.float64), problem, batch_size=5)
    theta = risk.space.theta.clone()
    parameters = list(model.parameters())
    mean = curvature_of_a_string(model, {"x": x, "u": x.sin()}).mean()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(mean, parameters)])
    mean = float(mean.detach())
    assert float(value_at(risk, theta)) == pytest.approx(mean, rel=1e-10)
    torch.testing.assert_close(gradient_at(risk, theta), expected, rtol=1e-8, atol=1e-12)
    for accumulate in (1, 3):
        ((loss, gradient),) = risk.batch_gradient(theta, [torch.arange(12)], accumulate=accumulate)
        assert float(loss) == pytest.approx(mean, rel=1e-10)
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-12)
    vector, step = torch.ones_like(theta), 1e-5
    up, down = (gradient_at(risk, theta + sign * step * vector) for sign in (1, -1))
    torch.testing.assert_close(product_at(risk, theta, vector), (up - down) / (2 * step), rtol=1e-5, atol=1e-6)
