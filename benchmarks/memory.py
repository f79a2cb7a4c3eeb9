"""Peak memory of each command on GPT-2 (124 million parameters), in units of its P parameters.

The activations are those of a plain loop with the same batch, and are told apart: what is left is to be at most what
`landscape.app.memory` says, by which a command is refused that cannot fit. Each command has a process of its own; the
checkpoints are mapped, and do not count. It takes minutes a command, and the Hessian 20 P, about 10 GB.
"""

import contextlib
import io
import math
import os
import pathlib
import sys
import tempfile

import torch
import torch.nn.functional as F
from peaks import apart, held, peak_while

import connect.app.cli as connect_cli
import landscape.app.cli as landscape_cli
from landscape.app.memory import fit_need, graph_need, hessian_need, line_need, surface_need
from landscape.problems.models import gpt
from landscape.storage.checkpoints import save_tensors

SIZES = {"large": {"layers": 12, "heads": 12, "width": 768}, "small": {"layers": 1, "heads": 1, "width": 8}}
VOCABULARY, BLOCK, EXAMPLES, VECTORS = 50257, 16, 2, 8
ENCODE = f"def encode(text):\n    return [17 * byte for byte in text.encode()]\n\n\nencode.vocabulary = {VOCABULARY}\n"
PROBLEM = [
    *("--data", "text:text.txt", "--data-args", f"{{block: {BLOCK}, tokenizer: 'encode.py:encode'}}"),
    *("--loss", "causal_lm", "--eval-batch-size", str(EXAMPLES), "--device", "cpu", "--overwrite"),
]
ENDS = ["--a", "a.safetensors", "--b", "b.safetensors"]
TRAINING = ["--epochs", "2", "--batch-size", str(EXAMPLES), "--lr", "1e-4", "--points", "3", "--plane-points", "2"]
CHECKPOINT = ["--checkpoint", "a.safetensors"]
COMMANDS = {
    "line": (landscape_cli, ["line", *ENDS, "--range", "0:1:3"], line_need(), "forward"),
    "surface": (landscape_cli, ["surface", *CHECKPOINT, "--points", "2"], surface_need(), "forward"),
    "surface, 3 draws": (
        landscape_cli,
        ["surface", *CHECKPOINT, "--points", "2", "--draws", "3"],
        surface_need(3),
        "forward",
    ),
    "fit, sgd": (connect_cli, ["fit", *ENDS, *TRAINING, "--optimiser", "sgd"], fit_need(3, 1, 1), "backward"),
    "fit, adamw": (connect_cli, ["fit", *ENDS, *TRAINING, "--optimiser", "adamw"], fit_need(3, 1, 2), "backward"),
    "hessian": (  # of one batch, whose graph is kept between products; of several that fit, so would theirs be
        landscape_cli,
        ["hessian", *CHECKPOINT, "--vectors", str(VECTORS), "--tolerance", "0.3", "--samples", str(EXAMPLES)],
        hessian_need(VECTORS),
        "product",
    ),
    "graph of 3": (
        connect_cli,
        ["graph", "a.safetensors", "b.safetensors", "c.safetensors", *TRAINING[:-2], "--optimiser", "adamw"],
        graph_need(fit_need(3, 1, 2)),
        "backward",
    ),
}


def network(seed, size="large"):
    """GPT-2 with random weights, or a small network of its kind."""
    torch.manual_seed(seed)
    return gpt((BLOCK,), VOCABULARY, **SIZES[size])


def make(folder, size):
    """What the commands read: three checkpoints, and a text with its tokenizer."""
    folder.mkdir()
    (folder / "encode.py").write_text(ENCODE)
    (folder / "text.txt").write_text("".join(chr(97 + (i * i) % 25) for i in range(4 * EXAMPLES * BLOCK)))
    for seed, checkpoint in enumerate("abc"):
        save_tensors(folder / f"{checkpoint}.safetensors", network(seed, size).state_dict(), {})


def of_command(main, arguments, folder):
    """The peak of a command on the large network, less what its program holds after one on the small."""

    def run(size):
        os.chdir(folder / size)
        sys.argv = ["program", *arguments, "--model", "gpt", "--model-args", str(SIZES[size]), *PROBLEM]
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                main()
        except SystemExit as left:
            if left.code:
                raise RuntimeError(printed.getvalue()) from left

    run("small")
    before = held()
    return peak_while(lambda: run("large")) - before


def of_activations(kind):
    """The peak of one batch of a plain loop, less the weights, gradients and products, which are held beside it."""
    model = network(0)
    parameters = list(model.parameters())
    tokens = torch.randint(VOCABULARY, (EXAMPLES, BLOCK))
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter) if kind == "backward" else None

    def loss():
        return F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    def forward():
        with torch.no_grad():
            loss()

    def product():
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
            torch.autograd.grad(gradients, parameters, [parameter.detach() for parameter in parameters])

    before, action = held(), {"forward": forward, "backward": lambda: loss().backward(), "product": product}[kind]
    size = 4 * sum(parameter.numel() for parameter in parameters)
    return peak_while(action) - before - (2 * size if kind == "product" else 0)


def main():
    size = 4 * sum(parameter.numel() for parameter in network(0).parameters())
    names = sys.argv[1:] or list(COMMANDS)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for kind in SIZES:
            make(folder / kind, kind)
        print(f"peak memory, P = {size // 4:,}, in units of P; {EXAMPLES} blocks of {BLOCK} tokens a batch")
        activations = dict.fromkeys(("forward", "backward", "product"), math.nan)
        for kind in activations:
            activations[kind] = apart(of_activations, kind) / size
        for command in names:
            program, arguments, need, kind = COMMANDS[command]
            out = ["--out", command.replace(" ", "_") + (".h5" if program is landscape_cli else "")]
            peak = apart(of_command, program.main, [*arguments, *out], folder) / size
            print(
                f"  {command:18} {peak:6.2f}, activations {activations[kind]:5.2f}, so {peak - activations[kind]:6.2f}"
                f" of {need.vectors:g}",
                flush=True,
            )


if __name__ == "__main__":
    main()
