"""Plots inside a page: SVG elements that take its colours and ask nothing of the network."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from dynexit.reporting.report.palette import INK
from dynexit.reporting.report.panels import LINES, Key, Panel, panel_svg

_DROPPED = {"metadata", "style", "title"}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(panel: Panel, label: str, prefix: str) -> str:
    """A panel as an ``svg`` element, which screen readers call ``label``.

    ``prefix`` keeps its ids apart from other panels'. Marks with a tip say it when pointed at.
    """
    root = ElementTree.fromstring(panel_svg(panel))
    _strip(root)
    for gid, tips in panel.tips.items():
        _add_tips(root, gid, tips)
    for element in root.iter():
        _adapt(element, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def key_svg(key: Key) -> str:
    """The mark of a legend's entry."""
    if key.marker in LINES:
        dashes = ' stroke-dasharray="1.5 2.5"' if key.marker == ":" else ""
        shape = f'<path d="M-10 0H10" stroke="currentColor" stroke-width="1.6"{dashes}/>'
    else:
        fill = key.fill.replace(INK, "currentColor") if key.fill else "none"
        shape = f'<path d="{_marker_path(key.marker)}" fill="{fill}" stroke="currentColor"/>'
    return f'<svg class="key" viewBox="-10 -10 20 20" aria-hidden="true">{shape}</svg>'


def _strip(root: ElementTree.Element) -> None:
    """Namespaces have no use inside HTML; a style element would be the whole page's."""
    for element in root.iter():
        for child in [c for c in element if c.tag.split("}")[-1] in _DROPPED]:
            element.remove(child)
        element.tag = element.tag.split("}")[-1]
        for name in [name for name in element.attrib if "}" in name]:
            element.attrib[name.split("}")[-1]] = element.attrib.pop(name)


def _add_tips(root: ElementTree.Element, gid: str, tips: list[str]) -> None:
    group = next((e for e in root.iter("g") if e.get("id") == gid), None)
    # one shape is drawn by reference where it is drawn often, and as a path of its own where not
    marks = [] if group is None else list(group.iter("use")) or group.findall("path")
    if len(marks) == len(tips):
        for mark, tip in zip(marks, tips, strict=True):
            ElementTree.SubElement(mark, "title").text = tip


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        if name == "id":
            value = prefix + value
        elif name == "href":
            value = "#" + prefix + value.removeprefix("#")
        value = _REFERENCE.sub(rf"url(#{prefix}\1)", value)
        element.attrib[name] = value.replace(INK, "currentColor")


def _marker_path(marker: str) -> str:
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(marker)
    path = style.get_path().transformed(style.get_transform())
    pieces = []
    for polygon in path.to_polygons():
        corners = [f"{12 * x:.1f} {-12 * y:.1f}" for x, y in np.asarray(polygon).tolist()]
        pieces.append("M" + "L".join(corners) + "Z")
    return "".join(pieces)
