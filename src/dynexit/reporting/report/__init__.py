"""A sweep as a report: one HTML file to read anywhere, Markdown, and plots as PNG."""

from dynexit.reporting.report.write import write_report

__all__ = ["write_report"]
