"""Memory of a fit of a curve beside the activations, in units of the network's P parameters.

Target: at most 2·free + fixed + 3 by SGD, momentum included: the control points, a velocity for each free one, θ, the
network's own parameters and the gradient; 3·free + fixed + 3 by AdamW, which keeps two means for each.

A deep network of narrow layers, so that activations and the gradient of one layer are small; each case has a process of
its own, whose peak is that of its resident memory. The allocator is told to give back every larger block, or else the
peak would hold what was freed long ago.
"""

import multiprocessing
import os
import pathlib
import resource
import threading

import torch
from torch import nn

from connect import Bezier, CurveFit, Path
from landscape import EmpiricalRisk, ParameterSpace, Problem, Recipe

WIDTH, DEPTH, EXAMPLES = 512, 128, 8


def network():
    """About 34 million parameters in 128 layers."""
    with torch.no_grad():
        layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 2))


def resident():
    """Resident memory now, in bytes."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_while(action):
    """The largest resident memory while an action runs, in bytes."""
    highest, done = [resident()], threading.Event()

    def watch():
        while not done.wait(0.001):
            highest[0] = max(highest[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    action()
    done.set()
    watcher.join()
    return highest[0]


def fit(optimiser, control_points, connection):
    """Fit a curve of a large network, and send the peak in units of P."""
    data = (torch.randn(EXAMPLES, WIDTH), torch.randint(2, (EXAMPLES,)))
    small = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2))
    descend(small, data, optimiser, control_points)  # what is loaded and reserved once
    before = resident()
    held = {}

    def run():
        held["P"] = descend(network(), data, optimiser, control_points)

    connection.send((peak_while(run) - before) / (4 * held["P"]))


def descend(model, data, optimiser, control_points):
    """A few steps; returns P."""
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
    return space.dimension


def main():
    print(f"peak memory of a fit of a curve, {DEPTH} layers of {WIDTH}×{WIDTH}, in units of P")
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    context = multiprocessing.get_context("spawn")
    for optimiser, of_each in (("sgd", 2), ("adamw", 3)):
        for control_points in (3, 5, 9):
            ours, theirs = context.Pipe()
            process = context.Process(target=fit, args=(optimiser, control_points, theirs))
            process.start()
            theirs.close()
            formula = of_each * (control_points - 2) + 2 + 3
            print(f"  {optimiser}, {control_points} control points: {ours.recv():5.2f} of {formula}")
            process.join()


if __name__ == "__main__":
    main()
