"""The report of a segmentation: one HTML page that holds everything it shows."""

from __future__ import annotations

from limner.report.case import CaseReport
from limner.report.folder import report_folder
from limner.report.page import write_report

__all__ = ["CaseReport", "report_folder", "write_report"]
