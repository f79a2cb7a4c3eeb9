"""Both ends of the Hessian's spectrum on a 3×3 map, against the usual way.

Target: at most 1/8 of the time, with both ends within 1e-3 of a converged reference, each relative to its own size. The
reference is a search from a random vector to 1e-4; that of the usual way confirms it independently.
ResNet-20 at 32×32, trained on the digits brought to that size; 128 examples, spacing 0.04 on filter-normalised axes.
The usual way is two runs of `scipy.sparse.linalg.eigsh` of tolerance 1e-2 a point, on products with the network as it
is.
"""

import argparse
from itertools import product as pairs
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits

from landscape import (
    Combination,
    CurvatureWalk,
    EmpiricalRisk,
    Frozen,
    ParameterSpace,
    Plane,
    Problem,
    Recipe,
    Search,
    SinglePoint,
    descend,
    lanczos,
    normalise,
    random_direction,
)
from landscape.curvature.restriction import Restriction
from landscape.problems.models import MODELS
from landscape.runtime.interrupts import Stop

SIDE, SPACING, SAMPLES = 3, 0.04, 128
RECIPE = Recipe(epochs=12, lr=0.1, batch_size=128, schedule="onecycle")


def pictures():
    """The digits at 32×32 in three channels, and their labels."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None]
    images = F.interpolate(images, size=(32, 32), mode="bilinear").repeat(1, 3, 1, 1)
    return (images - images.mean()) / images.std(), torch.from_numpy(digits.target)


def trained():
    """A space at a trained minimum, with the running statistics that training left there; and the examples."""
    images, labels = pictures()
    torch.manual_seed(0)
    model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10)
    space = ParameterSpace(model)
    risk = EmpiricalRisk(space, Problem.of(model, {"train": (images, labels)}), batch_size=128)
    found = descend(risk, space.theta[None].clone(), Combination(SinglePoint()), RECIPE)
    space.move_to(found.points[0])
    print(f"trained: loss {float(found.losses[-1]):.4f} in the last epoch")
    return space, images[:SAMPLES], labels[:SAMPLES]


class Usual:
    """Largest and smallest eigenvalue by ARPACK, on products of a plain network in one batch."""

    def __init__(self, state, images, labels):
        self.model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10)
        self.model.load_state_dict(state)
        self.model.eval()
        self.images, self.labels = images.contiguous(), labels
        self.weights = [p for p in self.model.parameters() if p.ndim > 1]
        self.size = sum(p.numel() for p in self.weights)
        self.products = 0

    def times(self, vector):
        self.products += 1
        flat = torch.from_numpy(np.asarray(vector, dtype=np.float32).ravel())
        parts = [v.view_as(p) for v, p in zip(flat.split([p.numel() for p in self.weights]), self.weights, strict=True)]
        loss = F.cross_entropy(self.model(self.images), self.labels)
        gradient = torch.autograd.grad(loss, self.weights, create_graph=True)
        found = torch.autograd.grad(gradient, self.weights, parts)
        return torch.cat([part.reshape(-1) for part in found]).numpy()

    def ends(self, state):
        self.model.load_state_dict(state)
        matrix = LinearOperator((self.size, self.size), matvec=self.times, dtype=np.float32)
        return [eigsh(matrix, k=1, which=which, tol=1e-2, return_eigenvectors=False)[0] for which in ("LA", "SA")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tolerance", type=float, default=Search.tolerance)
    tolerance = parser.parse_args().tolerance
    space, images, labels = trained()
    theta = space.theta.clone()
    problem = Problem.of(space.network, {"train": (images.contiguous(memory_format=torch.channels_last), labels)})
    risk = EmpiricalRisk(space, problem, statistics=Frozen(space.statistics))
    plane = Plane(theta, *(normalise(random_direction(space, seed), theta, space) for seed in (1, 2)))
    usual = Usual(space.state_dict(theta), images, labels)
    chosen = space.select("weights")
    walk = CurvatureWalk(risk, Search(chosen, tolerance))
    restriction = Restriction(chosen)

    def theta_at(place):
        return plane(**{axis: (i - SIDE // 2) * SPACING for axis, i in zip("yx", place, strict=True)})

    times, errors, products = {"usual": 0.0, "ours": 0.0}, {"usual": 0.0, "ours": 0.0}, []
    for place in pairs(range(SIDE), repeat=2):
        start = perf_counter()
        known = usual.ends(space.state_dict(theta_at(place)))
        times["usual"] += perf_counter() - start
        start = perf_counter()
        ours = walk(place, theta_at, Stop())
        times["ours"] += perf_counter() - start
        products.append(int(ours["steps"]))
        with risk.at(theta_at(place)) as here:  # from a random vector, not from a neighbour
            start = restriction.random(torch.Generator().manual_seed(1 + len(products)), theta)
            exact = lanczos(restriction.block(here.hessian(chosen)), start, tolerance=1e-4)
        ends = float(exact.top), float(exact.bottom)
        for name, got in (("usual", known), ("ours", (ours["max_eig"], ours["min_eig"]))):
            errors[name] = max(errors[name], *(abs(g / e - 1) for g, e in zip(got, ends, strict=True)))
        print(f"  {place}: {ends[0]:.4g} and {ends[1]:.4g}; {usual.products} and {sum(products)} products so far, "
              f"{times['usual']:.0f} and {times['ours']:.0f} s", flush=True)  # fmt: skip
    count = SIDE**2
    print(f"Both ends on {SIDE}x{SIDE} points, spacing {SPACING}, {SAMPLES} examples, residual {tolerance} of each end")
    print(f"  usual: {times['usual'] / count:6.2f} s and {usual.products / count:.1f} products a point, "
          f"error up to {errors['usual']:.1e}")  # fmt: skip
    print(f"  ours:  {times['ours'] / count:6.2f} s and {sum(products) / count:.1f} products a point, "
          f"error up to {errors['ours']:.1e}, our batch {risk.batch_size}")  # fmt: skip
    print(f"  ratio {times['ours'] / times['usual']:.3f} (1/8 is 0.125)")


if __name__ == "__main__":
    main()
