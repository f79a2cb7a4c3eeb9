"""Where scores are found in what networks return, and what networks are called with."""

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from landscape import Problem, ProblemSpecification, build_problem
from landscape.errors import ConfigError, ProblemError
from landscape.problems.outputs import OUTPUTS, USUAL, as_outputs, outputs_of, run

SCORES = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
Named = namedtuple("Named", "logits state")


@pytest.mark.parametrize(
    ("result", "dim"),
    [
        (SCORES, 1),
        ((SCORES, "state"), 1),
        ([SCORES], 1),
        (OrderedDict(out=SCORES, aux=SCORES + 1), 1),
        ({"loss": torch.ones(()), "logits": SCORES}, 2),
        (SimpleNamespace(logits=SCORES), 2),
        (Named(SCORES, "state"), 2),
    ],
    ids=["tensor", "tuple", "list", "segmentation", "dictionary", "attribute", "named tuple"],
)
def test_scores_are_found_in_every_usual_result(result, dim):
    usual = USUAL.scores(result)
    assert usual.values is SCORES
    assert usual.dim == dim
    assert OUTPUTS["classes_first"].scores(result).dim == 1
    last = OUTPUTS["classes_last"].scores(result)
    assert last.dim == 2
    assert last.classes == 4
    assert last.places == (2, 3)


def test_a_row_is_the_scores_of_one_place():
    first, last = (OUTPUTS[name].scores(SCORES) for name in ("classes_first", "classes_last"))
    assert torch.equal(last.rows()[4], SCORES[1, 1])
    assert torch.equal(first.rows()[5], SCORES[1, :, 1])
    assert last.rows().data_ptr() == SCORES.data_ptr()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"a": SCORES, "b": 1}, "a dict with a, b gives nothing, expected a tensor"),
        ((), "a tuple of nothing gives nothing"),
        (("text", SCORES), "a tuple of str, Tensor gives a str"),
        (torch.ones(()), r"a Tensor \[\] gives a Tensor \[\]"),
        (None, "nothing gives nothing"),
    ],
)
def test_a_result_without_scores_is_described(result, message):
    with pytest.raises(ProblemError, match=f"no scores are found.*{message}.*`outputs` name a function"):
        USUAL.scores(result)


def test_a_function_gives_scores_with_the_classes_last():
    scores = as_outputs(lambda result: result["deep"][0]).scores({"deep": [SCORES]})
    assert scores.values is SCORES
    assert scores.dim == 2
    with pytest.raises(ProblemError, match=r"a dict with deep, which <lambda> was given, gives a list of Tensor"):
        as_outputs(lambda result: result["deep"]).scores({"deep": [SCORES]})


class Recording(nn.Module):
    """Notes what it is called with."""

    def forward(self, *inputs, **named):
        return inputs, named


@pytest.mark.parametrize(
    ("batch", "inputs", "named"),
    [
        ((1, 2), (1,), {}),
        ([1, 2], (1,), {}),
        (({"a": 1}, 2), ({"a": 1},), {}),
        ({"input_ids": 1, "labels": 2}, (1,), {}),
        ({"x": 1, "target": 2}, (1,), {}),
        ({"input_ids": 1, "attention_mask": 3, "labels": 2}, (), {"input_ids": 1, "attention_mask": 3}),
    ],
)
def test_a_network_is_called_with_everything_but_the_labels(batch, inputs, named):
    assert run(Recording(), batch) == (inputs, named)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((1, 2, 3), r"a batch is a tuple of 3, expected a pair \(inputs, targets\), or a mapping with labels"),
        (torch.ones(3), "a batch is a Tensor, expected a pair"),
        ({"labels": 1}, "a batch has the entries labels, expected inputs beside"),
    ],
)
def test_a_batch_that_no_network_can_be_called_with(batch, message):
    with pytest.raises(ProblemError, match=message):
        run(Recording(), batch)


class Last(nn.Linear):
    output_layout = "classes_last"


def test_a_network_may_say_where_its_classes_lie_and_a_name_counts_more():
    data = {"train": (torch.randn(4, 5, 3), torch.zeros(4, 5, dtype=torch.int64))}
    assert Problem.of(Last(3, 2), data).outputs == OUTPUTS["classes_last"]
    assert Problem.of(Last(3, 2), data).loss.outputs == OUTPUTS["classes_last"]
    assert Problem.of(Last(3, 2), data, outputs="classes_first").loss.outputs == OUTPUTS["classes_first"]
    assert outputs_of(nn.Linear(3, 2)) == USUAL
    network = nn.Linear(3, 2)
    network.output_layout = "sideways"
    with pytest.raises(ProblemError, match="the outputs are 'sideways', expected classes_first, classes_last or a f"):
        Problem.of(network, data)


OWN = """
import torch

class Nested(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 4)

    def forward(self, x):
        return {"head": [self.linear(x)]}

def data():
    x = torch.linspace(-1, 1, 120).view(8, 5, 3)
    return {"train": (x, (x[..., 0] > 0).long()), "test": (x, (x[..., 0] > 0).long())}

def scores(result):
    return result["head"][0]
"""


def test_outputs_are_named_in_files_by_flags_and_carried_by_checkpoints(call, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text(OWN)
    problem = tmp_path / "problem.yaml"
    problem.write_text(f"model: {code}:Nested\ndata: {code}:data\noutputs: {code}:scores\ntrain: {{epochs: 1}}\n")
    out = tmp_path / "a.safetensors"
    assert call("train", "--problem", problem, "--out", out)[0] == 0
    named = ["--model", f"{code}:Nested", "--data", f"{code}:data"]
    line = ["line", "--a", out, "--range", "0:1:2", "--out", tmp_path / "l.h5"]
    status, _, errors = call(*line, *named)
    assert status == 2
    assert f"names outputs = '{code}:scores', not built in here" in errors
    assert call(*line, *named, "--outputs", f"{code}:scores")[0] == 0
    status, _, errors = call(*line[:-1], tmp_path / "m.h5", *named, "--outputs", "classes_last")
    assert status == 2
    assert "no scores are found in what the network returns: a dict with head gives nothing" in errors
    status, _, errors = call(*line[:-1], tmp_path / "m.h5", *named, "--outputs", "last")
    assert status == 2
    assert "unknown outputs 'last'" in errors
    assert "Known are classes_first, classes_last, or package.module" in errors


def test_a_specification_states_outputs_only_where_they_are_named_and_drops_them_with_the_model():
    plain = ProblemSpecification(model="mlp", data="digits")
    assert "outputs" not in plain.to_mapping()
    named = plain.updated(outputs="classes_last")
    assert ProblemSpecification.from_mapping(named.to_mapping(), "here") == named
    assert build_problem(named).loss.outputs == OUTPUTS["classes_last"]
    assert named.updated(model="cnn").outputs is None
    assert named.updated(model="mlp").outputs == "classes_last"
    with pytest.raises(ConfigError, match="unknown outputs 'first'"):
        build_problem(plain.updated(outputs="first"))
