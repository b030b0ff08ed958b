"""Complex tensors: making them, their parts, arithmetic, functions, reductions, products, and gradients by PyTorch's
convention."""

from __future__ import annotations

from .table import Family, complexes, given, integers, normal, uniform

SAMPLES = """
torch.complex(x, y)
torch.complex(x, y[0])
torch.polar(p, y)
torch.polar(p, y[:1])
torch.view_as_real(z)
z.clone().view(-1).real
torch.view_as_complex(pairs)
torch.view_as_complex(torch.view_as_real(z) * 2)
torch.real(z)
torch.real(x)
torch.imag(z)
z.real * z.imag
z.T.imag
z[:, 1:].real
w = z * 1; w.imag = x; w
w = z * 1; w.real = 2.0 * x; w
w = z * 1; w.real.mul_(3); w
w = z * 1; w.imag[0] = 1.0; w * w
w = torch.zeros(3, 4, dtype=torch.complex64); torch.view_as_real(w).copy_(torch.stack([x, y], -1)); w
torch.conj(z)
z.conj() * z
x.conj()
torch.conj_physical(z)
z.conj_physical()
w = z * 2; w.conj_physical_(); w
z.conj().resolve_conj()
torch.resolve_conj(z)
torch.resolve_neg(z)
z.resolve_neg()
z.is_conj()
torch.is_conj(z)
x.is_neg()
torch.is_neg(x)
torch.angle(z)
torch.angle(x)
torch.angle(i)
z.angle()
torch.sgn(z)
torch.sgn(x)
z.sgn()
w = z * 1; w.sgn_(); w
torch.abs(z)
z.abs() ** 2
z.absolute()
torch.isreal(s)
s.isreal()
torch.isreal(x)
torch.is_complex(z)
z.is_complex()
z.is_floating_point()
torch.isnan(s)
torch.isinf(s)
torch.isfinite(s)
z.H
z.mH
x.mH
zb.mH
torch.adjoint(zb)
zb.adjoint()
z + x
z + 2
z + (1 - 2j)
x + 1j
i * (2 + 1j)
z - y
1j - z
z * z.conj()
z * x
z * 2.5
z / (zt + 3)
x / z
2 / z
z / (1 + 1j)
-z
torch.neg(z)
+z
z ** 2
z ** 3
z ** 0.5
z ** -1
z ** (1 + 0.5j)
x.abs() ** 1j
2 ** z
z ** z
torch.pow(z, zt)
torch.square(z)
torch.reciprocal(z)
z.reciprocal()
torch.rsqrt(z)
torch.sqrt(z)
torch.exp(z)
torch.expm1(z)
torch.exp2(z)
torch.log(z)
torch.log2(z)
torch.log10(z)
torch.log1p(z)
torch.sin(z)
torch.cos(z)
torch.tan(z)
torch.sinh(z)
torch.cosh(z)
torch.tanh(z)
torch.sigmoid(z)
torch.add(z, zt, alpha=2)
torch.sub(z, x, alpha=1j)
torch.addcmul(z, zt, z, value=0.5)
torch.addcdiv(z, zt, z)
torch.lerp(z, zt, 0.25)
w = z.clone(); w += x; w
w = z * 1; w *= 1j; w
w = z * 1; w.exp_(); w
torch.sum(z)
z.sum(0)
z.sum(1, keepdim=True)
x.detach().sum(dtype=torch.complex64)
torch.mean(z)
z.mean(-1)
torch.prod(z)
z.prod(1)
torch.var(z)
z.var(0, correction=0)
torch.std(z, 1)
z.norm()
z.norm(1, dim=0)
torch.linalg.vector_norm(z, 3)
z.any()
s.all(0)
torch.cumsum(z, 1)
torch.cumprod(z, 0)
torch.mm(z, zt.T)
z @ zt.mH
x.to(torch.complex64) @ zt.T
torch.matmul(zb, zt.T)
torch.bmm(zb, zb.mH)
zb @ z[0]
torch.mv(z, zt[0])
torch.dot(z[0], zt[1])
torch.vdot(z[0], zt[1])
z[0].vdot(zt[1])
torch.inner(z, zt)
torch.outer(z[0], zt[1])
torch.einsum("ij,kj->ik", z, zt)
torch.einsum("bij,bkj->b", zb, zb.conj())
torch.addmm(zt[:, :3], z, zt.T)
torch.trace(z)
torch.nn.functional.linear(z, zt)
torch.nn.functional.conv1d(zb, zb[:, :, :2], zt[0, :2])
torch.nn.functional.conv2d(zb[None], zb[:, :, :2].unsqueeze(0)[:, :, :2], stride=(1, 2))
torch.nn.functional.conv_transpose1d(zb, zb.transpose(0, 1), padding=1)
z == zt
z != z
z == 1
torch.eq(s, s.conj())
torch.isclose(z, z + 1e-9)
torch.allclose(z, z * 1)
torch.equal(z, z.clone())
z[0]
z[:, 1:3]
z[-1, ::2]
z[i[:, 0] % 3]
z[x > 0]
w = z * 1; w[0] = 5; w
w = z * 1; w[1, 2:] = 1j; w
torch.cat([z, zt], 1)
torch.cat([z, x], 0)
torch.stack([z, zt])
torch.where(x > 0, z, zt)
torch.where(x > 0, z, 0)
z.masked_fill(x > 0, 1j)
z.reshape(2, 6)
z.permute(1, 0)
z.unsqueeze(0).expand(2, 3, 4)
z.flip(0)
torch.roll(z, 1, 0)
z.diagonal()
torch.tril(z)
torch.diag(z[0])
z.gather(1, i % 4)
z.index_select(0, i[0] % 3)
torch.nn.functional.pad(z, (1, 1))
z.to(torch.complex128)
x.to(torch.complex64) * 1j
x.cfloat()
x.cdouble()
z.real.double()
torch.tensor([1, 2.5, 1j])
torch.tensor(1 + 2j)
torch.tensor([[1j, 2]], dtype=torch.complex128)
torch.full((2, 2), 1 - 1j)
torch.zeros(2, dtype=torch.complex64)
torch.ones_like(z)
torch.eye(2, dtype=torch.complex128)
torch.linspace(0, 1, 3, dtype=torch.complex64)
torch.randn(3, 2, dtype=torch.complex64)
torch.rand(4, dtype=torch.complex128)
torch.randn_like(z)
z.tolist()[0][0] == z[0, 0].item()
str(z.detach())
repr(torch.tensor([1 + 2j, -3.5j]))
repr(torch.tensor([1e-8 + 1j, 1000j]))
repr(torch.tensor([float("nan") + 1j, complex(1, float("inf"))]))
repr(torch.tensor(1 + 2j, dtype=torch.complex128))
repr(torch.zeros(0, dtype=torch.complex64))
torch.complex64.to_real()
torch.float64.to_complex()
torch.promote_types(torch.complex64, torch.float64)
torch.result_type(i, 1j)
(z * zt.conj()).real.sum()
(z.abs() - 1).pow(2).mean()
torch.exp(1j * x).imag
(z.angle() * z.abs()).sum()
torch.view_as_real(z * zt).norm(dim=-1)
torch.autograd.grad((z * z.conj()).real.sum(), z, create_graph=True)[0]
torch.autograd.grad((z ** 3).real.sum() + (z ** 2).imag.sum(), z, create_graph=True)[0]
"""

DOUBLE = """
torch.complex(x, y)
torch.polar(p, y)
z * zt
z / zt
z ** zt
torch.exp(z)
torch.sqrt(z)
torch.tanh(z)
torch.abs(z)
torch.angle(z)
torch.sgn(z)
z @ zt.mH
torch.prod(z)
torch.var(z)
(z * x).imag
"""

FAMILY = Family(
    inputs={
        "x": normal(3, 4),
        "y": normal(3, 4),
        "p": uniform(3, 4, low=0.5, high=2.0),
        "pairs": normal(3, 4, 2),
        "z": complexes(3, 4),
        "zt": complexes(3, 4),
        "zb": complexes(2, 3, 4),
        "i": integers(3, 4),
        "s": given([[1, 1j, 0, 2 + 1j], [float("nan"), complex(0, float("inf")), 3, -1]], complex),
    },
    samples=SAMPLES,
    variants={"float64": DOUBLE},
    eager_only={
        **dict.fromkeys(
            (
                "torch.randn(3, 2, dtype=torch.complex64)",
                "torch.rand(4, dtype=torch.complex128)",
                "torch.randn_like(z)",
            ),
            "compiled functions draw from a counter",
        ),
        "repr(torch.zeros(0, dtype=torch.complex64))": "reads elements",
        "z.tolist()[0][0] == z[0, 0].item()": "reads elements",
        "str(z.detach())": "reads elements",
    },
)
