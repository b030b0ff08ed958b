"""What the eager core is compared on with PyTorch: programs as text, run here with either library as `torch`.

`make_eager_references.py` runs them with PyTorch and stores what happened; the tests run them with vitrify. Every
program sees `torch`, `np` and fresh tensors: `x` [3,4] positive, `y` [3,4], `m` [4,5], `v` [4], `b` [2,3,4], all
float32 leaves that require grad, and `i` [3,4] int64, `c` [3,4] bool, which do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Expressions: value, gradients of all leaves, names of the grad_fn and its next_functions.
EXPRESSIONS = """
x + y
x + 2
2 - x
x - v
torch.sub(x, y, alpha=3)
torch.add(x, 2, alpha=0.5)
torch.rsub(x, y)
x * y
x * 2.5
x / y
1 / x
x / 3
torch.div(x, y, rounding_mode='floor')
torch.div(x, y, rounding_mode='trunc')
y % 2
y % x
torch.fmod(y, x)
x ** 2
x ** 3
x ** 0.5
x ** -1
x ** y
2 ** x
x.pow(2.5)
x.square()
-x
+x
abs(y)
y.sign()
y.floor()
y.ceil()
y.round()
y.round(decimals=1)
y.trunc()
x.exp()
x.expm1()
x.exp2()
x.log()
x.log1p()
x.log2()
x.log10()
x.sqrt()
x.rsqrt()
x.reciprocal()
x.sin()
x.cos()
x.tan()
y.sinh()
y.cosh()
y.tanh()
y.sigmoid()
y.erf()
y.relu()
torch.maximum(x, y)
torch.minimum(x, y)
torch.maximum(x, x)
y.clamp(-0.5, 0.5)
y.clamp(min=0)
y.clamp(max=x)
y.clip(0, 1)
torch.where(c, x, y)
torch.where(c, x, 0)
x.where(c, y)
x.masked_fill(c, 7)
x.masked_fill(c, v.sum())
torch.lerp(x, y, 0.3)
torch.lerp(x, y, x)
torch.addcmul(x, y, y, value=2)
torch.addcdiv(y, y, x, value=0.5)
x.sum()
x.sum(0)
x.sum((0, 1))
x.sum(-1, keepdim=True)
b.sum((0, 2))
x.sum(dtype=torch.float64)
x.mean()
x.mean(1)
b.mean((0, 2), keepdim=True)
x.var()
x.var(0)
x.var(1, unbiased=False)
x.var(correction=2)
x.std()
x.std(0, keepdim=True)
torch.var_mean(x, 0)[1]
torch.std_mean(x)[0]
x.prod()
x.prod(1)
x.max()
x.min()
x.max(1)[0]
x.min(0, keepdim=True).values
x.amax(0)
x.amin((0, 1))
x.aminmax(dim=0)[1]
x.median()
x.median(1)[0]
x.kthvalue(2, 1)[0]
x.sort(1, descending=True)[0]
x.topk(2, 1)[0]
x.topk(2, 0, largest=False).values
x.cumsum(1)
y.cumprod(0)
x.logsumexp(1)
x.logsumexp((0, 1), keepdim=True)
y.norm()
y.norm(1)
y.norm(3, 1)
y.norm(float('inf'))
y.norm(2, 0, True)
torch.dist(x, y)
x.softmax(1)
x.log_softmax(0)
x.nansum()
x.nanmean(0)
x.view(4, 3)
x.view(-1)
x.reshape(2, 6)
x.t().reshape(6, 2)
x.t().contiguous()
x.contiguous()
x.flatten()
b.flatten(1)
b.unflatten(2, (2, 2))
x.ravel()
b.permute(2, 0, 1)
x.transpose(0, 1)
x.t()
x.T
b.mT
b.movedim(0, -1)
x.flip(0)
x.flip(0, 1)
x.roll(1, 0)
x.roll((1, -2), (0, 1))
x.unsqueeze(1)
x[:1].squeeze()
x[:1].squeeze(0)
x[:1].squeeze((0,))
v.expand(3, 4)
v.expand(3, -1)
v.unsqueeze(0).expand_as(x)
x.repeat(2, 1)
v.repeat(2, 3)
v.tile((2, 2))
x.narrow(1, 1, 2)
x.select(1, 2)
x.unbind(0)[1]
x.split(2, 1)[1]
x.split([1, 2])[1]
x.chunk(2)[1]
x.tensor_split(3, 1)[0]
torch.cat([x, y])
torch.cat([x, y, x], 1)
torch.stack([x, y], 1)
torch.vstack([v, x])
torch.hstack([x, y])
torch.meshgrid(v, v, indexing='ij')[0]
x.tril()
x.triu(1)
x.diagonal()
x.diagonal(1)
b.diagonal(0, 1, 2)
x.diag()
v.diag()
v.diag(-1)
torch.broadcast_to(v, (3, 4))
x @ m
torch.mm(x, m)
x @ v
torch.mv(x, v)
v @ m
v @ v
torch.dot(v, v)
b @ m
b @ v
torch.bmm(b, b.transpose(1, 2))
b @ b.mT
torch.addmm(m[0], x, m)
torch.addmm(m[0], x, m, beta=0.5, alpha=2)
torch.baddbmm(x[:, :3], b, b.mT)
torch.outer(v, v)
torch.trace(x[:, :3])
torch.einsum('ij,jk->ik', x, m)
torch.einsum('bij,bkj->bik', b, b)
torch.einsum('ij->j', x)
torch.einsum('ii->i', x[:, :3])
torch.einsum('...j,j', b, v)
torch.tensordot(b, m, 1)
x[0]
x[-1]
x[0, 1]
x[:, 1]
x[1:]
x[:]
x[...]
x[..., 1]
x[None]
x[:, None, 1:3]
x[::2, 1::2]
b[0, ..., 1]
x[[0, 2]]
x[i[0] % 3]
x[:, [0, 1, 1]]
x[[0, 1], [2, 3]]
b[:, [0, 2], 1]
b[[0, 1], :, [1, 2]]
b[0, [0, 1]]
x[c]
x[c[:, 0]]
b[:, c[:, 0]]
x[torch.tensor(1)]
x[torch.tensor([[0, 1], [1, 2]])]
x[-torch.tensor([1, 2])]
x[True]
x.gather(1, i % 4)
x.gather(0, i[:2] % 3)
x.take_along_dim(i % 4, 1)
x.index_select(1, i[0] % 4)
x.index_add(0, torch.tensor([0, 0, 2]), y, alpha=2)
x.index_copy(0, torch.tensor([2, 0]), y[:2])
x.index_fill(1, torch.tensor([1]), 5)
x.index_put((torch.tensor([0, 1]), torch.tensor([1, 1])), v[:2])
x.index_put((torch.tensor([0, 0]), torch.tensor([1, 1])), v[:2], accumulate=True)
x.scatter_add(1, i % 4, y)
x.scatter(1, torch.tensor([[0, 2, 1, 3], [1, 3, 0, 2], [2, 0, 3, 1]]), y)
x.scatter(1, i % 4, 2.5)
x.take(torch.tensor([0, -1, 5]))
x.masked_select(c)
x.masked_scatter(c, y)
x.repeat_interleave(2, 1)
torch.hypot(x, y)
torch.logaddexp(x, y)
torch.logaddexp(x, x)
y.nan_to_num()
y.erfc()
y.deg2rad()
x.diff()
x.diff(2, 0)
x.fliplr()
x.rot90()
x.rot90(3, (1, 0))
torch.atleast_2d(v)
torch.inner(x, y)
torch.cross(x[:, :3], y[:, :3])
torch.cdist(x, y)
torch.cdist(x, y, p=1)
x.quantile(0.3)
x.quantile(0.5, 1)
x.quantile(torch.tensor([0.25, 1.]), 0, keepdim=True)
x.clone()
x.double()
x.to(torch.float16).float()
x.half()
x.type(torch.float64)
x.to(y)
(x + y).detach() * x
torch.relu(x @ m).sum(0)
(x * y).sum(1).exp().mean()
""".strip().splitlines()

# Expressions of values only: results without gradient, sizes, dtypes, Python values.
PLAIN = """
x.shape
x.size(-1)
b.stride()
b.permute(2, 0, 1).stride()
b.permute(2, 0, 1).is_contiguous()
x.t().is_contiguous()
v.expand(3, 4).stride()
b[:, 1:, ::2].stride()
x[0].storage_offset(), x[1, 2:].storage_offset()
x.dim(), x.ndim, x.numel(), x.nelement(), len(x)
x.dtype, i.dtype, c.dtype
x.type(), i.type(), c.type(), x.double().type()
x.device, str(x.device)
x.sum().item() > 0
i.tolist()
x > y
x >= 1
x == x
x != y
torch.eq(i, 2)
i & 3
i | 1
i ^ i
~c
~i
c & ~c
i << 1
i >> 1
i // 2
-i // 2
i % 3
-i % 3
i.sum()
c.sum()
i.prod(0)
i.float().mean()
x.argmax()
x.argmax(1)
x.argmin(0, keepdim=True)
x.max(1)[1]
x.sort(0)[1]
x.argsort(1, descending=True)
x.topk(3, 1).indices
c.any()
c.all(1)
c.any(0, keepdim=True)
i.any()
x.isnan().any()
torch.isfinite(torch.tensor([1., float('inf'), float('nan')]))
torch.isinf(torch.tensor([1., float('-inf'), float('nan')]))
torch.nonzero(c)
c.nonzero(as_tuple=True)
torch.where(c)
torch.count_nonzero(c)
torch.unique(torch.tensor([3, 1, 1, 2]))
torch.unique(torch.tensor([3, 1, 1, 2]), return_inverse=True, return_counts=True)
torch.bincount(torch.tensor([0, 2, 2]))
torch.equal(x, x), torch.equal(x, y)
torch.allclose(x, x + 1e-9)
torch.isclose(torch.tensor([1., 2.]), torch.tensor([1., 2.1]))
torch.logical_and(i, c), torch.logical_not(i)
torch.nan_to_num(torch.tensor([float('nan'), float('inf'), -float('inf'), 1.]))
torch.nan_to_num(torch.tensor([float('nan'), float('inf')]), nan=2., posinf=3.)
torch.logaddexp(torch.tensor([float('inf'), -float('inf'), 1e3]), torch.tensor([1., -float('inf'), 1e3]))
torch.zeros(2, 3)
torch.ones((2, 3), dtype=torch.int32)
torch.empty(2, 3).shape
torch.full((2, 2), 7)
torch.full((2, 2), 7.)
torch.full((2,), True)
torch.zeros_like(i), torch.ones_like(x), torch.full_like(x, 3)
torch.arange(5)
torch.arange(1, 5)
torch.arange(0, 1, 0.25)
torch.arange(5, 0, -2)
torch.arange(3.)
torch.arange(0, 1, 0.1)
torch.linspace(0, 1, 5)
torch.linspace(-1, 1, 7)
torch.linspace(3, 3, 1)
torch.linspace(0, 10, 11, dtype=torch.int64)
torch.logspace(0, 2, 3)
torch.eye(3)
torch.eye(2, 3)
torch.tensor([1, 2])
torch.tensor([1, 2.])
torch.tensor([True, False])
torch.tensor([True, 2])
torch.tensor(3)
torch.tensor(3.5)
torch.tensor([[1, 2], [3, 4]], dtype=torch.float64)
torch.tensor([])
torch.tensor([[]]).shape
torch.tensor([x[0, 0].item(), 1])
torch.tensor([torch.tensor(1), torch.tensor(2)])
torch.tensor(np.arange(3))
torch.tensor(np.float64(2.5))
torch.tensor([np.float32(1.5), 2])
torch.tensor([1.7, -1.7], dtype=torch.int64)
torch.tensor(300).to(torch.uint8)
torch.tensor([-1.5, 2.5]).to(torch.int32)
torch.as_tensor([1, 2]), torch.as_tensor(np.ones(2))
torch.from_numpy(np.arange(4).reshape(2, 2))
torch.Tensor(2, 3).shape
torch.Tensor([1, 2])
torch.LongTensor([1, 2])
torch.FloatTensor(2, 2).shape
torch.ByteTensor([1])
isinstance(i, torch.LongTensor), isinstance(x, torch.LongTensor), isinstance(x, torch.FloatTensor)
x.new_zeros(2), x.new_tensor([1]), i.new_ones((1, 2)), i.new_full((2,), 3), x.new_empty(2).shape
torch.is_tensor(x), torch.is_tensor(3)
torch.result_type(i, 1.5), torch.promote_types(torch.int8, torch.uint8), torch.can_cast(torch.float32, torch.int32)
torch.get_default_dtype()
torch.float32, torch.float, torch.long, torch.bool, torch.half
torch.Size([2, 3]), torch.Size([2, 3]).numel(), torch.Size([2, 3])[:1], torch.Size([2]) + (3,)
torch.device('cpu'), torch.device('cuda', 1), torch.device('cuda:0') == torch.device('cuda:0')
2 in torch.tensor([1, 2]), 5 in torch.tensor([1, 2])
[t.item() for t in torch.tensor([1, 2])]
float(x[0, 0]) == x[0, 0].item(), int(torch.tensor(3.7)), bool(torch.tensor(0))
f"{torch.tensor(1.23456):.2f} {torch.tensor(3):5d}"
x.requires_grad, i.requires_grad, x.is_leaf, (x * 2).is_leaf, x.grad_fn is None
x.detach().requires_grad, x.data.requires_grad
x._version, x.detach()._version
x.view(-1)._is_view(), x.clone()._is_view()
(x * 2).grad_fn.name()
torch.max(i, torch.tensor(2))
torch.zeros(0).sum(), torch.zeros(0).mean(), torch.zeros(0, 3).sum(0), torch.zeros(0).prod()
torch.ones(2, 0) @ torch.ones(0, 3)
torch.zeros(3, 0).argmax(0).shape
torch.cat([torch.zeros(0), torch.ones(2)])
torch.tensor([float('nan'), 1.]).max(), torch.tensor([float('nan'), 1.]).argmax()
torch.tensor([1., float('nan'), 2.]).sort()[0]
torch.tensor(5) // 2, torch.tensor(-5) // 2, torch.tensor(5.) // -2
torch.tensor([5]) / 2
torch.tensor([1, 0]) / 0
torch.tensor([-7, 7]).fmod(3)
torch.tensor([2]) ** 3, torch.tensor([2]) ** 2.0
np.array([1., 2.]) * torch.tensor(2.).item()
np.asarray(i)
torch.einsum('i,i', torch.arange(3), torch.arange(3))
torch.arange(6).reshape(2, 3)[:, torch.tensor([True, False, True])]
torch.arange(6).view(2, 3).T.reshape(-1)
torch.tensor([1, 2, 3])[[True, False, True]]
torch.add(1, torch.tensor(2))
x.half().dtype, x.bfloat16().float().dtype, x.long().dtype, x.bool().dtype, x.char().dtype
torch.tensor([1.00390625, 1.001]).bfloat16().float()
torch.Size(x.shape) == (3, 4)
repr(torch.max(torch.tensor([[1, 2], [4, 3]]), 1))
torch.broadcast_shapes((2, 1), (3,))
torch.no_grad.__name__
""".strip().splitlines()

# Programs that set `result`, each under its name.
_PROGRAMS = """
# add in place
y = x * 1
r = y.add_(2)
y.sum().backward()
result = (r is y, y, x.grad, y._version)

# mul in place by a leaf
y = x.clone()
w = v
y.mul_(w)
y.sum().backward()
result = (x.grad, v.grad)

# exp in place
z = x.clone()
z.exp_()
z.sum().backward()
result = (z, x.grad)

# sigmoid in place twice
z = x.clone()
z.sigmoid_().sigmoid_()
z.sum().backward()
result = x.grad

# chained in place
z = x * y
z += x
z *= 2
z -= v
z /= 4
z **= 2
z.sum().backward()
result = (z, x.grad, y.grad, v.grad)

# clamp in place
z = y * 1
z.clamp_(-0.5, 0.5)
z.sum().backward()
result = y.grad

# relu in place
z = y * 1
torch.relu_(z) if hasattr(torch, 'relu_') else z.relu_()
z.sum().backward()
result = y.grad

# zero in place
z = x * 2
z.zero_()
z.sum().backward()
result = (z, z.grad_fn.name(), x.grad)

# fill in place
z = x * 2
z.fill_(3)
result = (z, z.requires_grad, z.grad_fn.name())

# copy in place
z = torch.zeros(3, 4)
z.copy_(v)
z.sum().backward()
result = (z, z.grad_fn.name(), v.grad)

# copy converts
z = torch.zeros(3, 4, dtype=torch.float64)
z.copy_(x)
z.sum().backward()
result = (z, x.grad)

# masked_fill in place
z = x * 1
z.masked_fill_(c, 0)
z.sum().backward()
result = x.grad

# addcmul in place
z = x * 1
z.addcmul_(y, v, value=2)
z.sum().backward()
result = (x.grad, y.grad, v.grad)

# lerp in place
z = x * 1
z.lerp_(y, 0.25)
z.sum().backward()
result = (x.grad, y.grad)

# scatter_add in place
z = torch.zeros(3, 4)
z.scatter_add_(1, i % 4, x)
(z * y).sum().backward()
result = (z, x.grad)

# comparison in place
z = x.detach().clone()
z.gt_(1)
result = z

# view sees the base
z = x.detach().clone()
w = z[0]
z.add_(1)
result = (w, w._version, z._version)

# base sees the view
z = x.detach().clone()
w = z.view(-1)[2:5]
w.zero_()
result = z

# view of view of a view
z = x.detach().clone()
w = z.t()[1:][:, ::2]
w.mul_(10)
result = z

# write through a row
z = x * 1
z[0].mul_(2)
z.sum().backward()
result = (z, z.grad_fn.name(), x.grad)

# write through a transposed view
z = x * 1
w = z.t()
w.mul_(m[:, :3])
(z * y).sum().backward()
result = (x.grad, m.grad, w.grad_fn.name())

# write through a slice of a view
z = x * 1
w = z.view(2, 6)[:, 1:4]
w.exp_()
(z * y).sum().backward()
result = (x.grad, y.grad)

# other views follow
z = x * 1
a = z[0]
w = z[:, 1]
a.mul_(3)
(w * w).sum().backward()
result = (w, w.grad_fn.name(), x.grad)

# view made before the base needs grad
z = torch.zeros(3, 4)
a = z[0]
z.copy_(x)
(a * v).sum().backward()
result = (a.requires_grad, x.grad, v.grad)

# write a part that needs grad
z = torch.zeros(3, 4)
z[1] = v * 2
z[:, 0] = x[:, 0]
(z * y).sum().backward()
result = (z, v.grad, x.grad)

# write to a view of a base twice
z = x * 1
z[0] = v
z[0, 1:] = y[0, 1:]
z.sum().backward()
result = (z, x.grad, v.grad, y.grad)

# write at an index tensor
z = x * 1
z[torch.tensor([0, 2])] = v
(z * y).sum().backward()
result = (z, x.grad, v.grad)

# write at two index tensors
z = x * 1
z[[0, 1], [1, 2]] = v[:2]
(z * y).sum().backward()
result = (z, z.grad_fn.name(), x.grad, v.grad)

# write at a mask
z = x * 1
z[c] = 5.
(z * y).sum().backward()
result = (z, x.grad)

# write at a mask from a tensor
z = x * 1
z[c] = y[c]
z.sum().backward()
result = (z, x.grad, y.grad)

# write at a mask of rows
z = x * 1
z[c[:, 0]] = v
z.sum().backward()
result = (z, x.grad, v.grad)

# write with a step
z = torch.zeros(7)
z[1::3] = 2.5
z[-1] = 4
result = z

# write with ellipsis and None
z = torch.zeros(2, 3, 4)
z[..., 1] = 1
z[:, None, 0] = v
result = z

# write broadcasts
z = torch.zeros(2, 3)
z[:, 1:] = torch.tensor([[1.], [2.]])
z[0] = torch.ones(1, 1, 3)
result = z

# write converts
z = torch.zeros(3, dtype=torch.int64)
z[0] = 2.7
z[1:] = torch.tensor([1.5, -1.5])
result = z

# index_add in place
z = torch.zeros(3, 4)
z.index_add_(0, torch.tensor([0, 0, 2]), x)
(z * y).sum().backward()
result = (z, x.grad)

# index_fill and index_copy in place
z = x.detach().clone()
z.index_fill_(0, torch.tensor([1]), -1)
z.index_copy_(1, torch.tensor([3, 0]), torch.ones(3, 2))
result = z

# transpose in place
z = x.detach().clone()
z.t_().unsqueeze_(0).squeeze_(0).transpose_(0, 1).add_(1)
result = z

# diagonal is a view
z = torch.zeros(3, 3)
z.diagonal().fill_(2)
z.diagonal(1).copy_(v[:2].detach())
result = z

# expanded memory can be filled
z = torch.ones(1).expand(3)
z.zero_()
result = z

# detached memory is shared
z = x * 1
d = z.detach()
d.zero_()
result = (z.detach(), z._version)

# data is untracked
z = x * 1
z.data.mul_(2)
result = (z.detach(), z._version)

# data can be replaced
p = torch.ones(2, requires_grad=True)
p.data = torch.zeros(3)
p.sum().backward()
result = (p.detach(), p.grad, p.is_leaf)

# sgd by hand
w = v.detach().clone().requires_grad_()
for _ in range(3):
    loss = ((x.detach() @ w - 1) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
        w.grad.zero_()
result = w.detach()

# sgd through data
w = v.detach().clone().requires_grad_()
for _ in range(3):
    loss = (x.detach() @ w).pow(2).sum()
    if w.grad is not None:
        w.grad.data.zero_()
    loss.backward()
    w.data.sub_(w.grad.data * 0.01)
result = w.detach()

# gradients accumulate
x.sum().backward()
g = x.grad
(x * 2).sum().backward()
result = (x.grad, g is x.grad)

# gradient as argument
(x * y).backward(torch.ones(3, 4) * 2)
result = (x.grad, y.grad)

# gradient twice with retain_graph
z = (x * x).sum()
z.backward(retain_graph=True)
z.backward()
result = x.grad

# no saved tensors, backward twice
z = (x + 1).sum()
z.backward()
z.backward()
result = x.grad

# backward for some inputs
(x * y).sum().backward(inputs=[x])
result = (x.grad, y.grad)

# backward for an inner tensor
z = x * y
z.sum().backward(inputs=[z])
result = (z.grad, x.grad)

# retain_grad
z = x * 2
z.retain_grad()
(z * z).sum().backward()
result = (z.grad, x.grad, z.retains_grad)

# retain_grad then in place
z = x * 2
z.retain_grad()
z.mul_(3)
z.sum().backward()
result = (z.grad, x.grad)

# grad
result = torch.autograd.grad((x * y).sum(), (x, y))

# grad of an inner tensor
z = x * y
w = (z * z).sum()
result = torch.autograd.grad(w, (z, x)), x.grad

# grad unused
result = torch.autograd.grad(x.sum(), (x, y), allow_unused=True)

# grad materialized
result = torch.autograd.grad(x.sum(), (x, y), materialize_grads=True)

# grad with grad_outputs
result = torch.autograd.grad(x * y, x, grad_outputs=torch.ones(3, 4) * 3)

# grad of several outputs
result = torch.autograd.grad((x.sum(), (x * y).sum()), x)

# second derivative
g, = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)
g.sum().backward()
result = (g, x.grad)

# second derivative of a composite
g, = torch.autograd.grad(x.log_softmax(1)[:, 0].sum(), x, create_graph=True)
(g * y).sum().backward()
result = (g, x.grad)

# third derivative
t = torch.tensor(2., requires_grad=True)
a = t.sin() * t.exp()
for _ in range(3):
    a, = torch.autograd.grad(a, t, create_graph=True)
result = a

# gradient penalty
h = (x @ m).tanh()
g, = torch.autograd.grad(h.sum(), x, create_graph=True)
((g.norm(2, 1) - 1) ** 2).mean().backward()
result = (x.grad, m.grad)

# create_graph in backward
(x ** 2).sum().backward(create_graph=True)
g = x.grad
result = (g, g.requires_grad)
x.grad = None

# second derivative through a view write
z = x * 1
z[0] = x[0] * x[1]
s = (z ** 2).sum()
g, = torch.autograd.grad(s, x, create_graph=True)
(g * y).sum().backward()
result = (g, x.grad)

# hook scales
h = x.register_hook(lambda g: g * 2)
x.sum().backward()
h.remove()
x.sum().backward()
result = x.grad

# hook on an inner tensor
seen = []
z = x * 2
z.register_hook(lambda g: seen.append(g.clone()))
(z * y).sum().backward()
result = (seen[0], x.grad)

# two hooks in order
z = x * 1
z.register_hook(lambda g: g + 1)
z.register_hook(lambda g: g * 10)
z.sum().backward()
result = x.grad

# hook then in place
z = x * 1
z.register_hook(lambda g: g * 5)
z.mul_(2)
z.sum().backward()
result = x.grad

# node hook
seen = []
z = x * 2
z.grad_fn.register_hook(lambda gi, go: seen.append((gi[0].clone(), go[0].clone())))
z.sum().backward()
result = seen[0]

# node prehook
z = x * 2
z.grad_fn.register_prehook(lambda go: (go[0] * 3,))
z.sum().backward()
result = x.grad

# post accumulate hook
seen = []
x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
x.sum().backward()
result = seen

# no_grad
with torch.no_grad():
    z = x * 2
result = (z.requires_grad, z.is_leaf, torch.is_grad_enabled())

# no_grad as a decorator
@torch.no_grad()
def f(t):
    return t * 2
result = f(x).requires_grad

# no_grad as a bare decorator
@torch.no_grad
def f(t):
    return t * 2
result = f(x).requires_grad

# enable_grad inside no_grad
with torch.no_grad():
    with torch.enable_grad():
        z = x * 2
result = z.requires_grad

# set_grad_enabled
torch.set_grad_enabled(False)
a = (x * 2).requires_grad
torch.set_grad_enabled(True)
b2 = (x * 2).requires_grad
with torch.set_grad_enabled(False):
    d = (x * 2).requires_grad
result = (a, b2, d, torch.is_grad_enabled())

# inference_mode
with torch.inference_mode():
    z = x * 2
result = (z.requires_grad, torch.is_inference_mode_enabled())

# detach_
z = x * 2
z.detach_()
result = (z.requires_grad, z.is_leaf)

# requires_grad of an in-place result
z = torch.zeros(3, 4)
z += x
result = (z.requires_grad, z.is_leaf)

# integer tensors take no part
z = x * i
z.sum().backward()
result = (x.grad, z.grad_fn.next_functions[1][0])

# diamond
a = x * 2
z = a * a + a
z.sum().backward()
result = x.grad

# one tensor twice
(x + x).sum().backward()
a = x.grad
result = a

# shared gradient is copied
(x + y).sum().backward()
x.grad.zero_()
result = y.grad

# deep graph
z = x
for _ in range(3000):
    z = z + 1
z.sum().backward()
result = x.grad

# function
class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        ctx.save_for_backward(t)
        return t ** 3
    @staticmethod
    def backward(ctx, g):
        t, = ctx.saved_tensors
        return g * 3 * t ** 2
z = Cube.apply(x)
z.sum().backward()
result = (z, z.grad_fn.name(), x.grad)

# function with setup_context
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(t, k):
        return t * k
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.k = inputs[1]
    @staticmethod
    def backward(ctx, g):
        return g * ctx.k, None
z = Scale.apply(x, 4.)
z.sum().backward()
result = (z, x.grad)

# function of two outputs
class Both(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b, a + b
    @staticmethod
    def backward(ctx, g, h):
        a, b = ctx.saved_tensors
        return g * b + h, g * a + h
p, q = Both.apply(x, y)
p.sum().backward()
result = (x.grad, y.grad)

# function that saves its output
class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        r = t.exp()
        ctx.save_for_backward(r)
        return r
    @staticmethod
    def backward(ctx, g):
        r, = ctx.saved_tensors
        return g * r
g, = torch.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
g.sum().backward()
result = (g, x.grad)

# function needs_input_grad
seen = []
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        return a + b
    @staticmethod
    def backward(ctx, g):
        seen.append(ctx.needs_input_grad)
        return g, None
F.apply(x, i.float()).sum().backward()
result = (seen, x.grad)

# function without materialized grads
seen = []
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.set_materialize_grads(False)
        return a * 1, a * 2
    @staticmethod
    def backward(ctx, g, h):
        seen.append(h is None)
        return g
F.apply(x)[0].sum().backward()
result = seen

# function with a non-differentiable output
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        r = a.argmax(1)
        ctx.mark_non_differentiable(r)
        return a * 2, r
    @staticmethod
    def backward(ctx, g, h):
        return g * 2
p, q = F.apply(x)
p.sum().backward()
result = (q.requires_grad, x.grad)

# straight through
class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        return t.round()
    @staticmethod
    def backward(ctx, g):
        return g
z = Round.apply(y * 3)
(z * z).sum().backward()
result = y.grad

# out argument
z = torch.zeros(3, 4)
r = torch.add(x.detach(), y.detach(), out=z)
result = (r is z, z)

# out argument converts
z = torch.zeros(3, 4, dtype=torch.float64)
torch.mul(x.detach(), 2, out=z)
result = z

# numpy shares memory
a = np.ones(3, np.float32)
t = torch.from_numpy(a)
t.add_(1)
a[0] = 9
s = t.numpy()
s[1] = 7
result = (t, a)

# variable
from_ = torch.autograd.Variable(torch.ones(2), requires_grad=True)
(from_ * 3).sum().backward()
result = from_.grad

# deepcopy and pickle
import copy, pickle
d = copy.deepcopy(x)
p = pickle.loads(pickle.dumps(i))
result = (d is x, d.requires_grad, d.detach(), p)

# iteration gives views
z = torch.zeros(2, 2)
for n, row in enumerate(z):
    row.fill_(n + 1)
result = z

# default dtype
torch.set_default_dtype(torch.float64)
try:
    result = (torch.ones(1).dtype, torch.tensor(1.5).dtype, (torch.tensor([1]) / 2).dtype)
finally:
    torch.set_default_dtype(torch.float32)

# attributes can be set
x.tag = 'mine'
result = x.tag

# grad can be set and deleted
x.grad = torch.ones(3, 4)
a = x.grad.sum()
x.grad = None
result = (a, x.grad)

# chunks add up
a, b2 = x.chunk(2, 1)
(a * b2).sum().backward()
result = x.grad

# loss falls
torch.manual_seed(0)
w = torch.zeros(4, requires_grad=True)
losses = []
for _ in range(5):
    loss = ((x.detach() @ w - x.detach().sum(1)) ** 2).mean()
    g, = torch.autograd.grad(loss, w)
    w = (w - 0.1 * g).detach().requires_grad_()
    losses.append(loss.detach())
result = torch.stack(losses)
"""
PROGRAMS: dict[str, str] = {}
for _section in _PROGRAMS.strip().split("\n\n"):
    _title, _, _text = _section.partition("\n")
    PROGRAMS[_title.removeprefix("# ")] = _text

# Programs that fail: the type of the error and its first line.
FAILURES = """
x.add_(1)
x[0].add_(1)
x[0] = 1
x.zero_()
(x * 1).unbind()[0].mul_(2)
(x * 1).split(1)[0].mul_(2)
(x * 1).chunk(2)[1].mul_(2)
torch.ones(3).add_(torch.ones(2, 3))
torch.ones(3, dtype=torch.long).add_(1.5)
torch.ones(3, dtype=torch.long).div_(2)
torch.ones(3, dtype=torch.bool).add_(1)
torch.ones(1).expand(3).add_(1)
torch.ones(1).expand(3).copy_(torch.ones(3))
(lambda t: (t.add_(1), t.sum().backward()))(x.exp())
(lambda z: (lambda t: (z.add_(1), t.sum().backward()))(z * z))(x.clone())
(lambda z: (lambda t: (z.add_(1), t.sum().backward()))(x[0] * z))(torch.ones(4))
(lambda t: (t.backward(), t.backward()))((x * x).sum())
(lambda t: (torch.autograd.grad(t, x), t.backward()))((x * x).sum())
torch.ones(3).sum().backward()
(x * 2).backward()
(x * 2).backward(torch.ones(4))
torch.autograd.grad(x.sum(), y)
torch.autograd.grad(x.sum(), torch.ones(3))
torch.autograd.grad(x * 2, x)
torch.autograd.grad((i * 2).sum(), x)
torch.ones(3).register_hook(print)
torch.ones(3).retain_grad()
(x // 2).sum().backward()
x.numpy()
np.asarray(x)
setattr(torch.ones(3), 'grad', 5)
setattr(torch.ones(3), 'grad', torch.ones(4))
setattr(torch.ones(3), 'grad', torch.ones(3).double())
setattr(torch.ones(3, dtype=torch.long), 'requires_grad', True)
setattr(x * 2, 'requires_grad', False)
torch.ones(3, dtype=torch.long).requires_grad_()
torch.tensor([1], requires_grad=True)
bool(torch.ones(3))
bool(torch.ones(0))
torch.ones(3).item()
float(torch.ones(3))
len(torch.tensor(1))
iter(torch.tensor(1))
torch.ones(3)[5]
torch.ones(3)[-4]
torch.ones(3)[0, 0]
torch.tensor(1)[0]
torch.ones(3)['a']
torch.ones(3)[1.0]
torch.ones(3)[torch.tensor([5])]
torch.ones(3)[[0, 7]]
torch.ones(3)[torch.tensor([True, False])]
torch.ones(3)[::-1]
torch.ones(3)[torch.tensor([0.])]
torch.ones(3, 3)[[0, 1], [0, 1, 2]]
torch.ones(3).__setitem__(0, 'a')
torch.zeros(3).__setitem__(slice(None), torch.ones(4))
torch.zeros(3).__setitem__([0, 1], torch.ones(3))
torch.zeros(3).__setitem__(5, 1)
torch.ones(2, 3).view(7)
torch.ones(2, 3).t().view(6)
torch.ones(2, 3).view(-1, 4)
torch.ones(2, 3).view(-1, -1)
torch.ones(2, 3).reshape(5)
torch.ones(0).view(-1, 0)
torch.ones(2, 3, 4).t()
torch.ones(2, 3).transpose(0, 2)
torch.ones(2, 3).permute(0, 0)
torch.ones(2, 3).permute(0)
torch.ones(2, 3).squeeze(5)
torch.ones(2, 3).unsqueeze(5)
torch.ones(2, 3).expand(4, 3)
torch.ones(2, 3).expand(3)
torch.ones(3).expand(-1, 3)
torch.ones(2, 3).narrow(0, 1, 3)
torch.ones(2, 3).select(0, 3)
torch.ones(2, 3).chunk(0)
torch.ones(2, 3).split([1, 2])
torch.ones(2, 3).split(-1)
torch.ones(2, 3).flatten(2)
torch.ones(2, 3).flatten(1, 0)
torch.ones(2, 3).repeat(2)
torch.ones(2, 3).flip(0, 0)
torch.cat([torch.ones(2), torch.ones(2, 2)])
torch.cat([torch.ones(2, 3), torch.ones(2, 2)])
torch.cat([torch.tensor(1.), torch.tensor(2.)])
torch.cat([])
torch.stack([torch.ones(2), torch.ones(3)])
torch.stack([])
torch.ones(2, 3) + torch.ones(4)
torch.ones(2, 3) < torch.ones(2)
torch.add(torch.ones(2), 'a')
torch.ones(3) + 'a'
torch.ones(3) - None
torch.tensor([1]) // 0
torch.tensor([1]) % 0
torch.tensor([2]) ** -1
torch.tensor([True]) - torch.tensor([True])
-torch.tensor([True])
~torch.tensor([1.])
torch.tensor([1.]) & torch.tensor([1.])
torch.ones(2, 3) @ torch.ones(2, 3)
torch.ones(2, 3) @ torch.ones(2)
torch.ones(3) @ torch.ones(2)
torch.tensor(1.) @ torch.ones(2)
torch.ones(2, 3) @ torch.ones(3, 2).double()
torch.mm(torch.ones(2, 3), torch.ones(2, 2))
torch.mm(torch.ones(3), torch.ones(2, 2))
torch.ones(4, 2, 3) @ torch.ones(5, 3, 2)
torch.bmm(torch.ones(4, 2, 3), torch.ones(5, 3, 2))
torch.addmm(torch.ones(3), torch.ones(2, 3), torch.ones(4, 3))
torch.addmm(torch.ones(5), torch.ones(2, 3), torch.ones(3, 4))
torch.dot(torch.ones(3), torch.ones(4))
torch.mv(torch.ones(3, 3), torch.ones(4))
torch.ones(3, dtype=torch.long).mean()
torch.ones(3, dtype=torch.long).var()
torch.ones(3, dtype=torch.long).norm()
torch.ones(3).sum(2)
torch.ones(3, 3).sum((0, 0))
torch.ones(0).max()
torch.ones(0, 3).max(0)
torch.ones(0).argmax()
torch.ones(3).topk(4)
torch.zeros(2, -1)
torch.zeros('a')
torch.tensor('a')
torch.tensor([[1, 2], [3]])
torch.tensor([1, [2]])
torch.tensor(None)
torch.tensor([None])
torch.from_numpy([1])
torch.from_numpy(np.ones(3)[::-1])
torch.from_numpy(np.array(['a']))
torch.arange(0, 10, -1)
torch.arange(0, 10, 0)
torch.linspace(0, 1, -1)
torch.Tensor(2.5)
torch.ones(2, 3).gather(1, torch.tensor([[3]]))
torch.ones(2, 3).gather(1, torch.tensor([3]))
torch.ones(2, 3).gather(1, torch.tensor([[1.]]))
torch.ones(2, 3).index_select(0, torch.tensor([3]))
torch.ones(2, 3).masked_fill(torch.ones(2, 3), 1)
torch.where(torch.ones(2), torch.ones(2), 1)
torch.ones(2).to('cuda')
torch.ones(2).cuda()
torch.device('foo')
torch.ones(2).size(3)
torch.ones(2).stride(3)
torch.ones(2).foo
torch.clamp(torch.ones(2))
torch.ones(2).requires_grad_('a')
torch.set_default_dtype(torch.int32)
torch.add(x, y, out=torch.zeros(3, 4))
torch.add(torch.ones(2), 1.5, out=torch.zeros(2, dtype=torch.long))
torch.add(torch.tensor([1]), 2, alpha=1.5)
torch.ones(2).type('torch.FooTensor')
""".strip().splitlines()

# Promotion: every operator on every pair; `tensor` has a dim, `zero` is 0-d.
PROMOTED = ("add", "mul", "div", "floor_divide", "pow", "maximum", "lt", "eq", "bitwise_and", "remainder")
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


def leaves(torch: Any) -> dict[str, Any]:
    """Fresh tensors for one program."""
    rng = np.random.RandomState(7)
    arrays = {
        "x": rng.rand(3, 4) + 0.5,
        "y": rng.randn(3, 4),
        "m": rng.randn(4, 5),
        "v": rng.randn(4),
        "b": rng.randn(2, 3, 4),
    }
    made = {k: torch.tensor(a.astype(np.float32), requires_grad=True) for k, a in arrays.items()}
    made["i"] = torch.tensor(rng.randint(0, 10, (3, 4)))
    made["c"] = torch.tensor(rng.rand(3, 4) > 0.4)
    return {**made, "torch": torch, "np": np}


def promoted_operands(torch: Any, dtype: str) -> dict[str, Any]:
    """The operands of one dtype that take part in the promotion table."""
    kind = getattr(torch, dtype)
    return {
        f"tensor {dtype}": torch.ones(2, dtype=kind),
        f"zero {dtype}": torch.ones((), dtype=kind),
    }


NUMBERS = {"number bool": True, "number int": 2, "number float": 2.5}


def promoted_pairs(torch: Any) -> dict[str, tuple[Any, Any]]:
    """Every pair with at least one tensor, by label."""
    tensors: dict[str, Any] = {}
    for dtype in DTYPES:
        tensors.update(promoted_operands(torch, dtype))
    pairs = {f"{a}, {b}": (tensors[a], tensors[b]) for a in tensors for b in tensors}
    pairs.update({f"{a}, {n}": (tensors[a], NUMBERS[n]) for a in tensors for n in NUMBERS})
    pairs.update(
        {f"{n}, {a}": (NUMBERS[n], tensors[a]) for a in tensors for n in NUMBERS if a.startswith("tensor")}
    )
    return pairs


def run_promoted(torch: Any, name: str, pair: tuple[Any, Any]) -> str:
    """The dtype of the result, or what the error says first."""
    try:
        return str(getattr(torch, name)(*pair).dtype)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def run_program(torch: Any, program: str) -> Any:
    """What a program sets `result` to, or the error's type and first line."""
    names = leaves(torch)
    try:
        exec(program, names)
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return names["result"]


# Functions that PyTorch composes of others in its own way: only values and gradients are compared.
COMPOSED = (
    "einsum",
    "diff",
    "inner",
    "quantile",
    "fliplr",
    "tensordot",
    "repeat_interleave",
    "b @ v",
    "b @ b.mT",
)


def run_expression(torch: Any, expression: str) -> dict[str, Any]:
    """Value, history, and the gradients of all leaves for a fixed cotangent."""
    names = leaves(torch)
    value = eval(expression, names)
    node = value.grad_fn
    hidden = node is None or any(name in expression for name in COMPOSED)
    history = [] if hidden else [node.name(), *(n.name() if n else "" for n, _ in node.next_functions)]
    found: dict[str, Any] = {"value": value.detach(), "history": history}
    if node is not None:
        count = value.numel()
        cotangent = torch.tensor(np.linspace(-1, 2, count).astype(np.float32)).reshape(tuple(value.shape))
        try:
            value.backward(cotangent.to(value.dtype))
        except RuntimeError as error:
            found["error"] = str(error).splitlines()[0]
    for name in ("x", "y", "m", "v", "b"):
        found[f"d{name}"] = names[name].grad
    return found


def failure(torch: Any, expression: str) -> str:
    """The error's type and first line."""
    names = leaves(torch)
    try:
        eval(expression, names)
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return "no error"


def encode(value: Any, arrays: list[Any]) -> Any:
    """The value as JSON; tensors and arrays go to `arrays` and leave their number."""
    if hasattr(value, "grad_fn"):
        stored = value.detach()
        dtype = str(stored.dtype)
        if dtype in ("torch.bfloat16", "torch.float16"):
            stored = stored.float()
        arrays.append(np.array(stored.numpy()))
        return {"tensor": len(arrays) - 1, "dtype": dtype}
    if isinstance(value, np.ndarray):
        arrays.append(value.copy())
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {k: encode(v, arrays) for k, v in value.items()}
    if isinstance(value, tuple | list) and type(value).__name__ != "Size":
        return [encode(v, arrays) for v in value]
    return value if isinstance(value, bool | int | str) or value is None else repr(value)
