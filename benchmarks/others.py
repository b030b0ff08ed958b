"""ONNX Runtime and OpenVINO as competitors: what runs an ONNX file on arrays, with so many threads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]


def onnx_runtime(path: Path, named: Arrays, threads: int) -> Callable[[], list[Any]] | None:
    """None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options)
    inputs = {i.name for i in session.get_inputs()}
    given = {key: array for key, array in named.items() if key in inputs}
    return lambda: session.run(None, given)


def openvino(path: Path, named: Arrays, threads: int) -> Callable[[], list[Any]] | None:
    """None where it is not installed, or does not take the model."""
    try:
        import openvino
    except ImportError:
        return None
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    try:
        net = core.read_model(path)
        inputs = {i.any_name for i in net.inputs}
        given = {key: array for key, array in named.items() if key in inputs}
        net.reshape({key: array.shape for key, array in given.items()})
        request = core.compile_model(net, "CPU", options).create_infer_request()
        request.infer(given)
    except RuntimeError as error:
        print(f"OpenVINO: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return lambda: list(request.infer(given, share_inputs=True, share_outputs=True).values())
