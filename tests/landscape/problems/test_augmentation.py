"""Random changes of images against slow ones, batches in parts, and training in half precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape import Combination, EmpiricalRisk, ParameterSpace, Problem, Recipe, SinglePoint, descend
from landscape.errors import ConfigError, ProblemError
from landscape.problems.augmentation import augment, crop, flip, named_augmentations
from tests.oracles import networks, problem_of
from tests.points import gradient_at, measure_at


def images(count=40, side=16, channels=3):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def chances(count=40):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(1))


def test_crops_are_those_of_a_padded_image():
    """Pad by an eighth of the side and cut out a window at each of the places that there are."""
    x, drawn = images(), chances()
    cropped = crop(x, drawn)
    padded = F.pad(x, (2, 2, 2, 2))
    seen = set()
    for i in range(len(x)):
        down, right = (int(chance * 5) for chance in drawn[i, :2])
        seen.add((down, right))
        assert torch.equal(cropped[i], padded[i, :, down : down + 16, right : right + 16])
    assert len(seen) > 15


def test_flips_mirror_half_of_the_images():
    x, drawn = images(), chances()
    flipped = flip(x, drawn)
    mirrored = [torch.equal(flipped[i], x[i].flip(2)) for i in range(len(x))]
    assert mirrored == (drawn[:, 2] < 0.5).tolist()
    assert 10 < sum(mirrored) < 30
    assert all(torch.equal(flipped[i], x[i]) for i in range(len(x)) if not mirrored[i])


@pytest.mark.parametrize("change", [crop, flip])
def test_changes_keep_shape_type_and_memory_format(change):
    x = images(side=9).to(memory_format=torch.channels_last)
    changed = change(x, chances())
    assert changed.shape == x.shape
    assert changed.dtype == x.dtype
    assert changed.is_contiguous(memory_format=torch.channels_last)


def test_changes_come_in_their_order_and_labels_stay():
    x, labels, drawn = images(), torch.arange(40), chances()
    changed, kept = augment((x, labels), ["crop", "flip"], drawn)
    assert torch.equal(changed, flip(crop(x, drawn), drawn))
    assert torch.equal(kept, labels)
    assert torch.equal(augment((x, labels), [], drawn)[0], x)


def test_names_are_read_and_unknown_ones_refused():
    assert named_augmentations("crop, flip") == ["crop", "flip"]
    assert named_augmentations("") == []
    with pytest.raises(ConfigError, match="unknown augmentation 'rotate'; known are crop, flip"):
        named_augmentations("flip,rotate")
    with pytest.raises(ProblemError, match="leave out --augment"):
        augment((torch.zeros(4, 5), torch.zeros(4)), ["flip"], torch.rand(4, 3))


class Noting(nn.Module):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(3 * 16 * 16, 2)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.last(x.flatten(1))


def test_a_fit_sees_changed_images_and_a_measurement_the_originals():
    model = Noting()
    x = images()
    problem = Problem.of(model, {"train": (x, torch.zeros(40, dtype=torch.int64))})
    space = ParameterSpace(model)
    risk = EmpiricalRisk(space, problem, batch_size=40)
    seen = space.network.seen
    recipe = Recipe(epochs=2, batch_size=40, augment="crop,flip")
    seen.clear()
    descend(risk, space.theta[None].clone(), Combination(SinglePoint()), recipe, seed=4)
    first, second = seen
    assert not torch.equal(first.sum(), second.sum())
    places = {tuple(row.flatten().tolist()) for row in x}
    changed = sum(tuple(row.flatten().tolist()) not in places for row in first)
    assert changed > 30
    seen.clear()
    measure_at(risk, space.theta.clone())
    assert torch.equal(seen[-1], x)
    seen.clear()
    descend(risk, space.theta[None].clone(), Combination(SinglePoint()), recipe, seed=4)
    assert torch.equal(seen[0], first)


@pytest.mark.parametrize("parts", [2, 3, 7, 50])
@pytest.mark.parametrize("name", ["plain", "tied", "shared memory"])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(name, parts):
    """23 examples, so that parts differ in size; none of these networks has batch norm or dropout."""
    problem = problem_of(name)
    space = ParameterSpace(problem.model, dtype=torch.float64)
    inputs, labels = problem.data.splits["train"].tensors
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    risk = EmpiricalRisk(space, Problem.of(problem.model, {"train": (inputs, labels)}), batch_size=8)
    theta = space.theta.clone()
    (whole,) = [(loss.clone(), g.clone()) for loss, g in risk.batch_gradient(theta, [slice(0, 23)])]
    (split,) = [(loss.clone(), g.clone()) for loss, g in risk.batch_gradient(theta, [slice(0, 23)], accumulate=parts)]
    torch.testing.assert_close(split, whole)
    torch.testing.assert_close(whole[1], gradient_at(risk, theta))


def test_training_in_bf16_keeps_control_points_in_float32_and_takes_other_steps():
    problem = Problem.of(networks()["convolutions"][0], {"train": networks()["convolutions"][1]})
    recipe = Recipe(epochs=3, batch_size=8, lr=0.05)
    found = {}
    for precision in ("fp32", "bf16"):
        space = ParameterSpace(problem.model)
        risk = EmpiricalRisk(space, problem, batch_size=8, precision=precision)
        found[precision] = descend(risk, space.theta[None].clone(), Combination(SinglePoint()), recipe, seed=1)
    assert found["bf16"].points.dtype == torch.float32
    assert not torch.equal(found["bf16"].points, found["fp32"].points)
    torch.testing.assert_close(found["bf16"].points, found["fp32"].points, atol=0.05, rtol=0.05)
    torch.testing.assert_close(found["bf16"].losses, found["fp32"].losses, atol=0.05, rtol=0.05)


def test_recipes_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="accumulate"):
        Recipe(accumulate=0)
    with pytest.raises(ConfigError, match="unknown augmentation"):
        Recipe(augment="rotate")
