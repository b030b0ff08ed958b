"""Order, the middle, distinct elements, where elements are and belong, histograms."""

from __future__ import annotations

from .table import Family, booleans, given, integers, normal, spread

FAMILY = Family(
    inputs={
        "x": spread(3, 4),
        "y": spread(2, 3, 5),
        "v": spread(7),
        "n": given([[1.0, float("nan"), 3.0, 2.0], [float("nan")] * 4, [5.0, -1.0, 0.0, 4.0]], grad=True),
        "i": integers(4, 5, high=4),
        "j": integers(9, high=5),
        "c": booleans(3, 4),
        "w": normal(9),
        "e": given([]),
        "r": given([0, 2, 1], "int64"),
        "s": given([-1.0, -0.25, 0.0, 0.5, 1.0]),
    },
    samples="""
        torch.sort(x)
        torch.sort(y, 1, descending=True)
        torch.sort(i, dim=0, stable=True)
        torch.sort(n, 1)[0].nan_to_num(9)
        x.sort(0)
        x.sum().sort()[1]
        torch.argsort(x)
        torch.argsort(y, -2, True)
        x.argsort(dim=0, descending=True)
        torch.argsort(i, dim=1, stable=True)
        torch.msort(x)
        y.msort()
        torch.topk(x, 2)
        torch.topk(y, 2, 1, largest=False)
        x.topk(3, dim=0)
        torch.topk(v, 0)
        torch.kthvalue(x, 2)
        torch.kthvalue(y, 1, 0, keepdim=True)
        x.kthvalue(3, dim=0)
        torch.median(x)
        torch.median(y, 1)
        torch.median(x, -1, keepdim=True)
        torch.median(n, 1).values.nan_to_num(9)
        x.median(dim=0)
        torch.nanmedian(x)
        torch.nanmedian(n[::2], 1)
        torch.nanmedian(n, 1, keepdim=True).values.nan_to_num(9)
        n[::2].nanmedian()
        torch.mode(i)
        torch.mode(i, 0, keepdim=True)
        j.mode()
        torch.unique(i)
        torch.unique(i, return_inverse=True, return_counts=True)
        torch.unique(i % 2, dim=0)
        torch.unique(x.detach().round(), sorted=True, return_counts=True)
        j.unique(return_inverse=True)
        torch.unique_consecutive(j)
        torch.unique_consecutive(i // 2, return_inverse=True, return_counts=True)
        torch.unique_consecutive(i // 2, dim=1, return_inverse=True, return_counts=True)
        j.unique_consecutive(return_counts=True)
        torch.nonzero(c)
        torch.nonzero(i)
        torch.nonzero(c, as_tuple=True)
        torch.nonzero(i.sum())
        c.nonzero()
        x[c].nonzero()
        torch.argwhere(c)
        i.argwhere()
        torch.masked_select(x, c)
        torch.masked_select(x, c[0]) * 2
        x.masked_select(x > 0).sum()
        x[c] + 1
        (x[c[:, 0]] @ x.t()).relu()
        y[:, c[:, 1]]
        x[x > 100]
        torch.bincount(j)
        torch.bincount(j, minlength=8)
        torch.bincount(j, w.detach())
        j.bincount(w.detach().double(), 7)
        torch.isin(i, j)
        torch.isin(i, torch.tensor([1, 3]), invert=True)
        torch.isin(x.detach(), 0.25)
        torch.isin(j, e.long())
        torch.histc(x.detach())
        torch.histc(x.detach(), bins=4, min=-1, max=1)
        v.detach().histc(5)
        torch.histogram(x.detach(), 4)
        torch.histogram(x.detach(), 3, range=(-1.0, 1.0), density=True)
        torch.histogram(w.detach(), s)
        torch.histogramdd(x.detach().reshape(6, 2), [2, 3], range=[-1.0, 1.0, -2.0, 2.0])
        torch.histogramdd(x.detach().reshape(2, 2, 3), [s, s, s], weight=x.detach()[:1].reshape(2, 2), density=True)
        v.detach().histogram(4, weight=v.detach().abs())
        torch.searchsorted(s, x.detach())
        torch.searchsorted(s, x.detach(), right=True, out_int32=True)
        torch.searchsorted(torch.sort(i, 1)[0], i, side="right")
        torch.searchsorted(s, 0.5)
        torch.bucketize(x.detach(), s)
        torch.bucketize(x.detach(), s, right=True)
        torch.count_nonzero(i)
        torch.count_nonzero(i, dim=1)
        i.count_nonzero((0, 1))
        torch.isclose(x, x + 1e-9)
        torch.isclose(n, n, equal_nan=True)
        torch.isclose(i, i + (i > 2))
        torch.isclose(x, x * 1.1, rtol=0.2, atol=0.0)
        torch.allclose(x, x + 1e-9)
        torch.allclose(n, n)
        x.allclose(x, equal_nan=True)
        torch.equal(x, x.clone())
        torch.equal(x, y)
        x.equal(x + 1)
        torch.repeat_interleave(x, r, 0)
        torch.repeat_interleave(x, 2)
        y.repeat_interleave(torch.tensor([1, 0]), dim=0)
        torch.repeat_interleave(r)
        torch.repeat_interleave(x, r, 0, output_size=3)
        v1 = torch.zeros(0); i1 = torch.zeros(0).long(); torch.sort(x.detach(), out=(v1, i1)); (v1, i1)
        v1 = torch.zeros(7); torch.msort(v.detach(), out=v1); v1
        torch.searchsorted(s, i)
    """,
)
