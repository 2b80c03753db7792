"""The one-page report of a run, as a picture and as a page that needs no network."""

from vljax.report.content import Curve, Picture, Query, Report, Score
from vljax.report.contrastive import build, machine
from vljax.report.files import write

__all__ = ["Curve", "Picture", "Query", "Report", "Score", "build", "machine", "write"]
