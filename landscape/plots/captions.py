"""What every picture states of the settings that it follows from."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from landscape.storage.quantities import SECOND_SAMPLE, variable
from landscape.storage.results import Result

_WIDTH, _NO_BREAK = 84, "\u00a0"


def draw_caption(axes: Axes, provenance: Mapping[str, Any], quantity: str | None, notes: Sequence[str] = ()) -> None:
    """Write above axes what `describe` says, and further lines that are not empty."""
    text = "\n".join([describe(provenance, quantity), *(note for note in notes if note)])
    axes.set_title(text, fontsize=7, color="0.35")


def curvature_note(provenance: Mapping[str, Any]) -> str:
    """Whose Hessian it is, and how exactly its ends are known."""
    settings = provenance.get("curvature")
    if not settings:
        return ""
    examples = f"{settings['samples'] or 'all'} {settings['split']} examples"
    return f"Hessian of {settings['parameters']} over {examples} · tolerance {settings['tolerance']:.3g}"


def error_note(result: Result) -> str:
    """The test error, or that of another split, at the centre or at both ends; empty where no accuracy is known."""
    errors = []
    for name in ("at_a", "at_b"):
        accuracies = {split: m["accuracy"] for split, m in result.facts.get(name, {}).items()}
        accuracies = {split: accuracy for split, accuracy in accuracies.items() if not math.isnan(accuracy)}
        split = "test" if "test" in accuracies else next(iter(accuracies), None)
        errors += [] if split is None else [(split, f"{100 * (1 - accuracies[split]):.2f} %")]
    return f"{errors[0][0]} error {' to '.join(error for _, error in errors)}" if errors else ""


def describe(provenance: Mapping[str, Any], quantity: str | None = None) -> str:
    """The settings that every picture of a result states, in one or two lines; the drawn quantity names the split."""
    problem = provenance.get("problem", {})
    parts = [" on ".join(filter(None, [_model(problem), str(problem.get("data", "")).rpartition("/")[2]]))]
    parts = [text for text in parts if text]
    parts += [f"layout of {provenance['layout']}"] if "layout" in provenance else []
    own = variable(quantity or "").of
    split = own if own not in {"", SECOND_SAMPLE} else provenance.get("split")
    parts += [str(split)] if split else []
    names = {"axes": "axes ", "normalise": "normalised by ", "batch_norm": "batch norm ", "buffers": "buffers "}
    settings = {key: provenance[key] for key in (*names, "precision") if provenance.get(key) is not None}
    random = "random" in str(settings.get("axes", "")) or ("directions" in provenance and not _joins_two(provenance))
    if random and provenance.get("seed") is not None:  # other seeds are not those of what is seen
        settings["axes"] = f"{settings.get('axes', 'random')}, seed {provenance['seed']}"
    if settings.get("normalise") == "none":
        settings["normalise"] = "nothing"
        if settings.get("axes", "random") != "random":
            del settings["normalise"]
    if provenance.get("depends_on_batch_size"):
        parts.append(f"values depend on the batch size, {provenance.get('eval_batch_size')}")
    items = [*parts, *(f"{names.get(key, '')}{value}" for key, value in settings.items())]
    unbroken = " · ".join(item.replace(" ", _NO_BREAK) for item in items)
    return "\n".join(textwrap.wrap(unbroken, _WIDTH)).replace(_NO_BREAK, " ")


def _joins_two(provenance: Mapping[str, Any]) -> bool:
    """Whether a line goes from one checkpoint to another, and not in directions that are drawn."""
    return "b" in provenance.get("checkpoints", {})


def _model(problem: Mapping[str, Any]) -> str:
    """The network's name, and what of it was set other than by the data."""
    arguments = {k: v for k, v in problem.get("model_args", {}).items() if k not in {"input_shape", "classes"}}
    changed = ", ".join(f"{name} {value}" for name, value in arguments.items())
    name = str(problem.get("model", "")).rpartition("/")[2]
    return f"{name} ({changed})" if name and changed else name or changed
