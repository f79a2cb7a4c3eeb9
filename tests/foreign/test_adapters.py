"""Networks of PEFT by the folder that it writes: a frozen base in its own type, under trainable adapters."""

import json
import logging
import sys

import pytest
import torch

from landscape import ParameterSpace
from landscape.errors import ConfigError, ProblemError
from landscape.problems.copying import copied
from landscape.problems.libraries.folders import files_read, folder_model
from tests.foreign import made

transformers = pytest.importorskip("transformers", reason="transformers is installed by make foreign")
peft = pytest.importorskip("peft", reason="peft is installed by make foreign")
pytestmark = [
    pytest.mark.foreign,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture
def saved(tmp_path):
    """Writes a base and adapters on it; returns PEFT's network, the base's folder and the adapters'."""

    def write(kind="llama", dtype=torch.bfloat16):
        base, adapters = tmp_path / "base", tmp_path / "adapters"
        whole = made.network(kind, transformers).to(dtype)
        (whole.bert if kind == "bert" else whole).save_pretrained(base)
        names = {"llama": ["q_proj", "v_proj"], "bert": ["query"], "gpt2": ["c_attn"]}[kind]
        tasks = {"llama": "CAUSAL_LM", "bert": "SEQ_CLS", "gpt2": None}
        built = type(made.network(kind, transformers))
        on = built.from_pretrained(base, dtype="auto", **({"num_labels": made.LABELS} if kind == "bert" else {}))
        config = peft.LoraConfig(r=2, target_modules=names, task_type=tasks[kind], fan_in_fan_out=kind == "gpt2")
        network = peft.get_peft_model(on, config)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if "lora_" in name:
                    parameter.copy_(0.3 * torch.randn(parameter.shape))
        network.save_pretrained(adapters)
        return network.eval(), base, adapters

    return write


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_adapters_are_on_the_base_that_they_name_in_its_own_type(saved, kind, caplog):
    network, base, adapters = saved(kind)
    with caplog.at_level(logging.WARNING, "landscape"):
        built = folder_model(str(adapters)).eval()
    assert f"the base of {adapters} is read from {base}" in caplog.text
    wanted = {name: (p.shape, p.dtype, p.requires_grad) for name, p in network.named_parameters()}
    assert {name: (p.shape, p.dtype, p.requires_grad) for name, p in built.named_parameters()} == wanted
    assert {p.dtype for p in built.parameters() if not p.requires_grad} == {torch.bfloat16}
    trained = {name: p for name, p in network.state_dict().items() if "lora_" in name}
    assert not built.load_state_dict(trained, strict=False).unexpected_keys
    ids = made.batch(kind)["input_ids"]
    with torch.no_grad():
        assert torch.equal(built(input_ids=ids).logits, network(input_ids=ids).logits)


def test_a_base_without_a_head_takes_the_adapters_own(saved):
    _, _, adapters = saved("bert", torch.float32)
    built = folder_model(str(adapters), num_labels=made.LABELS)
    assert type(built.get_base_model()).__name__ == "BertForSequenceClassification"
    trainable = {name for name, p in built.named_parameters() if p.requires_grad}
    assert {name.split(".")[-1] for name in trainable if "classifier" in name} == {"weight", "bias"}
    assert all("lora_" in name or "classifier" in name for name in trainable)


def test_the_base_may_lie_elsewhere(saved, tmp_path):
    network, base, adapters = saved()
    base.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"holds adapters of '.*base', which is not a folder here; name.* 'base'"):
        folder_model(str(adapters))
    built = folder_model(str(adapters), base=str(tmp_path / "moved"))
    frozen = {name: p for name, p in network.named_parameters() if not p.requires_grad}
    assert all(torch.equal(dict(built.named_parameters())[name], p) for name, p in frozen.items())


def test_weights_that_neither_folder_holds_are_told(saved, tmp_path):
    _, _, adapters = saved()
    made.network("llama", transformers).model.save_pretrained(tmp_path / "headless")
    with pytest.raises(ProblemError, match=r"headless does not hold lm_head.weight of LlamaForCausalLM"):
        folder_model(str(adapters), base=str(tmp_path / "headless"))


def test_the_files_that_decide_adapters_are_the_bases_too(saved):
    _, base, adapters = saved()
    wanted = [adapters / "adapter_config.json", base / "config.json", base / "model.safetensors"]
    assert files_read(f"hf:{adapters}", {}) == wanted


def test_a_module_that_an_adapter_names_is_not_imported(saved):
    _, _, adapters = saved()
    written = json.loads((adapters / "adapter_config.json").read_text())
    asking = {"auto_mapping": {"base_model_class": "LlamaForCausalLM", "parent_library": "antigravity"}}
    (adapters / "adapter_config.json").write_text(json.dumps(written | asking))
    folder_model(str(adapters))
    assert "antigravity" not in sys.modules


def test_a_space_moves_adapters_alone_and_shares_the_base(saved):
    _, _, adapters = saved()
    built = folder_model(str(adapters))
    space = ParameterSpace(built)
    assert space.dimension == sum(p.numel() for p in built.parameters() if p.requires_grad)
    theirs = {p.data_ptr() for p in built.parameters() if not p.requires_grad}
    assert {p.data_ptr() for p in space.network.parameters() if not p.requires_grad} == theirs
    again = copied(space.network)
    ids = made.batch("llama")["input_ids"]
    with torch.no_grad():
        assert torch.equal(again.eval()(input_ids=ids).logits, space.network(input_ids=ids).logits)
