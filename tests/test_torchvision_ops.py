"""torchvision's operators against their documentation, written out in float64 loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vitrify as torch
from vitrify import torchvision_ops

Array = np.ndarray[Any, Any]
CHANNELS = 12  # a multiple of the bins below


@pytest.fixture(scope="module")
def ops() -> Any:
    torch.ops.load_library("/somewhere/torchvision/_C.so")
    return torch.ops.torchvision


def test_only_torchvision_is_provided(ops: Any) -> None:
    for path in ("/somewhere/torchvision/image.so", "/somewhere/detectron2/_C.so", "torchvision.so"):
        with pytest.raises(OSError, match="compiled ops for PyTorch cannot be loaded"):
            torch.ops.load_library(path)
    assert ops._cuda_version() == -1 and ops.nms.default is ops.nms
    torch.library.register_autograd("torchvision::roi_align", lambda ctx, grad: 1 / 0)
    library = torch.library.Library("torchvision", "IMPL")
    library.impl("nms", lambda *args: 1 / 0, "AutocastCPU")
    x = torch.ones(1, 1, 3, 3, requires_grad=True)
    ops.roi_align(x, torch.tensor([[0.0, 0, 0, 2, 2]]), 1.0, 1, 1, 1, False).backward()
    assert x.grad is not None and x.grad.sum().item() == 1
    with pytest.raises(NotImplementedError, match=r"torchvision\._roi_align_backward is not in vitrify"):
        ops._roi_align_backward(x)


def test_libraries_of_a_programs_own() -> None:
    library = torch.library.Library("vitrify_tests_library", "DEF")
    assert library.define("double(Tensor x) -> Tensor") == "double"
    with pytest.raises(NotImplementedError, match="register an implementation for CPU"):
        torch.ops.vitrify_tests_library.double(torch.ones(1))
    library.impl("double", lambda x: x * 2, "CPU")
    assert torch.ops.vitrify_tests_library.double(torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(NotImplementedError, match="implementations for CUDA"):
        library.impl("double", lambda x: x * 2, "CUDA")
    with pytest.raises(ValueError, match="Unsupported kind"):
        torch.library.Library("vitrify_tests_library", "NEW")


# nms


def boxes_of(rng: Any, count: int, extent: float = 30.0) -> Array:
    low = rng.uniform(0, extent, (count, 2))
    return np.concatenate([low, low + rng.uniform(0, extent, (count, 2))], 1)


def nms_loops(boxes: Array, scores: Array, threshold: float) -> list[int]:
    order = np.argsort(-scores, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for i in order:
        for j in kept:
            w = max(0.0, min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]))
            h = max(0.0, min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]))
            if w * h / (area[i] + area[j] - w * h) > threshold:
                break
        else:
            kept.append(int(i))
    return kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("count", "threshold"), [(0, 0.5), (1, 0.5), (70, 0.0), (150, 0.1), (200, 0.7)])
def test_nms(ops: Any, dtype: Any, count: int, threshold: float) -> None:
    rng = np.random.default_rng(count)
    boxes, scores = boxes_of(rng, count), rng.integers(0, 40, count) / 40  # equal scores: the first is kept
    found = ops.nms(torch.tensor(boxes, dtype=dtype), torch.tensor(scores, dtype=dtype), threshold)
    assert found.dtype is torch.int64 and found.tolist() == nms_loops(boxes, scores, threshold)


def test_nms_compares_float32_with_the_threshold_in_float64(ops: Any) -> None:
    """0.1 in float32 is more than 0.1."""
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 1, 1]])
    assert ops.nms(boxes, torch.tensor([2.0, 1.0]), 0.1).tolist() == [0]
    assert ops.nms(boxes, torch.tensor([2.0, 1.0]), float(np.float32(0.1))).tolist() == [0, 1]


def test_nms_of_broken_boxes(ops: Any) -> None:
    nan = math.nan
    boxes = torch.tensor([[0.0, 0, 2, 2], [nan, 0, 2, 2], [3, 3, 3, 3], [3, 3, 3, 3], [0, 0, 2, 2]])
    assert ops.nms(boxes, torch.arange(5.0), 0.5).tolist() == [4, 3, 2, 1]
    for shape, scores, message in (
        ((3,), (3,), "boxes should be a 2d tensor, got 1D"),
        ((3, 5), (3,), "boxes should have 4 elements in dimension 1, got 5"),
        ((3, 4), (3, 1), "scores should be a 1d tensor, got 2D"),
        ((3, 4), (2,), "same number of elements in dimension 0, got 3 and 2"),
    ):
        with pytest.raises(RuntimeError, match=message):
            ops.nms(torch.ones(shape), torch.ones(scores), 0.5)
    with pytest.raises(RuntimeError, match="dets should have the same type as scores"):
        ops.nms(torch.ones(3, 4), torch.ones(3, dtype=torch.float64), 0.5)
    with pytest.raises(NotImplementedError, match="\"nms_kernel\" not implemented for 'Half'"):
        ops.nms(torch.ones(3, 4).half(), torch.ones(3).half(), 0.5)


# regions


def bilinear(plane: Array, y: float, x: float) -> float:
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    a, b = int(y), int(x)
    c, d = min(a + 1, height - 1), min(b + 1, width - 1)
    upper = plane[a, b] * (1 - x + b) + plane[a, d] * (x - b)
    lower = plane[c, b] * (1 - x + b) + plane[c, d] * (x - b)
    return float(upper * (1 - y + a) + lower * (y - a))


def align_loops(
    images: Array, rois: Array, scale: float, bins: tuple[int, int], ratio: int, aligned: bool, own: bool
) -> Array:
    """roi_align, or with `own` channels for each bin ps_roi_align."""
    channels = images.shape[1] // (bins[0] * bins[1]) if own else images.shape[1]
    found = np.zeros((len(rois), channels, *bins))
    shift = 0.5 if aligned or own else 0.0
    for k, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (c * scale - shift for c in corners)
        height, width = y2 - y1, x2 - x1
        if not aligned and not own:
            height, width = max(height, 1.0), max(width, 1.0)
        step = height / bins[0], width / bins[1]
        count = [ratio if ratio > 0 else math.ceil(s) for s in step]
        points = count[0] * count[1]
        for c, p, q in np.ndindex(channels, *bins):
            plane = images[int(image), (c * bins[0] + p) * bins[1] + q if own else c]
            total = sum(
                bilinear(
                    plane,
                    y1 + p * step[0] + (i + 0.5) * step[0] / count[0],
                    x1 + q * step[1] + (j + 0.5) * step[1] / count[1],
                )
                for i in range(count[0])
                for j in range(count[1])
            )
            found[k, c, p, q] = total / (points if own else max(points, 1)) if points or not own else math.nan
    return found


def away_from_zero(x: float) -> int:
    return math.floor(abs(x) + 0.5) * (1 if x > 0 else -1)


def pool_loops(
    images: Array, rois: Array, scale: float, bins: tuple[int, int], own: bool
) -> tuple[Array, Array]:
    """roi_pool and where the maxima are, or with `own` channels for each bin ps_roi_pool and the channels."""
    _, depth, height, width = images.shape
    channels = depth // (bins[0] * bins[1]) if own else depth
    found = np.zeros((len(rois), channels, *bins))
    which = np.full(found.shape, -1)
    one, last = (0, 1) if own else (1, 0)
    for k, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (away_from_zero(c * scale) for c in corners)
        step = max(y2 - y1 + one, 1) / bins[0], max(x2 - x1 + one, 1) / bins[1]
        for c, p, q in np.ndindex(channels, *bins):
            rows, columns = (
                [min(max(n + low, 0), size - last) for n in (math.floor(at * s), math.ceil((at + 1) * s))]
                for at, s, low, size in ((p, step[0], y1, height), (q, step[1], x1, width))
            )
            channel = (c * bins[0] + p) * bins[1] + q if own else c
            pixels = images[int(image), channel, rows[0] : rows[1], columns[0] : columns[1]]
            if own:
                which[k, c, p, q] = channel
            if pixels.size and own:
                found[k, c, p, q] = pixels.mean()
            elif pixels.size:
                y, x = np.unravel_index(pixels.argmax(), pixels.shape)
                found[k, c, p, q] = pixels[y, x]
                which[k, c, p, q] = (rows[0] + y) * width + columns[0] + x
    return found, which


def sample(seed: int, size: tuple[int, int], count: int, images: int = 2) -> tuple[Array, Array]:
    """Images, and regions of all kinds: inside, across borders, outside, small, turned round."""
    rng = np.random.default_rng(seed)
    extent = max(size)
    low = rng.uniform(-0.4 * extent, 1.2 * extent, (count, 2))
    sides = rng.uniform(0, 1.3 * extent, (count, 2))
    sides[1::4] = 0.3
    sides[2::5] *= -0.3
    rois = np.concatenate([rng.integers(0, images, (count, 1)), low, low + sides], 1)
    return rng.normal(size=(images, CHANNELS, *size)), rois


SIZES = [
    ((7, 9), 8, 1.0, (2, 3)),
    ((5, 3), 6, 0.4, (3, 2)),
    ((1, 1), 3, 1.0, (1, 1)),
    ((4, 4), 0, 1.0, (2, 2)),
]


@pytest.fixture(params=[torch.float32, torch.float64], ids=["f32", "f64"])
def dtype(request: Any) -> Any:
    return request.param


def close(found: Any, wanted: Array, dtype: Any) -> None:
    assert found.dtype is dtype and tuple(found.shape) == wanted.shape and found.is_contiguous()
    tolerance = 1e-5 if dtype is torch.float32 else 1e-12
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("size", "count", "scale", "bins"), SIZES)
@pytest.mark.parametrize("ratio", [2, 0])
def test_roi_align(ops: Any, dtype: Any, size: Any, count: int, scale: float, bins: Any, ratio: int) -> None:
    images, rois = sample(0, size, count)
    x, r = torch.tensor(images, dtype=dtype), torch.tensor(rois, dtype=dtype)
    for aligned in (False, True):
        found = ops.roi_align(x, r, scale, *bins, ratio, aligned)
        close(found, align_loops(images, rois, scale, bins, ratio, aligned, False), dtype)
    found, channel = ops.ps_roi_align(x, r, scale, *bins, ratio)
    close(found, align_loops(images, rois, scale, bins, ratio, True, True), dtype)
    assert channel.dtype is torch.int32
    assert channel.tolist() == pool_loops(images, rois, scale, bins, True)[1].tolist()


@pytest.mark.parametrize(("size", "count", "scale", "bins"), SIZES)
def test_roi_pool(ops: Any, dtype: Any, size: Any, count: int, scale: float, bins: Any) -> None:
    images, rois = sample(1, size, count)
    for name, own in (("roi_pool", False), ("ps_roi_pool", True)):
        found, which = getattr(ops, name)(
            torch.tensor(images, dtype=dtype), torch.tensor(rois, dtype=dtype), scale, *bins
        )
        wanted = pool_loops(images, rois, scale, bins, own)
        close(found, wanted[0], dtype)
        assert which.dtype is torch.int32 and which.tolist() == wanted[1].tolist()


def test_a_maximum_is_no_nan(ops: Any) -> None:
    x = torch.tensor([[[[math.nan, 1.0], [2.0, -math.inf]]]])
    found, which = ops.roi_pool(x, torch.tensor([[0.0, 0, 0, 1, 1]]), 1.0, 1, 1)
    assert (found.item(), which.item()) == (2.0, 2)


def test_pieces_are_together_what_all_at_once_is(ops: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images, rois = sample(2, (7, 9), 8)
    x, r = torch.tensor(images), torch.tensor(rois)
    offset = torch.randn(2, 18, 5, 7, dtype=torch.float64)
    weight, none = torch.randn(3, CHANNELS, 3, 3, dtype=torch.float64), torch.zeros(0)

    def results() -> list[Any]:
        return [
            ops.roi_align(x, r, 1.0, 2, 3, 2, False),
            ops.roi_align(x, r, 1.0, 2, 3, 0, True),
            ops.ps_roi_align(x, r, 1.0, 2, 3, 0)[0].nan_to_num(),
            ops.deform_conv2d(
                x, weight, offset, none, torch.zeros(3).double(), 1, 1, 0, 0, 1, 1, 1, 1, False
            ),
        ]

    whole = results()
    monkeypatch.setattr(torchvision_ops, "TAKEN_ELEMENTS", 600)
    for piece, one in zip(results(), whole):
        assert torch.allclose(piece, one, rtol=1e-13)


def test_regions_are_checked(ops: Any) -> None:
    x, r = torch.ones(1, 3, 4, 4), torch.zeros(1, 5)
    for name, rest in (
        ("roi_align", (2, False)),
        ("roi_pool", ()),
        ("ps_roi_align", (2,)),
        ("ps_roi_pool", ()),
    ):
        op: Callable[..., Any] = getattr(ops, name)
        with pytest.raises(RuntimeError, match=r"rois must have shape as Tensor\[K, 5\]"):
            op(x, r[:, :4], 1.0, 2, 2, *rest)
        with pytest.raises(RuntimeError, match=r"type torch\.FloatTensor does not equal torch\.DoubleTensor"):
            op(x, r.double(), 1.0, 2, 2, *rest)
        if name.startswith("ps"):
            with pytest.raises(RuntimeError, match="channels must be a multiple of pooling height"):
                op(x, r, 1.0, 2, 2, *rest)


def test_autocast_and_half_precision(ops: Any) -> None:
    """The kernel's numbers in float32, rounded to the input's dtype."""
    images, rois = sample(3, (7, 9), 5)
    x, r = torch.tensor(images).bfloat16(), torch.tensor(rois).float()
    wanted = ops.roi_align(x.float(), r, 1.0, 2, 2, 2, True).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ops.roi_align(x, r, 1.0, 2, 2, 2, True), wanted)
        assert ops.nms(torch.ones(2, 4).bfloat16(), torch.ones(2), 0.5).tolist() == [0, 1]
    r = r.bfloat16()
    wanted = ops.roi_align(x.float(), r.float(), 1.0, 2, 2, 2, True).bfloat16()
    assert torch.equal(ops.roi_align(x, r, 1.0, 2, 2, 2, True), wanted)


# deformable convolution

DEFORMED = [  # batch, channels, outputs, size, kernel, stride, padding, dilation, groups, offset groups, mask
    (2, 4, 6, (5, 6), (3, 2), (1, 2), (1, 0), (1, 1), 2, 2, True),
    (1, 3, 2, (6, 6), (3, 3), (2, 1), (2, 1), (2, 1), 1, 1, False),
    (1, 4, 4, (3, 3), (1, 1), (1, 1), (0, 0), (1, 1), 4, 4, True),
    (0, 2, 2, (4, 4), (3, 3), (1, 1), (0, 0), (1, 1), 1, 1, True),
]


def deformed_sample(row: Any, dtype: Any) -> tuple[list[Any], tuple[Any, ...]]:
    """Input, weight, offset, mask, bias; the other arguments."""
    batch, channels, outputs, size, kernel, stride, padding, dilation, groups, offset_groups, use_mask = row
    out = [(size[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in (0, 1)]
    points = offset_groups * kernel[0] * kernel[1]
    rng = np.random.default_rng(0)
    shapes = [
        (batch, channels, *size), (outputs, channels // groups, *kernel), (batch, 2 * points, *out),
        (batch, points, *out), (outputs,),
    ]  # fmt: skip
    tensors = [torch.tensor(rng.normal(size=shape) * 1.3, dtype=dtype) for shape in shapes]
    return tensors, (*stride, *padding, *dilation, groups, offset_groups, use_mask)


def deform_loops(row: Any, x: Array, weight: Array, offset: Array, mask: Array, bias: Array) -> Array:
    _, channels, outputs, _, kernel, stride, padding, dilation, groups, offset_groups, use_mask = row
    out = offset.shape[2:]
    found = np.zeros((x.shape[0], outputs, *out)) + bias[None, :, None, None]
    # Zeros around, far enough for every offset.
    far = 12
    wide = np.pad(x, ((0, 0), (0, 0), (far, far), (far, far)))
    for n, o, oy, ox, c, i, j in np.ndindex(x.shape[0], outputs, *out, channels // groups, *kernel):
        channel = o // (outputs // groups) * (channels // groups) + c
        point = (channel // (channels // offset_groups)) * kernel[0] * kernel[1] + i * kernel[1] + j
        y = oy * stride[0] - padding[0] + i * dilation[0] + offset[n, 2 * point, oy, ox]
        z = ox * stride[1] - padding[1] + j * dilation[1] + offset[n, 2 * point + 1, oy, ox]
        value = bilinear(wide[n, channel], y + far, z + far)
        found[n, o, oy, ox] += weight[o, c, i, j] * value * (mask[n, point, oy, ox] if use_mask else 1)
    return found


@pytest.mark.parametrize("row", DEFORMED)
def test_deform_conv2d(ops: Any, dtype: Any, row: Any) -> None:
    tensors, rest = deformed_sample(row, dtype)
    wanted = deform_loops(row, *(t.double().numpy() for t in tensors))
    close(ops.deform_conv2d(*tensors, *rest), wanted, dtype)


def test_shapes_of_deform_conv2d_are_checked(ops: Any) -> None:
    (x, weight, offset, mask, bias), rest = deformed_sample(DEFORMED[0], torch.float32)
    for tensors, message in (
        ((x, weight, offset[:, 1:], mask, bias), r"offset\.shape\[1\] is not valid: got: 23 expected: 24"),
        ((x, weight, offset, mask[:, 1:], bias), r"mask\.shape\[1\] is not valid: got: 11 expected: 12"),
        ((x, weight, offset[1:], mask, bias), "invalid batch size of offset"),
        (
            (x, weight, offset[:, :, 1:], mask, bias),
            r"offset output dims: \(4, 3\) - computed output dims: \(5, 3\)",
        ),
        ((x, weight[:, 1:], offset, mask, bias), "does not fit 4 channels in 2 groups"),
        ((x[:, :, :0], weight, offset[:, :, :0], mask[:, :, :0], bias), "output size too small - out_h: 0"),
    ):
        with pytest.raises(RuntimeError, match=message):
            ops.deform_conv2d(*tensors, *rest)


# gradients and compiled functions


def calls(ops: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """The pooling of images in regions."""
    return {
        "roi_align": lambda x, r: ops.roi_align(x, r, 0.7, 2, 3, 2, True),
        "roi_align, adaptive": lambda x, r: ops.roi_align(x, r, 0.7, 2, 3, 0, False),
        "ps_roi_align": lambda x, r: ops.ps_roi_align(x, r, 0.7, 2, 3, 2)[0],
        "ps_roi_align, adaptive": lambda x, r: ops.ps_roi_align(x, r, 0.7, 2, 3, 0)[0].nan_to_num(),
        "roi_pool": lambda x, r: ops.roi_pool(x, r, 0.7, 2, 3)[0],
        "ps_roi_pool": lambda x, r: ops.ps_roi_pool(x, r, 0.7, 2, 3)[0],
    }


NAMES = list(calls(None))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_pooling(ops: Any, name: str) -> None:
    images, rois = sample(4, (3, 4), 3, images=1)
    x = torch.tensor(images[:, :6], requires_grad=True)
    r = torch.tensor(rois, requires_grad=True)
    f = calls(ops)[name]
    assert torch.autograd.gradcheck(lambda x: f(x, r.detach()), (x,))
    f(x, r).sum().backward()
    assert r.grad is None


@pytest.mark.parametrize(
    "row",
    [
        (1, 2, 2, (3, 4), (2, 2), (1, 2), (1, 0), (1, 1), 2, 2, True),
        (2, 2, 1, (3, 3), (2, 2), (1, 1), (0, 1), (1, 2), 1, 1, False),
    ],
)
def test_gradients_of_deform_conv2d(ops: Any, row: Any) -> None:
    tensors, rest = deformed_sample(row, torch.float64)
    for t in tensors:
        t.requires_grad_(t is not tensors[3] or row[-1])
    assert torch.autograd.gradcheck(lambda *t: ops.deform_conv2d(*t, *rest), tensors)


@pytest.mark.parametrize("name", NAMES)
def test_pooling_compiled(ops: Any, name: str) -> None:
    """The gradient too; one program for regions of all sizes, where the number of points is told by the run."""
    f = calls(ops)[name]

    @torch.compile
    def step(x: Any, r: Any) -> Any:
        y = f(x, r)
        return y, torch.autograd.grad(y.square().sum(), x)[0]

    for seed in (5, 6):
        images, rois = sample(seed, (5, 6), 4)
        x, r = torch.tensor(images, requires_grad=True), torch.tensor(rois)
        y = f(x, r)
        found = step(x, r)
        torch.testing.assert_close(found[0], y)
        torch.testing.assert_close(found[1], torch.autograd.grad(y.square().sum(), x)[0])


def test_deform_conv2d_compiled(ops: Any) -> None:
    tensors, rest = deformed_sample(DEFORMED[0], torch.float64)
    for t in tensors:
        t.requires_grad_()

    def step(*tensors: Any) -> Any:
        y = ops.deform_conv2d(*tensors, *rest)
        return y, torch.autograd.grad(y.square().sum(), tensors)

    torch.testing.assert_close(torch.compile(step)(*tensors), step(*tensors))


def test_nms_compiled(ops: Any) -> None:
    """The number of boxes that stay is told by the run."""

    @torch.compile
    def best(boxes: Any, scores: Any) -> Any:
        kept = ops.nms(boxes, scores, 0.3)
        return boxes[kept] * 2, kept

    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        boxes, scores = torch.tensor(boxes_of(rng, 40)), torch.tensor(rng.random(40))
        found, kept = best(boxes, scores)
        assert kept.tolist() == nms_loops(boxes.numpy(), scores.numpy(), 0.3)
        assert torch.equal(found, boxes[kept] * 2)


def test_regions_that_nms_kept_are_pooled_compiled(ops: Any) -> None:
    def pooled(x: Any, boxes: Any, scores: Any) -> Any:
        kept = boxes[ops.nms(boxes, scores, 0.3)]
        rois = torch.cat([torch.zeros_like(kept[:, :1]), kept], 1)
        return ops.roi_align(x, rois, 0.2, 2, 3, 2, True), ops.roi_pool(x, rois, 0.2, 2, 2)[0]

    step = torch.compile(pooled)
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        boxes, scores = torch.tensor(boxes_of(rng, 30)), torch.tensor(rng.random(30))
        x = torch.tensor(rng.normal(size=(1, 4, 9, 10)))
        torch.testing.assert_close(step(x, boxes, scores), pooled(x, boxes, scores))
