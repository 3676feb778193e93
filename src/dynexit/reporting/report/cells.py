"""Numbers as a reader wants them, the same in HTML and in Markdown."""

from __future__ import annotations

from dynexit.reporting.report.table import COLUMNS, Figure

MISSING, MINUS = "–", "\u2212"


def value_text(column: str, figure: Figure | None) -> str:
    """A share as 12.3%, a speedup as 1.23x; what was not measured as a dash."""
    if figure is None:
        return MISSING
    return f"{figure.value:.2f}x" if column == "speedup" else percent(figure.value)


def interval_text(figure: Figure | None) -> str:
    """The interval in percent as [8.1, 16.0]; empty where there is none."""
    if figure is None or figure.interval is None:
        return ""
    text = f"[{100 * figure.interval.low:.1f}, {100 * figure.interval.high:.1f}]"
    return text.replace("-", MINUS)


def spread_text(figure: Figure | None) -> str:
    """Standard deviation over seeds in percentage points; empty for fewer than two seeds."""
    return "" if figure is None or figure.spread is None else f"± {100 * figure.spread:.1f}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}%".replace("-", MINUS)


def column_values(figures: tuple[Figure | None, ...]) -> list[tuple[str, Figure | None]]:
    return list(zip(COLUMNS, figures, strict=True))
