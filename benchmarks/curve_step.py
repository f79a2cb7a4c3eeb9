"""One step of curve training against one ordinary training step of the same network and batch.

Target: at most 1.05. ResNet-20 at 32×32, batch 128. The ordinary step is written as everybody writes it, with
`torch.optim.SGD`; it is timed in the usual memory layout and with channels last, which is faster.
"""

import torch
import torch.nn.functional as F
from timing import interleaved, keep_memory, show

from connect import Bezier, find_path
from landscape import EmpiricalRisk, ParameterSpace, Problem, Recipe
from landscape.problems.models import MODELS

BATCH, STEPS, REPEATS = 128, 8, 10
RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4


def ordinary_training(images, labels, memory_format):
    """Some steps, each on the whole batch in a new order."""
    model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10).to(memory_format=memory_format).train()
    images = images.to(memory_format=memory_format)

    def train():
        optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
        for _ in range(STEPS):
            order = torch.randperm(BATCH)
            optimiser.zero_grad()
            F.cross_entropy(model(images[order]), labels[order]).backward()
            optimiser.step()

    return train


def curve_training(images, labels, control_points):
    """As many steps of a curve: epochs of a single batch."""
    model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10)
    space = ParameterSpace(model)
    images = images.to(memory_format=torch.channels_last)
    risk = EmpiricalRisk(space, Problem.of(model, {"train": (images, labels)}), batch_size=BATCH)
    recipe = Recipe(epochs=STEPS, lr=RATE, batch_size=BATCH, momentum=MOMENTUM, weight_decay=DECAY, schedule="constant")
    a = space.flatten(model.state_dict())
    b = a + 0.01 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    return lambda: find_path(risk, a, b, Bezier(control_points), recipe)


def main():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (BATCH,), generator=generator)
    runs = {
        "ordinary, NCHW": ordinary_training(images, labels, torch.contiguous_format),
        "ordinary, channels last": ordinary_training(images, labels, torch.channels_last),
        "ours, Bezier of 3 control points": curve_training(images, labels, 3),
        "ours, Bezier of 5 control points": curve_training(images, labels, 5),
    }
    times = interleaved(runs, REPEATS)
    for reference in ("ordinary, NCHW", "ordinary, channels last"):
        show(f"{STEPS} training steps of ResNet-20 at 32x32, batch {BATCH}", times, reference)


if __name__ == "__main__":
    keep_memory()
    main()
