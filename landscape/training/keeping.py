"""Where a fit keeps its state on the way, so that a run that is stopped or killed ends at the same numbers.

A state is named tensors and the number of steps taken. It is saved every so many seconds and when a signal asks the
run to stop, and stays on disk until the outcome is stored elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from torch import Tensor

from landscape.errors import CheckpointError, Interrupted
from landscape.risk.surface import Trainable
from landscape.runtime.interrupts import Stop
from landscape.storage.checkpoints import load_checkpoint, save_tensors
from landscape.storage.store import require_same_provenance

_BUFFER = "buffer."


@dataclass
class State:
    """Where a fit stands.

    Attributes:
        tensors: everything that the next step follows from, by name.
        step: how many steps were taken.
        facts: plain values that belong to it, such as the number of a cycle.
    """

    tensors: dict[str, Tensor]
    step: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Keeping:
    """Where a fit keeps its state, so that it can be resumed; see the module.

    Attributes:
        path: a safetensors file.
        provenance: what a resume must share, beside what the fit itself adds.
        resume: go on from the file, if it is there.
        seconds: time between two writes.
        writes: whether this process writes; of several that share the work, one does.
    """

    path: Path
    provenance: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    seconds: float = 60.0
    writes: bool = True

    def bound(self, **own: Any) -> "Keeping":
        """The same, with more that a resume must share."""
        return replace(self, provenance={**self.provenance, **own})

    def save(self, state: State, surface: Trainable) -> None:
        """Write the state, and what the fit changes in the surface; raises StorageError where it cannot."""
        if not self.writes:
            return
        tensors = state.tensors | {_BUFFER + name: buffer for name, buffer in surface.buffers().items()}
        save_tensors(self.path, tensors, {"step": state.step, **state.facts, "provenance": dict(self.provenance)})

    def load(self, surface: Trainable) -> State | None:
        """The state to go on from, on the surface's device; None where there is none, or none is asked for.

        Raises:
            CheckpointError: the file is damaged, or holds something else.
            ProvenanceError: it belongs to other settings.
        """
        if not (self.resume and self.path.exists()):
            return None
        kept = load_checkpoint(self.path)
        if "step" not in kept.metadata:
            raise CheckpointError(f"{self.path} holds no state of a fit; remove it and start again.")
        require_same_provenance(self.path, kept.metadata["provenance"], self.provenance)
        tensors = {name: tensor.to(surface.device) for name, tensor in kept.state.items()}
        surface.load_buffers({n.removeprefix(_BUFFER): t for n, t in tensors.items() if n.startswith(_BUFFER)})
        facts = {name: value for name, value in kept.metadata.items() if name not in {"step", "provenance"}}
        return State(
            {n: t for n, t in tensors.items() if not n.startswith(_BUFFER)}, step=kept.metadata["step"], facts=facts
        )

    def discard(self) -> None:
        """Remove the file, once the outcome is stored elsewhere."""
        if self.writes:
            self.path.unlink(missing_ok=True)


class Watch:
    """Saves a state when it is time to, and ends a run, in all its processes, when a signal asks for it."""

    def __init__(self, keeping: Keeping | None, stop: Stop, surface: Trainable, total: int) -> None:
        self._keeping, self._stop, self._surface, self._total = keeping, stop, surface, total
        self._saved = monotonic()

    def look(self, state: State) -> None:
        """Save if it is time to, after each step; raises Interrupted when a signal came, with the state on disk."""
        stopped = self._surface.ranks.any(self._stop.requested, self._surface.device)
        if self._keeping and (stopped or monotonic() - self._saved > self._keeping.seconds):
            self.save(state)
        if stopped:
            kept = f"; the state is in {self._keeping.path}, go on with --resume" if self._keeping else ""
            raise Interrupted(f"stopped after {state.step} of {self._total} steps{kept}.")

    def save(self, state: State) -> None:
        """Save now."""
        if self._keeping:
            self._keeping.save(state, self._surface)
            self._saved = monotonic()
