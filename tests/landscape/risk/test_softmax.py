"""Gauss-Newton products of losses of classes, against the dense matrix, and the memory that they take."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from landscape import EmpiricalRisk, ParameterSpace, Problem
from landscape.problems.losses import CausalLM, CrossEntropy, causal_lm, cross_entropy, mse, per_example
from landscape.risk import softmax
from landscape.risk.softmax import SoftmaxCurvature, owned

B, T, V = 5, 4, 3


class Classifier(nn.Module):
    """Scores `[B, V]` of vectors, or `[B, ..., V]` of whole numbers."""

    def __init__(self, layout):
        super().__init__()
        self.embedding, self.out = nn.Embedding(V, 3), nn.Linear(3, V)
        self.output_layout = layout

    def forward(self, x):
        scores = self.out(torch.tanh(self.embedding(x)))
        return scores if self.output_layout == "classes_last" else scores.movedim(-1, 1)


def drawn(*shape):
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(1))


def without(labels, *places):
    labels = labels.clone()
    for place in places:
        labels[place] = -100
    return labels


TOKENS, LABELS = drawn(B, T), drawn(B + 1, T)[1:]
SOFT = torch.softmax(torch.arange(B * V, dtype=torch.float64).sin().view(B, V), dim=1)
CASES = {
    "classes": (cross_entropy, "classes_first", (TOKENS[:, 0], LABELS[:, 0])),
    "a class left out": (cross_entropy, "classes_first", (TOKENS[:, 0], without(LABELS[:, 0], 1))),
    "pixels": (cross_entropy, "classes_first", (drawn(B, 2, 2), without(LABELS.view(B, 2, 2), 0, (1, 0)))),
    "tokens": (cross_entropy, "classes_last", (TOKENS, without(LABELS, (0, 1), (0, 2), 3))),
    "next tokens": (causal_lm, "classes_last", {"input_ids": TOKENS}),
    "next labels": (causal_lm, "classes_last", {"input_ids": TOKENS, "labels": without(TOKENS, (0, 1), (2, 3))}),
    "soft labels": (cross_entropy, "classes_last", (TOKENS[:, 0], SOFT)),
    "squares": (mse, "classes_last", (TOKENS[:, 0], LABELS[:, 0])),
}


def dense(loss, network, batch, space, theta):
    """JᵀBJ from the whole Jacobian of the outputs and the whole Hessian of the mean loss in them."""
    ids = batch["input_ids"] if isinstance(batch, dict) else batch[0]

    class Giving(nn.Module):
        def __init__(self, scores):
            super().__init__()
            self.scores, self.output_layout = scores, network.output_layout

        def forward(self, *_):
            return self.scores

    def outputs(flat):
        return torch.func.functional_call(network, {s.name: s.view(flat) for s in space.segments}, (ids,))

    jacobian = torch.autograd.functional.jacobian(outputs, theta).flatten(0, -2)
    scores = outputs(theta).detach()
    inner = torch.autograd.functional.hessian(lambda s: per_example(loss, Giving(s), batch)[0].mean(), scores)
    return jacobian.T @ inner.reshape(scores.numel(), -1) @ jacobian


@pytest.mark.parametrize("chunk", [1, 2 * V, 1 << 22])
@pytest.mark.parametrize("case", CASES)
def test_products_are_those_of_the_dense_matrix(case, chunk, monkeypatch):
    monkeypatch.setattr(softmax, "_CHUNK", chunk)
    kind, layout, batch = CASES[case]
    torch.manual_seed(0)
    network = Classifier(layout).double()
    problem = Problem.of(network, {"train": batch}, kind)
    risk = EmpiricalRisk(ParameterSpace(network, dtype=torch.float64), problem, batch_size=2)
    theta = risk.space.theta.clone()
    exact = dense(problem.loss, network, batch, risk.space, theta)
    vector = torch.randn(risk.dimension, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with risk.at(theta) as here:
        product = here.hessian(matrix="gauss_newton")
        found, again = product(vector), product(vector)
    assert exact.abs().max() > 1e-3
    torch.testing.assert_close(found, exact @ vector, rtol=1e-10, atol=1e-12)
    assert torch.equal(found, again)


@pytest.mark.parametrize("kind", [CrossEntropy, CausalLM])
def test_scores_that_are_the_parameters_themselves_leave_the_vector_as_it_is(kind):
    class Constant(nn.Module):
        output_layout = "classes_last"

        def __init__(self):
            super().__init__()
            self.scores = nn.Parameter(torch.arange(B * V, dtype=torch.float64).cos().view(B, V))

        def forward(self, x):
            return self.scores if len(x) == B else self.scores[: len(x)]  # checks take a few

    network = Constant()
    problem = Problem.of(network, {"train": (TOKENS[:, 0], LABELS[:, 0])}, kind())
    risk = EmpiricalRisk(ParameterSpace(network, dtype=torch.float64), problem)
    vector = torch.randn(B * V, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    before, p, u = vector.clone(), torch.softmax(network.scores.detach(), 1), vector.view(B, V)
    with risk.at(risk.space.theta.clone()) as here:
        found = here.hessian(matrix="gauss_newton")(vector)
    expected = (p * u - p * (p * u).sum(1, keepdim=True)) / B
    torch.testing.assert_close(found, expected.flatten(), rtol=1e-12, atol=1e-15)
    assert torch.equal(vector, before)


def test_half_precision_is_left_only_at_the_end():
    scores, u = torch.linspace(-3, 3, 12).view(3, 4).bfloat16(), torch.linspace(1, 2, 12).view(3, 4).bfloat16()
    weights = torch.tensor([0.5, 0.0, 0.25])
    p, v = torch.softmax(scores.double(), 1), u.double()
    expected = weights[:, None] * (p * v - p * (p * v).sum(1, keepdim=True))
    found = SoftmaxCurvature(scores, weights)(u.clone())
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-6)


def test_memory_of_others_or_of_repeated_numbers_is_copied():
    other = torch.zeros(6)
    alone = torch.zeros(2, 3)
    assert owned(alone, [other]) is alone
    assert owned(other.view(2, 3), [other]) is not other
    for shared in (other.view(2, 3), torch.zeros(()).expand(2, 3)):
        copy = owned(shared, [other])
        assert copy.is_contiguous()
        assert copy.untyped_storage().data_ptr() != shared.untyped_storage().data_ptr()


PEAK = """
import torch
from torch import nn
from landscape import EmpiricalRisk, ParameterSpace, Problem

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

class Head(nn.Linear):
    output_layout = "classes_last"

    def forward(self, ids):
        return super().forward(torch.tanh(ids[..., None].float()))

for loss in ("causal_lm", "cross_entropy"):
    def product(length):
        tokens = torch.arange(2 * length).view(2, length)
        network = Head(1, 50304)
        batch = {"input_ids": tokens} if loss == "causal_lm" else (tokens, tokens)
        problem = Problem.of(network, {"train": batch}, loss)
        risk = EmpiricalRisk(ParameterSpace(network), problem, batch_size=2)
        vector = torch.ones(risk.dimension)
        with risk.at(risk.space.theta.clone()) as here:
            hessian = here.hessian(matrix="gauss_newton")
            open("/proc/self/clear_refs", "w").write("5")
            before = peak()
            hessian(vector)
            return peak() - before
    product(2)
    print(product(256) / (512 * 50304 * 4))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks are told by Linux")
def test_a_large_vocabulary_takes_three_times_the_logits_at_most():
    run = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    peaks = [float(line) for line in run.stdout.split()]
    assert len(peaks) == 2
    assert all(1.5 < round(peak, 2) <= 3 for peak in peaks), peaks
