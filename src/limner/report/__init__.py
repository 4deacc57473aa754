"""The report of a segmentation: one HTML page that holds everything it shows."""

from __future__ import annotations

from limner.report.case import CaseReport

from limner.report.page import write_report

__all__ = ["CaseReport", "write_report"]
