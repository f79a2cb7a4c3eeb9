"""Predictions against scikit-learn, written-out sums and networks run by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch import nn

from landscape import EmpiricalRisk, ParameterSpace, Problem, Recomputed
from landscape.errors import ProblemError
from landscape.problems.outputs import class_scores
from landscape.risk import predictions
from landscape.risk.predictions import calibration_error, labelled_rows, linear_cka, negative_log_likelihood, watching
from tests.oracles import WORDS, networks, problem_of, token_problem
from tests.points import measure_at, module_at, predict_at


def naive_calibration_error(confidence, right):
    """Equation 3 of Guo et al. with 15 bins ((m - 1)/15, m/15]."""
    total = 0.0
    for low in range(15):
        inside = [i for i, c in enumerate(confidence) if low / 15 < c <= (low + 1) / 15]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            sure = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - sure)
    return total


@given(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_against_its_definition(pairs):
    confidence, right = zip(*pairs, strict=True)
    found = calibration_error(torch.tensor(confidence, dtype=torch.float64), torch.tensor(right))
    assert found == pytest.approx(naive_calibration_error(confidence, right), abs=1e-12)


def test_those_who_are_as_often_right_as_they_say_have_no_calibration_error():
    confidence = torch.tensor([0.75] * 4 + [0.5] * 2)
    right = torch.tensor([True, True, True, False, True, False])
    assert calibration_error(confidence, right) == pytest.approx(0)
    assert calibration_error(torch.ones(3), torch.zeros(3, dtype=torch.bool)) == 1


def test_likelihood_against_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(200, 5, generator=generator, dtype=torch.float64).log_softmax(dim=1)
    labels = torch.randint(5, (200,), generator=generator)
    expected = log_loss(labels.numpy(), known.exp().numpy(), labels=range(5))
    assert negative_log_likelihood(known, labels) == pytest.approx(expected, rel=1e-5)


def naive_cka(x, y):
    """HSIC with centred linear kernels, over the root of those with themselves."""
    count = len(x)
    centre = np.eye(count) - np.ones((count, count)) / count
    kernels = [centre @ (features @ features.T) @ centre for features in (x, y)]
    return np.trace(kernels[0] @ kernels[1]) / math.sqrt(
        np.trace(kernels[0] @ kernels[0]) * np.trace(kernels[1] @ kernels[1])
    )


@pytest.mark.parametrize("widths", [(3, 5), (40, 50), (4, 60)], ids=["narrow", "wide", "both"])
def test_cka_against_its_kernels(widths):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, widths[0], generator=generator) + 3
    y = torch.randn(20, widths[1], generator=generator)
    y[:, :3] += x[:, :3]
    found = linear_cka(x, y)
    assert found == pytest.approx(naive_cka(x.double().numpy(), y.double().numpy()), abs=1e-9)
    assert 0 < found < 1


def test_cka_does_not_see_rotations_scales_and_shifts():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 6, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    assert linear_cka(x, 7 * x @ turn - 4) == pytest.approx(1, abs=1e-6)
    assert linear_cka(x, x.pow(3)) < 0.999
    assert math.isnan(linear_cka(x, torch.ones(30, 2)))


# ------------------------------------------------------------------ scores from outputs

LABELS = torch.tensor([0, 2, 1, 2])


@pytest.mark.parametrize(
    ("outputs", "batch"),
    [
        (torch.randn(4, 3), (torch.zeros(4, 7), LABELS)),
        (torch.randn(4, 3), [torch.zeros(4), torch.zeros(4), LABELS]),
        (torch.randn(4, 3), {"x": torch.zeros(4), "labels": LABELS}),
        (torch.randn(4, 3), {"target": LABELS, "x": torch.zeros(4)}),
        (SimpleNamespace(logits=torch.randn(4, 3)), (torch.zeros(4), LABELS)),
    ],
)
def test_scores_are_found_where_a_network_classifies(outputs, batch):
    found = class_scores(outputs, batch)
    assert torch.equal(found.scores, getattr(outputs, "logits", outputs))
    assert torch.equal(found.labels, LABELS)
    assert labelled_rows(found).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("outputs", "batch"),
    [
        (torch.randn(4, 3), (torch.zeros(4, 7), torch.rand(4))),  # a regression
        (torch.randn(4), (torch.zeros(4, 7), LABELS)),
        (torch.randn(4, 1), (torch.zeros(4, 7), torch.zeros(4, dtype=torch.int64))),
        (torch.randn(4, 2), (torch.zeros(4, 7), LABELS)),  # a label without a score
        (torch.randn(5, 3), (torch.zeros(4, 7), LABELS)),
        (torch.randn(4, 3), (torch.zeros(4, 7), LABELS > 0)),
        (torch.randn(4, 3), {"x": torch.zeros(4)}),
        (torch.randn(4, 3), (torch.zeros(4),)),
        ({"a": torch.randn(4, 3)}, (torch.zeros(4), LABELS)),
        (torch.randn(4, 3), torch.zeros(4)),
    ],
)
def test_there_are_no_scores_where_it_does_not(outputs, batch):
    assert labelled_rows(class_scores(outputs, batch)) is None


def test_every_position_of_a_sequence_is_a_row_and_labels_below_0_are_none():
    outputs = torch.randn(2, 5, 3)
    labels = torch.tensor([[0, -100, 4], [1, 2, -100]])
    found = class_scores(outputs, (torch.zeros(2), labels))
    rows = labelled_rows(found)
    assert found.labels[rows].tolist() == [0, 4, 1, 2]
    expected = torch.stack([outputs[0, :, 0], outputs[0, :, 2], outputs[1, :, 0], outputs[1, :, 1]])
    assert torch.equal(found.scores[rows], expected)


def test_watching_ends_with_its_context():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    with watching(network, features=True) as seen:
        outputs = network(x)
    assert torch.equal(seen.outputs, outputs)
    assert torch.equal(seen.features, network[:2](x))
    network(torch.randn(5, 3))
    assert torch.equal(seen.outputs, outputs)


# ------------------------------------------------------------------ predictions of a risk


def risk_of(name, batch_size=8, **more):
    problem = problem_of(name)
    space = ParameterSpace(problem.model)
    return EmpiricalRisk(space, problem, batch_size=batch_size, **more), problem


@pytest.mark.parametrize("name", sorted(networks()))
@pytest.mark.parametrize("split", ["train", "test"])
def test_predictions_are_those_of_the_network(name, split):
    """Batches of eight out of 23 and 9 examples; batch norm is folded on the way."""
    risk, problem = risk_of(name)
    theta = risk.space.theta + 0.1 * torch.randn(risk.dimension, generator=torch.Generator().manual_seed(0))
    found = predict_at(risk, theta, split, features=True)
    inputs, labels = problem.data.splits[split].tensors
    network = module_at(risk, theta)
    with torch.no_grad(), watching(network, features=True) as seen:
        expected = network(inputs).log_softmax(dim=1)
    torch.testing.assert_close(found.log_probabilities, expected)
    torch.testing.assert_close(found.features, seen.features)
    assert torch.equal(found.labels, labels)
    assert risk.size(split) == len(labels)


def test_likelihood_and_calibration_are_measured_when_asked_for():
    risk, _ = risk_of("buffers")
    theta = risk.space.theta.clone()
    plain, calibrated = measure_at(risk, theta)["train"], measure_at(risk.select(calibrated=True), theta)["train"]
    assert math.isnan(plain.nll)
    assert math.isnan(plain.calibration_error)
    found = predict_at(risk, theta, "train")
    confidence, chosen = found.log_probabilities.max(dim=1)
    assert calibrated.nll == pytest.approx(negative_log_likelihood(found.log_probabilities, found.labels), rel=1e-6)
    assert calibrated.nll == pytest.approx(calibrated.loss, rel=1e-5)  # as the loss is cross entropy
    assert calibrated.calibration_error == pytest.approx(calibration_error(confidence.exp(), chosen == found.labels))
    assert torch.equal(calibrated.losses, plain.losses)
    assert torch.equal(calibrated.right, (chosen == found.labels).double())


def test_a_regression_has_losses_alone():
    model = nn.Linear(3, 1)
    data = (torch.randn(20, 3), torch.randn(20, 1))
    problem = Problem.of(
        model, {"train": data}, loss=lambda network, batch: (network(batch[0]) - batch[1]).square()[:, 0]
    )
    risk = EmpiricalRisk(ParameterSpace(model), problem, batch_size=8).select(calibrated=True)
    measured = measure_at(risk, risk.space.theta.clone())["train"]
    assert math.isnan(measured.nll)
    assert measured.loss > 0
    with pytest.raises(ProblemError, match="not scores"):
        predict_at(risk, risk.space.theta.clone(), "train")


def test_statistics_of_one_point_are_taken_once_and_those_of_another_anew():
    """Measuring and predicting at the same point need one exact pass; anything that moves the network ends that."""
    problem = problem_of("buffers")
    space = ParameterSpace(problem.model)
    passes = []

    class Counting:
        name = "recomputed"

        def __init__(self):
            self._policy = Recomputed(problem.data.splits["train"], problem.loss, 8)

        def place(self, space, theta):
            passes.append(1)
            self._policy.place(space, theta)

    risk = EmpiricalRisk(space, problem, batch_size=8, statistics=Counting())
    theta = space.theta.clone()
    first = measure_at(risk, theta)["train"].loss
    predict_at(risk, theta, "test")
    measure_at(risk.select(splits=["test"]), theta)
    assert len(passes) == 1
    measure_at(risk, theta + 0.1)
    assert len(passes) == 2
    assert measure_at(risk, theta)["train"].loss == first
    assert len(passes) == 3
    for _ in risk.batch_gradient(theta, [slice(0, 23)]):
        pass
    assert measure_at(risk, theta)["train"].loss == first
    assert len(passes) == 4


def test_positions_without_a_label_count_in_no_figure():
    """Loss, accuracy, likelihood and predictions all leave out the label -100."""
    model = nn.Conv1d(2, 3, 1)
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(6, 2, 5, generator=generator), torch.randint(3, (6, 5), generator=generator)
    labels[:, 3:] = -100
    risk = EmpiricalRisk(ParameterSpace(model), Problem.of(model, {"train": (x, labels)}), batch_size=4)
    short = EmpiricalRisk(
        ParameterSpace(model), Problem.of(model, {"train": (x[..., :3], labels[:, :3])}), batch_size=4
    )
    theta = risk.space.theta.clone()
    masked, plain = (measure_at(r.select(calibrated=True), theta)["train"] for r in (risk, short))
    for name in ("loss", "accuracy", "nll", "calibration_error"):
        assert getattr(masked, name) == pytest.approx(getattr(plain, name), rel=1e-6)


# ------------------------------------------------------------------ tokens


def token_risk(batch_size=4):
    """The risk of a language model, its network, and the sequences of tokens that are shown."""
    problem = token_problem()
    risk = EmpiricalRisk(ParameterSpace(problem.model), problem, batch_size=batch_size)
    tokens, mask = problem.data.splits["train"].tensors.values()
    shown = [tokens[i, : int(mask[i].sum())] for i in range(len(tokens))]
    return risk, problem.model, shown


def next_tokens(network, shown):
    """The log-probabilities of each next token, the features they follow from, and the tokens."""
    with torch.no_grad():
        rows = [torch.tanh(network.embedding(sequence[:-1])) for sequence in shown]
        features = torch.cat(rows)
        return network.head(features).log_softmax(1), features, torch.cat([sequence[1:] for sequence in shown])


def test_every_token_with_a_label_is_a_row():
    risk, network, shown = token_risk()
    theta = risk.space.theta.clone()
    found = predict_at(risk, theta, "train", features=True)
    log_probabilities, features, labels = next_tokens(network, shown)
    torch.testing.assert_close(found.log_probabilities, log_probabilities)
    torch.testing.assert_close(found.features, features)
    assert torch.equal(found.labels, labels)
    assert found.positions == len(labels)
    measured = measure_at(risk.select(calibrated=True), theta)["train"]
    assert measured.nll == pytest.approx(negative_log_likelihood(log_probabilities, labels), rel=1e-6)
    sequences = [negative_log_likelihood(*next_tokens(network, [sequence])[::2]) for sequence in shown]
    assert measured.loss == pytest.approx(sum(sequences) / len(sequences), rel=1e-6)
    assert abs(measured.loss - measured.nll) > 1e-4  # a sequence weighs the same, however long, but so does a token


@pytest.mark.parametrize("batch_size", [1, 4, 11])
@pytest.mark.parametrize("most", [1, 5, 20, 51])
def test_of_too_many_tokens_a_random_sample_is_kept_however_they_are_batched(batch_size, most):
    risk, network, shown = token_risk(batch_size)
    log_probabilities, features, labels = next_tokens(network, shown)
    assert len(labels) == 54
    rows = np.sort(np.argsort(np.random.default_rng(0).random(len(labels)))[:most])
    found = predict_at(risk, risk.space.theta.clone(), "train", features=True, numbers=most * (WORDS + 4) + 3)
    torch.testing.assert_close(found.log_probabilities, log_probabilities[rows])
    torch.testing.assert_close(found.features, features[rows])
    assert found.labels.tolist() == labels[rows].tolist()
    assert found.positions == len(labels)


def test_examples_of_one_position_are_all_kept():
    risk, _ = risk_of("buffers")
    assert len(predict_at(risk, risk.space.theta.clone(), "train", numbers=1).labels) == 23


def test_what_is_measured_of_many_rows_does_not_depend_on_how_many_are_looked_at_at_once(monkeypatch):
    risk, _, _ = token_risk()
    theta = risk.space.theta.clone()
    whole = measure_at(risk.select(calibrated=True), theta)["train"]
    monkeypatch.setattr(predictions, "NUMBERS", 13)
    parts = measure_at(risk.select(calibrated=True), theta)["train"]
    assert (parts.nll, parts.calibration_error) == (whole.nll, whole.calibration_error)


def test_binary_labels_have_a_likelihood():
    model = nn.Linear(3, 2)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 3, generator=generator), torch.randint(2, (9, 2), generator=generator).float()
    risk = EmpiricalRisk(ParameterSpace(model), Problem.of(model, {"train": (x, y)}, "bce"), batch_size=4)
    measured = measure_at(risk.select(calibrated=True), risk.space.theta.clone())["train"]
    assert measured.nll == pytest.approx(measured.loss, rel=1e-6)
    with torch.no_grad():
        probabilities = torch.sigmoid(model(x))
    assert measured.accuracy == pytest.approx(float(((probabilities > 0.5) == y.bool()).double().mean()))
    chosen = predict_at(risk, risk.space.theta.clone(), "train").log_probabilities.argmax(1)
    assert torch.equal(chosen, (probabilities > 0.5).long().flatten())
