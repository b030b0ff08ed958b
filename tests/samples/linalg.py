"""Linear algebra. Where signs or phases are free (QR, SVD, eigenvectors), what does not depend on them is compared."""

from __future__ import annotations

import numpy as np

from .table import Family, Input, complexes, integers, normal


def conditioned(*shape: int) -> Input:
    """float32 matrices with a dominant diagonal: results that do not magnify rounding."""

    def draw(rng: np.random.RandomState) -> np.ndarray:
        n = min(shape[-2:])
        made = rng.standard_normal(shape) * 0.5
        made[..., range(n), range(n)] += np.arange(2, n + 2)
        return made.astype(np.float32)

    return Input(draw, True)


def complex_conditioned(*shape: int) -> Input:
    def draw(rng: np.random.RandomState) -> np.ndarray:
        n = min(shape[-2:])
        made = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * 0.4
        made[..., range(n), range(n)] += np.arange(2, n + 2)
        return made.astype(np.complex64)

    return Input(draw, True)


SAMPLES = """
torch.linalg.inv(a)
torch.linalg.inv(b)
torch.inverse(a)
a.inverse()
torch.linalg.inv(z)
torch.linalg.inv_ex(a)
torch.linalg.inv_ex(b, check_errors=True)
torch.linalg.solve(a, m)
torch.linalg.solve(a, v)
torch.linalg.solve(b, m)
torch.linalg.solve(a, m.mT, left=False)
torch.linalg.solve(z, w)
torch.linalg.solve_ex(b, v.expand(2, 4))
torch.linalg.solve_triangular(a, m, upper=True)
torch.linalg.solve_triangular(b, m.mT, upper=False, left=False)
torch.linalg.solve_triangular(a, m, upper=False, unitriangular=True)
torch.linalg.solve_triangular(z, w, upper=True)
torch.triangular_solve(m, a)
torch.triangular_solve(m, a, upper=False, transpose=True, unitriangular=True)
m.triangular_solve(a)
torch.linalg.det(a)
torch.linalg.det(b)
torch.det(a)
a.det()
torch.linalg.det(z)
torch.linalg.slogdet(a)
torch.linalg.slogdet(-b)
torch.slogdet(b)
b.slogdet()
torch.linalg.slogdet(z)
torch.logdet(a)
b.logdet()
torch.linalg.lu_factor(a)
torch.linalg.lu_factor(r)
torch.linalg.lu_factor(r.mT)
torch.linalg.lu_factor_ex(b)
torch.linalg.lu_factor(z)
torch.linalg.lu(a)
torch.linalg.lu(r)
torch.linalg.lu(r.mT)
torch.lu(a)
torch.lu(b, get_infos=True)
a.lu()
torch.lu_unpack(*torch.linalg.lu_factor(r))
torch.lu_unpack(*torch.linalg.lu_factor(a.detach()), unpack_data=False)
LU, p = torch.linalg.lu_factor(a); torch.linalg.lu_solve(LU, p, m)
LU, p = torch.linalg.lu_factor(b); torch.linalg.lu_solve(LU, p, m, adjoint=True)
LU, p = torch.linalg.lu_factor(a); torch.linalg.lu_solve(LU, p, m.mT, left=False)
LU, p = torch.linalg.lu_factor(z); torch.linalg.lu_solve(LU, p, w, adjoint=True)
torch.lu_solve(m, *torch.linalg.lu_factor(a))
m.lu_solve(*torch.linalg.lu_factor(a))
torch.linalg.cholesky(a @ a.mT)
torch.linalg.cholesky(b @ b.mT, upper=True)
torch.linalg.cholesky_ex(b @ b.mT)
torch.linalg.cholesky(z @ z.mH)
torch.cholesky(a @ a.mT)
torch.cholesky(a @ a.mT, upper=True)
(a @ a.mT).cholesky()
torch.cholesky_solve(m, a)
torch.cholesky_solve(m, b, upper=True)
m.cholesky_solve(a)
torch.cholesky_inverse(a)
torch.cholesky_inverse(b, upper=True)
a.cholesky_inverse()
q, r_ = torch.linalg.qr(r); (q.abs(), r_.abs(), q @ r_)
q, r_ = torch.linalg.qr(r.mT); (q.abs(), r_.abs(), q @ r_)
q, r_ = torch.linalg.qr(b, mode="complete"); (q.abs(), r_.abs())
q, r_ = torch.linalg.qr(z); (q.abs(), r_.abs(), q @ r_)
torch.linalg.qr(r.detach(), mode="r").R.abs()
q, r_ = torch.qr(r); (q.abs(), r_.abs())
q, r_ = torch.qr(r.detach(), some=False); (q.abs(), r_.abs())
q, r_ = r.qr(); (q.abs(), r_.abs())
u, s, vh = torch.linalg.svd(r, full_matrices=False); (u.abs(), s, vh.abs(), (u * s) @ vh)
u, s, vh = torch.linalg.svd(b); (u.abs(), s, vh.abs())
u, s, vh = torch.linalg.svd(r); (u[..., :3].abs(), s)
u, s, vh = torch.linalg.svd(z); (u.abs(), s, vh.abs())
u, s, v = torch.svd(r); (u.abs(), s, v.abs(), (u * s) @ v.mT)
torch.svd(r.detach(), compute_uv=False)
u, s, v = r.svd(some=True); (u.abs(), s, v.abs())
torch.linalg.svdvals(r)
torch.linalg.svdvals(b)
torch.linalg.svdvals(z)
l, q = torch.linalg.eigh(a + a.mT); (l, q.abs(), (q * l) @ q.mT)
l, q = torch.linalg.eigh(b, UPLO="U"); (l, q.abs())
l, q = torch.linalg.eigh(z + z.mH); (l, q.abs())
torch.linalg.eigvalsh(a + a.mT)
torch.linalg.eigvalsh(b, UPLO="U")
l, q = torch.linalg.eig(a); (l, q.abs(), (q * l) @ torch.linalg.inv(q))
l, q = torch.linalg.eig(b); (l, q.abs())
l, q = torch.linalg.eig(z); (l, q.abs())
torch.linalg.eigvals(a)
torch.linalg.eigvals(z)
torch.linalg.pinv(r)
torch.linalg.pinv(b.mT)
torch.linalg.pinv(r, rtol=0.5)
torch.linalg.pinv(r, atol=0.5, rtol=0.1)
torch.linalg.pinv(a + a.mT, hermitian=True)
torch.linalg.pinv(z)
torch.pinverse(r)
r.pinverse()
torch.linalg.lstsq(r, k)
torch.linalg.lstsq(r, k, driver="gelsd")
torch.linalg.lstsq(r, k, driver="gels")[:2]
torch.linalg.lstsq(r.mT, k[:3]).solution
torch.linalg.lstsq(r, k[:, 0])[0]
torch.linalg.matrix_exp(a * 0.3)
torch.linalg.matrix_exp(b * 0.3)
torch.matrix_exp(a * 0.01)
(a * 0.3).matrix_exp()
torch.linalg.matrix_exp(z * 0.3)
torch.linalg.matrix_power(a, 0)
torch.linalg.matrix_power(a, 1)
torch.linalg.matrix_power(a, 3)
torch.linalg.matrix_power(b * 0.4, 5)
torch.linalg.matrix_power(b, -2)
torch.matrix_power(a, 2)
a.matrix_power(2)
torch.linalg.matrix_rank(r)
torch.linalg.matrix_rank(torch.stack([a, a * 0]))
torch.linalg.matrix_rank(a + a.mT, hermitian=True)
torch.linalg.matrix_rank(r, tol=4.0)
torch.linalg.vector_norm(r)
torch.linalg.vector_norm(r, 1, dim=-1)
torch.linalg.vector_norm(r, 3.5, dim=(0, 1), keepdim=True)
torch.linalg.vector_norm(r.detach(), 0, dim=0)
torch.linalg.vector_norm(r, float("inf"), dim=0)
torch.linalg.vector_norm(r, -float("inf"))
torch.linalg.vector_norm(r, -1.5, dim=1)
torch.linalg.vector_norm(r * 0)
torch.linalg.vector_norm(z, dim=-1)
torch.linalg.vector_norm(z, 1)
torch.linalg.vector_norm(z, 3, dim=0)
torch.linalg.vector_norm(r, dtype=torch.float64)
torch.linalg.matrix_norm(r)
torch.linalg.matrix_norm(b, "nuc")
torch.linalg.matrix_norm(b, 2, keepdim=True)
torch.linalg.matrix_norm(b, -2)
torch.linalg.matrix_norm(b, 1)
torch.linalg.matrix_norm(b, -1, dim=(0, 1))
torch.linalg.matrix_norm(b, float("inf"), keepdim=True)
torch.linalg.matrix_norm(b, -float("inf"), dim=(2, 0))
torch.linalg.matrix_norm(z, "nuc")
torch.linalg.norm(b)
torch.linalg.norm(r, 2)
torch.linalg.norm(r, "fro")
torch.linalg.norm(b, 1, dim=(1, 2))
torch.linalg.norm(v, 3)
torch.linalg.norm(b, 2, dim=1, keepdim=True)
torch.norm(r)
torch.norm(r, p=1, dim=0)
torch.norm(r, p="nuc")
torch.norm(b, dim=(1, 2), keepdim=True)
torch.norm(r, p=float("inf"))
torch.norm(z)
r.norm()
r.norm(3, 1)
r.norm(dim=-1, keepdim=True)
torch.nuclear_norm(r)
torch.nuclear_norm(b, dim=(1, 2), keepdim=True)
torch.linalg.cond(a)
torch.linalg.cond(b, 1)
torch.linalg.cond(a, "fro")
torch.linalg.cond(a, "nuc")
torch.linalg.cond(b, -2)
torch.linalg.cond(a, float("inf"))
torch.linalg.multi_dot([r, a[:3, :], m, v[:2]])
torch.linalg.multi_dot([v, a, m])
torch.chain_matmul(a, m, m.mT)
torch.linalg.vecdot(r, k[:, :1])
torch.linalg.vecdot(z, w[:, :1], dim=0)
torch.linalg.vecdot(b, b * 2, dim=1)
torch.linalg.cross(r, r.flip(0))
torch.linalg.cross(r.mT, k[:3, :1], dim=0)
torch.cross(r, r * r.flip(1), dim=1)
r.cross(r.flip(0), dim=-1)
torch.linalg.vander(v)
torch.linalg.vander(r, N=2)
torch.linalg.vander(n)
torch.linalg.diagonal(b)
torch.linalg.diagonal(b, offset=-1, dim1=0, dim2=2)
torch.linalg.matmul(a, m)
torch.linalg.tensorinv(t.reshape(6, 2, 3), ind=1)
torch.linalg.tensorinv(t.reshape(2, 3, 6), ind=2)
torch.linalg.tensorsolve(t.reshape(6, 2, 3), v6)
torch.linalg.tensorsolve(t.reshape(2, 3, 6), v6.reshape(2, 3))
torch.linalg.tensorsolve(t.reshape(6, 2, 3).movedim(0, 2), v6, dims=(0, 1))
torch.linalg.householder_product(r, v[:3])
torch.linalg.householder_product(b.mT, v[:2].expand(2, 2))
torch.linalg.householder_product(z, w[:, 0])
torch.orgqr(r, v[:3])
r.orgqr(v[:2])
torch.ormqr(r, v[:3], a)
torch.ormqr(r, v[:3], m.mT, left=False)
torch.ormqr(r, v[:3], m, transpose=True)
r.ormqr(v[:3], m)
torch.geqrf(r.detach())[0].abs()
r.detach().geqrf()[0].abs()
u, s, v_ = torch.svd_lowrank(torch.linalg.multi_dot([r, r.mT, r, r.mT]), q=3, niter=4); s
u, s, v_ = torch.pca_lowrank(r, q=3, niter=4); (s, u.abs(), v_.abs())
torch.linalg.ldl_factor((a + a.mT).detach())
torch.linalg.ldl_factor_ex((b + b.mT).detach() * torch.tensor([[0.0, 1, 1, 1]] * 4))
torch.linalg.ldl_solve(*torch.linalg.ldl_factor((a + a.mT).detach()), m.detach())
torch.trace(a)
a.trace()
"""

DOUBLE = """
torch.linalg.inv(b)
torch.linalg.solve(a, m)
torch.linalg.solve(z, w)
torch.linalg.solve_triangular(b, m.mT, upper=False, left=False)
torch.linalg.det(b)
torch.linalg.slogdet(z)
torch.linalg.lu(r)
torch.linalg.lu(r.mT)
LU, p = torch.linalg.lu_factor(b); torch.linalg.lu_solve(LU, p, m, adjoint=True)
torch.linalg.cholesky(b @ b.mT, upper=True)
torch.linalg.cholesky(z @ z.mH)
torch.cholesky_solve(m, b, upper=True)
torch.cholesky_inverse(b)
q, r_ = torch.linalg.qr(r); (q.abs(), r_.abs(), q @ r_)
q, r_ = torch.linalg.qr(r.mT); (q.abs(), r_.abs(), q @ r_)
q, r_ = torch.linalg.qr(z); (q.abs(), r_.abs(), q @ r_)
u, s, vh = torch.linalg.svd(r, full_matrices=False); (u.abs(), s, vh.abs(), (u * s) @ vh)
u, s, vh = torch.linalg.svd(z); (u.abs(), s, vh.abs())
l, q = torch.linalg.eigh(b, UPLO="U"); (l, q.abs())
l, q = torch.linalg.eigh(z + z.mH); (l, q.abs())
l, q = torch.linalg.eig(b); (l, q.abs())
l, q = torch.linalg.eig(z); (l, q.abs())
torch.linalg.pinv(r)
torch.linalg.pinv(z)
torch.linalg.lstsq(r, k)
torch.linalg.matrix_exp(b * 3)
torch.linalg.matrix_exp(z)
torch.linalg.matrix_power(b, -2)
torch.linalg.matrix_norm(b, "nuc")
torch.linalg.vector_norm(r, 3.5)
torch.linalg.cond(b, 1)
torch.linalg.multi_dot([r, a[:3, :], m, v[:2]])
torch.linalg.householder_product(r, v[:3])
torch.ormqr(r, v[:3], m, transpose=True)
torch.lobpcg(t12 @ t12.mT, k=2, tol=1e-11)[0]
torch.lobpcg(t12 @ t12.mT, k=1, largest=False, X=torch.ones_like(t12[:, :1]), tol=1e-11, niter=200)[0]
"""

ITERATED = [line + " [float64]" for line in DOUBLE.splitlines() if "lobpcg" in line]

FAMILY = Family(
    inputs={
        "a": conditioned(4, 4),
        "b": conditioned(2, 4, 4),
        "z": complex_conditioned(3, 3),
        "w": complexes(3, 2),
        "m": normal(4, 2),
        "v": normal(4),
        "r": conditioned(4, 3),
        "k": normal(4, 2),
        "n": integers(3, low=-2, high=4),
        "t": conditioned(6, 6),
        "v6": normal(6),
        "t12": conditioned(12, 12),
    },
    samples=SAMPLES,
    variants={"float64": DOUBLE},
    eager_only={
        'torch.linalg.lstsq(r, k, driver="gelsd")': "whether there are residuals depends on the rank",
        **dict.fromkeys(ITERATED, "it stops when the residual is small"),
    },
    forward_only=dict.fromkeys(
        ("torch.linalg.cond(b, 1)", 'torch.linalg.cond(a, "fro")', 'torch.linalg.cond(a, float("inf"))'),
        "PyTorch's own backward fails: it has written into a saved tensor",
    ),
)
