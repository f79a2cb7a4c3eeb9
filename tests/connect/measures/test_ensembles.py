"""Ensembles against predictions that are averaged by hand, and similarity to the ends against its definition."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from connect import Bezier, Path, measure_ensemble, profile
from connect.measures import similarity
from connect.measures.ensembles import mean_disagreement, score
from connect.measures.similarity import Similarity, average, disagreement, divergence
from connect.measures.summaries import measured_path
from connect.paths.path import builder
from landscape import EmpiricalRisk, Interrupted, ParameterSpace, Problem, Result, ResultWriter
from landscape.errors import ProblemError
from landscape.risk.network import NetworkPoint
from landscape.risk.predictions import calibration_error, linear_cka
from tests.oracles import WORDS, Signalling, problem_of, token_problem
from tests.points import measure_at, module_at, predict_at


def bent(name="buffers", spread=0.5):
    """A bent path of networks, and their risk."""
    problem = problem_of(name)
    space = ParameterSpace(problem.model)
    risk = EmpiricalRisk(space, problem, batch_size=8)
    noise = spread * torch.randn(3, space.dimension, generator=torch.Generator().manual_seed(3))
    return Path(space.theta + noise, Bezier(3), build=builder(risk)), risk, problem


def predicted(path, t, problem):
    inputs = problem.data.splits["test"].tensors[0]
    with torch.no_grad():
        return path.module(t)(inputs).softmax(dim=1).double()


def test_averages_are_those_of_probabilities():
    path, risk, problem = bent()
    result = measure_ensemble(path, risk, 4)
    members = result.sweeps["members"]
    labels = problem.data.splits["test"].tensors[1]
    probabilities = [predicted(path, t, problem) for t in members["t"]]
    for count in range(1, 5):
        mean = sum(probabilities[:count]) / count
        right = mean.argmax(dim=1) == labels
        row = {name: members[name][count - 1] for name in ("accuracy", "nll", "calibration_error")}
        assert row["accuracy"] == pytest.approx(float(right.double().mean()))
        assert row["nll"] == pytest.approx(float(F.nll_loss(mean.log(), labels)), rel=1e-5)
        assert row["calibration_error"] == pytest.approx(calibration_error(mean.max(dim=1).values, right), abs=1e-5)
        own = probabilities[count - 1]
        assert members["member_nll"][count - 1] == pytest.approx(float(F.nll_loss(own.log(), labels)), rel=1e-5)
    assert result.facts["scores"]["ensemble of 4 members"]["nll"] == members["nll"][-1]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    differ = [(probabilities[i].argmax(1) != probabilities[j].argmax(1)).double().mean() for i, j in pairs]
    assert result.facts["diversity"] == pytest.approx(float(np.mean(differ)))


def test_ends_and_averages_of_weights_are_scored_as_the_networks_that_they_are():
    path, risk, problem = bent()
    result = measure_ensemble(path, risk, 3)
    scores = result.facts["scores"]
    labels = problem.data.splits["test"].tensors[1]

    def nll(theta):
        with torch.no_grad():
            return float(F.cross_entropy(module_at(risk, theta)(problem.data.splits["test"].tensors[0]), labels))

    assert scores["end a"]["nll"] == pytest.approx(nll(path(0.0)), rel=1e-5)
    assert scores["end b"]["nll"] == pytest.approx(nll(path(1.0)), rel=1e-5)
    assert scores["weight average of the ends"]["nll"] == pytest.approx(nll((path(0.0) + path(1.0)) / 2), rel=1e-4)
    mean = torch.stack([path(t) for t in result.sweeps["members"]["t"]]).mean(dim=0)
    assert scores["weight average of the members"]["nll"] == pytest.approx(nll(mean), rel=1e-4)
    both = (predicted(path, 0.0, problem) + predicted(path, 1.0, problem)) / 2
    assert scores["ensemble of the ends"]["nll"] == pytest.approx(float(F.nll_loss(both.log(), labels)), rel=1e-5)


def test_members_lie_at_equal_lengths_and_the_ends_come_first():
    path, risk, _ = bent()
    t = measure_ensemble(path, risk, 5).sweeps["members"]["t"]
    assert t[0] == 0
    assert t[1] == 1
    np.testing.assert_allclose(path.geometry.arc(np.sort(t)), np.linspace(0, path.length(), 5), rtol=1e-6, atol=1e-9)
    assert path.geometry.arc(t[2:3]) == pytest.approx(path.length() / 2)


def test_greedy_members_are_each_the_farthest_from_those_before():
    """Against an exhaustive look at all candidates, by mean total variation."""
    path, risk, problem = bent(spread=1.5)
    candidates = path.geometry.even(9)
    probabilities = [predicted(path, t, problem) for t in candidates]
    t = measure_ensemble(path, risk, 5, candidates=9).sweeps["members"]["t"]

    def apart(i, j):
        return float((probabilities[i] - probabilities[j]).abs().sum(dim=1).mean()) / 2

    taken = [0, 8]
    while len(taken) < 5:
        rest = [i for i in range(9) if i not in taken]
        taken.append(max(rest, key=lambda i: min(apart(i, j) for j in taken)))
    np.testing.assert_allclose(t, candidates[taken])
    assert not np.allclose(np.sort(t), path.geometry.even(5))


def test_an_interrupted_ensemble_goes_on(tmp_path):
    path, risk, _ = bent()
    whole = measure_ensemble(path, risk, 5)
    file = tmp_path / "e.h5"
    begun = Result("ensemble", {})
    with pytest.raises(Interrupted):
        measure_ensemble(path, risk, 5, writer=ResultWriter(file, begun), report=Signalling(3))
    resumed = measure_ensemble(path, risk, 5, writer=ResultWriter(file, begun, resume=True))
    assert resumed.facts == whole.facts
    for name, values in whole.sweeps["members"].values.items():
        np.testing.assert_array_equal(resumed.sweeps["members"][name], values)


def test_networks_that_do_not_classify_have_no_ensemble():
    model = nn.Linear(3, 1)
    data = (torch.randn(20, 3), torch.randn(20, 1))
    problem = Problem.of(
        model, {"train": data, "test": data}, loss=lambda network, batch: (network(batch[0]) - batch[1]).square()[:, 0]
    )
    space = ParameterSpace(model)
    path = Path(torch.stack([space.theta.clone(), space.theta + 1]), Bezier(2))
    risk = EmpiricalRisk(space, problem, batch_size=8)
    with pytest.raises(ProblemError, match="not scores"):
        measure_ensemble(path, risk, 3)
    measured = measured_path(profile(path, risk, [0.0, 0.5, 1.0]), "path")
    assert "disagreement_a" not in measured.values
    assert (measured["train_loss"] > 0).all()


# ------------------------------------------------------------------ similarity


def test_likeness_to_the_ends_against_its_definitions():
    path, risk, problem = bent()
    theta = path(0.4)
    told = Similarity(risk, path(0.0), path(1.0), "test")(0, lambda _: theta, None)
    here = predicted(path, 0.4, problem)
    for name, t in (("a", 0.0), ("b", 1.0)):
        end = predicted(path, t, problem)
        assert told[f"disagreement_{name}"] == pytest.approx(float((here.argmax(1) != end.argmax(1)).double().mean()))
        kl = float((end * (end.log() - here.log())).sum(dim=1).mean())
        assert told[f"kl_{name}"] == pytest.approx(kl, rel=1e-4)
        features = [predict_at(risk, at, "test", features=True).features for at in (theta, path(t))]
        assert told[f"cka_{name}"] == pytest.approx(linear_cka(*features))
    at_a = Similarity(risk, path(0.0), path(1.0), "test")(0, lambda _: path(0.0), None)
    assert at_a["disagreement_a"] == 0
    assert at_a["kl_a"] == pytest.approx(0, abs=1e-9)
    assert at_a["cka_a"] == pytest.approx(1)


def test_a_profile_holds_what_the_risk_says_at_each_place():
    path, risk, _ = bent()
    result = profile(path, risk, [0.0, 0.3, 1.0], tolerance=math.inf)
    measured = result.sweeps["path"]
    calibrated = risk.select(calibrated=True)
    for i, t in enumerate(measured["t"]):
        for split, found in measure_at(calibrated, path(t)).items():
            assert measured[f"{split}_nll"][i] == pytest.approx(found.nll, rel=1e-6)
            assert measured[f"{split}_calibration_error"][i] == pytest.approx(found.calibration_error, rel=1e-6)
            np.testing.assert_allclose(measured[f"{split}_losses"][i], found.losses.numpy(), rtol=1e-5)
            np.testing.assert_array_equal(measured[f"{split}_right"][i], found.right.numpy())
    np.testing.assert_allclose(measured["arc"], path.geometry.arc(measured["t"]))
    np.testing.assert_allclose(measured["norm"], [float(path(t).norm()) for t in measured["t"]], rtol=1e-5)
    assert set(result.sweeps) == {"path", "straight"}


def test_measures_between_predictions_by_hand():
    one = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]).log()
    other = torch.tensor([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]]).log()
    assert disagreement(one, other) == 0.5
    assert divergence(one, other) == pytest.approx((0.5 * math.log(2) + 0.25 * math.log(0.5)) / 2, rel=1e-6)
    torch.testing.assert_close(average([one, other]).exp(), (one.exp() + other.exp()).double() / 2)
    assert mean_disagreement([one, other, one]) == pytest.approx((0.5 + 0.5 + 0) / 3)
    found = score(one, torch.tensor([1, 1]))
    assert found.accuracy == 0.5
    assert found.nll == pytest.approx(-(math.log(0.25) + math.log(0.8)) / 2)


def test_predictions_of_many_rows_are_compared_and_averaged_in_parts(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(50, 4, generator=generator).log_softmax(1) for _ in "ab")
    whole = divergence(one, other), average([one, other])
    expected = (one.double().exp() * (one.double() - other.double())).sum(1).mean()
    assert whole[0] == pytest.approx(float(expected), rel=1e-6)
    monkeypatch.setattr(similarity, "_AT_ONCE", 13)
    assert divergence(one, other) == pytest.approx(whole[0], rel=1e-12)
    torch.testing.assert_close(average([one, other]), whole[1])
    torch.testing.assert_close(whole[1].exp(), (one.double().exp() + other.double().exp()) / 2)


def token_path():
    problem = token_problem()
    space = ParameterSpace(problem.model)
    risk = EmpiricalRisk(space, problem, batch_size=4)
    noise = torch.randn(3, space.dimension, generator=torch.Generator().manual_seed(3))
    return Path(space.theta + noise, Bezier(3), build=builder(risk)), risk


def test_a_path_of_language_models_is_measured_at_every_token():
    path, risk = token_path()
    measured = profile(path, risk, [0.0, 0.5, 1.0], tolerance=0)
    assert "positions" not in measured.facts
    way = measured.sweeps["path"]
    here, end = (predict_at(risk, path(t), "train") for t in (0.5, 1.0))
    assert way["nll", "train"][1] == pytest.approx(float(F.nll_loss(here.log_probabilities.double(), here.labels)))
    np.testing.assert_allclose(way["perplexity", "train"], np.exp(way["nll", "train"]))
    assert way["kl_b"][1] == pytest.approx(divergence(end.log_probabilities, here.log_probabilities))
    assert way["disagreement_b"][1] == disagreement(here.log_probabilities, end.log_probabilities)
    assert 0 < way["cka_b"][1] < way["cka_b"][2]


def test_where_there_are_too_many_tokens_results_say_how_many_are_held(monkeypatch):
    path, risk = token_path()
    monkeypatch.setattr(similarity, "_ALTOGETHER", 20 * WORDS * 5)
    ensemble = measure_ensemble(path, risk, 3, split="train")
    assert ensemble.facts["positions"] == {"held": 20, "of": 54}
    assert ensemble.sweeps["networks"]["log_probabilities"].shape == (3, 20, WORDS)
    monkeypatch.setattr(NetworkPoint.predict, "__kwdefaults__", {"features": False, "numbers": 20 * (WORDS + 4)})
    measured = profile(path, risk, [0.0, 1.0], tolerance=0)
    assert measured.facts["positions"] == {"held": 20, "of": 54}
