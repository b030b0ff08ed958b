"""Creation, conversion, and what a tensor says about itself."""

from __future__ import annotations

from .table import Family, booleans, given, integers, normal, uniform

_HOST = "reads the elements on the host"
_RANDOM = "compiled code draws from a stream of its own"

FAMILY = Family(
    inputs={
        "x": normal(3, 4),
        "b": normal(2, 3, 4, 5),
        "v": normal(4),
        "s": normal(),
        "p": uniform(3, 4, low=0.5, high=3.5),
        "i": integers(3, 4),
        "c": booleans(3, 4),
        "one": given([2.5]),
    },
    samples="""
    torch.tensor([[1, 2], [3, 4]])
    torch.tensor([1, 2.5])
    torch.tensor(True)
    torch.tensor([[1, 0]], dtype=torch.bool)
    torch.tensor(np.arange(3))
    torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    torch.tensor([])
    torch.as_tensor([1, 2])
    torch.as_tensor(np.ones(2, np.float32))
    torch.as_tensor(x)
    torch.as_tensor(x, dtype=torch.float64)
    torch.asarray([1.0, 2.0])
    torch.asarray(x, copy=True)
    torch.from_numpy(np.arange(4.0))
    torch.frombuffer(bytearray(range(8)), dtype=torch.int16)
    torch.frombuffer(bytearray(range(8)), dtype=torch.uint8, count=3, offset=2)
    torch.from_dlpack(np.arange(3.0))
    torch.from_dlpack(torch.to_dlpack(torch.arange(3)))
    torch.zeros(2, 3)
    torch.zeros((2,), dtype=torch.int64)
    torch.zeros(size=(2, 1))
    torch.ones(2, 3)
    torch.ones((2, 2), dtype=torch.bool)
    torch.full((2, 3), 1.5)
    torch.full((2,), 7)
    torch.full((2,), True)
    torch.full((2, 2), 3, dtype=torch.float64)
    torch.empty(2, 0)
    torch.empty(2, 3).shape
    torch.empty_strided((2, 3), (1, 2)).stride()
    torch.empty_strided((2, 3), (4, 1)).shape
    torch.empty_permuted((2, 3, 4), (0, 2, 1)).stride()
    torch.zeros_like(x)
    torch.zeros_like(i, dtype=torch.float32)
    torch.ones_like(x)
    torch.ones_like(c)
    torch.full_like(x, 2.0)
    torch.full_like(i, 3)
    torch.empty_like(x).shape
    torch.zeros_like(x, memory_format=torch.contiguous_format)
    x.new_zeros(2, 3)
    i.new_ones((2,))
    x.new_full((2, 2), 1.25)
    x.new_empty(3).shape
    x.new_tensor([1, 2])
    i.new_tensor(3)
    x.new_empty_strided((2, 2), (1, 2)).stride()
    x.new(2, 0)
    torch.arange(5)
    torch.arange(1, 10, 3)
    torch.arange(0, 1, 0.25)
    torch.arange(5, 0, -2)
    torch.arange(3, dtype=torch.float64)
    torch.range(1, 4)
    torch.range(0, 1, 0.25)
    torch.linspace(0, 1, 5)
    torch.linspace(3, -3, 4, dtype=torch.float64)
    torch.linspace(0, 10, 4, dtype=torch.int64)
    torch.logspace(0, 2, 3)
    torch.logspace(0, 3, 4, base=2)
    torch.eye(3)
    torch.eye(2, 4, dtype=torch.int64)
    torch.scalar_tensor(2.5)
    torch.scalar_tensor(3, dtype=torch.int32)
    torch.tril_indices(3, 4)
    torch.tril_indices(4, 3, -1)
    torch.tril_indices(3, 3, 1, dtype=torch.int32)
    torch.triu_indices(3, 4)
    torch.triu_indices(4, 3, 1)
    torch.fill(x, 2.0) * x
    torch.fill(x, s) * x
    z = x.clone(); z.fill_(1.5) * x
    z = x.clone(); z.fill_(s); z * x
    z = x.clone(); z.copy_(v); z * x
    z = x.clone(); z.copy_(i); z * x
    z = x.clone(); z.zero_(); z * x
    torch.clone(x)
    x.clone(memory_format=torch.preserve_format)
    b.clone(memory_format=torch.channels_last)
    b.contiguous(memory_format=torch.channels_last)
    b.to(memory_format=torch.channels_last).stride()
    b.contiguous(memory_format=torch.channels_last).is_contiguous(memory_format=torch.channels_last)
    b.to(memory_format=torch.channels_last) * 2
    b.unsqueeze(-1).contiguous(memory_format=torch.channels_last_3d).stride()
    torch.detach(x)
    x.detach() * x
    x.data * x
    x.to(torch.float64)
    x.to(torch.int32)
    x.to('cpu')
    x.to('cpu', torch.float16)
    x.to(i)
    x.to(dtype=torch.bfloat16, copy=True)
    x.type(torch.float64)
    x.type()
    i.type('torch.FloatTensor')
    x.type_as(i)
    i.float()
    x.double()
    x.half()
    x.bfloat16()
    p.long()
    p.int()
    p.short()
    p.char()
    p.byte()
    x.bool()
    i.cpu()
    x.size()
    x.size(1)
    x.shape
    x.dim()
    x.ndim
    x.ndimension()
    x.numel()
    torch.numel(x)
    x.nelement()
    x.stride()
    x.t().stride(0)
    x.t().is_contiguous()
    x[1:].storage_offset()
    x.element_size()
    x.nbytes
    x.itemsize
    b.dim_order()
    b.transpose(1, 2).dim_order()
    x.is_same_size(i)
    torch.is_same_size(x, v)
    x.is_set_to(x)
    x.detach().is_set_to(x)
    x.is_floating_point()
    torch.is_floating_point(i)
    torch.is_complex(x)
    x.is_complex()
    x.is_signed()
    torch.is_signed(i.byte())
    torch.is_tensor(x)
    torch.is_tensor(3)
    torch.is_nonzero(one)
    one.is_nonzero()
    x.is_cuda
    x.is_cpu
    x.is_leaf
    x.requires_grad
    (x * 2).is_leaf
    x.output_nr
    str(x.layout)
    str(x.device)
    str(x.dtype)
    str(torch.strided)
    str(torch.channels_last)
    str(torch.preserve_format)
    str(torch.contiguous_format)
    x.get_device()
    torch.get_device(x)
    x.is_pinned()
    x.is_shared()
    x.is_inference()
    x.is_quantized
    x.is_sparse
    x.is_meta
    torch.typename(x)
    torch.typename(3)
    torch.result_type(x, 1)
    str(torch.result_type(i, 1.5))
    str(torch.promote_types(torch.int32, torch.float16))
    torch.can_cast(torch.float32, torch.int32)
    str(torch.get_default_dtype())
    str(torch.get_default_device())
    torch.are_deterministic_algorithms_enabled()
    torch.get_deterministic_debug_mode()
    torch.is_deterministic_algorithms_warn_only_enabled()
    torch.is_warn_always_enabled()
    torch.get_float32_matmul_precision()
    torch.is_storage(x)
    torch.Size([2, 3]).numel()
    torch.Size((2, 3))
    torch.finfo(torch.float32).eps
    torch.iinfo(torch.int8).max
    one.item()
    i.tolist()
    float(one)
    int(one)
    complex(one)
    bool(one)
    [1, 2, 3][torch.tensor(1)]
    len(x)
    [row.sum() for row in x]
    list(reversed(v))
    3 in i
    x.detach().numpy()
    i.numpy()
    np.asarray(i)
    np.sum(np.asarray(x.detach()))
    x.numpy(force=True)
    i.__array__(np.float64)
    np.add(np.ones(4, np.float32), v.detach())
    f'{one.item():.2f} {torch.tensor(3)}'
    f'{torch.tensor(2.5):.1f}'
    z = x.detach().clone(); z.apply_(lambda a: a * 2 + 1); z
    z = x.detach().clone(); z.map_(p.detach(), lambda a, b: a - b); z
    z = x.detach().clone(); z.map2_(p.detach(), v.detach(), lambda a, b, c: a + b * c); z
    z = i.clone(); z.set_(i[1:]); z
    z = i.clone(); z.set_(i, 2, (2, 2), (3, 1)); z
    z = i.clone(); z.set_(); z
    z = x.detach().clone(); z.data = i.float(); z
    z = x.detach().clone(); z.requires_grad_(); z.requires_grad
    z = (x * 2).detach_(); z
    z = x.detach().clone(); torch.detach_(z); z
    z = x * 3; z.retain_grad(); z.retains_grad
    x.untyped_storage().nbytes()
    x[1:].untyped_storage().nbytes()
    i.untyped_storage()[0] >= 0
    x.as_subclass(torch.Tensor)
    x.share_memory_().is_shared() in (True, False)
    torch.FloatTensor([1, 2])
    torch.LongTensor(2, 0)
    torch.Tensor([1.5, 2])
    torch.IntTensor([[1], [2]])
    torch.BoolTensor([True])
    isinstance(i, torch.LongTensor)
    torch.backends.cudnn.deterministic
    torch.backends.mps.is_available()
    torch.backends.cuda.is_built()
    torch.testing.assert_close(x, x)
    torch.testing.assert_close({'a': [x, 1.0]}, {'a': [x, 1.0]})
    torch.testing.make_tensor(3, 2, dtype=torch.float32, device='cpu')
    torch.testing.make_tensor((4,), dtype=torch.int64, device='cpu', low=0, high=5)
    torch.testing.make_tensor((2, 2), dtype=torch.bool, device='cpu')
    torch.nonzero_static(torch.tensor([[1, 0], [3, 2]]), size=4)
    torch.nonzero_static(i, size=5, fill_value=-3)
    i.nonzero_static(size=2)
    torch.tensor(10).nonzero_static(size=2)
    i.data_ptr() == i.detach().data_ptr()
    i.const_data_ptr() == i.data_ptr()
    x.is_mps
    x.is_xpu
    i.module_load(i + 1)
    i.module_load(i + 1, assign=True)
    i.resize_as(torch.zeros(4, 3))
    x[:2].slice_inverse(x, 0, 0, 2, 1) * x
    torch.HalfTensor([1.5])
    torch.DoubleTensor([1.5, 2])
    torch.BFloat16Tensor([1.5])
    torch.ByteTensor([1, 255])
    torch.CharTensor([-1])
    torch.ShortTensor([[3]])
    torch.zeros(2, dtype=torch.float).dtype is torch.float32
    torch.zeros(2, dtype=torch.double)
    torch.zeros(2, dtype=torch.half)
    torch.zeros(2, dtype=torch.int)
    torch.zeros(2, dtype=torch.long)
    torch.zeros(2, dtype=torch.short)
    torch.zeros(2, dtype=torch.uint16)
    torch.zeros(2, dtype=torch.uint32)
    torch.zeros(2, dtype=torch.uint64)
    torch.zeros(2, dtype=torch.cfloat)
    torch.zeros(2, dtype=torch.cdouble)
    isinstance(torch.float32, torch.dtype)
    isinstance(torch.strided, torch.layout)
    isinstance(torch.channels_last, torch.memory_format)
    str(torch.device('cpu'))
    torch.device('cuda:1').index
    torch.set_default_device('cpu')
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    torch.set_deterministic_debug_mode('default')
    torch.set_float32_matmul_precision('highest')
    torch.set_warn_always(False)
    torch.compiled_with_cxx11_abi()
    torch.version.hip
    torch.types.Number is not None
    torch.functional.meshgrid(v, v, indexing='ij')
    torch.functional.split(x, 2, 1)
    torch.functional.norm(x)
    torch.return_types.max is type(torch.max(x, 1))
    torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.dlpack.from_dlpack(np.arange(3.0))
    torch.utils.hooks.RemovableHandle.__name__
    torch.torch_version.TorchVersion('2.1.0') >= (2, 0)
    z = x.clone(); y = v.clone(); torch.utils.swap_tensors(z, y); (z, y)
    torch.get_num_interop_threads() > 0
    """,
    eager_only={
        "torch.from_dlpack(torch.to_dlpack(torch.arange(3)))": _HOST,
        "one.item()": _HOST,
        "i.tolist()": _HOST,
        "float(one)": _HOST,
        "int(one)": _HOST,
        "complex(one)": _HOST,
        "[1, 2, 3][torch.tensor(1)]": _HOST,
        "x.detach().numpy()": _HOST,
        "i.numpy()": _HOST,
        "np.asarray(i)": _HOST,
        "np.sum(np.asarray(x.detach()))": _HOST,
        "x.numpy(force=True)": _HOST,
        "i.__array__(np.float64)": _HOST,
        "np.add(np.ones(4, np.float32), v.detach())": _HOST,
        "f'{one.item():.2f} {torch.tensor(3)}'": _HOST,
        "z = x.detach().clone(); z.apply_(lambda a: a * 2 + 1); z": _HOST,
        "z = x.detach().clone(); z.map_(p.detach(), lambda a, b: a - b); z": _HOST,
        "z = x.detach().clone(); z.map2_(p.detach(), v.detach(), lambda a, b, c: a + b * c); z": _HOST,
        "x.untyped_storage().nbytes()": _HOST,
        "i.data_ptr() == i.detach().data_ptr()": _HOST,
        "i.const_data_ptr() == i.data_ptr()": _HOST,
        "x[1:].untyped_storage().nbytes()": _HOST,
        "i.untyped_storage()[0] >= 0": _HOST,
        "torch.testing.make_tensor(3, 2, dtype=torch.float32, device='cpu')": _RANDOM,
        "torch.testing.make_tensor((4,), dtype=torch.int64, device='cpu', low=0, high=5)": _RANDOM,
        "torch.testing.make_tensor((2, 2), dtype=torch.bool, device='cpu')": _RANDOM,
    },
)
