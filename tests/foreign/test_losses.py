"""The losses of Hugging Face's networks, sequence by sequence, against those that the networks compute themselves."""

import pytest
import torch

from landscape import EmpiricalRisk, ParameterSpace, Problem
from landscape.errors import ProblemError
from landscape.problems.losses import per_example
from tests.points import measure_at, module_at, predict_at

transformers = pytest.importorskip("transformers", reason="transformers is installed by make foreign")
pytestmark = pytest.mark.foreign

VOCABULARY, LENGTH = 11, 6
SMALL = {"vocab_size": VOCABULARY, "use_cache": False}
BERT = {**SMALL, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def gpt2():
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0, **SMALL
    )
    return transformers.GPT2LMHeadModel(config)


def tokens():
    """Sequences of 6, 4, 3 and 6 tokens, padded on the right; the last has labels for its second half alone."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCABULARY, (4, LENGTH), generator=generator)
    mask = (torch.arange(LENGTH) < torch.tensor([[6], [4], [3], [6]])).long()
    labels = ids.masked_fill(mask == 0, -100)
    labels[3, :3] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def built(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval().double()


def own_losses(network, batch):
    """What the network says of each example on its own; of next tokens it does so in single precision."""
    with torch.no_grad():
        each = [network(**{name: values[i : i + 1] for name, values in batch.items()}).loss for i in range(4)]
    return torch.stack(each)


def test_the_next_tokens_loss_is_gpt2s_own_for_each_sequence():
    network, batch = built(gpt2), tokens()
    problem = Problem.of(network, {"train": batch}, "causal_lm")
    with torch.no_grad():
        losses, right = per_example(problem.loss, network, batch)
    torch.testing.assert_close(losses.float(), own_losses(network, batch), rtol=1e-6, atol=0)
    with torch.no_grad():
        chosen = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
    hits = [
        [float(chosen[i, t] == k) for t, k in enumerate(batch["labels"][i, 1:].tolist()) if k != -100] for i in range(4)
    ]
    torch.testing.assert_close(right.double(), torch.tensor([sum(row) / len(row) for row in hits]).double())


def test_labels_that_are_missing_are_the_tokens_that_are_shown():
    network, batch = built(gpt2), tokens()
    batch["labels"][3, :3] = batch["input_ids"][3, :3]
    loss = Problem.of(network, {"train": batch}, "causal_lm").loss
    bare = {name: values for name, values in batch.items() if name != "labels"}
    with torch.no_grad():
        losses, _ = per_example(loss, network, bare)
    torch.testing.assert_close(losses.float(), own_losses(network, batch), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["BertForTokenClassification", "BertForMaskedLM", "BertForSequenceClassification"])
def test_cross_entropy_is_berts_own_for_each_example(kind):
    network = built(lambda: getattr(transformers, kind)(transformers.BertConfig(num_labels=3, **BERT)))
    batch = tokens()
    classes = VOCABULARY if kind == "BertForMaskedLM" else 3
    batch["labels"] = batch["labels"].remainder(classes).masked_fill(batch["labels"] < 0, -100)
    if kind == "BertForSequenceClassification":
        batch["labels"] = batch["labels"][:, 3].clamp_min(0)
    loss = Problem.of(network, {"train": batch}).loss
    with torch.no_grad():
        losses, _ = per_example(loss, network, batch)
    torch.testing.assert_close(losses, own_losses(network, batch), rtol=1e-10, atol=0)


def test_several_labels_at_once_and_numbers_are_berts_own():
    for problem_type, name in (("multi_label_classification", "bce"), ("regression", "mse")):
        config = transformers.BertConfig(num_labels=3, problem_type=problem_type, **BERT)
        network = built(lambda config=config: transformers.BertForSequenceClassification(config))
        batch = tokens()
        batch["labels"] = torch.eye(4, 3, dtype=torch.float64)
        with torch.no_grad():
            losses, _ = per_example(Problem.of(network, {"train": batch}, name).loss, network, batch)
        torch.testing.assert_close(losses, own_losses(network, batch), rtol=1e-10, atol=0)


def test_segmentation_has_its_classes_first_where_the_problem_says_so():
    config = transformers.SegformerConfig(
        num_encoder_blocks=1, depths=[1], sr_ratios=[1], hidden_sizes=[8], patch_sizes=[3], strides=[1],
        num_attention_heads=[1], mlp_ratios=[2], decoder_hidden_size=8, num_labels=3, classifier_dropout_prob=0.0,
    )  # fmt: skip
    network = built(lambda: transformers.SegformerForSemanticSegmentation(config))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(4, 3, 4, 4, generator=generator, dtype=torch.float64)
    batch = {"pixel_values": pixels, "labels": torch.randint(3, (4, 4, 4), generator=generator)}
    loss = Problem.of(network, {"train": batch}, outputs="classes_first").loss
    with torch.no_grad():
        torch.testing.assert_close(per_example(loss, network, batch)[0], own_losses(network, batch), rtol=1e-10, atol=0)


def test_a_risk_of_gpt2_has_its_likelihood_for_each_token():
    network, batch = built(gpt2).float(), tokens()
    problem = Problem.of(network, {"train": batch}, "causal_lm")
    risk = EmpiricalRisk(ParameterSpace(network), problem, batch_size=3).select(calibrated=True)
    theta = risk.space.theta + 0.1 * torch.randn(risk.dimension, generator=torch.Generator().manual_seed(1))
    measured, found = measure_at(risk, theta)["train"], predict_at(risk, theta, "train", features=True)
    moved = module_at(risk, theta).double()
    assert measured.loss == pytest.approx(float(own_losses(moved, batch).mean()), rel=1e-5)
    with torch.no_grad():
        assert measured.nll == pytest.approx(float(moved(**batch).loss), rel=1e-5)  # its mean is over all tokens
    assert len(found.labels) == int((batch["labels"][:, 1:] != -100).sum())
    assert found.features.shape == (len(found.labels), 16)


def test_a_networks_own_loss_is_told_to_hide_each_examples():
    network, batch = built(gpt2), tokens()
    with pytest.raises(ProblemError, match=r"mean over the batch.*causal_lm or cross_entropy"):
        per_example(lambda model, batch: model(**batch).loss, network, batch)
