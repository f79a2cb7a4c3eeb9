"""The trace of an operator, by Hutch++ (Meyer, Musco, Musco and Woodruff 2021).

A third of the products sketches the range in which the operator is largest, whose trace is then exact; random probes
estimate the rest. The standard error is that of the probes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.curvature.restriction import Product


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace.

    Attributes:
        value: the estimate.
        error: its standard error; 0 where the trace is exact.
        products: how many products it took.
    """

    value: float
    error: float
    products: int


def hutch_plus_plus(product: Product, probe: Callable[[int], Tensor], products: int = 60) -> Trace:
    """Estimate the trace of a symmetric operator.

    Args:
        product: maps `[P]` to H times it.
        probe: gives random vector i `[P]`, with independent entries of mean 0 and variance 1, such as signs.
        products: to spend, at least 6; rounded down to a multiple of three.

    Example:
        >>> matrix = torch.diag(torch.arange(8.0))
        >>> signs = lambda index: torch.randint(2, (8,), generator=torch.Generator().manual_seed(index)) * 2.0 - 1
        >>> round(hutch_plus_plus(lambda vector: matrix @ vector, signs, products=24).value, 3)
        28.0
    """
    share = products // 3
    sketch = torch.stack([product(probe(index)) for index in range(share)])
    basis = torch.linalg.qr(sketch.double().T).Q.T.to(sketch)
    exact = sum(float(torch.dot(vector.double(), product(vector).double())) for vector in basis)
    samples = []
    for index in range(share, 2 * share):
        vector = probe(index)
        rest = vector - basis.T @ (basis @ vector)
        samples.append(float(torch.dot(rest.double(), product(rest).double())))
    rest_of_trace = _mean(samples)
    return Trace(exact + rest_of_trace.value, rest_of_trace.error, 3 * share)


def layer_traces(
    product: Product, probe: Callable[[int], Tensor], parts: dict[str, slice], products: int
) -> dict[str, Trace]:
    """Estimate the trace of each diagonal block from shared products (Hutchinson 1990).

    Args:
        product: maps `[P]` to H times it.
        probe: gives random vector i `[P]`, with independent entries of mean 0 and variance 1.
        parts: each block's place in the vector, by name.
        products: to spend, at least 2.
    """
    samples: dict[str, list[float]] = {name: [] for name in parts}
    for index in range(products):
        vector = probe(index)
        image = product(vector)
        for name, place in parts.items():
            samples[name].append(float(torch.dot(vector[place].double(), image[place].double())))
    return {name: _mean(values) for name, values in samples.items()}


def _mean(values: list[float]) -> Trace:
    samples = torch.tensor(values, dtype=torch.float64)
    return Trace(float(samples.mean()), float(samples.std() / len(values) ** 0.5), len(values))
