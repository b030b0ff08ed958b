"""The trained models of the examples as `benchmarks/trained_models.py` runs them: nets, and inputs as they come in use.

The programs in examples/ are PyTorch code, so PyTorch runs the same nets: `program(name, torch)` is an example in which
`import vitrify` gives torch. What is only an ONNX file runs in vitrify, ONNX Runtime and OpenVINO.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import vitrify

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import model_files  # noqa: E402

Arrays = tuple[np.ndarray[Any, Any], ...]


@dataclass(frozen=True)
class Trained:
    """`inputs` are a call's arguments, `net` gives the Module for a library, `file` is the ONNX file of a model that
    has no PyTorch code (`net` is for vitrify only then). `dims` names the dynamic dims as (argument, axis, dim, low,
    high), `each_token` says that a call reads all weights for one token."""

    title: str
    what: str
    net: Callable[[Any], Any]
    inputs: Callable[[], Arrays]
    file: str = ""
    dims: tuple[tuple[str, int, str, int, int], ...] = ()
    each_token: bool = False

    def dynamic_shapes(self) -> Mapping[str, Mapping[int, Any]] | None:
        found: dict[str, dict[int, Any]] = {}
        for argument, axis, name, low, high in self.dims:
            found.setdefault(argument, {})[axis] = vitrify.Dim(name, low, high)
        return found or None


@cache
def program(name: str, lib: Any) -> Any:
    """The example as a module, for vitrify or for PyTorch."""
    spec = importlib.util.spec_from_file_location(f"{name}_{lib.__name__}", EXAMPLES / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"no example {name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    names = {"vitrify": lib, "vitrify.nn": lib.nn, "vitrify.nn.functional": lib.nn.functional}
    if lib is not vitrify:
        names["vitrify.serialization"] = _readers(lib)
    before = {key: sys.modules[key] for key in [*names, "vitrify.serialization"] if key in sys.modules}
    sys.modules.update(names)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules.update(before)
    return module


def _readers(lib: Any) -> Any:
    """vitrify's readers of weights, which give PyTorch's tensors."""
    files = types.ModuleType("vitrify.serialization")
    given = lambda tensors: {key: lib.from_numpy(t.numpy().copy()) for key, t in tensors.items()}

    def load_gguf(path: Any) -> Any:
        tensors, about = vitrify.serialization.load_gguf(path)
        return given(tensors), about

    vars(files).update(
        load_file=lambda path: given(vitrify.serialization.load_file(path)), load_gguf=load_gguf
    )
    return files


def _from_file(name: str, **fixed: Any) -> Callable[[Any], Any]:
    return lambda lib: lib.onnx.load(model_files.find(name), fixed=fixed or None)


def _numbers(*shape: int, scale: float = 1.0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(0).standard_normal(shape) * scale).astype(np.float32)


def _words(sentences: int, length: int) -> Arrays:
    return (np.random.default_rng(0).integers(1000, 30000, (sentences, length)),)


def _text(layers: int, kv_heads: int, context: int, size: int, words: int, new: int, past: int) -> Arrays:
    cache = _numbers(layers, 2, kv_heads, context, size, scale=0.3)
    tokens = np.random.default_rng(0).integers(4, words, new)
    return tokens, cache, np.array(past), np.zeros(max(past, 1), np.int8)


def _onnx(title: str, what: str, file: str, inputs: Callable[[], Arrays], **fixed: Any) -> Trained:
    return Trained(title, what, _from_file(file, **fixed), inputs, file)


def _faces(number: int) -> Callable[[Any], Any]:
    return lambda lib: program("face_detection", lib).load()[number].eval()


SMOLLM = (30, 3, 1024, 64, 49152)
TINY = (4, 2, 128, 32, 1024)

CASES = {
    "minilm-1": Trained(
        "MiniLM", "1 sentence of 16", lambda lib: program("sentence_embeddings", lib).load(), lambda: _words(1, 16)
    ),
    "minilm-8": Trained(
        "MiniLM", "8 sentences of 64", lambda lib: program("sentence_embeddings", lib).load(), lambda: _words(8, 64)
    ),
    "voice": Trained(
        "Resemblyzer", "1 piece of 1.6 s", lambda lib: program("voice_encoder", lib).load().eval(),
        lambda: (np.abs(_numbers(1, 160, 40)) * 0.01,),
    ),
    "voice-8": Trained(
        "Resemblyzer", "8 pieces of 1.6 s", lambda lib: program("voice_encoder", lib).load().eval(),
        lambda: (np.abs(_numbers(8, 160, 40)) * 0.01,),
    ),
    "pnet": Trained("MTCNN P-net", "a photo of 240 x 320", _faces(0), lambda: (_numbers(1, 3, 240, 320),)),
    "rnet": Trained("MTCNN R-net", "32 crops", _faces(1), lambda: (_numbers(32, 3, 24, 24),)),
    "onet": Trained("MTCNN O-net", "8 crops", _faces(2), lambda: (_numbers(8, 3, 48, 48),)),
    "silero": _onnx(
        "Silero VAD", "a chunk of 32 ms", "silero_vad.onnx",
        lambda: (_numbers(1, 576, scale=0.1), np.zeros((2, 1, 128), np.float32)), sr=16000,
    ),
    "ocr-det": _onnx(
        "PaddleOCR, finds text", "a page of 320 x 320", "ch_PP-OCRv4_det_infer.onnx",
        lambda: (_numbers(1, 3, 320, 320, scale=0.5),),
    ),
    "ocr-rec": _onnx(
        "PaddleOCR, reads", "a line of 48 x 320", "ch_PP-OCRv4_rec_infer.onnx",
        lambda: (_numbers(1, 3, 48, 320, scale=0.5),),
    ),
    "ocr-cls": _onnx(
        "PaddleOCR, which way up", "a line of 48 x 192", "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        lambda: (_numbers(1, 3, 48, 192, scale=0.5),),
    ),
    "tiny-decode": Trained(
        "glassllm", "1 token after 64", lambda lib: program("llama", lib).tiny()[0], lambda: _text(*TINY, 1, 64),
        dims=(("past", 0, "past", 1, 128),),
    ),
    "smollm-decode": Trained(
        "SmolLM2 135M", "1 token after 128", lambda lib: program("llama", lib).smollm()[0],
        lambda: _text(*SMOLLM, 1, 128), dims=(("past", 0, "past", 1, 1024),), each_token=True,
    ),
    "smollm-prompt": Trained(
        "SmolLM2 135M", "a prompt of 64", lambda lib: program("llama", lib).smollm()[0],
        lambda: _text(*SMOLLM, 64, 0),
        dims=(("tokens", 0, "new", 2, 1024), ("past", 0, "past", 1, 1024)),
    ),
}  # fmt: skip
