"""`torch.return_types`: the classes of the named tuples that functions with several results return."""

from __future__ import annotations

from .functional_floats import frexp_result as frexp
from .linalg.results import RESULTS
from .result_types import RETURN_TYPES, Histogram, HistogramDD, MinMax

aminmax, histogram, histogramdd = MinMax, Histogram, HistogramDD
globals().update(RETURN_TYPES)
globals().update(RESULTS)

__all__ = ["aminmax", "frexp", "histogram", "histogramdd", *sorted(RETURN_TYPES), *sorted(RESULTS)]
