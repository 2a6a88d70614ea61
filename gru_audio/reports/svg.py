"""Figures in three forms: inline in the page, as an SVG file and as a PDF file.

A figure is drawn once, in the colours of a light page. The inline form replaces these colours by
CSS variables (`--ink`, `--variant-0`, ...), so that a dark page changes them. Text stays text in
all forms.
"""

import html
import io
import re
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 420
FORMATS = ("svg", "pdf", "png")

_DPI = 300  # of PNG, if the figure is printed at its size in points
_METADATA = {  # that matplotlib would write
    "svg": ("Creator", "Date", "Format", "Type"),
    "pdf": ("Creator", "Producer", "CreationDate"),
    "png": ("Software",),
}
# On a light and on a dark page. After Okabe and Ito (2008), for readers with any colour vision.
VARIANT_COLOURS = (
    ("#0072b2", "#4da3e0"),
    ("#d55e00", "#f58a42"),
    ("#009e73", "#2fc297"),
    ("#b0558a", "#d98abb"),
    ("#c28a00", "#e8b93c"),
    ("#3f51a3", "#8f9eea"),
    ("#7a5230", "#c09a74"),
    ("#5c6670", "#a3adb8"),
)
PAGE_COLOURS = {
    "--paper": ("#ffffff", "#14171a"),
    "--ink": ("#16191d", "#e8ebee"),
    "--muted": ("#5b6570", "#9aa5b0"),
    "--rule": ("#e2e6ea", "#2b3138"),
}
COLOURS = PAGE_COLOURS | {f"--variant-{i}": pair for i, pair in enumerate(VARIANT_COLOURS)}

PAPER, INK, MUTED, RULE = (light for light, _ in PAGE_COLOURS.values())
_VARIABLES = {light: name for name, (light, _) in COLOURS.items()}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # TrueType; publishers reject matplotlib's default
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.parse_math": False,  # names may contain dollar signs
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 1,
}


@dataclass(frozen=True)
class Drawing:
    """A figure with its name.

    Attributes:
        name: name of its files, without suffix: letters, digits, "." and "-".
        label: description for screen readers.
        figure: the figure.
    """

    name: str
    label: str
    figure: Figure

    def inline(self) -> str:
        """Returns an SVG element that takes its colours and typeface from the page."""
        svg = self.saved("svg").decode()
        svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
        svg = re.sub(r'<g id="[^"]*"', "<g", svg)
        svg = re.sub(r"font-family:[^;\"]*(; )?", "", svg)
        svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
        svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)
        svg = re.sub(r"#[0-9a-f]{6}\b", _variable, svg)
        svg = re.sub(r"\s*\n\s*", " ", svg)
        width, height = self.figure.get_size_inches() * 72
        size = f'viewBox="0 0 {width:g} {height:g}"'
        head = f'<svg class="chart" role="img" aria-label="{html.escape(self.label)}" {size}>'
        return re.sub(r"^<svg[^>]*>", head, svg).replace("xlink:href", "href").strip()

    def files(self) -> dict[str, bytes]:
        """Returns name -> contents of the figure as SVG and PDF files, on white paper."""
        return {f"{self.name}.{form}": self.saved(form) for form in ("svg", "pdf")}

    def saved(self, form: str) -> bytes:
        """Returns the contents of a file: svg, pdf or png. Equal figures give equal bytes."""
        file = io.BytesIO()
        no_metadata = dict.fromkeys(_METADATA[form])
        with matplotlib.rc_context(STYLE | {"svg.hashsalt": self.name}):
            self.figure.savefig(
                file,
                format=form,
                transparent=form != "png",
                metadata=no_metadata,
                dpi=_DPI if form == "png" else "figure",
            )
        return file.getvalue()


def variant_colour(number: int) -> str:
    """Returns a variant's colour on a light page."""
    return VARIANT_COLOURS[number % len(VARIANT_COLOURS)][0]


def colour_variable(number: int) -> str:
    """Returns the CSS variable of a variant's colour."""
    return _VARIABLES[variant_colour(number)]


def canvas(
    height: int, *, left: int, bottom: int, right: int = 10, top: int = 32, width: int = WIDTH
) -> tuple[Figure, Axes]:
    """Returns a figure whose axes are `height` units high, with margins in the same units."""
    total = height + bottom + top
    figure = Figure(figsize=(width / 72, total / 72), dpi=72)
    axes = figure.add_axes(
        (left / width, bottom / total, (width - left - right) / width, height / total)
    )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, which="both", labelsize=11)
    axes.set_axisbelow(True)
    return figure, axes


def _variable(colour: re.Match[str]) -> str:
    name = _VARIABLES.get(colour[0])
    return f"var({name})" if name else colour[0]
