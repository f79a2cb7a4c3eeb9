"""Whatever the network: each command gives what a plain loop over its examples gives, or says why it does not."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from connect import load_graph
from connect.app import cli as connect_cli
from landscape import load_checkpoint, load_result
from landscape.problems.copying import unwrapped
from tests import unusual

FILE = Path(unusual.__file__)
LINE = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Kind:
    """A network with its data and loss, and what commands cannot do with it.

    Attributes:
        data: the factory's name.
        loss: that of a function in the same file; None for the cross entropy.
        pairs: words with which commands about two networks refuse, since something differs that nothing moves.
        curvature: words with which the Hessian is refused.
        random: draws numbers, so that no plain loop knows its values.
        whole: values depend on the batch size.
        frozen_base: paths hold only what was trained.
        kinks: differences of losses do not tell second derivatives.
    """

    data: str
    loss: str | None = None
    pairs: str | None = None
    curvature: str | None = None
    random: bool = False
    whole: bool = False
    frozen_base: bool = False
    kinks: bool = False


KINDS = {
    "plain": Kind("images"),
    "norm_without_bias": Kind("images"),
    "sync_norm": Kind("images"),
    "norm_without_statistics": Kind("images", whole=True),
    "instance_norm": Kind("images"),
    "other_norms": Kind("images"),
    "spectral_norm_of_old": Kind("images", pairs="0.weight_u"),
    "spectral_norm": Kind("images", pairs="0.parametrizations.weight.0._u"),
    "weight_norm_of_old": Kind("images"),
    "weight_norm": Kind("images"),
    "parametrized": Kind("images"),
    "pruned": Kind("images", frozen_base=True),
    "hooked": Kind("images"),
    "hooked_before": Kind("images"),
    "own_forward": Kind("images"),
    "Training": Kind("images", whole=True),
    "Branching": Kind("images"),
    "Auxiliary": Kind("images"),
    "ByKeyword": Kind("images"),
    "twice_wrapped": Kind("images"),
    "in_parallel": Kind("images"),
    "Scaled": Kind("vectors", frozen_base=True),
    "Counting": Kind("vectors", whole=True, frozen_base=True),
    "InPlace": Kind("vectors"),
    "Noisy": Kind("vectors", random=True),
    "Adapted": Kind("vectors", frozen_base=True),
    "Checkpointed": Kind("vectors"),
    "Once": Kind("vectors", curvature="_Once"),
    "two_layers": Kind("soft_labels"),
    "orthogonal": Kind("vectors", pairs="0.parametrizations.weight.0.base"),
    "in_double": Kind("double_vectors"),
    "curve": Kind("line", loss="residual"),
    "Recurrent": Kind("tokens"),
    "Attending": Kind("tokens", frozen_base=True),
    "Tied": Kind("tokens"),
    "Sparse": Kind("tokens"),
    "Bag": Kind("tokens", curvature="embedding_bag"),
}
OWN = ("mlp", "cnn", "resnet", "resnet_without_shortcuts", "vgg")
KINDS |= {name: Kind("images", kinks=True) for name in OWN} | {"densenet": Kind("larger_images", kinks=True)}
MAPPED = {"two_layers (jacobian)": ("two_layers", Kind("vectors", loss="jacobian"))}
ALL = {name: (name, kind) for name, kind in KINDS.items()} | MAPPED


class Pair:
    """Two networks of a kind as checkpoints, and what a plain loop says of networks between them."""

    def __init__(self, name: str, kind: Kind, folder: Path) -> None:
        self.name, self.kind, self.folder = name, kind, folder
        self.files = {}
        for seed, letter in enumerate("ab"):
            model = self._made(seed)
            self.files[letter] = folder / f"{letter}.pt"
            torch.save(model.state_dict(), self.files[letter])
        self.states = {letter: torch.load(file) for letter, file in self.files.items()}
        loss = ["--loss", f"{FILE}:{kind.loss}"] if kind.loss else []
        self.flags = ["--model", f"{FILE}:{name}", "--data", f"{FILE}:{kind.data}", *loss, "--eval-batch-size", 48]

    def _made(self, seed: int) -> nn.Module:
        """A network whose weights, gains and statistics are all away from where networks begin."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = unwrapped(getattr(unusual, self.name)())
        generator = torch.Generator().manual_seed(10 + seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.add_(0.2 * noise.to(parameter))
            for module in model.modules():
                if isinstance(module, _NormBase) and module.running_mean is not None:
                    module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.3)
                    module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
        return model

    @property
    def trainable(self) -> list[str]:
        return [name for name, parameter in unwrapped(self._made(0)).named_parameters() if parameter.requires_grad]

    def between(self, t: float) -> dict[str, torch.Tensor]:
        """The trained tensors on the straight line."""
        a, b = self.states["a"], self.states["b"]
        return {_plain(name): (1 - t) * a[name] + t * b[name] for name in self.trainable}

    def loss(self, tensors, *, letter="a", statistics="own", double=False) -> float:
        """The mean training loss of a checkpoint's network with other values of its trained tensors."""
        model = self._made(0)
        model.load_state_dict(self.states[letter])
        with torch.no_grad():
            named = {_plain(name): p for name, p in model.named_parameters(remove_duplicate=False)}
            named |= dict(model.named_buffers())
            for name, value in tensors.items():
                named[name].copy_(value)
        x, y = getattr(unusual, self.kind.data)()[0]
        if double:
            x = x.double() if x.is_floating_point() else x
            for tensor in [*model.parameters(), *model.buffers()]:
                if tensor.dtype == torch.float32:
                    tensor.data = tensor.data.double()
        if statistics == "recomputed":
            self._gather(model, x, y)
        with torch.enable_grad():
            return float(self._losses(model.eval(), x, y).detach().double().mean())

    def _losses(self, model, x, y):
        if self.kind.loss:
            return getattr(unusual, self.kind.loss)(model, (x.clone(), y))
        return F.cross_entropy(model(x.clone()), y, reduction="none")

    def _gather(self, model, x, y) -> None:
        """Running statistics as torch gathers them over a single batch of all examples."""
        norms = [m for m in model.eval().modules() if isinstance(m, _NormBase) and m.running_mean is not None]
        buffers = copy.deepcopy(dict(model.named_buffers()))
        used = []
        for norm in norms:
            used.append((norm, norm.register_forward_pre_hook(lambda *_, into=used: into.append(_[0]))))
            norm.momentum = 1.0
            norm.train()
        with torch.enable_grad():
            self._losses(model, x, y)
        for name, buffer in model.named_buffers():
            owner = model.get_submodule(name.rpartition(".")[0])
            if owner not in norms or owner not in used:
                buffer.copy_(buffers[name])


def _plain(name: str) -> str:
    """A name without the marks of torch.compile."""
    return name.replace("_orig_mod.", "")


@pytest.fixture(params=sorted(ALL))
def pair(request, tmp_path):
    name, kind = ALL[request.param]
    return Pair(name, kind, tmp_path)


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    """Pictures take longer than the measurements that this is about."""
    landscape_commands = [f"landscape.app.commands.{name}" for name in ("lines", "surfaces", "spectra")]
    for command in (
        *landscape_commands,
        *(f"connect.app.commands.{name}" for name in ("fitting", "profiling", "graphs")),
    ):
        monkeypatch.setattr(f"{command}.draw_result", lambda *_: [])


pytestmark = [
    pytest.mark.proof,
    pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),
    pytest.mark.filterwarnings("ignore:dropout option adds dropout:UserWarning"),
]


def refused(answer, words) -> None:
    code, _, errors = answer
    assert code == 2, errors
    assert words in errors
    assert "unexpected" not in errors


def test_line_and_surface_give_the_loss_of_a_plain_loop(pair, call):
    out = pair.folder / "line.h5"
    ends = ["--a", pair.files["a"], "--b", pair.files["b"]]
    answer = call("line", *ends, "--range", "0:1:3", "--out", out, *pair.flags)
    plane = pair.folder / "plane.h5"
    across = ["--checkpoint", pair.files["a"], "--axes", "difference", "--towards", pair.files["b"]]
    other = call("surface", *across, "--x", "0:1:3", "--y", "0:0.5:2", "--out", plane, *pair.flags)
    if pair.kind.pairs:
        refused(answer, pair.kind.pairs)
        refused(other, pair.kind.pairs)
        return
    assert answer[0] == 0, answer[2]
    assert other[0] == 0, other[2]
    line, surface = load_result(out), load_result(plane)
    if pair.kind.random:
        again = pair.folder / "again.h5"
        assert call("line", *ends, "--range", "0:1:3", "--out", again, *pair.flags)[0] == 0
        assert np.array_equal(load_result(again).train_loss, line.train_loss)
        np.testing.assert_allclose(surface.train_loss[0], line.train_loss, rtol=1e-5)
        assert line.provenance["depends_on_batch_size"]
        return
    expected = [pair.loss(pair.between(t), statistics="recomputed") for t in LINE]
    np.testing.assert_allclose(line.train_loss, expected, rtol=1e-4)
    np.testing.assert_allclose(surface.train_loss[0], expected, rtol=1e-4)
    assert bool(line.provenance.get("depends_on_batch_size")) == pair.kind.whole


def test_one_network_has_its_own_loss_and_curvature(pair, call):
    line = pair.folder / "line.h5"
    answer = call("line", "--a", pair.files["a"], "--range=-1:1:3", "--out", line, *pair.flags)
    assert answer[0] == 0, answer[2]
    own = pair.between(0.0)
    if not pair.kind.random:
        assert load_result(line).train_loss[0, 1] == pytest.approx(pair.loss(own), rel=1e-4)
    if pair.kind.kinks:
        return
    out = pair.folder / "h.h5"
    asked = ["--checkpoint", pair.files["a"], "--parameters", "all", "--out", out]
    answer = call("hessian", *asked, *pair.flags)
    if pair.kind.curvature:
        refused(answer, pair.kind.curvature)
        return
    assert answer[0] == 0, answer[2]
    if pair.kind.random:
        return
    ends = load_result(out).facts["ends"]
    vectors = load_checkpoint(pair.folder / "h_vectors.safetensors").state
    step = 1e-3
    for end in ("top", "bottom"):
        v = {name: vectors[f"{end}.0.{name}"].double() for name in own}
        up, down = ({n: own[n].double() + sign * step * v[n] for n in own} for sign in (1, -1))
        heights = [pair.loss(tensors, double=True) for tensors in (up, own, down)]
        bend = (heights[0] - 2 * heights[1] + heights[2]) / step**2
        scale = max(abs(ends["top"][0]), abs(ends["bottom"][0]))
        assert ends[end][0] == pytest.approx(bend, rel=0.02, abs=0.005 * scale)


def test_a_fitted_path_is_measured_with_what_its_ends_held(pair, call):
    fitted, graph = pair.folder / "fit", pair.folder / "graph"
    quick = ["--epochs", 1, "--lr", 0.05, "--batch-size", 24, "--plane-points", 0]
    measured = ["--points", 3, "--tolerance", 0]
    ends = ["--a", pair.files["a"], "--b", pair.files["b"]]
    answer = call("fit", *ends, "--out", fitted, *quick, *measured, *pair.flags, program=connect_cli)
    unfitted = ["--budget", 0, "--lr", 0.05]
    mapped = call("graph", *pair.files.values(), "--out", graph, *unfitted, *pair.flags, program=connect_cli)
    if pair.kind.pairs:
        refused(answer, pair.kind.pairs)
        refused(mapped, pair.kind.pairs)
        return
    assert answer[0] == 0, answer[2]
    assert mapped[0] == 0, mapped[2]
    again = ["profile", fitted / "path.safetensors", *measured, *pair.flags]
    base = ["--base", pair.files["a"]] if pair.kind.frozen_base else []
    answer = call(*again, *base, program=connect_cli)
    assert answer[0] == 0, answer[2]
    profiles = [load_result(fitted / "profile.h5"), load_result(fitted / "path_profile.h5")]
    if pair.kind.random:
        for name in ("path", "straight"):
            one, other = (profile.sweeps[name]["train_loss"] for profile in profiles)
            np.testing.assert_allclose(one, other, rtol=1e-5)
        return
    points = load_checkpoint(fitted / "path.safetensors").state
    middle = {name: 0.25 * points[name][0] + 0.5 * points[name][1] + 0.25 * points[name][2] for name in points}
    straight = [pair.loss(pair.between(t), statistics="recomputed") for t in LINE]
    path = [straight[0], pair.loss(middle, statistics="recomputed"), straight[2]]
    for profile in profiles:
        np.testing.assert_allclose(profile.sweeps["straight"]["train_loss"], straight, rtol=1e-4)
        np.testing.assert_allclose(profile.sweeps["path"]["train_loss"], path, rtol=2e-4)
    nodes = dict(load_graph(graph / "graph.h5").graph.nodes(data="loss"))
    assert nodes == pytest.approx({"a": straight[0], "b": straight[2]}, rel=1e-4)


def test_buffers_in_which_two_networks_differ_move_between_their_own_where_asked(tmp_path, call):
    pair = Pair("Scaled", KINDS["Scaled"], tmp_path)
    pair.states["b"]["mean"] += 0.7
    torch.save(pair.states["b"], pair.files["b"])
    ends = ["--a", pair.files["a"], "--b", pair.files["b"], *pair.flags]
    refused(call("line", *ends, "--range", "0:1:3", "--out", tmp_path / "l.h5"), "mean")
    ends += ["--batch-norm", "interpolated"]
    code, _, errors = call("line", *ends, "--range", "0:1:3", "--out", tmp_path / "l.h5")
    assert code == 0, errors
    quick = ["--epochs", 1, "--points", 3, "--tolerance", 0, "--plane-points", 0]
    code, _, errors = call("fit", *ends, *quick, "--out", tmp_path / "fit", program=connect_cli)
    assert code == 0, errors
    between = pair.between(0.5) | {"mean": (pair.states["a"]["mean"] + pair.states["b"]["mean"]) / 2}
    expected = [pair.loss(pair.between(0)), pair.loss(between), pair.loss(pair.between(1), letter="b")]
    np.testing.assert_allclose(load_result(tmp_path / "l.h5").train_loss, expected, rtol=1e-4)
    profile = load_result(tmp_path / "fit" / "profile.h5")
    np.testing.assert_allclose(profile.sweeps["straight"]["train_loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(profile.sweeps["path"]["train_loss"][[0, 2]], expected[::2], rtol=1e-4)
    again = ["profile", tmp_path / "fit" / "path.safetensors", *pair.flags, "--base", pair.files["a"]]
    refused(call(*again, program=connect_cli), "differ in mean")
