"""One step of curve training against one ordinary training step of the same network and batch.

Target: at most 1.05. ResNet-20 at 32×32, batch 128. The ordinary step is written as everybody writes it, with
`torch.optim.SGD`; it is timed in the usual memory layout and with channels last, which is faster.
"""

import torch
import torch.nn.functional as F
from timing import interleaved, show

from connect import Bezier
from landscape import EmpiricalRisk, ParameterSpace, Problem, Recipe
from landscape.problems.models import MODELS
from landscape.training import _epoch, _State

BATCH, REPEATS = 128, 40


def ordinary_step(images, labels, memory_format):
    model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10).to(memory_format=memory_format).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    images = images.to(memory_format=memory_format)

    def step():
        order = torch.randperm(BATCH)
        optimiser.zero_grad()
        F.cross_entropy(model(images[order]), labels[order]).backward()
        optimiser.step()

    return step


class Curve:
    free = slice(1, -1)

    def __init__(self, control_points):
        self.coefficients = Bezier(control_points).coefficients


def our_step(images, labels, family, control_points):
    """One epoch of a single batch is one step."""
    model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10)
    space = ParameterSpace(model)
    images = images.to(memory_format=torch.channels_last)
    risk = EmpiricalRisk(space, Problem.of(model, {"train": (images, labels)}), batch_size=BATCH)
    recipe = Recipe(epochs=1000, lr=0.01, batch_size=BATCH, schedule="constant")
    start = space.flatten(model.state_dict())
    points = torch.stack([start + 0.01 * i for i in range(control_points)])
    state = _State(points, torch.zeros_like(points[family.free]), torch.zeros(recipe.epochs, dtype=torch.float64))

    def step():
        for _ in _epoch(risk, family, recipe, state, 0, 1):
            pass

    return step


def main():
    generator = torch.Generator().manual_seed(0)
    images, labels = (
        torch.randn(BATCH, 3, 32, 32, generator=generator),
        torch.randint(10, (BATCH,), generator=generator),
    )
    steps = {
        "ordinary, NCHW": ordinary_step(images, labels, torch.contiguous_format),
        "ordinary, channels last": ordinary_step(images, labels, torch.channels_last),
        "ours, Bezier of 3 control points": our_step(images, labels, Curve(3), 3),
        "ours, Bezier of 5 control points": our_step(images, labels, Curve(5), 5),
    }
    times = interleaved(steps, REPEATS)
    for reference in ("ordinary, NCHW", "ordinary, channels last"):
        show(f"One training step of ResNet-20 at 32x32, batch {BATCH}", times, reference)


if __name__ == "__main__":
    main()
