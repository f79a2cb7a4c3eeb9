"""The pictures of a path: the profile along it, and the plane that it lies in."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape import COLOURS, Result, curvature_note, describe, draw_contours, draw_eigenvalues, new_figure

_PLANE_WIDTH = 4.6
_IN_PLANE = 1e-3
_NAMES = {"path": "learned path", "straight": "straight line"}


def profile_figure(result: Result) -> Figure:
    """Loss above, error below, along the path and along the straight line.

    Args:
        result: of kind "profile".
    """
    splits = result.sweeps["path"].splits
    has_error = any(f"{split}_accuracy" in result.sweeps["path"].values for split in splits)
    curved = "max_eig" in result.sweeps["path"].values
    count = 1 + has_error + curved
    figure = new_figure(5.6, 1.6 + 1.8 * count)
    rows = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    draw_profile(rows[0], result, "loss")
    if all((measured.values[f"{split}_loss"] > 0).all() for measured in result.sweeps.values() for split in splits):
        rows[0].set_yscale("log")
    told = [describe(result.provenance), curvature_note(result.provenance)]
    rows[0].set_title("\n".join(filter(None, told)), fontsize=7, color="0.35")
    rows[0].legend(fontsize=7, ncols=2)
    if has_error:
        draw_profile(rows[1], result, "error")
    if curved:
        draw_curvature(rows[-1], result)
    rows[-1].set_xlabel("t")
    rows[-1].set_xlim(0, 1)
    return figure


def draw_profile(axes: Axes, result: Result, quantity: str) -> list[object]:
    """One quantity along both ways; the training split is solid, the others are dashed.

    Args:
        axes: where to draw.
        result: of kind "profile".
        quantity: "loss", or "error" in per cent.

    Returns:
        The lines.
    """
    lines: list[object] = []
    for way, name in _NAMES.items():
        measured = result.sweeps[way]
        for split in measured.splits:
            values = measured.values[f"{split}_{'loss' if quantity == 'loss' else 'accuracy'}"]
            shown = values if quantity == "loss" else 100 * (1 - values)
            style = "-" if split == measured.splits[0] else "--"
            lines += axes.plot(measured.axes["t"], shown, style, color=COLOURS[way], label=f"{name}, {split}")
    axes.set_ylabel("loss" if quantity == "loss" else "error (%)")
    axes.grid(alpha=0.25)
    return lines


def draw_curvature(axes: Axes, result: Result) -> list[object]:
    """The Hessian's ends and trace along both ways: solid, dashed and dotted, in the ways' colours.

    Args:
        axes: where to draw.
        result: of kind "profile", measured with curvature.

    Returns:
        The lines.
    """
    return [
        line
        for way, name in _NAMES.items()
        for line in draw_eigenvalues(axes, result.sweeps[way], colour=COLOURS[way], name=name)
    ]


def plane_figure(result: Result) -> Figure:
    """Contours of the loss over a plane, with both ways on it.

    The plane goes through the control points where there are three. Of more, the figure shows the projections, and says
    how far the farthest lies off the plane.

    Args:
        result: of kind "plane".
    """
    x, y = (result.sweep.axes[name] for name in ("x", "y"))
    height = _PLANE_WIDTH * float((y[-1] - y[0]) / (x[-1] - x[0]))
    figure = new_figure(_PLANE_WIDTH + 1.6, max(2.4, height + 1.1))
    figure.set_layout_engine("compressed")
    axes = figure.add_subplot()
    split = result.sweep.splits[0]
    draw_contours(axes, result.sweep, f"{split}_loss", f"{split} loss")
    for way, name in _NAMES.items():
        axes.plot(*result.marks[way].T, color="white", linewidth=3.5)
        axes.plot(*result.marks[way].T, color=COLOURS[way], linewidth=2, label=name)
    axes.plot(*result.marks["control points"].T, "s", color="white", markeredgecolor="black", label="control points")
    for end in ("a", "b"):
        axes.plot(*result.marks[end].T, "o", color="white", markeredgecolor="black", markersize=8)
        axes.annotate(end.upper(), result.marks[end][0], xytext=(7, 7), textcoords="offset points", color="white")
    axes.set(xlabel="distance in weight space", ylabel="distance in weight space", aspect="equal")
    off = result.facts["largest_distance_from_plane"]
    noted = f"\ncontrol points up to {off:.2g} off the plane" if off > _IN_PLANE * float(x[-1] - x[0]) else ""
    axes.set_title(describe(result.provenance) + noted, fontsize=7, color="0.35")
    axes.legend(fontsize=7, facecolor="white", framealpha=0.85, frameon=True, loc="lower right")
    return figure
