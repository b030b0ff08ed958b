"""vitrify: PyTorch's API, eager over NumPy, compiled through LLVM.

The names of `torch` are the names of this package: `import vitrify as torch`.
"""

import math as _math

from . import methods as _methods  # puts the methods on Tensor, so it comes first
from . import autograd, cuda, nn, optim, random, utils
from .autograd import (
    enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled,
)  # fmt: skip
from .creation import (
    arange, as_tensor, asarray, empty, empty_like, eye, from_numpy, full, full_like, linspace, logspace,
    ones, ones_like, scalar_tensor, tensor, zeros, zeros_like,
)  # fmt: skip
from .device import (
    device,
)  # fmt: skip
from .functional_host import (
    allclose, bincount, count_nonzero, equal, isclose, nonzero, unique,
)  # fmt: skip
from .functional_matmul import (
    addmm, addmv, baddbmm, bmm, dot, einsum, ger, matmul, mm, mv, outer, tensordot, trace,
)  # fmt: skip
from .functional_pointwise import (
    abs, absolute, add, addcdiv, addcmul, bitwise_and, bitwise_not, bitwise_or, bitwise_xor, ceil, clamp,
    clamp_max, clamp_min, clip, cos, cosh, div, divide, eq, erf, exp, exp2, expm1, fix, floor,
    floor_divide, fmod, ge, greater, greater_equal, gt, isfinite, isinf, isnan, le, lerp, less,
    less_equal, log, log10, log1p, log2, logical_and, logical_not, logical_or, logical_xor, lt,
    masked_fill, maximum, minimum, mul, multiply, ne, neg, negative, not_equal, positive, pow, reciprocal,
    relu, remainder, round, rsqrt, rsub, sigmoid, sign, sin, sinh, sqrt, square, sub, subtract, tan, tanh,
    true_divide, trunc, where,
)  # fmt: skip
from .functional_reductions import (
    all, amax, amin, aminmax, any, argmax, argmin, argsort, cumprod, cumsum, dist, kthvalue, log_softmax,
    logsumexp, max, mean, median, min, nanmean, nansum, norm, prod, softmax, sort, std, std_mean, sum,
    topk, var, var_mean,
)  # fmt: skip
from .functional_shape import (
    broadcast_shapes, broadcast_tensors, broadcast_to, cat, chunk, concat, concatenate, diag, diagonal,
    flatten, flip, hstack, meshgrid, moveaxis, movedim, narrow, permute, ravel, reshape, roll, select,
    split, squeeze, stack, swapaxes, swapdims, t, tensor_split, tile, transpose, tril, triu, unbind,
    unflatten, unsqueeze, vstack,
)  # fmt: skip
from .functional_tensor import (
    clone, detach, get_num_threads, is_complex, is_floating_point, is_nonzero, is_tensor, numel,
    set_default_tensor_type, set_num_threads, typename,
)  # fmt: skip
from .generator import (
    Generator, default_generator,
)  # fmt: skip
from .indexing import (
    gather, index_add, index_copy, index_fill, index_put, index_select, masked_scatter, masked_select,
    repeat_interleave, scatter, scatter_add, take, take_along_dim,
)  # fmt: skip
from .legacy import (
    BFloat16Tensor, BoolTensor, ByteTensor, CharTensor, DoubleTensor, FloatTensor, HalfTensor, IntTensor,
    LongTensor, ShortTensor,
)  # fmt: skip
from .printing import (
    get_printoptions, printoptions, set_printoptions,
)  # fmt: skip
from .promotion import (
    can_cast, get_default_dtype, result_type, set_default_dtype,
)  # fmt: skip
from .random import (
    bernoulli, get_rng_state, initial_seed, manual_seed, multinomial, normal, rand, rand_like, randint,
    randint_like, randn, randn_like, randperm, seed, set_rng_state,
)  # fmt: skip
from .size import (
    Size,
)  # fmt: skip
from .tensor import (
    Tensor,
)  # fmt: skip
from .ir import dtypes as _dtypes
from .ir.dtypes import DType as dtype
from .ir.dtypes import promote as promote_types

bool = _dtypes.bool_
uint8 = _dtypes.u8
uint16 = _dtypes.u16
uint32 = _dtypes.u32
uint64 = _dtypes.u64
int8 = _dtypes.i8
int16 = _dtypes.i16
int32 = _dtypes.i32
int64 = _dtypes.i64
float16 = _dtypes.f16
bfloat16 = _dtypes.bf16
float32 = _dtypes.f32
float64 = _dtypes.f64
complex64 = _dtypes.c64
complex128 = _dtypes.c128
half = float16
float = float32
double = float64
short = int16
int = int32
long = int64
cfloat = complex64
cdouble = complex128
strided = "torch.strided"
contiguous_format, preserve_format, channels_last = "contiguous_format", "preserve_format", "channels_last"
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e
newaxis = None
