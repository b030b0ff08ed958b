"""Convolutions, attention, resizing and deconvolution from ONNX: examples/read_text.py against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch

FILES = "ch_PP-OCRv4_det_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx", "ch_ppocr_mobile_v2.0_cls_infer.onnx"


@pytest.fixture
def nets(example):
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    pytest.importorskip("scipy", reason="scipy is not installed")
    return example("read_text", *FILES)


def prepared(picture):
    gray = np.asarray(picture, np.float32)[None, None] / 127.5 - 1
    return torch.from_numpy(gray.repeat(3, 1))


def test_finds_text(nets, reference, close):
    stored = reference("text")
    net = torch.onnx.load(nets.model_files.find(FILES[0]))
    x = prepared(stored["page"])
    for run in (net, torch.compile(net)):
        close(run(x), stored["chance"], atol=2e-3)  # stored in half precision


def test_tells_what_is_upside_down(nets, reference, close):
    stored = reference("text")
    net = torch.onnx.load(nets.model_files.find(FILES[2]))
    x = prepared(stored["small"])
    x = torch.cat([x, x.flip(2, 3)])
    for run in (net, torch.compile(net)):
        close(run(x), stored["turned"], atol=1e-4)


def test_reads_a_line(nets, reference, close):
    from PIL import Image

    stored = reference("text")
    reader = nets.Reader()
    x = prepared(stored["line"])
    for run in (torch.onnx.load(nets.model_files.find(FILES[1])), reader.read):
        chances, best = run(x).max(dim=2)
        assert best.tolist() == stored["best"].tolist()
        close(chances, stored["chances"], rtol=1e-3)
    text, sure = reader.line(Image.fromarray(stored["line"]).convert("RGB"))
    assert text == "Fluid while you write" and sure > 0.9
