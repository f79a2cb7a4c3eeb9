"""Naive references, analytic surfaces and small awkward networks that the tests compare with."""

import os
import signal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape import Problem

WORDS = 6
MULLER_BROWN_MINIMA = ((-0.558224, 1.441726, -146.69952), (0.623499, 0.028038, -108.16672))
MULLER_BROWN_SADDLES = ((-0.822002, 0.624313, -40.66484), (0.212487, 0.292988, -72.24894))


def muller_brown(theta: Tensor) -> Tensor:
    """The surface of Müller and Brown (1979)."""
    x, y = theta[0], theta[1]
    rows = (
        (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
        (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
        (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
        (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
    )
    terms = [
        height * torch.exp(a * (x - x0) ** 2 + b * (x - x0) * (y - y0) + c * (y - y0) ** 2)
        for height, a, b, c, x0, y0 in rows
    ]
    return torch.stack(terms).sum()


class Signalling:
    """A fake progress that sends this process a signal once so many units are done."""

    def __init__(self, after: int, number: int = signal.SIGTERM) -> None:
        self._after, self._number, self._done = after, number, 0

    def __call__(self, description: str, total: int, done: int = 0) -> "Signalling":
        """Serve as the reporter of every piece of work, and count over all of them."""
        return self

    def __enter__(self) -> "Signalling":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        if count and self._done == self._after:
            os.kill(os.getpid(), self._number)


class NextToken(nn.Module):
    """A language model whose context is one token, with something to see as features."""

    output_layout = "classes_last"

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 4)
        self.head = nn.Linear(4, WORDS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(input_ids)))


def token_problem() -> Problem:
    """11 sequences of 7 tokens, of which every third is hidden from its fifth token on."""
    tokens = torch.randint(WORDS, (11, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[::3, 4:] = 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NextToken()
    return Problem.of(network, {"train": {"input_ids": tokens, "attention_mask": mask}}, "causal_lm")


class Tied(nn.Module):
    """A tiny language-model shape: the output layer is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.hidden = nn.Linear(4, 4)
        self.output = nn.Linear(4, 7, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(torch.tanh(self.hidden(self.embedding(tokens))).mean(dim=1))


class WithBuffers(nn.Module):
    """Integer and mask buffers beside batch norm; a float mask holds minus infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 3)
        self.register_buffer("order", torch.tensor([4, 3, 2, 1, 0]))
        self.register_buffer("mask", torch.tensor([0.0, 0.0, float("-inf")]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x[:, self.order]))))


class Convolutions(nn.Module):
    """Ordinary, depthwise, transposed and grouped convolutions, batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.BatchNorm2d(4)
        self.transposed = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.depthwise(self.dropout(self.conv(x)))))
        return self.linear(torch.tanh(self.transposed(x)).mean(dim=(2, 3)))


def networks() -> dict[str, tuple[nn.Module, tuple[Tensor, Tensor]]]:
    """Networks by name, each with inputs and labels."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(23, 5, generator=generator)
    images = torch.randn(23, 1, 6, 6, generator=generator)
    tokens = torch.randint(7, (23, 3), generator=generator)
    labels = torch.randint(3, (23,), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plain = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 3))
        shared = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
        shared[2].weight = nn.Parameter(shared[0].weight.data)
        return {
            "plain": (plain, (vectors, labels)),
            "tied": (Tied(), (tokens, labels)),
            "buffers": (WithBuffers(), (vectors, labels)),
            "convolutions": (Convolutions(), (images, labels)),
            "shared memory": (shared, (vectors, labels)),
        }


def problem_of(name: str) -> Problem:
    """One of `networks` with its data as both splits, the test split shorter."""
    model, (inputs, labels) = networks()[name]
    return Problem.of(model, ((inputs, labels), (inputs[:9], labels[:9])))


def as_double(problem: Problem) -> Problem:
    """The same problem with its inputs in float64."""

    def double(tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    parts = [tuple(double(tensor) for tensor in split.tensors) for split in problem.data.splits.values()]
    return Problem.of(problem.model, tuple(parts))


def plain_loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The mean cross entropy in evaluation mode, in one batch, by torch alone."""
    model = model.eval()
    with torch.no_grad():
        return float(F.cross_entropy(model(inputs), labels))
