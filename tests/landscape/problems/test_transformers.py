"""The built-in transformers: published sizes, what a position sees, how weights begin, and second derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F

from landscape import ParameterSpace, Problem
from landscape.errors import ConfigError, ProblemError
from landscape.problems.models import MODELS
from landscape.problems.models.attention import attend
from landscape.risk.empirical import EmpiricalRisk


def gpt(**arguments):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS["gpt"](input_shape=(6,), classes=11, **{"layers": 2, "heads": 2, "width": 8, **arguments})


def vit(**arguments):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS["vit"](
            input_shape=(2, 8, 4), classes=5, **{"patch": 2, "layers": 2, "heads": 2, "width": 8, **arguments}
        )


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_attention_is_that_of_a_loop_over_heads_and_positions():
    x = torch.randn(2, 5, 3 * 6, dtype=torch.float64)
    mixed = torch.zeros(2, 5, 6, dtype=torch.float64)
    for row in range(2):
        for head in range(3):
            q, k, v = (x[row, :, 6 * part + 2 * head : 6 * part + 2 * head + 2] for part in range(3))
            for t in range(5):
                scores = torch.stack([q[t] @ k[s] for s in range(t + 1)]) / math.sqrt(2)
                mixed[row, t, 2 * head : 2 * head + 2] = scores.softmax(0) @ v[: t + 1]
    torch.testing.assert_close(attend(x, 3, causal=True), mixed)


def test_published_numbers_of_parameters():
    """GPT-2 small has 124,439,808, and ViT-Ti/16 has 5,717,416 with the 1,000 classes of ImageNet."""
    with torch.device("meta"):
        small = MODELS["gpt"](input_shape=(1024,), classes=50257, layers=12, heads=12, width=768)
        tiny = MODELS["vit"](input_shape=(3, 224, 224), classes=1000, patch=16, layers=12, heads=3, width=192)
    assert count(small) == 124_439_808
    assert count(tiny) == 5_717_416


@pytest.mark.parametrize("tied", [True, False])
def test_a_gpt_has_the_number_of_parameters_that_its_docstring_says(tied):
    v, t, w, layers = 11, 6, 8, 2
    assert count(gpt(tied=tied)) == v * w + t * w + layers * (12 * w**2 + 13 * w) + 2 * w + (0 if tied else v * w)


def test_no_logit_sees_a_later_token():
    model = gpt().double().eval()
    tokens = torch.randint(11, (3, 6))
    before = model(tokens)
    for t in range(6):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % 11
        differs = (model(changed) != before).any(dim=2).any(dim=0)
        assert not differs[:t].any()
        assert differs[t:].all()


def test_a_shorter_sequence_has_the_first_logits_of_a_longer_one():
    model, tokens = gpt().double().eval(), torch.randint(11, (3, 6))
    torch.testing.assert_close(model(tokens[:, :4]), model(tokens)[:, :4])


def test_weights_of_a_gpt_begin_as_those_of_gpt_2():
    model = MODELS["gpt"](input_shape=(64,), classes=256, layers=8)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif ".ln_" in name:
            assert (parameter == 1).all(), name
        else:
            wanted = 0.02 / 4 if name.endswith("c_proj.weight") else 0.02  # 16 parts add to the stream
            assert parameter.std().item() == pytest.approx(wanted, rel=0.05), name


def test_a_vit_of_means_sees_patches_in_any_order_once_positions_are_gone():
    model = vit(pooling="mean").double().eval()
    torch.nn.init.zeros_(model.pos_embed)
    images = torch.randn(3, 2, 8, 4, dtype=torch.float64)
    turned = images.roll(2, dims=2)  # by whole patches
    torch.testing.assert_close(model(turned), model(images))
    torch.nn.init.normal_(model.pos_embed)
    assert not torch.allclose(model(turned), model(images))


def test_dropout_is_on_in_training_alone():
    for model, batch in ((gpt(dropout=0.5), torch.randint(11, (3, 6))), (vit(dropout=0.5), torch.randn(3, 2, 8, 4))):
        assert torch.equal(model.eval()(batch), model(batch))
        assert not torch.equal(model.train()(batch), model(batch))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("gpt", {"input_shape": (6,), "heads": 3}, "a width of 128 does not divide into 3 heads"),
        ("gpt", {"input_shape": (1, 8, 8)}, r"sequences of tokens, input_shape \(T,\); got \(1, 8, 8\)"),
        ("vit", {"input_shape": (1, 8, 8), "patch": 3}, "patches of 3×3 do not cover an image of 8×8"),
        ("vit", {"input_shape": (1, 8, 8), "pooling": "max"}, "unknown pooling 'max'; known are token, mean"),
    ],
)
def test_arguments_that_do_not_fit_are_named(name, arguments, words):
    with pytest.raises(ConfigError, match=words):
        MODELS[name](classes=4, **arguments)


def test_a_sequence_that_is_too_long_is_named():
    with pytest.raises(ProblemError, match="has 7 tokens, but the network was built for at most 6"):
        gpt()(torch.zeros(1, 7, dtype=torch.int64))


def next_tokens(model, batch):
    """A plain mean of the cross entropies of a sequence's positions."""
    logits = model(batch[0])
    return F.cross_entropy(logits.flatten(0, 1), batch[1].flatten(), reduction="none").view(batch[1].shape).mean(dim=1)


@pytest.mark.parametrize("kind", ["gpt", "vit"])
def test_hessian_products_are_differences_of_gradients(kind):
    if kind == "gpt":
        tokens = torch.randint(11, (4, 6), generator=torch.Generator().manual_seed(1))
        problem = Problem.of(gpt(), {"train": (tokens, tokens.roll(-1, 1))}, next_tokens)
    else:
        generator = torch.Generator().manual_seed(1)
        batch = torch.randn(4, 2, 8, 4, generator=generator), torch.randint(5, (4,), generator=generator)
        problem = Problem.of(vit(), {"train": batch})
    space = ParameterSpace(problem.model, dtype=torch.float64)
    risk = EmpiricalRisk(space, Problem.of(problem.model, problem.data.of_type(torch.float64), problem.loss))
    generator = torch.Generator().manual_seed(2)
    noise, v = (torch.randn(space.dimension, generator=generator, dtype=torch.float64) for _ in range(2))
    theta, step = space.theta + 0.1 * noise, 1e-5
    with risk.at(theta) as here:
        product = here.hessian()(v)
    slopes = []
    for sign in (1, -1):
        with risk.at(theta + sign * step * v) as here:
            slopes.append(here.gradient().clone())
    difference = (slopes[0] - slopes[1]) / (2 * step)
    assert (product - difference).norm() <= 1e-6 * product.norm()
