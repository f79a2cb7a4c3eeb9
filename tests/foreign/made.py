"""Tiny networks of other libraries, and the folders that their own `save_pretrained` writes."""

import torch

VOCABULARY, LENGTH, EXAMPLES, LABELS = 40, 12, 16, 3
_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_ENCODER = _SIZES | {"intermediate_size": 32, "max_position_embeddings": LENGTH}
_IDS = {"bos_token_id": 0, "eos_token_id": 0}


def network(kind, transformers, seed=0, **settings):
    """A network with random weights, all of them away from where they begin."""
    config, name = CONFIGS[kind](transformers, settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = getattr(transformers, name)(config).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def _gpt2(transformers, settings):
    sizes = {"vocab_size": VOCABULARY, "n_positions": LENGTH, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return transformers.GPT2Config(**sizes, **_IDS, **settings), "GPT2LMHeadModel"


def _bert(transformers, settings):
    return transformers.BertConfig(**_ENCODER, num_labels=LABELS, **settings), "BertForSequenceClassification"


def _llama(transformers, settings):
    return transformers.LlamaConfig(**_ENCODER, **_IDS, num_key_value_heads=1, **settings), "LlamaForCausalLM"


def _t5(transformers, settings):
    sizes = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    smooth = {"feed_forward_proj": "gated-gelu"}
    return transformers.T5Config(**sizes, **smooth, **settings), "T5ForConditionalGeneration"


def _vit(transformers, settings):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    shape = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": LABELS}
    return transformers.ViTConfig(**sizes, **shape, **settings), "ViTForImageClassification"


CONFIGS = {"gpt2": _gpt2, "bert": _bert, "llama": _llama, "t5": _t5, "vit": _vit}


def batch(kind):
    """Inputs by name, and labels."""
    generator = torch.Generator().manual_seed(1)
    ids, others = torch.randint(VOCABULARY, (2, EXAMPLES, LENGTH), generator=generator)
    labels = torch.randint(LABELS, (EXAMPLES,), generator=generator)
    mask = (torch.arange(LENGTH) < torch.randint(4, LENGTH, (EXAMPLES, 1), generator=generator)).long()
    return {
        "gpt2": {"input_ids": ids, "attention_mask": mask},
        "llama": {"input_ids": ids, "attention_mask": mask},
        "bert": {"input_ids": ids, "attention_mask": mask, "labels": labels},
        "t5": {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": others, "labels": others},
        "vit": {"pixel_values": torch.randn(EXAMPLES, 1, 8, 8, generator=generator), "labels": labels},
    }[kind]


def examples(kind):
    """The batch as data: for training, and its first half for test."""
    whole = batch(kind)
    return {"train": whole, "test": {name: values[: EXAMPLES // 2] for name, values in whole.items()}}


def pictures():
    """Small images with labels."""
    x, y = (batch("vit")[name] for name in ("pixel_values", "labels"))
    return (x, y), (x[: EXAMPLES // 2], y[: EXAMPLES // 2])


def net(width=5):
    """What a user's Lightning module holds."""
    layers = torch.nn.Linear(64, width), torch.nn.Tanh(), torch.nn.Linear(width, LABELS)
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)
