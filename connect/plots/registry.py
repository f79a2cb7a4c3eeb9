"""What draws each kind of result of `connect`; the entry point `landscape.figures` leads here."""

from collections.abc import Mapping

from landscape.plots.registry import Figures

FIGURES: Mapping[str, Figures] = {
    "profile": Figures("connect.plots.figures:profile_figure", complete=True, stems={"profile": "path"}),
    "plane": Figures(
        "connect.plots.figures:plane_pictures", frozenset({"style", "quantity"}), complete=True, distances=True
    ),
    "ensemble": Figures("connect.plots.ensembles:ensemble_figure", complete=True),
    "simplex": Figures("connect.plots.simplices:simplex_figure", complete=True),
    "graph": Figures("connect.plots.graphs:graph_pictures", frozenset({"colour"})),
}
