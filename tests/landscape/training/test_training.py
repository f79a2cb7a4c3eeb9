import signal

import pytest
import torch

from landscape import (
    Combination,
    EmpiricalRisk,
    Interrupted,
    Keeping,
    LandscapeError,
    ParameterSpace,
    Potential,
    Recipe,
    SinglePoint,
    descend,
)
from landscape.errors import ProvenanceError
from landscape.runtime.seeds import mixed_seed
from tests.oracles import MULLER_BROWN_MINIMA, Signalling, muller_brown, problem_of


def setting(name):
    problem = problem_of(name)
    space = ParameterSpace(problem.model)
    return EmpiricalRisk(space, problem, batch_size=8), space.flatten(problem.model.state_dict())[None]


def test_descent_finds_a_minimum_of_a_potential():
    start = torch.tensor([[-0.7, 1.2]], dtype=torch.float64)
    recipe = Recipe(epochs=600, lr=2e-4, weight_decay=0.0, momentum=0.5, schedule="constant")
    found = descend(Potential(muller_brown, 2), start, Combination(SinglePoint()), recipe).points[0]
    torch.testing.assert_close(found, torch.tensor(MULLER_BROWN_MINIMA[0][:2], dtype=torch.float64), atol=1e-4, rtol=0)


def test_the_seed_decides_everything_and_the_global_generator_nothing():
    recipe = Recipe(epochs=3, batch_size=5)

    def run(seed, global_seed):
        torch.manual_seed(global_seed)
        before = torch.random.get_rng_state()
        points = descend(*setting("convolutions"), Combination(SinglePoint()), recipe, seed=seed).points
        assert torch.equal(torch.random.get_rng_state(), before)
        return points

    assert torch.equal(run(1, 10), run(1, 20))
    assert not torch.equal(run(1, 10), run(2, 10))


@pytest.mark.parametrize("recipe", [Recipe(epochs=3, batch_size=5), Recipe.adamw(epochs=3, batch_size=5)], ids=str)
@pytest.mark.parametrize("after", [1, 5, 7, 14])
def test_an_interrupted_descent_ends_at_the_same_bits(tmp_path, after, recipe):
    """Stopped by a real signal after some steps; the network has dropout and batch norm, so all state matters."""
    risk, start = setting("convolutions")
    whole = descend(risk, start, Combination(SinglePoint()), recipe, seed=4)
    statistics = risk.space.statistics.clone()
    keeping = Keeping(tmp_path / "state.safetensors", {"seed": 4}, resume=True)

    epochs = []

    def note(epoch, points):
        epochs.append(epoch)

    risk, start = setting("convolutions")
    with pytest.raises(Interrupted, match=rf"after {after} of 15 steps.*--resume"):
        descend(
            risk,
            start,
            Combination(SinglePoint()),
            recipe,
            seed=4,
            keeping=keeping,
            after_epoch=note,
            report=Signalling(after, signal.SIGINT),
        )
    assert keeping.path.exists()
    risk, start = setting("convolutions")
    resumed = descend(risk, start, Combination(SinglePoint()), recipe, seed=4, keeping=keeping, after_epoch=note)
    assert epochs == [1, 2, 3]
    assert torch.equal(resumed.points, whole.points)
    assert torch.equal(resumed.losses, whole.losses)
    assert torch.equal(risk.space.statistics, statistics)
    again = descend(
        *setting("convolutions"), Combination(SinglePoint()), recipe, seed=4, keeping=keeping, after_epoch=note
    )
    assert epochs == [1, 2, 3]
    assert torch.equal(again.points, whole.points)
    keeping.discard()
    assert not keeping.path.exists()


def test_a_resume_under_other_settings_is_refused(tmp_path):
    risk, start = setting("plain")
    path = tmp_path / "state.safetensors"
    with pytest.raises(Interrupted):
        descend(
            risk,
            start,
            Combination(SinglePoint()),
            Recipe(epochs=2),
            keeping=Keeping(path, {"lr": 0.1}),
            report=Signalling(1),
        )
    for other, settings, message in (
        ({"lr": 0.2}, {"recipe": Recipe(epochs=2)}, r"lr = 0\.1, now it is 0\.2"),
        ({"lr": 0.1}, {"recipe": Recipe(epochs=3)}, "begun with recipe"),
        ({"lr": 0.1}, {"recipe": Recipe(epochs=2), "seed": 3}, "begun with seed = 0, now it is 3"),
    ):
        with pytest.raises(ProvenanceError, match=message):
            descend(risk, start, Combination(SinglePoint()), **settings, keeping=Keeping(path, other, resume=True))


def test_a_loss_that_explodes_ends_the_descent():
    risk, start = setting("plain")
    with pytest.raises(LandscapeError, match=r"became (nan|inf) in epoch \d+; try a lower --lr"):
        descend(risk, start, Combination(SinglePoint()), Recipe(epochs=30, lr=1e30, schedule="constant"))


def test_seeds_of_different_numbers_differ_even_by_zeros_at_their_end():
    numbers = [(3, 5), (3, 5, 0), (3, 5, 0, 0), (3,), (0,), (0, 0), (5, 3)]
    assert len({mixed_seed(*some) for some in numbers}) == len(numbers)
    assert mixed_seed(3, 5) == mixed_seed(3, 5)


def test_a_sample_of_the_training_split_can_be_descended():
    risk, start = setting("plain")
    small = risk.select(splits=["train"], sample=5)
    assert small.examples == 5
    descend(small, start, Combination(SinglePoint()), Recipe(epochs=2, batch_size=2))
    assert risk.examples > 5
