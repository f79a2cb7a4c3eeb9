"""Symmetries of the networks that people have: every group is proven, and a permuted copy is brought back exactly."""

import pytest
import torch

from connect.symmetry.matching import match_weights
from connect.symmetry.symmetries import find_symmetries

TORCHVISION = {  # groups, and the share of the parameters that is free
    "resnet18": (12, 0.9999), "resnet50": (37, 0.9999), "resnext50_32x4d": (21, 0.9999), "vgg16_bn": (15, 0.9999),
    "densenet121": (120, 0.9998), "mobilenet_v2": (25, 0.9996), "mobilenet_v3_small": (27, 0.9995),
    "efficientnet_b0": (40, 0.9997), "mnasnet1_0": (25, 0.9997), "squeezenet1_1": (25, 0.9991),
    "googlenet": (57, 0.9998), "shufflenet_v2_x1_0": (86, 0.9995), "regnet_y_400mf": (37, 0.9997),
    "convnext_tiny": (22, 0.9999), "vit_b_16": (25, 0.9999), "swin_t": (28, 0.9999),
}  # fmt: skip
TRANSFORMERS = {
    "GPT2LMHeadModel": ({"n_layer": 2, "n_head": 4, "n_embd": 32, "bos_token_id": 0, "eos_token_id": 0}, 5),
    "LlamaForCausalLM": ({"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                          "num_key_value_heads": 2}, 5),
    "BertForMaskedLM": ({"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                         "num_attention_heads": 4}, 5),
    "T5ForConditionalGeneration": ({"d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4, "d_kv": 8}, 9),
}  # fmt: skip
TIMM = {"resmlp_12_224": (13, 0.96), "mixer_s32_224": (17, 0.9998), "ghostnet_100": (31, 0.9997)}


def require_proven(network, example, groups, share):
    symmetries = find_symmetries(network, example)
    assert len(symmetries.groups) == groups
    assert symmetries.free_share > share
    assert not symmetries.unknown
    assert all("does not use" in pinned.reason for pinned in symmetries.pinned)
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    moved = symmetries.permute(state, symmetries.random(1))
    back = symmetries.permute(moved, match_weights(symmetries, state, moved).permutations)
    assert any(not torch.equal(tensor, moved[name]) for name, tensor in state.items())
    for name, tensor in state.items():
        assert torch.equal(tensor, back[name]), name


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name):
    import torchvision

    torch.manual_seed(0)
    arguments = {"init_weights": False} if name == "googlenet" else {}
    network = torchvision.models.get_model(name, weights=None, **arguments).eval()
    size = 224 if name == "vit_b_16" else 64
    require_proven(network, torch.randn(2, 3, size, size), *TORCHVISION[name])


@pytest.mark.foreign
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    arguments, groups = TRANSFORMERS[name]
    kind = getattr(transformers, name)
    network = kind(kind.config_class(vocab_size=64, **arguments)).eval()
    tokens = torch.randint(0, 60, (2, 7))
    example = {"input_ids": tokens, **({"decoder_input_ids": tokens} if name.startswith("T5") else {})}
    require_proven(network, example, groups, 0.99)


@pytest.mark.foreign
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    require_proven(timm.create_model(name).eval(), torch.randn(2, 3, 224, 224), *TIMM[name])
