"""What the printing references print: name -> (array, print options). Read by the maker and by the test."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np


def _wave(count: int, step: float = 0.7, scale: float = 1.0) -> np.ndarray[Any, Any]:
    """Numbers that need no random generator and look like data."""
    return ((((np.arange(count) * 7919) % 1009) / 1009.0 - 0.5) * step * scale).astype(np.float32)


_NAN, _INF = float("nan"), float("inf")


def cases() -> dict[str, tuple[np.ndarray[Any, Any], dict[str, Any]]]:
    f32 = np.float32
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "zero_d": np.array(3.14159, f32),
        "zero_d_whole": np.array(2.0, f32),
        "zero_d_int": np.array(7),
        "zero_d_bool": np.array(True),
        "zero_d_nan": np.array(_NAN, f32),
        "zero_d_tiny": np.array(1e-9, f32),
        "empty": np.zeros((0,), f32),
        "empty_2d": np.zeros((0, 3), f32),
        "empty_3d": np.zeros((2, 0, 3), f32),
        "empty_int": np.zeros((0,), np.int64),
        "empty_f64": np.zeros((0, 2)),
        "whole": np.array([1.0, -2.0, 3.0], f32),
        "whole_nonfinite": np.array([1.0, _NAN, 3.0, _INF, -_INF], f32),
        "only_nonfinite": np.array([_NAN, _INF, -_INF], f32),
        "nan_and_zero": np.array([_NAN, 0.0], f32),
        "mixed": np.array([1.5, -2.25, 0.0], f32),
        "mixed_nonfinite": np.array([1.5, _NAN, -_INF, 100.25], f32),
        "negative_zero": np.array([-0.0, 0.0, 1.5], f32),
        "ratio_999": np.array([0.5, 499.5], f32),
        "ratio_1000": np.array([0.1, 100.0], f32),
        "ratio_1001": np.array([0.1, 100.1], f32),
        "small": np.array([0.0001, 0.0002], f32),
        "smaller": np.array([0.00009, 0.0002], f32),
        "large": np.array([1e8, 2e8], f32),
        "larger": np.array([1.1e8, 2e8], f32),
        "large_whole": np.array([1.0, 2000.0], f32),
        "sci_negative": np.array([-1e-10, 5.0, 3e10], f32),
        "sci_nonfinite": np.array([1e-7, _NAN, _INF, 0.0], f32),
        "float64": np.array([1.0, 2.5]),
        "float64_long": np.array([1.23456789012345, 1e-3]),
        "float16": np.array([1.5, 2.5, 65504.0], np.float16),
        "bfloat16": np.array([1.5, 3.140625, -0.0078125], ml_dtypes.bfloat16),
        "int32": np.array([[1, -200], [30000, 4]], np.int32),
        "int64": np.arange(12).reshape(3, 4),
        "uint8": np.array([0, 255, 7], np.uint8),
        "int8": np.array([-128, 127], np.int8),
        "bool": np.array([[True, False], [False, True]]),
        "complex": np.array([1 + 2j, -3.5 - 0.25j], np.complex64),
        "complex128": np.array([[1 + 2j, 0j], [1e-5j, 1e3 + 0j]]),
        "line_break": _wave(30),
        "line_break_int": np.arange(100) * 37 % 1000,
        "matrix": _wave(12).reshape(3, 4),
        "wide_matrix": _wave(40).reshape(2, 20),
        "three_d": _wave(24).reshape(2, 3, 4),
        "four_d": _wave(16).reshape(2, 2, 2, 2),
        "five_d": _wave(16).reshape(1, 2, 2, 2, 2),
        "column": _wave(4).reshape(4, 1),
        "summary_1d": _wave(1001),
        "exactly_threshold": _wave(1000).reshape(10, 100),
        "summary_2d": _wave(5000).reshape(50, 100),
        "summary_narrow": _wave(2000).reshape(1000, 2),
        "summary_few_rows": _wave(2000).reshape(4, 500),
        "summary_3d": _wave(4000).reshape(10, 20, 20),
        "summary_int": np.arange(10000).reshape(100, 100),
        "summary_bool": (np.arange(1200) % 3 == 0),
        "summary_hidden_extremes": np.r_[np.ones(600), 1e12, np.ones(600)].astype(f32),
        "summary_f64": _wave(1500).astype(np.float64),
        "summary_complex": (_wave(1200) + 1j * _wave(1200, 0.3)).astype(np.complex64),
        "ones_by_one": np.ones((1, 1, 1), f32),
        "long_ints": np.array([10**15, -(10**15)]),
    }
    result = {name: (array, {}) for name, array in arrays.items()}
    data = _wave(40).reshape(4, 10) * 3
    options: dict[str, dict[str, Any]] = {
        "precision_2": {"precision": 2},
        "precision_8": {"precision": 8},
        "narrow": {"linewidth": 40},
        "low_threshold": {"threshold": 10},
        "edge_1": {"threshold": 10, "edgeitems": 1},
        "edge_0": {"threshold": 10, "edgeitems": 0},
        "sci_on": {"sci_mode": True},
        "sci_off": {"sci_mode": False},
        "short": {"profile": "short"},
        "full": {"profile": "full"},
    }
    for name, chosen in options.items():
        result[f"option_{name}"] = (data, chosen)
    result["sci_off_small"] = (np.array([1e-9, 1.0], f32), {"sci_mode": False})
    result["sci_on_whole"] = (np.array([1.0, 2.0], f32), {"sci_mode": True})
    result["full_long"] = (_wave(1100), {"profile": "full"})
    result["edge_0_vector"] = (_wave(1100), {"edgeitems": 0})
    return result
