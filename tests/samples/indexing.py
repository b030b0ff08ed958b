"""Indexing, gather, scatter, masks: reading and writing."""

from __future__ import annotations

from .table import Family, booleans, given, integers, normal, spread, uniform

_SHAPES = "PyTorch differentiates these only where index and src have one shape"

FAMILY = Family(
    inputs={
        "x": normal(3, 4),
        "y": normal(3, 4),
        "b": normal(2, 3, 4),
        "v": normal(5),
        "s": normal(),
        "r": spread(6),
        "src": normal(5, 4),
        "p": uniform(5, 4, low=0.5, high=1.5),
        "zs": given([[0.0, 2.0, 0.0, 1.0], [3.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0]], grad=True),
        "i": integers(3, 4, low=0, high=3),
        "i1": integers(3, 4, low=0, high=4),
        "i2": integers(2, 4, low=0, high=3),
        "j": integers(5, low=0, high=3),
        "k": given([2, 0], "int64"),
        "kk": given([0, 2, 2, 1, 0], "int64"),
        "n": given([-1, 0, 2], "int64"),
        "i5": integers(5, 4, low=0, high=3),
        "c": booleans(3, 4),
        "cr": given([True, False, True], "bool"),
        "one": given(1, "int64"),
        "it": integers(3, 4, low=-5, high=6),
    },
    samples="""
    torch.gather(x, 0, i)
    torch.gather(x, 1, i1)
    x.gather(-1, i1[:, :2])
    x.gather(0, i2)
    b.gather(1, i1.reshape(1, 3, 4) % 3)
    s.gather(0, torch.tensor(0))
    x.gather(1, i1[:0])
    torch.take(x, torch.tensor([[0, 5], [11, -1]]))
    x.take(k)
    torch.take_along_dim(x, i1, 1)
    torch.take_along_dim(x, i[:1], dim=0)
    x.take_along_dim(kk % 3)
    torch.index_select(x, 0, k)
    x.index_select(1, k)
    b.index_select(-1, torch.tensor([3, 3, 0]))
    torch.index_add(x, 0, j, src)
    x.index_add(0, kk, src, alpha=2)
    x.index_add(1, k, y[:, :2])
    v.index_add(0, kk, v)
    z = x.clone(); z.index_add_(0, kk, src, alpha=-1); z
    torch.index_copy(x, 0, k, y[:2])
    x.index_copy(1, torch.tensor([3, 1]), y[:, 1:3])
    z = x.clone(); z.index_copy_(0, k, y[1:]); z
    torch.index_fill(x, 0, k, 2.5)
    x.index_fill(1, k, s)
    x.index_fill(1, torch.tensor([-1]), -1)
    z = x.clone(); z.index_fill_(0, k, 0.5); z
    torch.index_put(x, (k,), y[:2])
    x.index_put((k, k), s)
    x.index_put((kk, kk), v, accumulate=True)
    x.index_put((torch.tensor([[0], [2]]), torch.tensor([1, 3])), y[:2, :2])
    z = x.clone(); z.index_put_((c,), s); z
    z = x.clone(); z.index_put_((kk,), src, accumulate=True); z
    torch.index_reduce(x, 0, kk, p, 'prod')
    torch.index_reduce(x, 0, kk, src, 'mean')
    torch.index_reduce(x, 0, kk, src, 'amax', include_self=False)
    x.index_reduce(0, kk[:2], src[:2], 'amin')
    x.index_reduce(1, k, y[:, :2], 'mean', include_self=False)
    z = x.clone(); z.index_reduce_(0, j, p, 'prod', include_self=False); z
    torch.scatter(x, 0, i2, y[:2])
    x.scatter(1, torch.tensor([[0, 2], [3, 1]]), y)
    x.scatter(0, i, 1.5)
    torch.scatter(x, 0, i, value=2)
    torch.scatter(x, 0, i5, src, reduce='add')
    x.scatter(0, i, 2.0, reduce='multiply')
    z = x.clone(); z.scatter_(0, i2, y[:2]); z
    z = x.clone(); z.scatter_(1, i1, 0.5); z
    z = x.detach().clone(); z.scatter_(0, i5, p.detach(), reduce='multiply'); z
    torch.zeros(3, 5).scatter_(1, j[:3].unsqueeze(1), 1)
    torch.scatter_add(x, 0, i5, src)
    x.scatter_add(1, i1, y)
    x.scatter_add(0, i2, src)
    z = x.clone(); z.scatter_add_(0, i, y); z
    s.scatter_add(0, torch.tensor(0), s)
    torch.scatter_reduce(x, 0, i5, src, 'sum')
    torch.scatter_reduce(x, 0, i5, p, 'prod')
    torch.scatter_reduce(x, 0, i5, src, 'mean')
    torch.scatter_reduce(x, 0, i5, src, reduce='amax')
    torch.scatter_reduce(x, 0, i5, src, 'amin')
    x.scatter_reduce(1, i1, y, 'sum', include_self=False)
    x.scatter_reduce(1, i1, y, 'prod', include_self=False)
    x.scatter_reduce(1, i1, y, 'mean', include_self=False)
    x.scatter_reduce(1, i1, y, 'amax', include_self=False)
    x.scatter_reduce(1, i1, y, 'amin', include_self=False)
    x.scatter_reduce(0, i, zs, 'prod')
    zs.scatter_reduce(0, i, zs, 'amax')
    x.scatter_reduce(0, i2, src, 'mean')
    z = x.clone(); z.scatter_reduce_(0, i5, src, 'amax', include_self=False); z
    z = x.clone(); z.scatter_reduce_(0, i5, p, 'prod'); z
    torch.put(x, torch.tensor([1, -2]), v[:2])
    x.put(torch.tensor([[0, 0], [5, 11]]), src[:2, :2], accumulate=True)
    z = x.clone(); z.put_(k, v[:2]); z
    z = x.clone(); z.put_(torch.tensor([1, 1]), v[:2], True); z
    torch.masked_fill(x, c, 0.5)
    x.masked_fill(c, s)
    x.masked_fill(cr.unsqueeze(1), -1)
    z = x.clone(); z.masked_fill_(c, 2); z
    torch.masked_scatter(x, c, b)
    x.masked_scatter(cr.unsqueeze(1), src)
    z = x.clone(); z.masked_scatter_(c, b); z
    torch.masked_select(x, c)
    x.masked_select(cr.unsqueeze(1))
    torch.repeat_interleave(x, 2, dim=0)
    torch.repeat_interleave(v, 3)
    x.repeat_interleave(torch.tensor([1, 0, 2]), dim=0)
    torch.renorm(x, 2, 0, 1.0)
    x.renorm(1, 1, 0.5)
    b.renorm(2, -1, 0.3)
    z = x.clone(); z.renorm_(2, 0, 0.7); z
    torch.embedding_renorm_(x.detach().clone(), torch.tensor([0, 2, 2]), 0.5, 2.0)
    x[0]
    x[-1, 2]
    x[1:]
    x[:, ::2]
    x[1:, -2:]
    x[..., 0]
    b[:, None, 1]
    b[0, ..., 1:3]
    x[None]
    s[None]
    s[...]
    x[()]
    x[k]
    x[:, k]
    x[[0, 2, 2]]
    x[[0, 1], [1, 3]]
    x[n]
    x[k, k]
    x[k.unsqueeze(1), k]
    b[:, k, 1:]
    b[:, k, :, None]
    b[0, k]
    b[k[1:], :, torch.tensor([1, 2])]
    b[torch.tensor([0, 1]), :, torch.tensor([1, 2])]
    b[..., k]
    b[[[0], [1]], [1, 2]]
    x[one]
    x[one, 1:]
    x[c]
    x[cr]
    x[cr, 1]
    b[:, c]
    x[c.t().t()]
    x[True]
    x[:, [True, False, True, True]]
    x[torch.tensor([], dtype=torch.int64)]
    x[range(0, 3, 2)]
    x[np.array([0, 2])]
    x[0:0]
    z = x.clone(); z[0] = 1.0; z
    z = x.clone(); z[0] = v[:4]; z
    z = x.clone(); z[1:, ::2] = y[1:, 1::2]; z
    z = x.clone(); z[k] = y[:2]; z
    z = x.clone(); z[:, k] = s; z
    z = x.clone(); z[k, k] = v[:2]; z
    z = x.clone(); z[[0, 0]] = y[:2]; z
    z = x.clone(); z[k] += 1; z
    z = x.clone(); z[c] = 0.0; z
    z = x.clone(); z[c] = s; z
    z = x.clone(); z[cr] = y[:2]; z
    z = x.clone(); z[cr] = v[:4]; z
    z = x.clone(); z[c] = y[c]; z
    z = x.clone(); z[c] *= 2; z
    z = x.clone(); z[cr, 1] = 3; z
    z = x.clone(); z[x > 0] = 0; z
    z = x.clone(); z[z < 0] *= -1; z
    z = b.clone(); z[:, c] = 1; z
    z = b.clone(); z[:, 1] = x[:2]; z
    z = b.clone(); z[..., k] = 7; z
    z = b.clone(); z[torch.tensor([0, 1]), :, torch.tensor([1, 2])] = x[:2, :3]; z
    z = x.clone(); z[one] = 5; z
    z = x.clone(); z[None, 0] = v[:4]; z
    z = s.clone(); z[...] = 3; z * s
    z = s.clone(); z[()] = 2; z * s
    z = x.clone(); z[:] = y; z
    z = x.clone(); z[0][1] = 9; z
    torch.where(c, x, y)
    torch.where(c, x, 0.0)
    torch.where(c, 1, x)
    torch.where(x > 0, x, s)
    torch.where(cr.unsqueeze(1), x, it)
    x.where(c, y)
    x.where(x > 0, torch.tensor(2.0))
    torch.where(c, 1.0, 2.0)
    torch.where(c, 1, 2)
    torch.where(c)
    torch.segment_reduce(src, 'sum', lengths=torch.tensor([2, 0, 3]))
    torch.segment_reduce(src, 'mean', lengths=torch.tensor([2, 3]))
    torch.segment_reduce(src, 'max', lengths=torch.tensor([2, 0, 3]), initial=0.0)
    torch.segment_reduce(p, 'prod', lengths=torch.tensor([4, 1]))
    torch.segment_reduce(v, 'min', offsets=torch.tensor([0, 2, 5]))
    torch.segment_reduce(x, 'sum', lengths=torch.tensor([[1, 3], [2, 2], [4, 0]]), axis=1)
    """,
    variants={
        "float64": """
    torch.gather(x, 0, i)
    torch.scatter_reduce(x, 0, i5, p, 'prod')
    torch.scatter_reduce(x, 0, i5, src, 'mean')
    x.index_put((kk, kk), v, accumulate=True)
    x.index_reduce(0, kk, src, 'amax')
    z = x.clone(); z[k, k] = v[:2]; z
    x[:, k]
    """,
        "bfloat16": """
    torch.gather(x, 0, i)
    torch.scatter(x, 0, i, 1.5)
    x.scatter_reduce(0, i2, src, 'amax')
    x.index_copy(0, k, y[:2])
    x.index_add(0, kk[1:3], y[:2])
    z = x.clone(); z[k] = y[:2]; z
    x[c]
    """,
        "int64": """
    torch.gather(x, 0, i)
    torch.scatter(x, 0, i5, src, reduce='add')
    torch.scatter_reduce(x, 0, i5, src, 'sum')
    torch.scatter_reduce(x, 0, i5, src, 'prod')
    torch.scatter_reduce(x, 0, i5, src, 'mean')
    torch.scatter_reduce(x, 0, i5, src, 'amax', include_self=False)
    torch.scatter_reduce(x, 0, i5, src, 'amin', include_self=False)
    x.index_reduce(0, kk, src, 'mean')
    x.index_add(0, kk, src, alpha=2)
    x.index_fill(0, k, 7)
    x.put(k, v[:2])
    x.masked_scatter(c, b)
    z = x.clone(); z[c] = 5; z
    """,
        "bool": """
    torch.gather(x, 0, i)
    torch.scatter(x, 0, i, True)
    x.index_copy(0, k, y[:2])
    x.index_select(1, k)
    z = x.clone(); z[k] = y[:2]; z
    x.index_fill(1, k, False)
    x[c]
    """,
    },
    forward_only={
        "x.scatter(1, torch.tensor([[0, 2], [3, 1]]), y)": _SHAPES,
        "x.scatter_add(0, i2, src)": _SHAPES,
        "x.scatter_reduce(0, i2, src, 'mean')": _SHAPES,
        "x.scatter_reduce(0, i2, src, 'amax')": _SHAPES,
        "torch.scatter(x, 0, i5, src, reduce='add')": "PyTorch has no gradient for it",
        "x.scatter(0, i, 2.0, reduce='multiply')": "PyTorch has no gradient for it",
    },
)
