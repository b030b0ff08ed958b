"""Products of matrices and vectors, in every kind of number."""

from __future__ import annotations

from .table import Family, given, integers, normal, spread

SAMPLES = """
torch.mm(a, b)
a.mm(b)
torch.mm(a.T, w3)
torch.mm(i, j)
torch.matmul(a, b)
a.matmul(b)
a @ b
a @ v
v @ b
v @ v
p @ q
p @ b
b.T @ q
p @ v
v @ q
torch.matmul(p.unsqueeze(1), q)
torch.matmul(e0, f0)
i @ j
torch.bmm(p, q)
p.bmm(q)
torch.mv(a, v)
a.mv(v)
torch.dot(v, a[0])
v.dot(a[1])
torch.vdot(v, a[0])
v.vdot(a[0])
torch.outer(v, w3[:, 0])
v.outer(v)
torch.ger(v, v)
v.ger(v)
torch.inner(a, p)
a.inner(v)
torch.inner(s, a)
torch.addmm(c, a, b)
torch.addmm(c[0], a, b, beta=0.5, alpha=2)
c.addmm(a, b)
torch.addmm(c, a, b, beta=0)
k = c * 1; k.addmm_(a, b, alpha=-1); k
torch.addmv(w3[:, 0], a, v)
torch.addmv(w3[:, 0], a, v, beta=2, alpha=0.5)
w3[:, 1].addmv(a, v)
k = w3[:, 0] * 1; k.addmv_(a, v); k
torch.baddbmm(g, p, q)
torch.baddbmm(g, p, q, beta=0.5, alpha=3)
g.baddbmm(p, q)
k = g * 1; k.baddbmm_(p, q, beta=2); k
torch.addbmm(g[0], p, q)
torch.addbmm(g[0], p, q, beta=0.5, alpha=2)
g[0].addbmm(p, q)
torch.addr(c[:3, :4], w3[:, 0], v)
torch.addr(c[:, :4], w3[:, 0], v, beta=2, alpha=0.5)
c[:, :4].addr(w3[:, 1], v)
k = g[0] * 1; k.addbmm_(p, q, beta=0.5); k
k = c[:, :4] * 1; k.addr_(w3[:, 0], v); k
a.kron(v)
torch.einsum("ij,jk->ik", a, b)
torch.einsum("ij,jk", a, b)
torch.einsum("bij,bjk->bik", p, q)
torch.einsum("...ij,jk->...ik", p, b)
torch.einsum("bij->bji", p)
torch.einsum("ij->", a)
torch.einsum("ij->j", a)
torch.einsum("i,j->ij", v, w3[:, 0])
torch.einsum("ii->i", a[:, :3])
torch.einsum("ii", a[:, :3])
torch.einsum("bij,bjk,kl->bil", p, q, b.T)
torch.einsum("bi,bi->b", a, a)
torch.einsum("ij,kj->ik", a, v.expand(2, 4))
torch.einsum(a, [0, 1], b, [1, 2], [0, 2])
torch.einsum(p, [..., 0, 1], b, [1, 2], [..., 0, 2])
torch.einsum("bij,bjk->bik", [p, q])
torch.einsum("ij,ij->i", i, i)
torch.einsum("aij , ajk -> aik", p, q)
torch.tensordot(a, b, 1)
torch.tensordot(p, q, dims=([0, 2], [0, 1]))
torch.tensordot(p, p, dims=3)
torch.tensordot(a, v, dims=0)
torch.tensordot(p, q, dims=([-1], [-2]))
torch.cdist(p, q.mT)
torch.cdist(a, b.T, p=1.0)
torch.cdist(a, b.T, p=3.0)
torch.cdist(p, q.mT, p=float("inf"))
torch.chain_matmul(a, b, c.T)
torch.linalg.multi_dot([a, b, c.T])
torch.trace(c)
torch.trace(i)
torch.kron(a, v)
torch.mm(a.detach(), b.detach(), out=torch.empty(3, 5))
torch.matmul(a.detach(), v.detach(), out=torch.empty(3))
torch.bmm(p.detach(), q.detach(), out=torch.empty(2, 3, 5))
torch.baddbmm(g.detach(), p.detach(), q.detach(), out=torch.empty(2, 3, 5))
torch.addmv(w3[:, 0].detach(), a.detach(), v.detach(), out=torch.empty(3))
torch.tensordot(a.detach(), b.detach(), 1, out=torch.empty(3, 5))
torch.inner(a.detach(), a.detach(), out=torch.empty(3, 3))
torch.nn.functional.linear(a, b.T)
torch.nn.functional.linear(p, b.T, c[0])
"""

COMMON = """
torch.mm(a, b)
a @ b
a @ v
p @ q
p @ b
torch.bmm(p, q)
torch.mv(a, v)
torch.dot(v, a[0])
torch.outer(v, v)
torch.inner(a, p)
torch.addmm(c, a, b)
torch.addmm(c, a, b, beta=2, alpha=3)
torch.addmv(w3[:, 0], a, v)
torch.baddbmm(g, p, q)
torch.baddbmm(g, p, q, beta=2, alpha=3)
torch.einsum("bij,bjk->bik", p, q)
torch.einsum("ij->j", a)
torch.tensordot(p, q, dims=([0, 2], [0, 1]))
"""

INTEGER = (
    COMMON
    + """
torch.trace(c)
torch.vdot(v, a[0])
torch.linalg.matrix_power(c[:, :3], 3)
torch.linalg.multi_dot([a, b, c.T])
"""
)

FAMILY = Family(
    inputs={
        "a": spread(3, 4),
        "b": spread(4, 5),
        "c": spread(3, 5),
        "g": spread(2, 3, 5),
        "p": normal(2, 3, 4),
        "q": normal(2, 4, 5),
        "v": spread(4),
        "w3": spread(3, 2),
        "s": given(2.0, grad=True),
        "i": integers(3, 4, low=-5, high=6),
        "j": integers(4, 2, low=-5, high=6),
        "e0": normal(3, 0),
        "f0": normal(0, 2),
    },
    samples=SAMPLES,
    # The order in which alpha and the product are rounded.
    variants={"float64": COMMON, "bfloat16": COMMON, "float16": COMMON, "int64": INTEGER, "int32": INTEGER},
)
