"""Checkpoints as other libraries write them themselves: the point that is read gives their networks' own outputs."""

import argparse
import copy
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from landscape import ParameterSpace, load_checkpoint
from landscape.errors import LayoutError
from tests.foreign import made

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.filterwarnings("ignore"),  # of the libraries, about themselves
]


def read(folder, network):
    """The space of a network with other weights, at the point that a checkpoint holds, and what was said of it."""
    space, state = ParameterSpace(network), load_checkpoint(folder).state
    space.move_to(space.load(state))
    return space, space.layout.match(state).notes


def scores(network, kind="gpt2"):
    with torch.no_grad():
        return network.eval()(input_ids=made.batch(kind)["input_ids"]).logits


@pytest.mark.parametrize("writing", ["whole", "shards", "bin", "body", "bfloat16"])
def test_a_folder_of_transformers_is_read(tmp_path, writing):
    transformers = pytest.importorskip("transformers", reason="transformers is installed by make foreign")
    saved, other = (made.network("gpt2", transformers, seed) for seed in (0, 1))
    if writing == "bin":  # as its earlier versions wrote it, with the tied tensor twice and the masks
        masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 12, 12, dtype=torch.bool).tril() for i in range(2)}
        torch.save({**saved.state_dict(), **masks}, tmp_path / "pytorch_model.bin")
    elif writing == "body":
        saved.transformer.save_pretrained(tmp_path)
    elif writing == "bfloat16":
        saved.to(torch.bfloat16).save_pretrained(tmp_path)
        saved.float()
    else:
        saved.save_pretrained(tmp_path, max_shard_size="10KB" if writing == "shards" else "1GB")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (writing == "shards")
    space, notes = read(tmp_path, other)
    assert torch.equal(scores(space.network), scores(saved))
    said = {"body": "'transformer.' was put before", "bin": "what the network makes itself was left out"}
    assert [note.startswith(said.get(writing, "")) for note in notes] == [True] * (writing in said)


def test_another_vocabulary_is_told_by_its_tensor(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is installed by make foreign")
    made.network("gpt2", transformers).save_pretrained(tmp_path)
    network = made.network("gpt2", transformers)
    network.resize_token_embeddings(made.VOCABULARY + 8)
    with pytest.raises(LayoutError, match=r"wte\.weight is \(40, 16\), expected \(48, 16\).*vocabularies"):
        read(tmp_path, network)


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_of_peft_is_read_alone_and_merged(tmp_path, dora):
    transformers = pytest.importorskip("transformers", reason="transformers is installed by make foreign")
    peft = pytest.importorskip("peft", reason="peft is installed by make foreign")
    base = made.network("bert", transformers)
    config = peft.LoraConfig(r=2, target_modules=["query"], use_dora=dora, modules_to_save=["classifier"])
    saved, other = (peft.get_peft_model(copy.deepcopy(base), config) for _ in range(2))
    with torch.no_grad():
        for parameter in saved.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    saved.save_pretrained(tmp_path / "adapter")
    space, notes = read(tmp_path / "adapter", other)
    assert torch.equal(scores(space.network, "bert"), scores(saved, "bert"))
    assert notes == ("it holds the trainable parameters alone; the others stay as the network has them",)
    merged = saved.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    space, notes = read(tmp_path / "merged", made.network("bert", transformers, seed=1))
    assert torch.equal(scores(space.network, "bert"), scores(merged, "bert"))
    assert notes == ()


def test_files_of_timm_are_read(tmp_path):
    timm = pytest.importorskip("timm", reason="timm is installed by make foreign")
    from timm.utils import CheckpointSaver, ModelEmaV2

    saved, other = (timm.create_model("test_resnet", num_classes=3) for _ in range(2))
    settings = argparse.Namespace(model="test_resnet", lr=0.1)
    saver = CheckpointSaver(
        saved,
        torch.optim.AdamW(saved.parameters()),
        args=settings,
        model_ema=ModelEmaV2(other),
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(0, metric=0.5)
    images = torch.randn(2, 3, 32, 32)
    space, notes = read(tmp_path / "last.pth.tar", copy.deepcopy(other))
    assert torch.allclose(space.network(images), saved.eval()(images), atol=1e-6)
    assert notes == ()


def test_a_checkpoint_of_lightning_is_read(tmp_path, caplog):
    lightning = pytest.importorskip("lightning", reason="lightning is installed by make foreign")
    caplog.set_level(logging.ERROR)

    class Classifier(lightning.LightningModule):
        def __init__(self, width: int, folder: Path) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))
            self.loss_fn = nn.CrossEntropyLoss(weight=torch.ones(2))

        def training_step(self, batch, index):
            return self.loss_fn(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters())

    classifier = Classifier(4, tmp_path)
    examples = torch.utils.data.TensorDataset(torch.randn(8, 3), torch.arange(8) % 2)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(classifier, torch.utils.data.DataLoader(examples, batch_size=4))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    space, notes = read(tmp_path / "last.ckpt", Classifier(4, tmp_path).model)
    inputs = torch.randn(5, 3)
    assert torch.equal(space.network(inputs), classifier.eval().model(inputs))
    assert notes == ("'model.' was taken off the names of its tensors", "one other was left out: loss_fn.weight")
