"""Small networks of many kinds, with an example input of each, for the laws of symmetry."""

import torch
from torch import nn
from torch.nn import functional as F

from landscape.problems.models import MODELS


class Residual(nn.Module):
    """Convolutions with a shortcut, a squeeze-and-excite gate and a shuffle of channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.squeeze, self.excite = nn.Linear(16, 4), nn.Linear(4, 16)
        self.narrow = nn.Conv2d(16, 8, 1)
        self.group_norm = nn.GroupNorm(4, 8)
        self.head = nn.Linear(8 * 16, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        y = F.silu(self.grouped(self.depthwise(self.wide(x))))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3))))))[:, :, None, None]
        b, c, h, w = y.shape
        y = y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.head(self.group_norm(x + self.narrow(y)).flatten(1))


class Branches(nn.Module):
    """Chunks, concatenation, a transposed convolution in groups, and instance norm."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3)
        self.left, self.right = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.norm = nn.InstanceNorm2d(10, affine=True, track_running_stats=True)
        self.up = nn.ConvTranspose2d(10, 8, 2, stride=2, groups=2)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        one, other = self.stem(x).chunk(2, 1)
        x = torch.cat([F.relu(self.left(one)), F.max_pool2d(self.right(other), 3, 1, 1)], 1)
        return self.head(F.relu(self.up(self.norm(x)))).mean((2, 3))


class Decoder(nn.Module):
    """A decoder with grouped queries, rotary positions, RMS norm, a gated MLP and tied embeddings."""

    def __init__(self, width=16, heads=4, shared=2):
        super().__init__()
        self.heads, self.shared, self.inside = heads, shared, width // heads
        self.embedding = nn.Embedding(11, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(3))
        self.queries = nn.Linear(width, width)
        self.keys, self.values = (nn.Linear(width, shared * self.inside) for _ in range(2))
        self.out = nn.Linear(width, width)
        self.gate, self.up, self.down = nn.Linear(width, 24), nn.Linear(width, 24), nn.Linear(24, width)

    def rotated(self, x):
        half = self.inside // 2
        angles = torch.arange(x.shape[2])[:, None] / 10.0 ** (torch.arange(half) / half)
        cos, sin = (torch.cat([f(angles)] * 2, -1) for f in (torch.cos, torch.sin))
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def forward(self, tokens):
        x = self.embedding(tokens)
        b, t, width = x.shape
        y = self.norms[0](x)
        q = self.rotated(self.queries(y).view(b, t, self.heads, -1).transpose(1, 2))
        k, v = (each(y).view(b, t, self.shared, -1).transpose(1, 2) for each in (self.keys, self.values))
        k = self.rotated(k)
        k, v = (each.repeat_interleave(self.heads // self.shared, 1) for each in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, width)
        x = x + self.out(y)
        y = self.norms[1](x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return (self.norms[2](x) @ self.embedding.weight.T)[:, -1]


class Recurrent(nn.Module):
    """A recurrent layer and a classifier of its last output."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer(5, 8, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


def built(name, **arguments):
    return lambda: MODELS[name](input_shape=(1, 8, 8), classes=10, **arguments)


def images():
    return torch.randn(3, 1, 8, 8)


def encoder():
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    return nn.Sequential(nn.Linear(6, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(),
                         nn.Linear(64, 3))  # fmt: skip


NETWORKS = {
    "mlp": (built("mlp", widths=[12, 7]), images),
    "mlp with batch norm": (built("mlp", widths=[12, 7], batch_norm=True), images),
    "resnet8": (built("resnet8", width=4), images),
    "resnet8_noshort": (built("resnet8_noshort", width=4), images),
    "vit": (built("vit", patch=4, layers=2, heads=2, width=8), images),
    "residual": (Residual, lambda: torch.randn(2, 3, 4, 4)),
    "branches": (Branches, lambda: torch.randn(2, 3, 6, 6)),
    "decoder": (Decoder, lambda: torch.randint(0, 11, (2, 6))),
    "encoder": (encoder, lambda: torch.randn(2, 4, 6)),
    "lstm": (lambda: Recurrent(nn.LSTM), lambda: torch.randn(2, 4, 5)),
    "gru": (lambda: Recurrent(nn.GRU), lambda: torch.randn(2, 4, 5)),
}


def network(name, seed=0):
    """A network in evaluation mode, whose norms are not those that it begins with, and an example input."""
    torch.manual_seed(seed)
    make, example = NETWORKS[name]
    made = make()
    with torch.no_grad():
        for each in made.parameters():
            each.add_(torch.randn_like(each) / 10)
        for label, buffer in made.named_buffers():
            if label.endswith("running_mean"):
                buffer.normal_()
            if label.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return made.eval(), example()
