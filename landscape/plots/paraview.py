"""A surface for ParaView: a structured grid in VTK's XML format (.vts), with every quantity at every point."""

import base64
from xml.sax.saxutils import quoteattr

import numpy as np

from landscape.plots.figures import require_measured
from landscape.plots.rendering import Look
from landscape.plots.surface import shown_values
from landscape.storage.results import Array, Result

_TYPES = {"f": "Float64", "u": "UInt8"}


def surface_grid(result: Result, quantity: str, look: Look | None = None) -> bytes:
    """The file's content; the height is the quantity, or its logarithm to base 10 where the colours are logarithmic.

    The height spans as much as the longer side of the plane, so that it can be looked at without scaling. What is not
    finite has the height of the top, and NaN in its arrays.
    """
    require_measured(result.sweep)
    sweep = result.completed()
    values = shown_values(sweep, quantity)
    scale = (look or Look()).scale_of(values)
    heights = scale.heights(np.where(np.isnan(values), scale.high, values))
    x, y = np.meshgrid(sweep.axes["x"], sweep.axes["y"])
    side, spread = max(np.ptp(x), np.ptp(y)), np.ptp(heights)
    z = (heights - heights.min()) * (side / spread if spread > 0 else 1.0)
    rows, columns = z.shape
    extent = quoteattr(f"0 {columns - 1} 0 {rows - 1} 0 0")
    arrays = {name: array.astype(np.float64) for name, array in sweep.values.items()}
    arrays |= {quantity: values, "height": heights}
    measured = _data_array("measured", sweep.done.astype(np.uint8))
    content = "".join(_data_array(name, array) for name, array in arrays.items()) + measured
    points = _data_array("points", np.stack([x, y, z], axis=-1), components=3)
    return (
        '<?xml version="1.0"?>\n'
        '<VTKFile type="StructuredGrid" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f"<StructuredGrid WholeExtent={extent}>\n<Piece Extent={extent}>\n"
        f"<PointData Scalars={quoteattr(quantity)}>\n{content}</PointData>\n<Points>\n{points}</Points>\n"
        "</Piece>\n</StructuredGrid>\n</VTKFile>\n"
    ).encode()


def _data_array(name: str, values: Array, components: int = 1) -> str:
    """One array in base64, which begins with the number of its bytes."""
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"))
    header = np.array([little.nbytes], dtype="<u8").tobytes()
    text = base64.b64encode(header + little.tobytes()).decode()
    kind = _TYPES[values.dtype.kind]
    return (
        f'<DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{components}" format="binary">\n'
        f"{text}\n</DataArray>\n"
    )
