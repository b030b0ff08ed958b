"""Modules, containers, hooks and `nn.utils` say and do what PyTorch's do; their files import under PyTorch's paths."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest

import vitrify as torch

sys.path.insert(0, str(Path(__file__).parent / "references"))
from nn_module_api import STORED, module_lines, transformer_lines, utils_lines

WANTED = json.loads(STORED.read_text())


@pytest.mark.parametrize(
    ("part", "lines"),
    [("module", module_lines), ("utils", utils_lines), ("transformer", transformer_lines)],
)
def test_lines(part, lines):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lines(torch)
    assert len(found) == len(WANTED[part])
    for got, want in zip(found, WANTED[part]):
        assert got == as_printed_here(want)


def as_printed_here(text: str) -> str:
    """The references are of Python 3.11; from 3.12 on an OrderedDict shows a dict."""
    return re.sub(
        r"OrderedDict\((\[.*\])\)", lambda found: repr(OrderedDict(ast.literal_eval(found[1]))), text
    )


PATHS = """
activation: ReLU MultiheadAttention
adaptive: AdaptiveLogSoftmaxWithLoss
batchnorm: _BatchNorm _NormBase _LazyNormBase BatchNorm2d SyncBatchNorm LazyBatchNorm1d
channelshuffle: ChannelShuffle
container: Sequential ModuleList ModuleDict ParameterList ParameterDict
conv: _ConvNd _ConvTransposeNd Conv2d ConvTranspose2d LazyConv2d _LazyConvXdMixin
distance: CosineSimilarity
dropout: _DropoutNd Dropout
flatten: Flatten Unflatten
fold: Fold Unfold
instancenorm: _InstanceNorm InstanceNorm2d LazyInstanceNorm1d
lazy: LazyModuleMixin
linear: Linear Bilinear Identity LazyLinear NonDynamicallyQuantizableLinear
loss: _Loss _WeightedLoss CrossEntropyLoss TripletMarginLoss
module: Module register_module_forward_hook register_module_backward_hook
normalization: LayerNorm GroupNorm
padding: _ConstantPadNd _ReflectionPadNd ZeroPad2d
pixelshuffle: PixelShuffle
pooling: _MaxPoolNd _AvgPoolNd _AdaptiveAvgPoolNd AdaptiveAvgPool2d LPPool2d MaxUnpool2d FractionalMaxPool2d
rnn: RNNBase LSTM
sparse: Embedding EmbeddingBag
transformer: Transformer
upsampling: Upsample
utils: _single _pair _triple _quadruple _ntuple _reverse_repeat_tuple consume_prefix_in_state_dict_if_present
"""


@pytest.mark.parametrize("line", PATHS.strip().splitlines())
def test_paths(line):
    file, _, names = line.partition(":")
    module = importlib.import_module(f"vitrify.nn.modules.{file}")
    assert [name for name in names.split() if not hasattr(module, name)] == []


def test_a_convolution_of_ones_own():
    """Subclasses of `_ConvNd` and `Conv2d` as research code writes them."""

    class Standardized(torch.nn.Conv2d):
        def forward(self, input):
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return self._conv_forward(input, weight, self.bias)

    layer = Standardized(2, 3, 3, padding=1, padding_mode="reflect")
    assert layer(torch.randn(1, 2, 5, 5)).shape == (1, 3, 5, 5)
    assert layer._reversed_padding_repeated_twice == (1, 1, 1, 1)
    own = torch.nn.modules.conv._ConvNd(2, 4, (3,), (1,), (0,), (1,), False, (0,), 1, True, "zeros")
    assert own.weight.shape == (4, 2, 3)


def test_compile_in_place():
    layer = torch.nn.Linear(3, 2)
    x = torch.randn(4, 3)
    want = layer(x)
    layer.compile()
    got = layer(x)
    assert torch.allclose(got, want)
    got.sum().backward()
    assert layer.weight.grad.shape == (2, 3)
    assert "_compiled_call_impl" not in layer.__getstate__()


def test_attention_choice_is_kept():
    from vitrify.nn.attention import SDPBackend, _cur_sdpa_kernel_backends, sdpa_kernel
    from vitrify.nn.attention.bias import causal_lower_right

    with sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], set_priority=True):
        assert _cur_sdpa_kernel_backends(True) == [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]
    assert len(_cur_sdpa_kernel_backends()) == 5
    assert causal_lower_right(2, 4).tolist() == [[True, True, True, False], [True] * 4]


def test_block_masks():
    from vitrify.nn.attention.flex_attention import and_masks, create_block_mask, create_mask, flex_attention

    def causal(b, h, q, kv):
        return q >= kv

    q = torch.randn(1, 2, 6, 4)
    block = create_block_mask(causal, None, None, 6, 6)
    got = flex_attention(q, q, q, block_mask=block)
    assert torch.allclose(
        got, torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True), atol=1e-6
    )
    near = and_masks(causal, lambda b, h, q, kv: q - kv < 2)
    rows = create_mask(near, 1, 1, 3, 3)[0, 0].tolist()
    assert rows == [
        [True, False, False],
        [True, True, False],
        [False, True, True],
    ]
    biased = flex_attention(q, q, q, lambda score, b, h, i, j: score + (i - j).to(score.dtype))
    assert biased.shape == q.shape


def test_grids_outside_are_zero_and_reject_what_does_not_fit():
    F = torch.nn.functional
    grid = torch.full((1, 1, 1, 2), float("nan"))
    assert F.grid_sample(torch.ones(1, 1, 2, 2), grid, "nearest", align_corners=False).item() == 0
    with pytest.raises(RuntimeError, match="expected grid to have size 2 in last dimension"):
        F.grid_sample(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 1, 3), align_corners=False)
    with pytest.raises(ValueError, match="expected mode to be 'bilinear', 'nearest' or 'bicubic'"):
        F.grid_sample(torch.ones(1, 1, 2, 2), grid, "cubic")
    with pytest.warns(UserWarning, match="Default grid_sample and affine_grid behavior"):
        F.affine_grid(torch.zeros(1, 2, 3), (1, 1, 2, 2))
