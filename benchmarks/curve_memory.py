"""Memory of a fit of a curve beside the activations, in units of the network's P parameters.

Target: at most 2·free + fixed + 3 by SGD, momentum included: the control points, a velocity for each free one, θ, the
network's own parameters and the gradient; 3·free + fixed + 3 by AdamW, which keeps two means for each.

A deep network of narrow layers, so that activations and the gradient of one layer are small; each case has a process of
its own.
"""

import torch
from peaks import apart, held, peak_while
from torch import nn

from connect import Bezier, CurveFit, Path
from landscape import EmpiricalRisk, ParameterSpace, Problem, Recipe

WIDTH, DEPTH, EXAMPLES = 512, 128, 8


def network():
    """About 34 million parameters in 128 layers."""
    with torch.no_grad():
        layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 2))


def fit(optimiser, control_points):
    """The peak of a fit of a curve of a large network, in units of P."""
    data = (torch.randn(EXAMPLES, WIDTH), torch.randint(2, (EXAMPLES,)))
    small = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2))
    descend(small, data, optimiser, control_points)  # what is loaded and reserved once
    before, size = held(), sum(parameter.numel() for parameter in network().parameters())
    peak = peak_while(lambda: descend(network(), data, optimiser, control_points))
    return (peak - before) / (4 * size)


def descend(model, data, optimiser, control_points):
    """A few steps."""
    space = ParameterSpace(model)
    risk = EmpiricalRisk(space, Problem.of(model, {"train": data}), batch_size=EXAMPLES)
    del model
    points = torch.empty(control_points, space.dimension)
    points[:] = space.theta
    points[-1] += 1e-6
    curve = Bezier(control_points)
    recipe = Recipe.adamw() if optimiser == "adamw" else Recipe()
    recipe = recipe.updated({"epochs": 3, "lr": 1e-3, "batch_size": EXAMPLES})
    CurveFit(curve).train(risk, Path(points, curve), recipe)


def main():
    print(f"peak memory of a fit of a curve, {DEPTH} layers of {WIDTH}×{WIDTH}, in units of P")
    for optimiser, of_each in (("sgd", 2), ("adamw", 3)):
        for control_points in (3, 5, 9):
            formula = of_each * (control_points - 2) + 2 + 3
            peak = apart(fit, optimiser, control_points)
            print(f"  {optimiser}, {control_points} control points: {peak:5.2f} of {formula}")


if __name__ == "__main__":
    main()
