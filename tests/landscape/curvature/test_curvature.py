"""Eigenvalues, densities and traces against dense matrices."""

import gc
import warnings
import weakref
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from landscape import (
    EmpiricalRisk,
    ParameterSpace,
    Potential,
    Problem,
    hutch_plus_plus,
    lanczos,
    layer_traces,
    load_checkpoint,
    load_result,
    spectral_density,
)
from landscape.app.cli import _COMMANDS
from landscape.app.commandline import run
from landscape.curvature.restriction import Restriction
from landscape.errors import NonFiniteError, ProblemError
from landscape.risk.products import _Count
from tests.oracles import Convolutions, Signalling, Tied
from tests.points import gradient_at, product_at

SIZE = 300


def symmetric(outliers=(20.0, 10.0, 7.0, 5.0, 3.0, -2.0, -1.5, -4.0), size=SIZE, seed=0):
    """A random symmetric matrix with a bulk around zero and some eigenvalues outside, and all its eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    bulk = 0.3 * torch.randn(size - len(outliers), generator=generator, dtype=torch.float64)
    values = torch.cat([bulk, torch.tensor(outliers, dtype=torch.float64)])
    return (basis * values) @ basis.T, values.sort().values


def random_vector(index, size=SIZE, dtype=torch.float64):
    return torch.randn(size, generator=torch.Generator().manual_seed(index), dtype=dtype)


def signs(index, size=SIZE):
    generator = torch.Generator().manual_seed(1000 + index)
    return (torch.randint(2, (size,), generator=generator) * 2 - 1).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "flags", [{}, {"top": 4, "bottom": 2}, {"top": 4, "bottom": 2, "most_vectors": 14}, {"most_vectors": 8}]
)
def test_both_ends_are_those_of_the_dense_matrix(dtype, flags):
    matrix, values = symmetric()
    matrix = matrix.to(dtype)
    found = lanczos(lambda v: matrix @ v, random_vector(0, dtype=dtype), tolerance=1e-3, **flags)
    top, bottom = flags.get("top", 1), flags.get("bottom", 1)
    assert found.converged
    torch.testing.assert_close(found.top, values.flip(0)[:top], rtol=1e-4, atol=0)
    torch.testing.assert_close(found.bottom, values[:bottom], rtol=1e-4, atol=0)
    for each, vectors, residuals in (
        (found.top, found.top_vectors, found.top_residuals),
        (found.bottom, found.bottom_vectors, found.bottom_residuals),
    ):
        left = torch.stack([matrix @ v for v in vectors]) - each.to(dtype)[:, None] * vectors
        assert (residuals <= 1e-3 * each.abs()).all()
        torch.testing.assert_close(left.norm(dim=1).double(), residuals, rtol=0.2, atol=2e-5)
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(vectors), dtype=dtype), atol=1e-5, rtol=0)


def test_a_restart_holds_few_vectors_and_finds_the_same():
    matrix, values = symmetric(outliers=(3.0, 2.9, 2.8, -2.0, -1.9), seed=3)
    free = lanczos(lambda v: matrix @ v, random_vector(1), top=3, bottom=2, tolerance=1e-6)
    tight = lanczos(lambda v: matrix @ v, random_vector(1), top=3, bottom=2, tolerance=1e-6, most_vectors=16)
    torch.testing.assert_close(free.top, values.flip(0)[:3], rtol=1e-9, atol=0)
    torch.testing.assert_close(tight.top, free.top, rtol=1e-9, atol=0)
    torch.testing.assert_close(tight.bottom, free.bottom, rtol=1e-9, atol=0)
    assert tight.products >= free.products > 16


@pytest.mark.parametrize(("matrix", "top", "bottom"), [
    (torch.eye(5) * 2, [2.0], [2.0]),
    (torch.zeros(5, 5), [0.0], [0.0]),
    (torch.diag(torch.tensor([1.0, 2.0, 3.0])), [3.0, 2.0], [1.0, 2.0]),
    (torch.tensor([[4.0]]), [4.0], [4.0]),
])  # fmt: skip
def test_small_and_degenerate_matrices(matrix, top, bottom):
    found = lanczos(lambda v: matrix @ v, torch.randn(len(matrix)), top=len(top), bottom=len(bottom))
    assert found.top.tolist() == pytest.approx(top, abs=1e-5)
    assert found.bottom.tolist() == pytest.approx(bottom, abs=1e-5)


def test_an_end_that_did_not_converge_is_told():
    matrix, _ = symmetric()
    assert not lanczos(lambda v: matrix @ v, random_vector(0), tolerance=1e-8, most_products=6).converged


@pytest.mark.parametrize("seed", range(3))
def test_the_trace_is_within_its_stated_error(seed):
    matrix, values = symmetric(seed=seed)
    found = hutch_plus_plus(lambda v: matrix @ v, signs, products=90)
    assert found.products == 90
    assert abs(found.value - float(values.sum())) < 4 * found.error
    plain = torch.stack([signs(i) @ matrix @ signs(i) for i in range(90)])
    assert found.error < float(plain.std()) / 90**0.5


def test_the_stated_error_is_the_spread_of_many_estimates():
    matrix, _ = symmetric()
    found = [hutch_plus_plus(lambda v: matrix @ v, lambda i, r=r: signs(100 * r + i), products=30) for r in range(60)]
    spread = np.std([estimate.value for estimate in found])
    assert 0.6 < spread / np.mean([estimate.error for estimate in found]) < 1.6


def test_layer_traces_are_those_of_the_blocks():
    matrix, _ = symmetric()
    parts = {"a": slice(0, 100), "b": slice(100, SIZE)}
    found = layer_traces(lambda v: matrix @ v, signs, parts, 400)
    for name, place in parts.items():
        assert abs(found[name].value - float(matrix.diagonal()[place].sum())) < 4 * found[name].error


def test_the_density_has_the_moments_and_the_shape_of_the_spectrum():
    matrix, values = symmetric()
    found = spectral_density(lambda v: matrix @ v, random_vector, probes=20, steps=40)
    for power in (1, 2, 3):
        mean, error = found.moment(power)
        assert abs(mean - float((values**power).mean())) < 4 * error
    assert np.trapezoid(found.density, found.values) == pytest.approx(1.0, abs=1e-3)
    exact = np.exp(-0.5 * ((found.values[:, None] - values.numpy()) / found.width) ** 2).mean(axis=1)
    exact /= found.width * np.sqrt(2 * np.pi)
    assert np.abs(np.cumsum(found.density - exact)).max() * np.diff(found.values)[0] < 0.05


# ---------------------------------------------------------------------- networks


def encoder():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            return self.out(self.block(x).mean(dim=1))

    return Encoder(), torch.randn(11, 4, 8)


def networks():
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    return {
        "mlp": (mlp, torch.randn(11, 5)),
        "convolutions": (Convolutions(), torch.randn(11, 1, 6, 6)),
        "tied": (Tied(), torch.randint(7, (11, 5))),
        "encoder": encoder(),
    }


def dense(risk, theta):
    """The Hessian, column by column."""
    space = risk.space
    with risk.at(theta) as here:
        product = here.hessian()
        return torch.stack([product(unit) for unit in torch.eye(space.dimension, dtype=space.dtype)])


def plain_hessian(model, inputs, labels, space, theta):
    """By torch.autograd.functional over the named parameters, without the space's flat network."""
    names = [segment.name for segment in space.segments]

    def loss(flat):
        named = {s.name: s.view(flat) for s in space.segments}
        for segment in space.segments:
            named |= dict.fromkeys(segment.aliases, named[segment.name])
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            outputs = torch.func.functional_call(model, named, (inputs,))
        return nn.functional.cross_entropy(outputs, labels)

    assert names
    return torch.autograd.functional.hessian(loss, theta)


@pytest.mark.parametrize("name", ["mlp", "convolutions", "tied", "encoder"])
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_products_and_ends_are_those_of_the_dense_hessian(name, dtype, accuracy):
    model, inputs = networks()[name]
    labels = torch.randint(3, (11,), generator=torch.Generator().manual_seed(1))
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    model = model.eval()
    space = ParameterSpace(model, dtype=dtype)
    risk = EmpiricalRisk(space, Problem.of(model, {"train": (inputs, labels)}), batch_size=4)
    theta = space.theta.clone()
    exact_inputs = inputs.double() if inputs.is_floating_point() else inputs
    exact = plain_hessian(model.double(), exact_inputs, labels, space, theta.double())
    vector = torch.randn(space.dimension, generator=torch.Generator().manual_seed(2), dtype=dtype)
    with risk.at(theta) as here:
        product = here.hessian()
        found, again = product(vector), product(vector)
        assert torch.equal(found, again)
        error = (found.double() - exact @ vector.double()).norm() / (exact @ vector.double()).norm()
        assert error < accuracy
        ends = lanczos(product, vector, tolerance=1e-3)
    values = torch.linalg.eigvalsh(exact)
    assert float(ends.top[0]) == pytest.approx(float(values[-1]), rel=1e-4)
    assert float(ends.bottom[0]) == pytest.approx(float(values[0]), rel=1e-4)


def test_products_do_not_depend_on_the_batch_size_or_on_what_is_kept(monkeypatch):
    model, inputs = networks()["convolutions"]
    problem = Problem.of(model, {"train": (inputs.double(), torch.arange(11) % 3)})
    space = ParameterSpace(model, dtype=torch.float64)
    theta, vector = space.theta.clone(), torch.randn(space.dimension, dtype=torch.float64)
    products = []
    for batch_size, room in ((11, 10**9), (4, 10**9), (4, 0), (1, 50_000)):
        monkeypatch.setattr("landscape.risk.products.available_bytes", lambda device, room=room: room)
        with EmpiricalRisk(space, problem, batch_size=batch_size).at(theta) as here:
            product = here.hessian()
            product(torch.randn_like(vector))
            products.append(product(vector))
    for other in products[1:]:
        torch.testing.assert_close(other, products[0], rtol=1e-10, atol=1e-12)


def test_curvilinear_potentials_have_products_too():
    surface = Potential(lambda theta: (theta**4).sum(), 3)
    theta, vector = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([1.0, -1.0, 2.0]).double()
    with surface.at(theta) as here:
        product = here.hessian()
        torch.testing.assert_close(product(vector), 12 * theta**2 * vector)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * 2


def test_an_operation_without_a_second_derivative_is_named():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 3)

        def forward(self, x):
            return _Once.apply(torch.tanh(self.linear(x)))

    model = Stubborn()
    risk = EmpiricalRisk(ParameterSpace(model), Problem.of(model, {"train": (torch.randn(4, 5), torch.arange(4) % 3)}))
    with pytest.raises(ProblemError, match="cannot be differentiated twice"):
        product_at(risk, risk.space.theta.clone(), torch.ones(risk.dimension))


def test_an_aten_operation_without_a_second_derivative_is_named():
    class Missing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 3)

        def forward(self, x):
            y = self.linear(x)
            return torch.stack([nn.functional.ctc_loss(
                y.log_softmax(1)[:, None], torch.tensor([[1]]), torch.tensor([len(x)]), torch.tensor([1])
            )] * len(x))  # fmt: skip

    model = Missing()
    problem = Problem.of(
        model, {"train": (torch.randn(4, 5), torch.zeros(4))}, lambda network, batch: network(batch[0])
    )
    risk = EmpiricalRisk(ParameterSpace(model), problem, batch_size=4)
    with pytest.raises(ProblemError, match=r"cannot be differentiated twice: .*ctc"):
        product_at(risk, risk.space.theta.clone(), torch.ones(risk.dimension))


def test_parameters_are_chosen_by_kind_or_name():
    space = ParameterSpace(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)))
    assert space.select("all").all()
    assert int(space.select("weights").sum()) == 28
    assert int(space.select("1.*").sum()) == 10
    with pytest.raises(ProblemError, match=r"among '9\.\*'"):
        space.select("9.*")


def test_samples_are_fixed_and_disjoint():
    inputs = torch.arange(40.0).view(20, 2)
    model = nn.Linear(2, 2)
    risk = EmpiricalRisk(ParameterSpace(model), Problem.of(model, {"train": (inputs, torch.zeros(20).long())}))
    parts = [risk.select(sample=8, part=part)._selection.first.tensors[0][:, 0].tolist() for part in (0, 1)]
    assert len({*parts[0], *parts[1]}) == 16
    assert risk.select(sample=8)._selection.first.tensors[0][:, 0].tolist() == parts[0]
    assert risk.examples == 20


# ---------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    out = tmp_path_factory.mktemp("minimum") / "a.safetensors"
    problem = ["--model", "mlp", "--model-args", '{"widths": [6], "batch_norm": true}', "--data", "digits"]
    assert run("landscape", "", _COMMANDS, ["train", *problem, "--epochs", "2", "--out", str(out)]) == 0
    return out


def test_the_hessian_command_finds_what_the_dense_hessian_has(ask, checkpoint, tmp_path):
    out = tmp_path / "h.h5"
    given = ["hessian", "--checkpoint", checkpoint, "--out", out, "--samples", 100, "--top", 3, "--json"]
    given += ["--density", "--trace", "--layers", "--probes", 4, "--steps", 20, "--trace-products", 90]
    code, summary, stderr = ask(*given)
    assert code == 0, stderr
    assert {"top", "bottom", "residuals", "trace", "trace_error", "products"} <= set(summary)
    metadata = load_checkpoint(checkpoint).metadata
    from landscape import ProblemSpecification, build_problem

    problem = build_problem(ProblemSpecification.from_mapping(metadata["problem"], "test"))
    space = ParameterSpace(problem.model, dtype=torch.float64)
    theta = space.load(load_checkpoint(checkpoint).state)
    data = {"train": tuple(t.double() if t.is_floating_point() else t for t in problem.data.splits["train"].tensors)}
    risk = EmpiricalRisk(space, Problem.of(problem.model, data), batch_size=50).select(sample=100)
    weights = space.select("weights")
    whole = dense(risk, theta)
    exact = whole[weights][:, weights]
    values = torch.linalg.eigvalsh(exact)
    assert summary["top"] == pytest.approx(values.flip(0)[:3].tolist(), rel=1e-4)
    assert summary["bottom"] == pytest.approx(values[:3].tolist(), rel=1e-3)
    assert abs(summary["trace"] - float(exact.trace())) < 4 * summary["trace_error"]
    result = load_result(out)
    first = space.segments[0]
    block = whole[: first.size, : first.size]
    told = result.facts["layers"]["blocks"][first.name]
    assert told["top"] == pytest.approx(float(torch.linalg.eigvalsh(block)[-1]), rel=1e-3)
    assert abs(told["trace"] - float(block.trace())) < 4 * told["trace_error"]
    vectors = load_checkpoint(tmp_path / "h_vectors.safetensors").state
    assert vectors[f"top.0.{first.name}"].shape == first.shape
    assert [file.rsplit("/", 1)[1] for file in summary["files"]] == [
        "h.h5", "h_vectors.safetensors", "h.png", "h_layers.png"
    ]  # fmt: skip
    assert ask(*given, "--resume")[1]["top"] == summary["top"]


def test_the_gauss_newton_matrix_of_a_checkpoint_has_no_negative_eigenvalue(ask, checkpoint, tmp_path):
    given = ["hessian", "--checkpoint", checkpoint, "--samples", 100, "--json", "--out"]
    code, summary, stderr = ask(*given, tmp_path / "g.h5", "--matrix", "gauss_newton", "--tolerance", 1e-2)
    assert code == 0, stderr
    assert summary["bottom"][0] > -1e-5 * summary["top"][0]
    assert summary["converged"]
    _, whole, _ = ask(*given, tmp_path / "h.h5")
    assert summary["top"][0] != whole["top"][0]


def test_an_interrupted_spectrum_goes_on_with_the_next_part(ask, checkpoint, tmp_path, monkeypatch):
    def given(out):
        parts = ["--trace", "--density", "--probes", 2, "--steps", 10, "--trace-products", 12]
        return [
            "hessian",
            "--checkpoint",
            checkpoint,
            "--out",
            out,
            "--samples",
            50,
            "--eval-batch-size",
            50,
            *parts,
            "--json",
        ]

    _, whole, _ = ask(*given(tmp_path / "whole.h5"))
    ends = load_result(tmp_path / "whole.h5").facts["ends"]["products"]
    with monkeypatch.context() as patch:
        patch.setattr("landscape.app.commandline.on_stderr", Signalling(ends + 5))
        assert ask(*given(tmp_path / "cut.h5"))[0] == 75
    assert set(load_result(tmp_path / "cut.h5").facts) == {"ends"}
    code, resumed, stderr = ask(*given(tmp_path / "cut.h5"), "--resume")
    assert code == 0, stderr
    for name in ("top", "bottom", "residuals", "trace", "trace_error", "products"):
        assert resumed[name] == whole[name]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top", "0"], "--top is 0"),
        (["--tolerance", "0"], "--tolerance is 0"),
        (["--samples", "0"], "--samples is 0"),
        (["--samples", "100000"], "the split has 1437"),
        (["--parameters", "nothing"], "is among 'nothing'"),
        (["--vectors", "3"], "--vectors is 3"),
    ],
)
def test_what_cannot_be_is_said(ask, checkpoint, tmp_path, flags, message):
    code, _, stderr = ask("hessian", "--checkpoint", checkpoint, "--out", tmp_path / "h.h5", *flags)
    assert code == 2
    assert message in stderr


# ---------------------------------------------------------------------- Gauss-Newton, and an independent oracle


def gauss_newton(model, inputs, labels, space, theta):
    """JᵀBJ summed example by example, from the outputs' Jacobian and the Hessian of the loss in them."""

    def outputs(flat):
        named = {s.name: s.view(flat) for s in space.segments}
        for segment in space.segments:
            named |= dict.fromkeys(segment.aliases, named[segment.name])
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return torch.func.functional_call(model, named, (inputs,))

    slopes = torch.autograd.functional.jacobian(outputs, theta)
    shares = torch.softmax(outputs(theta), dim=1).detach()
    inner = torch.diag_embed(shares) - shares[:, :, None] * shares[:, None, :]
    return torch.einsum("nap,nab,nbq->pq", slopes, inner, slopes) / len(inputs)


def exact_problem(name):
    model, inputs = networks()[name]
    labels = torch.randint(3, (11,), generator=torch.Generator().manual_seed(1))
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    model = model.double().eval()
    space = ParameterSpace(model, dtype=torch.float64)
    risk = EmpiricalRisk(space, Problem.of(model, {"train": (inputs, labels)}), batch_size=4)
    return model, inputs, labels, risk


@pytest.mark.parametrize("name", ["mlp", "convolutions", "tied", "encoder"])
def test_gauss_newton_products_are_those_of_the_dense_matrix(name):
    model, inputs, labels, risk = exact_problem(name)
    theta = risk.space.theta.clone()
    exact = gauss_newton(model, inputs, labels, risk.space, theta)
    vector = torch.randn(risk.dimension, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with risk.at(theta) as here:
        product = here.hessian(matrix="gauss_newton")
        found, again = product(vector), product(vector)
        smallest = lanczos(product, vector, tolerance=1e-6).bottom
    torch.testing.assert_close(found, exact @ vector, rtol=1e-10, atol=1e-12)
    assert torch.equal(found, again)
    assert float(smallest) > -1e-9


def twice(network, batch):
    return nn.functional.cross_entropy(network(batch[0]) + network(batch[0]), batch[1], reduction="none")


def penalised(network, batch):
    losses = nn.functional.cross_entropy(network(batch[0]), batch[1], reduction="none")
    return losses + sum(parameter.square().sum() for parameter in network.parameters())


class Several(nn.Module):
    """Gives back features and what follows from them, in a dictionary that is no plain one."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        features = torch.tanh(self.body(x))
        return OrderedDict(features=features, logits=self.head(features), note="text")


def test_of_several_outputs_those_count_that_the_loss_uses():
    def loss(network, batch):
        return nn.functional.cross_entropy(network(batch[0])["logits"], batch[1], reduction="none")

    torch.manual_seed(0)
    model, inputs, labels = Several().double(), torch.randn(11, 5).double(), torch.arange(11) % 3
    plain = nn.Sequential(model.body, nn.Tanh(), model.head)
    risk = EmpiricalRisk(
        ParameterSpace(model, dtype=torch.float64), Problem.of(model, {"train": (inputs, labels)}, loss)
    )
    theta = risk.space.theta.clone()
    exact = gauss_newton(plain, inputs, labels, ParameterSpace(plain, dtype=torch.float64), theta)
    vector = torch.randn(risk.dimension, dtype=torch.float64)
    with risk.at(theta) as here:
        product = here.hessian(matrix="gauss_newton")
        torch.testing.assert_close(product(vector), exact @ vector, rtol=1e-10, atol=1e-12)


def test_products_with_a_recurrent_network_are_those_of_the_dense_hessian():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.out = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.cells(x)[0][:, -1])

    torch.manual_seed(0)
    model, inputs, labels = Recurrent().double(), torch.randn(6, 5, 3).double(), torch.arange(6) % 3
    risk = EmpiricalRisk(ParameterSpace(model, dtype=torch.float64), Problem.of(model, {"train": (inputs, labels)}))
    theta = risk.space.theta.clone()
    vector = torch.randn(risk.dimension, dtype=torch.float64)
    step = 1e-5 * vector
    expected = (gradient_at(risk, theta + step) - gradient_at(risk, theta - step)) / 2e-5
    torch.testing.assert_close(product_at(risk, theta, vector), expected, rtol=1e-6, atol=1e-8)


def test_the_graphs_of_one_point_are_gone_at_the_next(monkeypatch):
    model, inputs = networks()["convolutions"]
    problem = Problem.of(model, {"train": (inputs, torch.arange(11) % 3)})
    risk = EmpiricalRisk(ParameterSpace(model), problem, batch_size=11)
    theta = risk.space.theta.clone()
    kept, add = [], _Count.add

    def noting(count, tensor):
        packed = add(count, tensor)
        kept.append(weakref.ref(packed))
        return packed

    monkeypatch.setattr(_Count, "add", noting)
    gc.disable()
    try:
        with risk.at(theta) as here:
            product = here.hessian()
            product(torch.ones_like(theta))
            assert any(tensor() is not None for tensor in kept)
        del product
        assert all(tensor() is None for tensor in kept)
    finally:
        gc.enable()


def test_only_the_chosen_parameters_take_part():
    model, inputs, labels, risk = exact_problem("convolutions")
    theta, weights = risk.space.theta.clone(), risk.space.select("weights")
    exact = plain_hessian(model, inputs, labels, risk.space, theta)
    vector = torch.randn(risk.dimension, dtype=torch.float64) * weights
    for matrix in ("hessian", "gauss_newton"):
        with risk.at(theta) as here:
            product = here.hessian(matrix=matrix)
            whole = product(vector)
        with risk.at(theta) as here:
            product = here.hessian(chosen=weights, matrix=matrix)
            torch.testing.assert_close(product(vector), whole * weights, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(product_at(risk, theta, vector), exact @ vector, rtol=1e-10, atol=1e-12)


def test_a_basis_is_rotated_in_its_own_memory():
    from landscape.curvature.lanczos import _Basis

    basis = _Basis(random_vector(0, size=150_000))
    vectors = torch.stack([random_vector(index, size=150_000) for index in range(7)])
    for vector in vectors:
        basis.append(vector)
    turn = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = [chunk.data_ptr() for chunk in basis._chunks]
    basis.rotate(turn)
    assert len(basis) == 3
    assert [chunk.data_ptr() for chunk in basis._chunks] == places[:1]
    torch.testing.assert_close(
        torch.stack([basis[index] for index in range(3)]), turn.T @ vectors, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize(("loss", "message"), [(twice, "calls it 2 times"), (penalised, "beside the network")])
def test_a_loss_without_a_gauss_newton_matrix_is_refused(loss, message):
    model, inputs = networks()["mlp"]
    problem = Problem.of(model, {"train": (inputs, torch.arange(11) % 3)}, loss)
    risk = EmpiricalRisk(ParameterSpace(model), problem, batch_size=4)
    theta = risk.space.theta.clone()
    with pytest.raises(ProblemError, match=message), risk.at(theta) as here:
        here.hessian(matrix="gauss_newton")
    product_at(risk, theta, torch.ones_like(theta))


@pytest.mark.parametrize("name", ["mlp", "convolutions"])
@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_products_are_those_of_curvlinops(name, matrix):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports what torch is about to drop
        from curvlinops import GGNLinearOperator, HessianLinearOperator

        model, inputs, labels, risk = exact_problem(name)
        kind = {"hessian": HessianLinearOperator, "gauss_newton": GGNLinearOperator}[matrix]
        data = [(inputs[:6], labels[:6]), (inputs[6:], labels[6:])]
        parameters = [p for p in model.parameters() if p.requires_grad]
        operator = kind(model, nn.CrossEntropyLoss(), parameters, data)
        theta = risk.space.flatten(model.state_dict())
        named = dict(model.named_parameters())
        vector = torch.randn(risk.dimension, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        parts = risk.space.unflatten(vector)
        theirs = operator @ [parts[key] for key in named]
    with risk.at(theta) as here:
        product = here.hessian(matrix=matrix)
        ours = risk.space.unflatten(product(vector))
    for key, other in zip(named, theirs, strict=True):
        torch.testing.assert_close(ours[key], other, rtol=1e-9, atol=1e-11)


def test_a_restriction_is_the_block_of_the_chosen_coordinates():
    matrix, _ = symmetric()
    chosen = torch.arange(SIZE) % 3 == 0
    restriction = Restriction(chosen)
    vector = random_vector(0)[chosen]
    torch.testing.assert_close(
        restriction.block(lambda v: matrix @ v)(vector), matrix[chosen][:, chosen] @ vector, rtol=1e-12, atol=1e-12
    )
    assert torch.equal(restriction.restrict(restriction.extend(vector)), vector)
    assert restriction.dimension == 100


def test_a_positive_block_has_no_eigenvalue_zero_from_outside_it():
    matrix = torch.diag(torch.tensor([5.0, 4.0, 3.0, -9.0, -9.0, -9.0], dtype=torch.float64))
    restriction = Restriction(torch.tensor([True, True, True, False, False, False]))
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    found = lanczos(restriction.block(lambda v: matrix @ v), start, least_products=8)
    assert (float(found.top), float(found.bottom)) == pytest.approx((5, 3))


def test_a_run_takes_at_least_as_many_products_as_it_is_told_to():
    matrix, _ = symmetric()
    known = lanczos(lambda v: matrix @ v, random_vector(0), tolerance=1e-8)
    start = known.top_vectors[0] + known.bottom_vectors[0]
    assert lanczos(lambda v: matrix @ v, start).products < 5
    assert lanczos(lambda v: matrix @ v, start, least_products=9).products == 9


def test_the_vectors_next_to_the_ends_are_those_of_the_next_eigenvalues():
    matrix, values = symmetric()
    found = lanczos(lambda v: matrix @ v, random_vector(0), tolerance=1e-10)
    quotients = torch.einsum("ip,pq,iq->i", found.next_vectors, matrix, found.next_vectors)
    torch.testing.assert_close(quotients, torch.stack([values[1], values[-2]]), rtol=1e-3, atol=0)


def test_a_residual_below_rounding_is_not_asked_for():
    matrix, values = symmetric(outliers=(1000.0, -2.0))
    matrix = matrix.float()
    found = lanczos(lambda v: matrix @ v, random_vector(0, dtype=torch.float32), tolerance=1e-9, most_products=290)
    assert found.converged
    assert float(found.bottom) == pytest.approx(float(values[0]), abs=1e-3)


def test_products_that_are_not_finite_are_said_to_be():
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        lanczos(lambda v: v * float("nan"), random_vector(0))
