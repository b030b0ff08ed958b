"""What `make fuzz` found, shrunk."""

from __future__ import annotations

import vitrify as torch
from vitrify import nn


def test_a_counter_without_dims_that_is_updated():
    """Batch norm's `num_batches_tracked` came back from `run_program` as an array of one dim."""
    report = torch.compile(nn.Sequential(nn.BatchNorm1d(1))).check(torch.randn(2, 1))
    assert report.ok, str(report)
