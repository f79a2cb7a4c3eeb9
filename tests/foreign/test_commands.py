"""A user's two networks, in the files that each library writes, through the commands: without glue.

Every origin has an oracle in its own library: the mean loss of a network whose trained tensors were put in by hand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from connect import load_graph
from connect.app import cli as connect_cli
from landscape import load_checkpoint, load_result
from tests.foreign import made

transformers = pytest.importorskip("transformers", reason="transformers is installed by make foreign")
peft = pytest.importorskip("peft", reason="peft is installed by make foreign")
timm = pytest.importorskip("timm", reason="timm is installed by make foreign")
lightning = pytest.importorskip("lightning", reason="lightning is installed by make foreign")
pytestmark = [
    pytest.mark.foreign,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning:lightning"),
]

FILE = Path(made.__file__)


@dataclass(frozen=True)
class Origin:
    """Two networks of one library.

    Attributes:
        files: of the two, as the library wrote them.
        flags: what names the problem, beside the files themselves.
        network: one of them as the library reads it, whose trained tensors are moved.
        trained: the tensors of both that a command moves, by the library's names.
        losses: the library's own loss of a network for each example.
    """

    files: tuple[Path, Path]
    flags: tuple[str, ...]
    network: torch.nn.Module
    trained: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
    losses: Callable[[torch.nn.Module, bool], torch.Tensor]

    def at(self, tensors, double=False):
        """The mean loss with these values of the trained tensors."""
        network = self.network.double() if double else self.network.float()
        own = dict(network.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, value in tensors.items():
                own[name].copy_(value)
            return float(self.losses(network.eval(), double).double().mean())

    def between(self, t):
        a, b = self.trained
        return {name: (1 - t) * a[name] + t * b[name] for name in a}


def trained(network):
    return {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}


def named(kind, loss):
    return "--data", f"{FILE}:examples", "--data-args", f"{{kind: {kind}}}", "--loss", loss


def each_own(kind):
    """The library's loss of each example on its own, by its labels; of next tokens these are the tokens."""

    def losses(network, _):
        given = made.batch(kind)
        given.setdefault("labels", given["input_ids"].masked_fill(given["attention_mask"] == 0, -100))
        singles = [{name: values[i : i + 1] for name, values in given.items()} for i in range(made.EXAMPLES)]
        return torch.stack([network(**single).loss for single in singles])

    return losses


def hugging_face(folder):
    networks = [made.network("gpt2", transformers, seed) for seed in (1, 2)]
    for letter, network in zip("ab", networks, strict=True):
        network.save_pretrained(folder / letter)
    files = folder / "a", folder / "b"
    read = transformers.AutoModelForCausalLM.from_pretrained(folder / "a")
    return Origin(files, named("gpt2", "causal_lm"), read, tuple(map(trained, networks)), each_own("gpt2"))


def in_shards(folder):
    networks = [made.network("bert", transformers, seed) for seed in (1, 2)]
    for letter, network in zip("ab", networks, strict=True):
        network.save_pretrained(folder / letter, max_shard_size="8KB")
    assert len(list((folder / "a").glob("*.safetensors"))) > 1
    read = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "a")
    files = folder / "a", folder / "b"
    return Origin(files, named("bert", "cross_entropy"), read, tuple(map(trained, networks)), each_own("bert"))


def adapters(folder):
    base = folder / "base"
    made.network("llama", transformers).save_pretrained(base)
    networks = []
    torch.manual_seed(0)
    for letter in "ab":
        on = transformers.AutoModelForCausalLM.from_pretrained(base)
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        networks.append(peft.get_peft_model(on, config))
        with torch.no_grad():
            for parameter in filter(lambda p: p.requires_grad, networks[-1].parameters()):
                parameter.copy_(0.3 * torch.randn(parameter.shape))
        networks[-1].save_pretrained(folder / letter)
    files = folder / "a", folder / "b"
    read = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(base), files[0])
    return Origin(files, named("llama", "causal_lm"), read, tuple(map(trained, networks)), each_own("llama"))


def of_pictures(network, double):
    x, y = made.pictures()[0]
    return F.cross_entropy(network(x.double() if double else x), y, reduction="none")


def timms(folder):
    sizes = {"patch_size": 4, "depth": 1, "embed_dim": 12, "img_size": 8, "in_chans": 1, "num_classes": made.LABELS}
    networks = []
    for seed, letter in enumerate("ab"):
        torch.manual_seed(seed)
        networks.append(timm.create_model("vit_tiny_patch16_224", **sizes))
        for parameter in networks[-1].parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        torch.save({"state_dict": networks[-1].state_dict(), "epoch": 3}, folder / f"{letter}.pth.tar")
    files = folder / "a.pth.tar", folder / "b.pth.tar"
    arguments = f"{{{', '.join(f'{name}: {value}' for name, value in sizes.items())}}}"
    flags = "--model", "timm:vit_tiny_patch16_224", "--model-args", arguments, "--data", f"{FILE}:pictures"
    return Origin(files, flags, networks[0], tuple(map(trained, networks)), of_pictures)


class Module(lightning.LightningModule):
    """A user's module, with a network inside and something beside it."""

    def __init__(self):
        super().__init__()
        self.save_hyperparameters()
        self.net = made.net()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def lightnings(folder):
    networks = []
    for seed, letter in enumerate("ab"):
        torch.manual_seed(seed)
        module = Module()
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, DataLoader(TensorDataset(*made.pictures()[0]), batch_size=8))
        trainer.save_checkpoint(folder / f"{letter}.ckpt")
        networks.append(module.net)
    files = folder / "a.ckpt", folder / "b.ckpt"
    flags = "--model", f"{FILE}:net", "--data", f"{FILE}:pictures"
    return Origin(files, flags, networks[0], tuple(map(trained, networks)), of_pictures)


@pytest.fixture(scope="module", params=[hugging_face, in_shards, adapters, timms, lightnings])
def origin(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


@pytest.fixture
def done(call):
    def run(*arguments, **program):
        code, printed, errors = call(*arguments, **program)
        assert code == 0, errors
        return printed + errors

    return run


def test_a_line_and_a_surface_have_the_librarys_losses(origin, done, tmp_path):
    a, b = origin.files
    done("line", "--a", a, "--b", b, "--range", "0:1:3", "--out", tmp_path / "line.h5", *origin.flags)
    losses = [origin.at(origin.between(t)) for t in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(load_result(tmp_path / "line.h5").train_loss, losses, rtol=1e-5)
    across = "--checkpoint", a, "--axes", "difference", "--towards", b, "--x", "0:1:3", "--y", "0:0.5:2"
    done("surface", *across, "--out", tmp_path / "plane.h5", *origin.flags)
    np.testing.assert_allclose(load_result(tmp_path / "plane.h5").train_loss[0], losses, rtol=1e-5)


def test_the_hessian_bends_as_the_librarys_losses_do(origin, done, tmp_path):
    out = tmp_path / "h.h5"
    done("hessian", "--checkpoint", origin.files[0], "--parameters", "all", "--out", out, *origin.flags)
    vectors = load_checkpoint(tmp_path / "h_vectors.safetensors").state
    own = {name: tensor.double() for name, tensor in origin.between(0.0).items()}
    v = {name: vectors[f"top.0.{name}"].double() for name in own}
    step = 4e-3
    down, here, up = (origin.at({n: own[n] + t * v[n] for n in own}, double=True) for t in (-step, 0.0, step))
    top = load_result(out).facts["ends"]["top"][0]
    assert top == pytest.approx((up - 2 * here + down) / step**2, rel=0.02)


def test_a_path_and_a_graph_begin_and_end_with_the_librarys_losses(origin, done, tmp_path):
    a, b = origin.files
    quick = "--epochs", 1, "--points", 3, "--tolerance", 0, "--plane-points", 0
    done("fit", "--a", a, "--b", b, "--out", tmp_path / "fit", *quick, *origin.flags, program=connect_cli)
    sweeps = load_result(tmp_path / "fit" / "profile.h5").sweeps
    straight = [origin.at(origin.between(t)) for t in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(sweeps["straight"]["train_loss"], straight, rtol=1e-5)
    points = load_checkpoint(tmp_path / "fit" / "path.safetensors").state
    middle = {name: 0.25 * points[name][0] + 0.5 * points[name][1] + 0.25 * points[name][2] for name in points}
    curved = [straight[0], origin.at(middle), straight[2]]
    np.testing.assert_allclose(sweeps["path"]["train_loss"], curved, rtol=1e-5)
    done("graph", a, b, "--out", tmp_path / "graph", "--budget", 0, *origin.flags, program=connect_cli)
    nodes = load_graph(tmp_path / "graph" / "graph.h5").graph.nodes(data="loss")
    assert sorted(loss for _, loss in nodes) == pytest.approx(sorted(straight[::2]), rel=1e-5)


def test_a_result_knows_the_weights_of_the_base(call, done, tmp_path):
    origin, base, out = adapters(tmp_path), tmp_path / "base", tmp_path / "line.h5"
    line = "line", "--a", origin.files[0], "--range=-1:1:3", "--out", out, *origin.flags
    done(*line)
    files = load_result(out).provenance["code"]
    assert files.keys() - {str(FILE)} == {
        str(origin.files[0] / "adapter_config.json"),
        str(base / "config.json"),
        str(base / "model.safetensors"),
    }
    made.network("llama", transformers, seed=7).save_pretrained(base)
    code, _, errors = call(*line, "--resume")
    assert code == 2
    assert "model.safetensors" in errors


def test_adapters_are_trained_from_their_base_on(done, tmp_path):
    origin = adapters(tmp_path)
    out = tmp_path / "trained.safetensors"
    done("train", "--model", f"hf:{origin.files[0]}", "--epochs", 3, "--out", out, *origin.flags)
    state = load_checkpoint(out).state
    fixed = {name: tensor for name, tensor in origin.network.state_dict().items() if name not in origin.trained[0]}
    assert all(torch.equal(state[name], tensor) for name, tensor in fixed.items())
    moved = {name: state[name] for name in origin.trained[0]}
    assert origin.at(moved) < origin.at({name: torch.zeros_like(t) for name, t in moved.items()})


@pytest.fixture
def quantised(tmp_path):
    """Two adapters on a base of which torchao holds the weights in 8 bits, and the second as PEFT reads it."""
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is installed by make foreign")
    made.network("llama", transformers).bfloat16().save_pretrained(tmp_path / "whole")
    eight = transformers.TorchAoConfig(torchao.Int8WeightOnlyConfig())
    read = transformers.AutoModelForCausalLM.from_pretrained
    read(tmp_path / "whole", dtype="auto", quantization_config=eight).save_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    for letter in "ab":
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        network = peft.get_peft_model(read(tmp_path / "base", dtype="auto"), config)
        with torch.no_grad():
            for parameter in filter(lambda p: p.requires_grad, network.parameters()):
                parameter.copy_(0.3 * torch.randn(parameter.shape))
        network.save_pretrained(tmp_path / letter)
    return network.eval(), (tmp_path / "a", tmp_path / "b")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_base_in_8_bits_is_shared_and_left_out_of_files(quantised, done, tmp_path):
    network, (a, b) = quantised
    flags = named("llama", "causal_lm")
    done("line", "--a", a, "--b", b, "--range", "0:1:3", "--out", tmp_path / "line.h5", *flags)
    with torch.no_grad():
        expected = float(each_own("llama")(network, None).double().mean())
    assert load_result(tmp_path / "line.h5").train_loss[-1] == pytest.approx(expected, rel=0.01)  # bfloat16
    done("hessian", "--checkpoint", b, *flags)
    quick = "--epochs", 1, "--points", 3, "--tolerance", 0, "--plane-points", 0
    done("fit", "--a", a, "--b", b, "--out", tmp_path / "fit", *quick, *flags, program=connect_cli)
    path, middle = tmp_path / "fit" / "path.safetensors", tmp_path / "middle.safetensors"
    done("export", path, "--t", 0.5, "--out", middle, *flags, program=connect_cli)
    assert load_checkpoint(middle).state.keys() == trained(network).keys()
    done("line", "--a", a, "--b", middle, "--range", "0:1:3", "--out", tmp_path / "again.h5", *flags)
    sweep = load_result(tmp_path / "fit" / "profile.h5").sweeps["path"]["train_loss"]
    assert load_result(tmp_path / "again.h5").train_loss[-1] == pytest.approx(sweep[1], rel=1e-3)
