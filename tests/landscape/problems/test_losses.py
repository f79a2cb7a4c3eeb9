"""Losses against torch's own reductions and sums written out."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape import EmpiricalRisk, ParameterSpace, Problem
from landscape.errors import ProblemError
from landscape.problems.losses import bce, causal_lm, cross_entropy, mse, per_example, with_outputs
from landscape.problems.outputs import OUTPUTS
from tests.points import measure_at

B, T, V = 3, 5, 4
HALF = [[0, 1, 2, 3, 0], [-100, 1, -100, 2, 3], [-100] * 5]


class Giving(nn.Module):
    """Gives the same result whatever it is called with."""

    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, *_, **__):
        return self.result


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def naive_cross_entropy(scores, labels):
    """-log p of the label for each row `[C]`, averaged over the rows that have one."""
    rows = [-float(row.log_softmax(0)[k]) for row, k in zip(scores, labels, strict=True) if k != -100]
    return sum(rows) / len(rows) if rows else 0.0


def naive_right(scores, labels):
    rows = [float(row.argmax() == k) for row, k in zip(scores, labels, strict=True) if k != -100]
    return sum(rows) / len(rows) if rows else 0.0


def of(result, targets, loss=cross_entropy, layout=None):
    loss = with_outputs(loss, OUTPUTS[layout]) if layout else loss
    return per_example(loss, Giving(result), (torch.zeros(len(targets)), targets))


# ------------------------------------------------------------------ cross entropy


@pytest.mark.parametrize("layout", ["classes_first", "classes_last"])
@pytest.mark.parametrize("classes", [V, T])  # as many classes as positions, too
def test_cross_entropy_of_positions_leaves_out_what_has_no_label(layout, classes):
    scores, labels = drawn(B, T, classes), torch.tensor(HALF)
    losses, right = of(scores if layout == "classes_last" else scores.movedim(-1, 1), labels, layout=layout)
    expected = [naive_cross_entropy(*each) for each in zip(scores, HALF, strict=True)]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    np.testing.assert_allclose(right, [naive_right(*each) for each in zip(scores, HALF, strict=True)])
    assert float(losses[0]) == pytest.approx(float(F.cross_entropy(scores[0], labels[0])), rel=1e-12)


def test_cross_entropy_of_pixels_is_torchs():
    scores, labels = drawn(2, 3, 4, 4), torch.randint(3, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(scores, labels, reduction="none").flatten(1).mean(1)
    for result, layout in ((scores, None), ({"out": scores}, None), (scores.movedim(1, -1), "classes_last")):
        torch.testing.assert_close(of(result, labels, layout=layout)[0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 3, 4)])
def test_cross_entropy_of_probabilities_is_torchs(shape):
    """Softened labels; with the classes at dimension 1 and last."""
    scores, wanted = drawn(3, *shape), drawn(3, *shape).square().softmax(-1)
    expected = -(wanted * scores.log_softmax(-1)).sum(-1)
    expected = expected.flatten(1).mean(1) if expected.ndim > 1 else expected
    last = of(scores, wanted, layout="classes_last")[0]
    first = of(scores.movedim(-1, 1), wanted.movedim(-1, 1))[0]
    torch.testing.assert_close(last, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(first, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("wrong", "words"), [(7, "from 0 to 7, expected 0 to 3 for the network's 4 scores"),
                                              (-1, "from -1 to 1, expected 0 to 3")])  # fmt: skip
@pytest.mark.parametrize("loss", [cross_entropy, causal_lm])
def test_labels_out_of_range_are_named(wrong, words, loss):
    labels = torch.tensor([[0, wrong, 1, -100]])
    with pytest.raises(ProblemError, match=f"the labels of a batch reach {words}"):
        of(drawn(1, 4, 4), labels, loss)


@pytest.mark.parametrize(
    ("scores", "targets", "loss"),
    [
        (drawn(3, 4), torch.zeros(3), cross_entropy),  # floating numbers
        (drawn(3, 4), torch.zeros(3, dtype=torch.bool), cross_entropy),
        (drawn(3, 4), torch.zeros(3, 2).long(), cross_entropy),
        (drawn(3, 5, 4), torch.zeros(3, 5).long(), cross_entropy),  # tokens, but the classes are taken to be first
        (drawn(3), torch.zeros(3).long(), cross_entropy),
        (drawn(3, 5, 4), torch.zeros(3, 4).long(), causal_lm),
        (drawn(3, 2), torch.zeros(3, 3), mse),
        (drawn(3, 2), torch.zeros(3, 2).long(), mse),
    ],
)
def test_targets_that_do_not_fit_are_described(scores, targets, loss):
    with pytest.raises(ProblemError) as raised:
        of(scores, targets, loss)
    message = str(raised.value)
    assert f"the targets are {targets.dtype} {list(targets.shape)} for scores {list(scores.shape)}" in message
    assert "expected" in message
    assert "`outputs`" in message


def test_scores_in_low_precision_lose_nothing_more():
    scores, labels = drawn(3, 50).bfloat16(), torch.tensor([1, 2, 3])
    torch.testing.assert_close(
        of(scores, labels)[0], F.cross_entropy(scores.double(), labels, reduction="none").float()
    )


# ------------------------------------------------------------------ the next token


def test_labels_of_a_mapping_are_for_the_token_before_and_those_of_a_pair_for_their_own():
    scores, labels = drawn(B, T, V), torch.tensor(HALF)
    shifted = [naive_cross_entropy(s[:-1], k[1:]) for s, k in zip(scores, HALF, strict=True)]
    batch = {"input_ids": torch.zeros(B, T).long(), "labels": labels}
    losses, right = per_example(causal_lm, Giving({"logits": scores}), batch)
    np.testing.assert_allclose(losses, shifted, rtol=1e-12)
    np.testing.assert_allclose(right, [naive_right(s[:-1], k[1:]) for s, k in zip(scores, HALF, strict=True)])
    in_place = [naive_cross_entropy(s, k) for s, k in zip(scores, HALF, strict=True)]
    np.testing.assert_allclose(of(scores, labels, causal_lm)[0], in_place, rtol=1e-12)


def test_tokens_are_their_own_labels_where_none_are_given():
    scores, tokens = drawn(2, T, V), torch.tensor([[1, 2, 3, 0, 0], [3, 2, 1, 0, 1]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1] * 5])
    batch = {"input_ids": tokens, "attention_mask": mask}
    losses, _ = per_example(causal_lm, Giving(scores), batch)
    hidden = tokens.masked_fill(mask == 0, -100).tolist()
    np.testing.assert_allclose(
        losses, [naive_cross_entropy(s[:-1], k[1:]) for s, k in zip(scores, hidden, strict=True)]
    )
    whole, _ = per_example(causal_lm, Giving(scores), {"input_ids": tokens})
    assert float(whole[1]) == float(losses[1])
    with pytest.raises(ProblemError, match=r"neither labels nor input_ids with an attention_mask.*; it has x"):
        per_example(causal_lm, Giving(scores), {"x": tokens})


def test_labels_that_are_the_tokens_themselves_are_for_the_next_token_alone():
    """Hugging Face's batches hold them so; what predicts the token that it reads would look perfect."""
    tokens = torch.tensor([[1, 2, 3, 0], [3, 2, 1, 1]])
    batch = {"input_ids": tokens, "labels": tokens.masked_fill(tokens == 0, -100)}
    network = nn.Embedding(V, V)
    network.output_layout = "classes_last"

    def of_ones_own(model, batch):
        return model(batch["input_ids"]).square().flatten(1).mean(1)

    with pytest.raises(ProblemError, match=r"labels of a batch are its input_ids.*take causal_lm"):
        EmpiricalRisk(ParameterSpace(network), Problem.of(network, {"train": batch}), batch_size=2)
    risk = EmpiricalRisk(ParameterSpace(network), Problem.of(network, {"train": batch}, of_ones_own), batch_size=2)
    measured = measure_at(risk.select(calibrated=True), risk.space.theta.clone())["train"]
    assert np.isnan(measured.nll)
    for problem in (
        Problem.of(network, {"train": batch}, "causal_lm"),
        Problem.of(network, {"train": (tokens, tokens)}),
        Problem.of(network, {"train": {**batch, "labels": tokens.flip(0)}}),
    ):
        risk = EmpiricalRisk(ParameterSpace(network), problem, batch_size=2).select(calibrated=True)
        assert measure_at(risk, risk.space.theta.clone())["train"].nll > 0
    with pytest.raises(ProblemError, match=r"has the entries input_ids, expected .* loss causal_lm"):
        per_example(cross_entropy, network, {"input_ids": tokens})


# ------------------------------------------------------------------ binary cross entropy


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 3)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32, torch.float64])
def test_binary_cross_entropy_is_torchs(shape, dtype):
    logits = drawn(*shape)
    targets = (drawn(*shape).flip(0) > 0).to(dtype)
    losses, right = of(logits, targets.squeeze(-1) if shape == (6, 1) else targets, bce)
    expected = F.binary_cross_entropy_with_logits(logits, targets.double(), reduction="none")
    torch.testing.assert_close(losses, expected.view(6, -1).mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(right, ((logits.sigmoid() > 0.5) == targets).double().view(6, -1).mean(1).float())


def test_targets_of_binary_cross_entropy_may_be_soft_but_not_beyond():
    logits, soft = drawn(4), torch.tensor([0.0, 0.25, 0.5, 1.0])
    expected = F.binary_cross_entropy_with_logits(logits, soft.double(), reduction="none")
    torch.testing.assert_close(of(logits, soft, bce)[0], expected, rtol=1e-12, atol=0)
    with pytest.raises(ProblemError, match="the targets reach from -1 to 1, expected 0 to 1"):
        of(drawn(2), torch.tensor([-1, 1]), bce)
    with pytest.raises(ProblemError, match=r"the targets are \[3\] for the logits \[3, 4\].*use cross_entropy"):
        of(drawn(3, 4), torch.tensor([0, 1, 3]), bce)


# ------------------------------------------------------------------ squared error


def test_squared_error_of_numbers_and_of_labels():
    outputs, targets = drawn(3, 2), drawn(3, 2).flip(0)
    torch.testing.assert_close(of({"out": outputs}, targets, mse)[0], (outputs - targets).square().mean(1))
    labels = torch.tensor([0, 1, 1])
    losses, right = of(outputs, labels, mse)
    torch.testing.assert_close(losses, (outputs - F.one_hot(labels, 2)).square().mean(1))
    assert torch.equal(right, (outputs.argmax(1) == labels).float())
    tokens = drawn(2, 3, 4)
    places = torch.tensor([[0, 1, 2], [3, 2, 1]])
    for result, layout in ((tokens, "classes_last"), (tokens.movedim(-1, 1), "classes_first")):
        losses, _ = of(result, places, mse, layout)
        torch.testing.assert_close(losses, (tokens - F.one_hot(places, 4)).square().flatten(1).mean(1))


# ------------------------------------------------------------------ what a loss returns, and what it takes


def test_a_mean_over_the_batch_is_refused_with_what_to_take():
    batch = torch.zeros(3, 2), torch.zeros(3).long()
    with pytest.raises(
        ProblemError, match=r"one number for each example, \(3,\); got shape \(\), as of a mean over the b"
    ):
        per_example(lambda model, batch: model(batch[0]).mean(), nn.Linear(2, 2), batch)
    with pytest.raises(ProblemError, match=r"got shape \(2,\)\.$"):
        per_example(lambda model, batch: model(batch[0]).mean(0), nn.Linear(2, 2), batch)


PEAK = """
import torch
from torch import nn
from landscape import Problem
from landscape.problems.losses import per_example

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

class Head(nn.Linear):
    output_layout = "classes_last"

    def forward(self, ids):
        return super().forward(ids[..., None].float())

tokens = torch.arange(512).view(2, 256)
network = Head(1, 50304)
for loss, batch in (("causal_lm", {"input_ids": tokens}), ("cross_entropy", (tokens, tokens))):
    loss = Problem.of(network, {"train": batch}, loss).loss
    def gradient(batch):
        per_example(loss, network, batch)[0].mean().backward()
    gradient({"input_ids": tokens[:, :2]} if isinstance(batch, dict) else (tokens[:, :2], tokens[:, :2]))
    open("/proc/self/clear_refs", "w").write("5")
    before = peak()
    gradient(batch)
    print((peak() - before) / (512 * 50304 * 4))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks are told by Linux")
def test_a_large_vocabulary_takes_three_times_the_logits_with_gradients():
    run = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    peaks = [float(line) for line in run.stdout.split()]
    assert len(peaks) == 2
    assert all(2.5 < peak < 3.2 for peak in peaks), peaks


# ------------------------------------------------------------------ scores and labels


@pytest.mark.parametrize("layout", ["classes_first", "classes_last"])
def test_the_mean_loss_is_the_weighted_cross_entropy_of_the_rows(layout):
    scores, labels = drawn(B, T, V), torch.tensor(HALF)
    result = scores if layout == "classes_last" else scores.movedim(-1, 1)
    batch = {"input_ids": torch.zeros(B, T).long(), "labels": labels}
    for kind, given in ((cross_entropy, batch), (causal_lm, batch), (causal_lm, (scores, labels))):
        loss = with_outputs(kind, OUTPUTS[layout])
        rows = loss.scores_and_labels(result, given)
        assert rows.scores.shape == (B * T, V)
        each = F.cross_entropy(rows.scores, rows.labels, reduction="none")
        mean = per_example(loss, Giving(result), given)[0].mean()
        torch.testing.assert_close((rows.weights * each).sum(), mean, rtol=1e-12, atol=0)


def test_one_label_an_example_weighs_the_same_for_each():
    rows = cross_entropy.scores_and_labels(drawn(3, 4), (torch.zeros(3), torch.tensor([0, -100, 3])))
    torch.testing.assert_close(rows.weights, torch.tensor([1, 0, 1], dtype=torch.float64) / 3)
    assert cross_entropy.scores_and_labels(drawn(3, 4), (torch.zeros(3), torch.rand(3, 4))) is None


def test_a_binary_label_is_a_choice_between_two_classes():
    logits, targets = drawn(3, 2), torch.tensor([[0.0, 1.0], [0.5, 1.0], [0.0, 0.0]])
    rows = bce.scores_and_labels(logits, (torch.zeros(3), targets))
    assert rows.labels.tolist() == [0, 1, -100, 1, 0, 0]
    expected = F.binary_cross_entropy_with_logits(logits, targets.double(), reduction="none").flatten()
    found = F.cross_entropy(rows.scores, rows.labels, reduction="none")
    torch.testing.assert_close(found[rows.labels >= 0], expected[rows.labels >= 0])
    assert rows.weights is None
