"""`torch.func`, `torch.vmap` and control flow: derivatives of derivatives, of batches, of modules as functions."""

from __future__ import annotations

from .table import Family, complexes, integers, normal, uniform

_CONSTANTS = "PyTorch's linear function holds what it read of the primals as constants"
_MADE_INSIDE = "makes a module"
_RANDOM = "a compiled function has its own stream of random numbers"

FAMILY = Family(
    inputs={
        "x": normal(5),
        "y": normal(5),
        "p": uniform(3, 4, low=0.5, high=1.5),
        "w": normal(4, 2),
        "b": normal(2),
        "t": normal(3, 2),
        "e": normal(2, 3, 4),
        "im": normal(2, 3, 6, 6),
        "k": normal(4, 3, 3, 3),
        "i": integers(3, 4, low=0, high=4),
        "z": complexes(3),
        "d": normal(4, grad=False),
        "q": normal(3, 4, grad=False),
    },
    samples="""
torch.func.grad(lambda v: (v.sin() * v).sum())(x)
torch.func.grad(lambda v: torch.func.grad(lambda u: (u ** 3 * v).sum())(v).sum())(x)
torch.func.grad(lambda v, u: (v * u).sum(), argnums=1)(x, y)
torch.func.grad(lambda v, u: (v * u.exp()).sum(), argnums=(0, 1))(x, y)
torch.func.grad(lambda v: ((v * y).sum(), v.cos()), has_aux=True)(x)
torch.func.grad(lambda s: (s["a"] * s["b"][0]).sum())({"a": x, "b": [y]})
torch.func.grad(lambda v: (v * 3).sum())(d)
torch.func.grad(lambda v: v.detach().sum() * v.sum())(x)
torch.func.grad_and_value(lambda v: (v ** 2).sum())(x)
torch.func.grad_and_value(lambda v, u: ((v * u).sum(), {"s": v + u}), argnums=-1, has_aux=True)(x, y)
o, f = torch.func.vjp(torch.sin, x); (o, f(y))
o, f = torch.func.vjp(lambda v, u: {"s": v + u, "p": v * u}, x, y); f({"s": x, "p": y})
o, f, a = torch.func.vjp(lambda v: (v.exp(), v.sum()), x, has_aux=True); (o, f(y), a)
torch.func.jvp(torch.sin, (x,), (y,))
torch.func.jvp(lambda v, u: (v * u, v.sum()), (x, y), (y, x))
torch.func.jvp(lambda v: (v.tanh(), v * 2), (x,), (y,), has_aux=True)
torch.func.jvp(lambda m: torch.softmax(m @ w, -1), (p,), (p,))
o, f = torch.func.linearize(lambda v: v.sin() * v, x); (o, f(y), f(x))
o, f = torch.func.linearize(lambda v, u: (v * u, v.exp()), x, y); f(y, x)
torch.func.jacrev(torch.sin)(x)
torch.func.jacrev(lambda v, u: (v * u.sum(), u.exp()), argnums=(0, 1))(x, y)
torch.func.jacrev(lambda v: (v.cos(), v.sum()), has_aux=True)(x)
torch.func.jacrev(lambda m: m @ w, chunk_size=2)(p)
torch.func.jacrev(lambda m: m @ w, chunk_size=1)(p)
torch.func.jacfwd(torch.tanh)(x)
torch.func.jacfwd(lambda v, u: {"a": v * u, "b": u.prod()}, argnums=1)(x, y)
torch.func.jacfwd(lambda v: (v.cos(), v.sum()), has_aux=True)(x)
torch.func.hessian(lambda v: (v ** 3).sum() + v.prod())(x)
torch.func.hessian(lambda v, u: (v * v * u).sum(), argnums=(0, 1))(x, y)
torch.func.vmap(torch.func.hessian(lambda v: v.sin().prod()))(p)
torch.vmap(torch.dot)(p, p)
torch.func.vmap(lambda v: v @ w)(p)
torch.func.vmap(lambda v, u: v * u, in_dims=(0, None))(p, d)
torch.func.vmap(lambda v, u: v - u, in_dims=(1, -1), out_dims=1)(p, q)
torch.func.vmap(lambda s: s["a"] + s["b"], in_dims=({"a": 0, "b": None},))({"a": p, "b": d})
torch.func.vmap(lambda v: (v.sum(), v.exp()), out_dims=(0, 1))(p)
torch.func.vmap(lambda v: v * 2, chunk_size=2)(p)
torch.func.vmap(torch.func.vmap(lambda v: v.cumsum(0)))(e)
torch.func.vmap(torch.func.vmap(torch.mul, in_dims=(0, None)), in_dims=(None, 0))(d, q)
torch.func.vmap(torch.func.vmap(lambda a, c: (a * c).sum(), (0, None)), (None, 0))(p, q)
torch.func.vmap(torch.func.grad(lambda v: (v ** 3).sum()))(p)
torch.func.vmap(torch.func.grad(lambda m, v, u: ((v @ m + b - u) ** 2).mean()), in_dims=(None, 0, 0))(w, p, t)
torch.func.grad(lambda m: torch.func.vmap(lambda v, u: ((v @ m - u) ** 2).sum())(p, t).sum())(w)
torch.func.grad(lambda m: torch.vmap(torch.func.grad(lambda v: (v @ m).tanh().sum()))(p).pow(2).sum())(w)
torch.func.vmap(lambda v: torch.nn.functional.conv2d(v, k, padding=1))(im.unsqueeze(1))
torch.func.vmap(lambda f, v: torch.nn.functional.conv2d(v, f), in_dims=(0, None))(k.unsqueeze(1), im)
torch.func.vmap(lambda v: torch.nn.functional.max_pool2d(v, 2))(im)
torch.func.vmap(lambda v: torch.nn.functional.layer_norm(v, (4,)))(p)
torch.func.vmap(lambda v, j: v.gather(0, j))(p, i)
torch.func.vmap(lambda v, j: v[j])(p, i)
torch.func.vmap(lambda j: w[j])(i)
torch.func.vmap(lambda v, j: torch.index_select(v, 0, j))(p, i)
torch.func.vmap(lambda v: torch.nn.functional.cross_entropy(v, torch.tensor(1)))(p)
torch.func.vmap(lambda v: torch.cat([v, d]))(p)
torch.func.vmap(lambda v: torch.where(v > 1, v, -v).sort()[0])(p)
torch.func.vmap(lambda v: v.add_(1) * 2)(p.clone())
torch.func.vmap(lambda v: torch.zeros_like(v).copy_(v).mul_(v))(p)
torch.func.vmap(lambda v: v.detach() * v)(p)
torch.func.vmap(lambda v: torch.ones(2))(p)
torch.func.vmap(lambda v: torch.linalg.inv(v + 3 * torch.eye(3)))(e[..., :3])
torch.func.vmap(lambda v: torch.einsum("ij,jk->ik", v, w))(e)
torch.func.vmap(lambda v: v + torch.randn(4), randomness="same")(p)
torch.func.vmap(lambda v: v + torch.randn(4), randomness="different")(p)
torch.func.vmap(lambda v: v * torch.bernoulli(torch.full_like(v, 0.5)), randomness="different")(p)
torch.func.functional_call(torch.nn.Linear(4, 2), {"weight": w.t(), "bias": b}, p)
torch.func.functional_call(torch.nn.Linear(4, 2), ({"weight": w.t()}, {"bias": b}), (p,), strict=True)
torch.func.functionalize(lambda v: v.clone().add_(1))(x)
torch.func.functionalize(lambda v: v.view(-1) * 2, remove="mutations_and_views")(p)
torch.func.rearrange(e, "a b c -> c (a b)")
torch.func.rearrange(p, "a (b c) -> b a c", c=2)
torch.func.rearrange(e, "... c -> c ...")
torch.func.debug_unwrap(x)
torch.func.replace_all_batch_norm_modules_(torch.nn.BatchNorm1d(4))(p)
torch.cond(torch.tensor(True), lambda v: v.sin(), lambda v: v.cos(), (x,))
torch.cond(False, lambda v: v.sin(), lambda v: v.cos(), (x,))
torch.while_loop(lambda n, v: n < 3, lambda n, v: (n + 1, v * 2), (torch.tensor(0), d))
torch.while_loop(lambda v: v.sum() > 100, lambda v: (v * 2,), (d,))
torch.compiler.is_compiling(); torch.compiler.is_exporting()
torch.compiler.allow_in_graph(torch.sin)(x)
torch.compiler.cudagraph_mark_step_begin(); x * 2
""",
    forward_only={
        "o, f = torch.func.linearize(lambda v: v.sin() * v, x); (o, f(y), f(x))": _CONSTANTS,
        "o, f = torch.func.linearize(lambda v, u: (v * u, v.exp()), x, y); f(y, x)": _CONSTANTS,
    },
    eager_only={
        'torch.func.functional_call(torch.nn.Linear(4, 2), {"weight": w.t(), "bias": b}, p)': _MADE_INSIDE,
        'torch.func.functional_call(torch.nn.Linear(4, 2), ({"weight": w.t()}, {"bias": b}), (p,), strict=True)': (
            _MADE_INSIDE
        ),
        "torch.func.replace_all_batch_norm_modules_(torch.nn.BatchNorm1d(4))(p)": _MADE_INSIDE,
        "per-sample gradients of a network": _MADE_INSIDE,
        "an ensemble": _MADE_INSIDE,
        'torch.func.vmap(lambda v: v + torch.randn(4), randomness="same")(p)': _RANDOM,
        'torch.func.vmap(lambda v: v + torch.randn(4), randomness="different")(p)': _RANDOM,
        'torch.func.vmap(lambda v: v * torch.bernoulli(torch.full_like(v, 0.5)), randomness="different")(p)': _RANDOM,
    },
    programs={
        "per-sample gradients of a network": """
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
with torch.no_grad():
    for number, tensor in enumerate(net.parameters()):
        tensor.copy_((torch.arange(tensor.numel()).reshape(tensor.shape) * 0.7 + number).sin())
params = {k: v.detach() for k, v in net.named_parameters()}
def loss(params, v, u):
    return torch.nn.functional.mse_loss(torch.func.functional_call(net, params, (v.unsqueeze(0),)), u.unsqueeze(0))
result = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(params, q, t)
""",
        "an ensemble": """
models = [torch.nn.Linear(4, 2) for _ in range(3)]
with torch.no_grad():
    for number, model in enumerate(models):
        model.weight.copy_((torch.arange(8).reshape(2, 4) * 0.3 + number).sin())
        model.bias.fill_(number)
params, buffers = torch.func.stack_module_state(models)
call = lambda p, b, v: torch.func.functional_call(models[0], (p, b), (v,))
result = torch.func.vmap(call, (0, 0, None))(params, buffers, q)
result = [result, params["weight"].shape, sorted(buffers)]
""",
    },
)
