"""Every command of both programs that takes a problem, on a world of tiny files in which none of them needs long."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from connect import Bezier, save_path
from connect import Path as CurvedPath
from connect.app import cli as connect_cli
from landscape import ParameterSpace, save_tensors
from landscape.app import cli as landscape_cli
from landscape.app.options import flags
from landscape.problems.models import MODELS

PROGRAMS = {"landscape": landscape_cli, "connect": connect_cli}
KINDS = {
    (program, name): command.config for program, cli in PROGRAMS.items() for name, command in cli._COMMANDS.items()
}
MEASURING = [each for each, config in KINDS.items() if "model" in flags(config)]

_FEW = ["--points", "3"]
_FIT = ["--epochs", "1", "--points", "3"]
ARGUMENTS: dict[tuple[str, str], list[str]] = {
    ("landscape", "train"): ["--epochs", "1"],
    ("landscape", "line"): ["--a", "a", "--b", "b", "--range", "0:1:3"],
    ("landscape", "surface"): ["--checkpoint", "a", "--through", "b", "c", *_FEW],
    ("landscape", "hessian"): ["--checkpoint", "a", "--samples", "32", "--parameters", "all"],
    ("landscape", "trajectory"): ["a", "b", "c", *_FEW],
    ("connect", "fit"): ["--a", "a", "--b", "b", *_FIT, "--tolerance", "0", "--plane-points", "3"],
    ("connect", "profile"): ["path", *_FEW, "--tolerance", "0"],
    ("connect", "ensemble"): ["path", "--members", "2"],
    ("connect", "simplex"): ["a", "b", "--connecting", "1", "--samples", "2", "--epochs", "1"],
    ("connect", "graph"): ["a", "b", "c", *_FIT, "--members", "2", "--tolerance", "0.5"],
    ("connect", "export"): ["path", "--t", "0.5"],
    ("connect", "align"): ["--a", "a", "--b", "b"],
    ("connect", "merge"): ["--a", "a", "--b", "b"],
}
_WRITTEN = {
    "out.safetensors": [("landscape", "train"), ("connect", "export"), ("connect", "align"), ("connect", "merge")],
    "out": [("connect", "fit"), ("connect", "simplex"), ("connect", "graph")],
}
OUTPUTS = {key: out for out, keys in _WRITTEN.items() for key in keys}


@dataclass(frozen=True)
class World:
    """Files in a folder: three networks a, b and c, a path between the first two, and what is wrong on purpose.

    `again` holds the network a with other metadata, `twin` its parameters with another buffer, `wide` another network,
    and `astray` a path between other ends.
    """

    folder: Path
    problem: dict = field(default_factory=dict)

    def command(self, key, *more, **places):
        """The arguments of a command, with files by their names, and some of them taken by others."""
        named = [places.get(word, word) for word in ARGUMENTS[key]]
        known = {file.stem: str(file) for file in self.folder.glob("*.safetensors")}
        made = ["--model", "mlp", "--data", "digits"] if key == ("landscape", "train") else []
        out = self.folder / "results" / OUTPUTS.get(key, "out.h5")
        return [key[1], *(known.get(word, word) for word in named), *made, "--out", str(out), *more]


def build_world(folder, model_args):
    """Write the files of a world of multilayer perceptrons on the digits."""
    folder.mkdir(exist_ok=True)
    problem = {"model": "mlp", "model_args": model_args, "data": "digits", "loss": "cross_entropy"}

    def network(seed, **other):
        torch.manual_seed(seed)
        return MODELS["mlp"](input_shape=(1, 8, 8), classes=10, **{**model_args, **other})

    def save(name, state, note=""):
        save_tensors(folder / f"{name}.safetensors", state, {"problem": problem, "note": note})

    networks = [network(seed) for seed in range(3)]
    for name, each in zip("abc", networks, strict=True):
        save(name, each.state_dict())
    state = networks[0].state_dict()
    save("again", state, "once more")
    changed = {name: t + 1 if "running" in name else t for name, t in state.items()}
    save("twin", changed)
    save("wide", network(0, widths=[7]).state_dict())
    space = ParameterSpace(networks[0])
    thetas = [space.flatten(each.state_dict()) for each in networks]
    for name, ends in {"path": (0, 1), "astray": (0, 2)}.items():
        points = torch.stack([thetas[ends[0]], thetas[2] / 2, thetas[ends[1]]])
        losses = torch.linspace(2, 1, 9, dtype=torch.float64)
        path = CurvedPath(points, Bezier(3), losses=losses)
        save_path(folder / f"{name}.safetensors", path, space, {"problem": problem})
    return World(folder, problem)
