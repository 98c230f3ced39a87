"""Charts for the report: SVG that takes its colours and font from the page it stands in."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

# matplotlib wants fixed colours, the page has two themes: these stand for CSS variables.
INK, MUTED, GRID, ALARM, QUIET = "#01fe01", "#01fe02", "#01fe03", "#01fe04", "#01fe05"
COLORS = ("#01fe11", "#01fe12", "#01fe13", "#01fe14", "#01fe15", "#01fe16", "#01fe17")
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    ALARM: "--alarm",
    QUIET: "--quiet",
    **{color: f"--series-{number}" for number, color in enumerate(COLORS, start=1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: selectable, and in the page's font
    "svg.hashsalt": "kimi-vl-thinking",  # the same data gives the same file
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.left": False,
    "ytick.minor.left": False,
    "lines.linewidth": 1.8,
    "lines.solid_joinstyle": "round",
}
_SMOOTH_FROM = 20  # iterations; below, every point is drawn as it is
_MARK_BELOW = 12

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart, a value per step; a missing value leaves a gap."""

    name: str
    values: Values
    steps: Sequence[float] | None = None  # its own, if not the chart's; drawn as dots


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of the page. `legend` holds (name, CSS variable) in drawing order."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()
    note: str = ""


def line_chart(
    title: str,
    steps: Sequence[float],
    series: Sequence[Series],
    *,
    percent: bool = False,
    log: bool = False,
    limit: tuple[str, float] | None = None,
    wide: bool = False,
) -> Chart | None:
    """Curves over `steps`, with a dashed line at `limit`; None if there is nothing to draw."""
    drawn = [(one, _numbers(one.values, positive=log)) for one in series]
    drawn = [(one, ys) for one, ys in drawn if not all(map(math.isnan, ys))]
    if not drawn:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(width=14.6 if wide else 4.6)
        window = max(1, len(steps) // 12)
        for (one, ys), color in zip(drawn, COLORS, strict=False):
            _draw(axes, steps, ys, color, one, window)
        if limit is not None:
            axes.axhline(limit[1], color=ALARM, linewidth=1.2, linestyle=(0, (4, 3)))
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(numticks=5))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_major_locator(_round_ticks(5))
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0) if percent else _plain())
            if percent:
                top = max(y for _, ys in drawn for y in ys if not math.isnan(y))
                axes.set_ylim(0, min(1.02, max(0.05, top * 1.15)))
        axes.xaxis.set_major_locator(_round_ticks(6, integer=True))
        legend = tuple(
            (one.name, _VARIABLES[color])
            for (one, _), color in zip(drawn, COLORS, strict=False)
            if len(drawn) > 1 or limit
        )
        if limit is not None:
            legend = (*legend, (limit[0], _VARIABLES[ALARM]))
        return Chart(title, _svg(figure), legend)


def stacked_chart(title: str, steps: Sequence[float], parts: Mapping[str, Values]) -> Chart | None:
    """What one iteration consists of, stacked; None if every part is empty."""
    stacks = {name: [value or 0.0 for value in values] for name, values in parts.items()}
    stacks = {name: values for name, values in stacks.items() if any(values)}
    if not stacks:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes()
        bottom = [0.0] * len(steps)
        for (_, values), color in zip(stacks.items(), COLORS, strict=False):
            axes.bar(steps, values, width=1.0, bottom=bottom, color=color, linewidth=0)
            bottom = [below + value for below, value in zip(bottom, values, strict=True)]
        axes.yaxis.set_major_locator(_round_ticks(5))
        axes.xaxis.set_major_locator(_round_ticks(6, integer=True))
        # One slow iteration (the first compiles kernels) must not flatten all the others.
        note = ""
        typical = sorted(bottom)[int(0.95 * (len(bottom) - 1))]
        if max(bottom) > 2 * typical > 0:
            axes.set_ylim(0, 1.5 * typical)
            note = f"The longest took {max(bottom):.0f} s and is cut here."
        legend = tuple((n, _VARIABLES[c]) for n, c in zip(stacks, COLORS, strict=False))
        return Chart(title, _svg(figure), legend, note)


def bar_chart(title: str, names: Sequence[str], groups: Mapping[str, Values]) -> Chart | None:
    """Shares side by side per name, with their percentages above; None without names."""
    if not names or not groups:
        return None
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(width=9.6 if len(names) > 4 else 4.6, height=2.6)
        width = 0.8 / len(groups)
        # The newest group gets the strong colour, the one before it is background.
        colors = (QUIET, *COLORS) if len(groups) > 1 else COLORS
        for number, (values, color) in enumerate(zip(groups.values(), colors, strict=False)):
            ys = _numbers(values)
            xs = [index + (number - (len(groups) - 1) / 2) * width for index in range(len(names))]
            axes.bar(xs, ys, width=width * 0.92, color=color, linewidth=0)
            for x, y in zip(xs, ys, strict=True):
                if not math.isnan(y):
                    axes.text(x, y + 0.015, f"{y:.0%}", ha="center", va="bottom", fontsize=8.5)
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 1.08)
        axes.yaxis.set_major_locator(_round_ticks(5))
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.margins(x=0.02)
        legend = tuple((n, _VARIABLES[c]) for n, c in zip(groups, colors, strict=False))
        return Chart(title, _svg(figure), legend)


def _draw(
    axes: Axes, steps: Sequence[float], ys: Sequence[float], color: str, one: Series, window: int
) -> None:
    if one.steps is not None:
        axes.plot(one.steps, ys, "o", color=color, markersize=5.5)
    elif len(ys) >= _SMOOTH_FROM:
        axes.plot(steps, ys, color=color, linewidth=0.9, alpha=0.35)
        axes.plot(steps, _running_mean(ys, window), color=color)
    else:
        marker = "o" if len(ys) < _MARK_BELOW else None
        axes.plot(steps, ys, color=color, marker=marker, markersize=4)


def _axes(width: float = 4.6, height: float = 2.3) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure) -> Markup:
    """The bare <svg> element: no prolog, no metadata, no namespace addresses."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 role="img">', svg, count=1)
    svg = re.sub(r"(font: [\d.]+px) [^;\"]+", r"\1 var(--font)", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return Markup(svg)


def _numbers(values: Values, positive: bool = False) -> list[float]:
    """Floats with NaN for gaps; a logarithmic axis has no place for zero either."""
    return [
        math.nan if value is None or (positive and value <= 0) else float(value) for value in values
    ]


def _running_mean(ys: Sequence[float], window: int) -> list[float]:
    """The mean of the known values around every point; a trailing one would lag behind."""
    reach = window // 2
    means = []
    for index in range(len(ys)):
        known = [y for y in ys[max(0, index - reach) : index + reach + 1] if not math.isnan(y)]
        means.append(sum(known) / len(known) if known else math.nan)
    return means


def _round_ticks(count: int, **options: Any) -> MaxNLocator:
    """Without steps of 2.5, which a percentage without decimals would round wrongly."""
    return MaxNLocator(count, steps=[1, 2, 5, 10], **options)


def _plain() -> Any:
    return FuncFormatter(lambda value, _: f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}")
