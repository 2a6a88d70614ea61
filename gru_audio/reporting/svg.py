"""A figure as SVG that takes its colours and typeface from the page around it.

It is drawn in placeholder colours that become CSS variables (`--ink`, `--arm-0`, ...), so that one
drawing suits a light and a dark page. Its text stays text.
"""

import html
import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 420
# Light and dark page. After Okabe and Ito (2008): told apart by readers with any colour vision.
ARM_COLOURS = (
    ("#0072b2", "#4da3e0"),
    ("#d55e00", "#f58a42"),
    ("#009e73", "#2fc297"),
    ("#b0558a", "#d98abb"),
    ("#c28a00", "#e8b93c"),
    ("#3f51a3", "#8f9eea"),
    ("#7a5230", "#c09a74"),
    ("#5c6670", "#a3adb8"),
)

PAPER, INK, MUTED, RULE = "#fefefe", "#010101", "#020202", "#030303"
_VARIABLES = {PAPER: "--paper", INK: "--ink", MUTED: "--muted", RULE: "--rule"}
_VARIABLES |= {f"#0a0a{i:02x}": f"--arm-{i}" for i in range(len(ARM_COLOURS))}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 1,
}


def arm_colour(number: int) -> str:
    """The placeholder of an arm's colour."""
    return f"#0a0a{number % len(ARM_COLOURS):02x}"


def arm_variable(number: int) -> str:
    """The CSS variable that holds an arm's colour."""
    return _VARIABLES[arm_colour(number)]


def canvas(
    height: int, *, left: int, bottom: int, right: int = 10, top: int = 32, width: int = WIDTH
) -> tuple[Figure, Axes]:
    """A figure whose axes are `height` units high, with margins in the same units."""
    total = height + bottom + top
    figure = Figure(figsize=(width / 72, total / 72), dpi=72)
    axes = figure.add_axes(
        (left / width, bottom / total, (width - left - right) / width, height / total)
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, which="both", labelsize=11)
    axes.set_axisbelow(True)
    return figure, axes


def to_svg(figure: Figure, name: str, label: str, *, halo: bool = False) -> str:
    """The figure as an SVG element. `name` keeps its ids apart from those of other figures.

    A halo sets the text off from the lines it stands on.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family:[^;\"]*(; )?", "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(
        r"#[0-9a-f]{6}\b", lambda c: f"var({_VARIABLES[c[0]]})" if c[0] in _VARIABLES else c[0], svg
    )
    svg = re.sub(r"\s*\n\s*", " ", svg)
    width, height = figure.get_size_inches() * 72
    size = f'viewBox="0 0 {width:g} {height:g}"'
    kind = "chart halo" if halo else "chart"
    head = f'<svg class="{kind}" role="img" aria-label="{html.escape(label)}" {size}>'
    return re.sub(r"^<svg[^>]*>", head, svg).replace("xlink:href", "href").strip()
