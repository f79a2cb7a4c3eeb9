"""Which recipe options, checkpoints and the network lead to."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from landscape.app.config import ProblemOptions, RecipeOptions
from landscape.app.recipes import named_recipe
from landscape.errors import ConfigError
from landscape.problems.kinds import has_attention
from landscape.problems.models import MODELS
from landscape.storage.checkpoints import Checkpoint
from landscape.training.recipes import TRAINING_RECIPES

CNN = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())


class Causal(nn.MultiheadAttention):
    """Attention whose name does not say so."""


class SelfAttention(nn.Module):
    """Attention that torch does not know."""


TRANSFORMER = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Causal(4, 2)))


@pytest.fixture
def named(tmp_path):
    """What flags and a problem's file with some words lead to."""

    def build(words="", **recipe):
        file = tmp_path / "problem.yaml"
        file.write_text(f"model: gpt\ntrain: {{{words}}}\n")
        problem = ProblemOptions(problem=file)
        return named_recipe(TRAINING_RECIPES, RecipeOptions(**recipe), problem, "train")

    return build


def trained(recipe):
    return Checkpoint({"w": torch.zeros(1)}, {} if recipe is None else {"recipe": recipe}, "", Path("a.safetensors"))


@pytest.mark.parametrize(
    ("network", "attention"),
    [
        (CNN, False),
        (TRANSFORMER, True),
        (nn.TransformerEncoderLayer(4, 2, 8), True),
        (nn.Sequential(SelfAttention()), True),
        (MODELS["gpt"]((8,), 16, layers=1, heads=2, width=8), True),
        (MODELS["vit"]((1, 8, 8), 10, patch=4, layers=1, heads=2, width=8), True),
        (MODELS["resnet8"]((1, 8, 8), 10, width=4), False),
    ],
)
def test_attention_is_seen(network, attention):
    assert has_attention(network) == attention


@pytest.mark.parametrize(
    ("words", "flags", "network", "carried", "expected"),
    [
        ("", {}, CNN, [], "sgd"),
        ("", {}, TRANSFORMER, [], "adamw"),
        ("", {}, TRANSFORMER, [None, {"lr": 0.1, "momentum": 0.9}], "sgd"),  # of an earlier version
        ("", {}, CNN, [{"optimiser": "adamw"}], "adamw"),
        ("", {}, CNN, [{"optimiser": ["adamw"]}, "adamw", {"optimiser": "lion"}], "sgd"),  # of somebody else
        ("momentum: 0.8", {}, TRANSFORMER, [], "sgd"),
        ("optimiser: adamw", {}, CNN, [{"lr": 0.1}], "adamw"),
        ("optimiser: sgd", {"optimiser": "adamw"}, CNN, [], "adamw"),
        ("", {"betas": (0.9, 0.95)}, CNN, [{"lr": 0.1}], "adamw"),
        ("", {"nesterov": False}, TRANSFORMER, [], "sgd"),
    ],
)
def test_flags_win_over_the_file_over_checkpoints_over_the_network(
    named, caplog, words, flags, network, carried, expected
):
    with caplog.at_level(logging.WARNING):
        recipe = named(words, **flags).settled(network, [trained(recipe) for recipe in carried])
    assert recipe.optimiser == expected
    told = not (words or flags) and (network is TRANSFORMER or expected == "adamw")
    assert len(caplog.messages) == told
    assert all(f"the optimiser is {expected}" in message for message in caplog.messages)


def test_what_is_not_named_has_the_optimisers_default(named):
    assert named("epochs: 3", clip=0.5).settled(TRANSFORMER) == TRAINING_RECIPES["adamw"].updated(
        {"epochs": 3, "clip": 0.5}
    )
    assert named("epochs: 3, lr: 0.2").settled(CNN) == TRAINING_RECIPES["sgd"].updated({"epochs": 3, "lr": 0.2})
    assert named("lr: 0.2, optimiser: adamw").settled(CNN).lr == 0.2
    assert named("schedule: onecycle").settled(TRANSFORMER).warmup == 0
    assert named("", schedule="linear", warmup=0.1).settled(CNN).warmup == 0.1


def test_a_file_for_one_optimiser_says_nothing_of_the_rate_of_another(named):
    recipe = named("lr: 0.2, momentum: 0.8, weight_decay: 0.5, epochs: 3, batch_size: 7", optimiser="adamw").recipe()
    assert recipe == TRAINING_RECIPES["adamw"].updated({"epochs": 3, "batch_size": 7})
    recipe = named("lr: 0.2, betas: [0.8, 0.9], clip: 3, epochs: 3", optimiser="sgd", lr=0.3).recipe()
    assert recipe == TRAINING_RECIPES["sgd"].updated({"epochs": 3, "lr": 0.3})


@pytest.mark.parametrize(
    ("words", "flags", "message"),
    [
        ("", {"optimiser": "adamw", "momentum": 0.9}, "--momentum is for sgd, and the optimiser is adamw"),
        ("", {"optimiser": "sgd", "betas": (0.9, 0.99)}, "--betas is for adamw, and the optimiser is sgd"),
        ("", {"momentum": 0.9, "betas": (0.9, 0.99)}, "--betas is for adamw"),
        ("optimiser: adamw", {"nesterov": True}, "--nesterov is for sgd, and the optimiser is adamw"),
        ("optimiser: adamw, momentum: 0.9", {}, "problem.yaml: train: momentum is for sgd"),
        ("optimiser: adam", {}, "problem.yaml: train: --optimiser is 'adam', expected one of sgd, adamw"),
        ("betas: [0.9]", {}, "problem.yaml: train: betas is .*out of range"),
        ("warmup: 2", {}, "problem.yaml: train: warmup is 2.*out of range"),
        ("", {"clip": -1.0}, "clip is -1.*out of range"),
        ("", {"warmup": 0.1, "schedule": "onecycle"}, "onecycle has its own"),
    ],
)
def test_what_does_not_belong_together_is_refused_before_the_network_is_known(named, words, flags, message):
    with pytest.raises(ConfigError, match=message):
        named(words, **flags)
