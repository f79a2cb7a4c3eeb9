"""Checkpoints as the options say how to read them."""

from pathlib import Path

from landscape.app.config import CheckpointOptions
from landscape.errors import CheckpointError, ConfigError, LandscapeError, LayoutError
from landscape.storage.checkpoints import Checkpoint, load_checkpoint

_KINDS = {"path": "path", "simplex": "simplex", "eigenvectors": "file of eigenvectors"}


def load_as(options: CheckpointOptions, path: Path) -> Checkpoint:
    """Read a checkpoint, or a path, as options say.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    return load_checkpoint(
        path, trust_pickle=options.trust_pickle, state_key=options.state_key, strip_prefix=options.strip_prefix
    )


def load_network(options: CheckpointOptions, path: Path) -> Checkpoint:
    """Read the checkpoint of one network as options say.

    Raises:
        CheckpointError: as `load_checkpoint`; or the file holds a path, a simplex, eigenvectors or the state of a fit.
    """
    checkpoint = load_as(options, path)
    kind = checkpoint.metadata.get("kind", "state" if "step" in checkpoint.metadata else None)
    if kind is None:
        return checkpoint
    advice = f"; take one from it by connect export {path} --t 0.5 --out FILE.safetensors" if kind == "path" else ""
    raise CheckpointError(f"{path} holds a {_KINDS.get(kind, 'state of a fit')}, expected one network{advice}.")


def require_different(*checkpoints: Checkpoint) -> None:
    """Check that files hold different networks, before anything is built of them; raises ConfigError."""
    paths: dict[str, Path] = {}
    for checkpoint in checkpoints:
        other = paths.setdefault(checkpoint.fingerprint, checkpoint.path)
        if other is not checkpoint.path:
            raise ConfigError(f"{other} and {checkpoint.path} hold the same network; name different ones.")


def naming_advice(checkpoint: Checkpoint, error: LandscapeError) -> str:
    """What to try where the names of somebody else's checkpoint do not fit; empty otherwise."""
    if not isinstance(error, LayoutError) or checkpoint.metadata:
        return ""
    return "; --strip-prefix PREFIX takes a prefix off its names, --state-key KEY takes another part of the file."
