"""vitrify: PyTorch's API, eager over NumPy, compiled through LLVM.

The names of `torch` are the names of this package: `import vitrify as torch`. Each file says in its `__all__`
which of them it defines."""

# ruff: noqa: F401, F403

import math as _math
import sys as _sys
import types as _types

from . import (
    amp,
    autograd,
    cpu,
    creation,
    cuda,
    fft,
    linalg,
    nn,
    optim,
    random,
    serialization,
    tables,
    utils,
    window_functions,
)
from . import methods as _methods  # puts the methods on Tensor, so it comes first
from . import placement as _placement
from .accelerator_errors import *
from .alias import as_torch
from .amp import GradScaler, autocast
from .amp.autocast_mode import (
    autocast_decrement_nesting,
    autocast_increment_nesting,
    clear_autocast_cache,
    get_autocast_cpu_dtype,
    get_autocast_dtype,
    get_autocast_gpu_dtype,
    is_autocast_cache_enabled,
    is_autocast_cpu_enabled,
    is_autocast_enabled,
    set_autocast_cache_enabled,
    set_autocast_cpu_dtype,
    set_autocast_cpu_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
    set_autocast_gpu_dtype,
)
from .arguments import WITHOUT_NUMPY_NAMES as _WITHOUT_NUMPY_NAMES
from .arguments import name_keywords as _name_keywords
from .autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .autograd.anomaly_mode import (
    detect_anomaly,
    is_anomaly_check_nan_enabled,
    is_anomaly_enabled,
    set_anomaly_enabled,
)
from .creation import *
from .device import device
from .foreach import *
from .formats import *
from .functional_arithmetic import *
from .functional_complex import *
from .functional_cumulative import *
from .functional_elements import *
from .functional_floats import *
from .functional_hash import *
from .functional_histograms import *
from .functional_host import *
from .functional_indexing import *
from .functional_inplace import *
from .functional_joining import *
from .functional_linalg import *
from .functional_matmul import *
from .functional_memory import *
from .functional_order import *
from .functional_pointwise import *
from .functional_products import *
from .functional_reductions import *
from .functional_shape import *
from .functional_slices import *
from .functional_special import *
from .functional_statistics import *
from .functional_statistics import segment_reduce as _segment_reduce
from .functional_tensor import *
from .generator import Generator, default_generator
from .indexing import *
from .interchange import *
from .ir import dtypes as _dtypes
from .ir.dims import Dim
from .ir.dtypes import DType as dtype
from .ir.dtypes import promote as promote_types
from .lazy import Lazy as _Lazy
from .lazy import Own as _Own
from .legacy import *
from .nn.functional import (
    adaptive_avg_pool1d,
    avg_pool1d,
    bilinear,
    celu,
    celu_,
    channel_shuffle,
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    cosine_similarity,
    hardshrink,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    pairwise_distance,
    pixel_shuffle,
    pixel_unshuffle,
    prelu,
    relu_,
    rms_norm,
    rrelu,
    rrelu_,
    selu,
    selu_,
    threshold,
    threshold_,
)
from .nn.modules.module import never_bind as _never_bind
from .nn.torch_aliases import *
from .printing import get_printoptions, printoptions, set_printoptions
from .promotion import *
from .random import *
from .random_samplers import *
from .runtime.threads import get_num_threads, set_num_threads
from .serialization import load, save
from .settings import *
from .size import Size
from .sparse_tensor import sparse_coo_tensor
from .spectrograms import *
from .symbols import *
from .tables import *
from .tensor import Tensor
from .tensor_memory import as_strided_, resize_as_
from .type_info import finfo, iinfo
from .version import __version__
from .window_functions import *

uint8, uint16, uint32, uint64 = _dtypes.u8, _dtypes.u16, _dtypes.u32, _dtypes.u64
int8, int16, int32, int64 = _dtypes.i8, _dtypes.i16, _dtypes.i32, _dtypes.i64
float8_e4m3fn, float8_e5m2, float8_e4m3fnuz, float8_e5m2fnuz, float8_e8m0fnu, complex32 = _dtypes.NAMES_ONLY
float16, bfloat16, float32, float64 = _dtypes.f16, _dtypes.bf16, _dtypes.f32, _dtypes.f64
complex64, complex128 = _dtypes.c64, _dtypes.c128
bool = _dtypes.bool_
short, int, long = int16, int32, int64
chalf = complex32
half, float, double = float16, float32, float64
cfloat, cdouble = complex64, complex128

inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e
newaxis = None

# What programs make belongs where it is made; what library code makes on the way does not (`placement.py`).
_makers = set(creation.__all__) | set(random.__all__) | set(tables.__all__) | set(window_functions.__all__)
for _name in _makers - {"Generator", "default_generator"}:
    globals()[_name] = _placement.belongs(globals()[_name])
_name_keywords(globals(), set(globals()), _WITHOUT_NUMPY_NAMES)
_never_bind((*globals().values(), *vars(nn.functional).values()))

# These print, and are pickled, as names of the package.
for _public in (Tensor, Size, device, dtype):
    _public.__module__ = __name__


class _Package(_types.ModuleType):
    """What is loaded when it is first asked for. `torch.compile` is a function, and the subpackage of that name must not
    take its place when it is imported; the compiler is half of what there is to import.
    """

    compile = _Lazy(f"{__name__}.compile.entry", "compile")
    get_device_module = _Lazy(f"{__name__}.accelerator", "get_device_module")
    accelerator = _Lazy(f"{__name__}.accelerator")
    ao = _Lazy(f"{__name__}.ao")
    backends = _Lazy(f"{__name__}.backends")
    distributed = _Lazy(f"{__name__}.distributed")
    distributions = _Lazy(f"{__name__}.distributions")
    compiler = _Lazy(f"{__name__}.compiler")
    cond = _Lazy(f"{__name__}.control_flow", "cond")
    func = _Lazy(f"{__name__}.func")
    export = _Own(f"{__name__}.native_export", "export")
    numerics = _Own(f"{__name__}.strict_numerics", "numerics")
    load_exported = _Lazy(f"{__name__}.exported", "load_exported")
    optimize_for_inference = _Lazy(f"{__name__}.inference", "optimize_for_inference")
    functional = _Lazy(f"{__name__}.functional")
    futures = _Lazy(f"{__name__}.futures")
    Future = _Lazy(f"{__name__}.futures", "Future")
    hub = _Lazy(f"{__name__}.hub")
    __config__ = _Lazy(f"{__name__}.__config__")
    jit = _Lazy(f"{__name__}.jit")
    library = _Lazy(f"{__name__}.library")
    ops = _Lazy(f"{__name__}.library", "ops")
    multiprocessing = _Lazy(f"{__name__}.multiprocessing")
    signal = _Lazy(f"{__name__}.signal")
    sparse = _Lazy(f"{__name__}.sparse")
    spmm = _Lazy(f"{__name__}.sparse", "mm")
    special = _Lazy(f"{__name__}.special")
    fx = _Lazy(f"{__name__}.fx")
    profile = _Lazy(f"{__name__}.profiler", "profile")
    profiler = _Lazy(f"{__name__}.profiler")
    overrides = _Lazy(f"{__name__}.overrides")
    _C = _Lazy(f"{__name__}._C")
    _tensor_str = _Lazy(f"{__name__}._tensor_str")
    PyTorchFileReader = _Lazy(f"{__name__}._C", "PyTorchFileReader")
    TensorType = _Lazy(f"{__name__}._C", "TensorType")
    Event = _Lazy(f"{__name__}.cuda", "Event")
    Stream = _Lazy(f"{__name__}.cuda", "Stream")
    _dynamo = _Lazy(f"{__name__}._dynamo")
    ScriptModule = _Lazy(f"{__name__}.jit", "ScriptModule")
    onnx = _Lazy(f"{__name__}.onnx")
    quasirandom = _Lazy(f"{__name__}.quasirandom")
    return_types = _Lazy(f"{__name__}.return_types")
    testing = _Lazy(f"{__name__}.testing")
    torch_version = _Lazy(f"{__name__}.torch_version")
    UntypedStorage = _Lazy(f"{__name__}.untyped_storage", "UntypedStorage")
    types = _Lazy(f"{__name__}.types")
    version = _Lazy(f"{__name__}.version")
    vmap = _Lazy(f"{__name__}.func", "vmap")
    while_loop = _Lazy(f"{__name__}.control_flow", "while_loop")


_sys.modules[__name__].__class__ = _Package
