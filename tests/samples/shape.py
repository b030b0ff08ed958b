"""Views, rearrangements and joining."""

from __future__ import annotations

from .table import Family, booleans, complexes, integers, normal, spread  # noqa: F401

_SCATTER = "PyTorch gives the gradient of the replaced elements instead of the others"

FAMILY = Family(
    inputs={
        "x": normal(3, 4),
        "y": normal(3, 4),
        "m": normal(4, 5),
        "v": normal(4),
        "w": normal(3),
        "b": normal(2, 3, 4),
        "b1": normal(2, 1, 4),
        "q": normal(2, 3, 4, 5),
        "s": normal(),
        "e": normal(1, 3, 1),
        "z": normal(0, 3),
        "i": integers(3, 4),
        "c": booleans(3, 4),
        "sq": normal(4, 4),
    },
    samples="""
    torch.reshape(x, (2, 6))
    torch.reshape(b, (-1, 4))
    x.reshape(2, -1, 3)
    x.t().reshape(12)
    s.reshape(1, 1)
    z.reshape(3, 0)
    x.reshape_as(b[0])
    x.view(4, 3)
    b.view(-1)
    b.view(2, 12)
    x.view_as(torch.zeros(2, 6))
    torch.ravel(b)
    x.t().ravel()
    s.ravel()
    torch.flatten(q)
    torch.flatten(q, 1)
    q.flatten(1, 2)
    q.flatten(-2, -1)
    s.flatten()
    torch.unflatten(x, 1, (2, 2))
    b.unflatten(-1, (2, -1))
    b.unflatten(0, [1, 2])
    torch.permute(b, (2, 0, 1))
    b.permute(-1, 0, 1)
    torch.transpose(b, 0, 2)
    b.transpose(-1, -2)
    b.swapaxes(0, 1)
    torch.swapaxes(b, 0, -1)
    torch.swapaxes(b, axis0=0, axis1=1)
    torch.swapdims(b, 1, 2)
    b.swapdims(0, 1)
    torch.t(x)
    v.t()
    x.t() @ y
    torch.movedim(q, 1, 3)
    q.movedim((0, 1), (2, 3))
    torch.moveaxis(q, (0, -1), (-1, 0))
    q.moveaxis(-1, 0)
    torch.squeeze(e)
    e.squeeze(0)
    e.squeeze(-1)
    e.squeeze((0, 2))
    torch.squeeze(e, (0, 1))
    torch.unsqueeze(x, 0)
    x.unsqueeze(-1)
    x.unsqueeze(1)
    e.expand(2, 3, 4)
    torch.Tensor.expand(w, 2, -1)
    w.expand_as(torch.zeros(5, 3))
    torch.broadcast_to(w, (2, 4, 3))
    b1.broadcast_to((2, 3, 4))
    torch.broadcast_tensors(e, b1)
    torch.broadcast_tensors(x, v, s)
    torch.broadcast_shapes((2, 1), (3,), (1, 1, 1))
    x.repeat(2, 3)
    w.repeat(2, 1, 2)
    torch.tile(x, (2,))
    x.tile(2, 1, 2)
    torch.flip(b, (0, 2))
    b.flip(-1)
    torch.fliplr(x)
    x.fliplr()
    torch.flipud(b)
    x.flipud()
    torch.roll(x, 2)
    torch.roll(x, (1, -1), (0, 1))
    x.roll(-1, 1)
    torch.rot90(x)
    torch.rot90(b, 2, (1, 2))
    x.rot90(-1, (1, 0))
    torch.rot90(x, 3)
    torch.rot90(x, 4)
    x.contiguous()
    x.t().contiguous()
    torch.narrow(x, 1, 1, 2)
    x.narrow(0, -2, 2)
    x.narrow(0, torch.tensor(1), 2)
    torch.select(b, 1, 2)
    b.select(-1, -1)
    torch.unbind(x)
    b.unbind(1)
    torch.split(x, 2, 1)
    torch.split(m, [1, 3], 0)
    m.split(2)
    torch.split_with_sizes(m, [1, 4], 1)
    m.split_with_sizes((2, 2))
    torch.unsafe_split(x, 2, 1)
    x.unsafe_split(2)
    torch.unsafe_split_with_sizes(x, [1, 3], 1)
    x.unsafe_split_with_sizes([1, 2])
    torch.chunk(m, 3)
    m.chunk(2, 1)
    torch.unsafe_chunk(m, 2)
    m.unsafe_chunk(3, 1)
    torch.tensor_split(m, 3, 1)
    torch.tensor_split(m, (1, 3))
    m.tensor_split((1, 2), dim=1)
    v.tensor_split(3)
    torch.hsplit(x, 2)
    torch.hsplit(v, (1, 3))
    x.hsplit([1])
    torch.vsplit(x, 3)
    x.vsplit((1,))
    torch.dsplit(b, 2)
    b.dsplit([1, 3])
    torch.diagonal(x)
    b.diagonal(1, 1, 2)
    b.diagonal(-1, -2, -1)
    torch.diagonal(b, dim1=0, dim2=2)
    torch.diag(v)
    torch.diag(v, 1)
    torch.diag(x)
    x.diag(-1)
    torch.diag_embed(x)
    torch.diag_embed(v, 2)
    torch.diag_embed(x, -1, 0, 2)
    b.diag_embed(1, -1, -3)
    torch.diagflat(v)
    torch.diagflat(x, 1)
    v.diagflat(-2)
    torch.diagonal_scatter(x, w)
    torch.diagonal_scatter(x, w, 1)
    b.diagonal_scatter(torch.ones(4, 2), 0, 0, 1)
    torch.select_scatter(x, v, 0, 1)
    x.select_scatter(w, -1, -1)
    torch.slice_scatter(x, y[:2], 0, 1)
    x.slice_scatter(y[:, :2], 1, 0, 4, 2)
    torch.slice_scatter(x, y)
    x.slice_scatter(y[:, 1:3], dim=1, start=-3, end=-1)
    torch.as_strided(x, (2, 2), (1, 2))
    torch.as_strided(x, (3, 3), (1, 1), 1)
    x.as_strided((2, 3), (3, 1), 2)
    (x * 2)[1:].as_strided((2, 2), (2, 1))
    (x * 2)[1:].as_strided((2, 2), (2, 1), 0)
    x.t().as_strided((4, 3), (1, 4))
    torch.as_strided_scatter(x, torch.ones(2, 2), (2, 2), (1, 2))
    x.as_strided_scatter(y[:2, :2], (2, 2), (4, 1), 2)
    x.unfold(1, 2, 1)
    x.unfold(0, 2, 1)
    b.unfold(-1, 3, 1)
    v.unfold(0, 2, 2)
    s.unfold(0, 1, 1)
    torch.hstack((x, y))
    torch.hstack((v, w))
    torch.hstack((s, v))
    torch.vstack((x, y))
    torch.vstack((v, x))
    torch.row_stack((v, v))
    torch.dstack((x, y))
    torch.dstack((v, v))
    torch.column_stack((w, x))
    torch.column_stack((s, s))
    torch.cat((x, y))
    torch.cat((x, y), 1)
    torch.cat((x, y), axis=1)
    z = x.clone(); z.unsqueeze_(dim=1); z
    torch.cat([x, i], -1)
    torch.cat((x, torch.zeros(0)))
    torch.concat((b, b), dim=2)
    torch.concatenate((x, y), dim=0)
    torch.stack((x, y))
    torch.stack([x, y], -1)
    torch.stack((s, s, s))
    torch.block_diag(x, v, s)
    torch.block_diag(torch.ones(1, 2), i)
    torch.cartesian_prod(v, w)
    torch.cartesian_prod(v)
    torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2))
    torch.combinations(v)
    torch.combinations(v, 3)
    torch.combinations(w, with_replacement=True)
    torch.meshgrid(v, w, indexing='ij')
    torch.meshgrid(v, w, indexing='xy')
    torch.atleast_1d(s)
    torch.atleast_1d(x, s)
    torch.atleast_2d(s)
    torch.atleast_2d(v, x)
    torch.atleast_3d(s)
    torch.atleast_3d(v)
    torch.atleast_3d((x, b))
    torch.kron(x, m)
    torch.kron(v, x)
    x.kron(b)
    torch.vander(v)
    torch.vander(w, 5, increasing=True)
    torch.vander(w, 1)
    torch.adjoint(x)
    b.adjoint()
    x.T
    x.mT
    b.mT
    x.H
    b.mH
    torch.tril(x)
    b.tril(1)
    torch.triu(x, -1)
    x.triu(1)
    torch.constant_pad_nd(x, (1, 2))
    torch.constant_pad_nd(x, (1, -1, 0, 2), 1.5)
    torch.unravel_index(torch.tensor([3, 11, 0]), (3, 4))
    torch.unravel_index(i, (2, 2, 4))
    torch.slice_inverse(x[:2], x, 0, 0, 2, 1)
    x.view(torch.int32)
    x.view(torch.uint8)
    i.view(torch.int32)
    x.view(torch.float64)
    x.detach().to(torch.int16).view(torch.int64)
    torch.constant_pad_nd(b, (0, 0, 1, 1, 0, 1), value=-2)
    z = x.clone(); z.squeeze_(); z
    z = e.clone(); z.squeeze_(0); z
    z = x.clone(); z.unsqueeze_(1); z
    z = x.clone(); z.t_(); z
    z = x.clone(); z.transpose_(0, 1); z
    z = b.clone(); z.swapaxes_(0, 1); z
    z = b.clone(); z.swapdims_(0, 2); z
    z = x.clone(); z.tril_(); z
    z = x.clone(); z.triu_(1); z
    z = x.clone(); z.as_strided_((2, 2), (1, 2)); z
    z = sq.clone(); z.fill_diagonal_(2.0); z
    z = torch.cat((sq, sq, sq)).clone(); z.fill_diagonal_(2.0, wrap=True); z
    z = torch.zeros(3, 3, 3); z.fill_diagonal_(1); z
    z = x.clone(); z.t().mul_(2); z
    z = x.clone(); z[1:].fill_(3.0); z
    z = x.clone(); z.unfold(1, 2, 2).mul_(2); z
    z = x.clone(); z.as_strided((2, 2), (4, 1), 1).add_(1); z
    z = x.clone(); z.diagonal().copy_(w); z
    z = x.clone(); z.view(2, 6)[0].zero_(); z * y
    z = x.clone(); z.narrow(1, 1, 2).exp_(); z
    z = x.clone(); z.select(0, 1).copy_(v); z
    z = x.clone(); u = z.view(-1); z.mul_(2); u * 3
    z = i.clone(); z.resize_(2, 3); z
    z = i.clone(); z.resize_as_(torch.zeros(2, 2)); z
    x.resize(4, 3)
    x.sum_to_size(1, 4)
    b.sum_to_size(3, 1)
    """,
    variants={
        "float64": """
    torch.reshape(x, (2, 6))
    x.unfold(1, 2, 1)
    torch.as_strided(x, (3, 3), (1, 1), 1)
    torch.kron(x, m)
    torch.cat((x, i), 1)
    torch.vander(v)
    torch.diag_embed(x)
    x.view(torch.int64)
    """,
        "bfloat16": """
    torch.permute(b, (2, 0, 1))
    torch.cat((x, y))
    torch.roll(x, (1, -1), (0, 1))
    x.unfold(1, 2, 1)
    torch.kron(v, x)
    x.view(torch.int16)
    x.repeat(2, 3)
    torch.tril(x)
    """,
        "int64": """
    torch.reshape(x, (2, 6))
    torch.stack((x, y), 1)
    torch.vander(v)
    torch.flip(x, (1,))
    torch.diag_embed(v)
    x.unfold(1, 2, 1)
    torch.triu(x)
    torch.block_diag(x, v)
    torch.combinations(v)
    torch.kron(v, w)
    x.view(torch.float64)
    torch.constant_pad_nd(x, (1, 1), 3)
    """,
        "bool": """
    torch.cat((x, y))
    torch.stack((x, c))
    torch.roll(x, 1, 0)
    x.view(torch.uint8)
    torch.diag(v)
    x.t().contiguous()
    torch.tril(x)
    """,
    },
    forward_only={
        "(x * 2)[1:].as_strided((2, 2), (2, 1), 0)": "PyTorch drops the gradient of elements before the view's",
        "torch.as_strided_scatter(x, torch.ones(2, 2), (2, 2), (1, 2))": _SCATTER,
        "x.as_strided_scatter(y[:2, :2], (2, 2), (4, 1), 2)": _SCATTER,
        "torch.vander(v)": "PyTorch's backward fails: it writes over what it saved",
        "torch.vander(w, 5, increasing=True)": "PyTorch's backward fails: it writes over what it saved",
    },
)
