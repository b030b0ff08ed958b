"""`torch.autograd`: gradients asked for by name, custom functions, hooks, saved tensors, checkpoints."""

from __future__ import annotations

from .table import Family, normal, uniform

FAMILY = Family(
    inputs={
        "x": normal(4),
        "y": normal(4),
        "p": uniform(2, 3, low=0.5, high=1.5),
        "w": normal(3, 2),
        "v": normal(4, grad=False),
        "d": uniform(2, 3, low=0.5, high=1.5, grad=False),
    },
    samples="""
torch.autograd.grad((x ** 3).sum(), x, create_graph=True)
torch.autograd.grad(x * y, (x, y), v)
torch.autograd.grad([x.sum(), y.exp()], [y, x], [None, v], allow_unused=True)
torch.autograd.grad(x.sin(), x, torch.eye(4), is_grads_batched=True)
torch.autograd.grad(x.sum(), (x, y), materialize_grads=True)
torch.autograd.grad((x * y).sum(), (x, y), allow_unused=True, retain_graph=True)
torch.autograd.grad(x * 2, torch.autograd.graph.get_gradient_edge(x), v)
a = v.clone().requires_grad_(); torch.autograd.backward((a * a).sum()); a.grad
a = v.clone().requires_grad_(); torch.autograd.backward([a * 2, a.exp()], [v, v]); a.grad
a = v.clone().requires_grad_(); b = a * 2; torch.autograd.backward(b.sum(), inputs=[a]); a.grad
a = v.clone().requires_grad_(); (a * a).sum().backward(create_graph=True); a.grad.detach() + 1
torch.autograd.functional.jacobian(torch.sin, x)
torch.autograd.functional.jacobian(lambda a, b: (a * b, a.sum()), (x, y))
torch.autograd.functional.jacobian(lambda a: a @ w, p, vectorize=True)
torch.autograd.functional.jacobian(lambda a: a.exp(), v, vectorize=True, strategy="forward-mode")
torch.autograd.functional.jacobian(lambda a: a ** 3, x, create_graph=True)
torch.autograd.functional.jacobian(lambda a: a ** 3, x, create_graph=True, strict=True)
torch.autograd.functional.hessian(lambda a: (a ** 3).sum(), x)
torch.autograd.functional.hessian(lambda a, b: (a * a * b).sum(), (x, y), vectorize=True)
torch.autograd.functional.hessian(lambda a: (a ** 3).sum(), x, vectorize=True, outer_jacobian_strategy="forward-mode")
torch.autograd.functional.vjp(torch.sin, x, v)
torch.autograd.functional.vjp(lambda a, b: (a * b, a.sum()), (x, y), (v, torch.tensor(2.0)), create_graph=True)
torch.autograd.functional.jvp(torch.sin, x, v)
torch.autograd.functional.jvp(lambda a, b: (a * b, a.sum()), (x, y), (v, v), create_graph=True)
torch.autograd.functional.vhp(lambda a: (a ** 3).sum(), x, v)
torch.autograd.functional.vhp(lambda a, b: (a * a * b).sum(), (x, y), (v, v), create_graph=True)
torch.autograd.functional.hvp(lambda a: (a ** 3).sum(), x, v)
torch.autograd.functional.hvp(lambda a, b: (a * a * b).sum(), (x, y), (v, v), create_graph=True)
torch.autograd.Variable(v, requires_grad=True).requires_grad
torch.autograd.gradcheck(lambda a: a.sin() * 2, torch.linspace(0, 1, 3, dtype=torch.float64, requires_grad=True))
torch.autograd.gradgradcheck(lambda a: a ** 3, torch.linspace(0, 1, 3, dtype=torch.float64, requires_grad=True))
torch.is_anomaly_enabled(); torch.is_anomaly_check_nan_enabled()
torch.is_inference(x)
x.is_inference()
torch.is_grad_enabled()
torch.is_inference_mode_enabled()
""",
    programs={
        "no_grad and enable_grad": """
with torch.autograd.no_grad():
    a = x * 2
    with torch.autograd.enable_grad():
        b = x * 3
with torch.autograd.set_grad_enabled(False):
    c = x * 4
with torch.autograd.inference_mode():
    d2 = v * 5
result = [a, b, c, a.requires_grad, b.requires_grad, c.requires_grad]
""",
        "modes that change nothing here": """
with torch.autograd.set_multithreading_enabled(False), torch.autograd.enforce_grad_layout_policy(False):
    result = x * y
""",
        "a function of one's own": """
class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, factor):
        ctx.save_for_backward(a)
        ctx.factor = factor
        return a * a * factor
    @staticmethod
    def backward(ctx, grad):
        (a,) = ctx.saved_tensors
        return grad * 2 * a * ctx.factor, None
result = Scaled.apply(x, 3.0)
""",
        "setup_context": """
class Product(torch.autograd.Function):
    @staticmethod
    def forward(a, b):
        return a * b, a.sum()
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(True)
    @staticmethod
    def backward(ctx, grad, other):
        a, b = ctx.saved_tensors
        return grad * b + other, grad * a
result = Product.apply(x, y)
""",
        "a function under vmap": """
class Cube(torch.autograd.Function):
    generate_vmap_rule = True
    @staticmethod
    def forward(a):
        return a ** 3
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
    @staticmethod
    def backward(ctx, grad):
        (a,) = ctx.saved_tensors
        return grad * 3 * a * a
result = [torch.func.vmap(Cube.apply)(p), torch.func.vmap(torch.func.grad(lambda a: Cube.apply(a).sum()))(p)]
""",
        "a function with its own vmap": """
class Twice(torch.autograd.Function):
    @staticmethod
    def forward(a):
        return a * 2
    @staticmethod
    def setup_context(ctx, inputs, output):
        pass
    @staticmethod
    def backward(ctx, grad):
        return grad * 2
    @staticmethod
    def vmap(info, in_dims, a):
        return Twice.apply(a), in_dims[0]
result = torch.func.vmap(Twice.apply, in_dims=1)(p)
""",
        "mark_non_differentiable": """
class Both(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        order = a.argsort()
        ctx.mark_non_differentiable(order)
        return a * 2, order
    @staticmethod
    def backward(ctx, grad, unused):
        return grad * 2
result = Both.apply(x)
""",
        "once_differentiable": """
from_torch = torch.autograd.function.once_differentiable
class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        return a * 2
    @staticmethod
    @from_torch
    def backward(ctx, grad):
        return grad * 2
result = Once.apply(x)
""",
        "hooks": """
seen = []
a = x * 2
a.register_hook(lambda g: g * 3)
a.retain_grad()
b = a.sin()
b.register_hook(lambda g: seen.append(g.shape))
result = b * y
""",
        "node hooks": """
a = (x * 2).exp()
a.grad_fn.register_hook(lambda inputs, outputs: (inputs[0] * 2,))
a.grad_fn.register_prehook(lambda outputs: (outputs[0] + 1,))
result = a
""",
        "post accumulate hooks": """
a = v.clone().requires_grad_()
seen = []
a.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.clone()))
(a * a).sum().backward()
result = seen
""",
        "several gradients at once": """
a, b = v.clone().requires_grad_(), v.clone().requires_grad_()
seen = []
handle = torch.autograd.graph.register_multi_grad_hook((a, b), lambda grads: seen.append(grads))
(a * b).sum().backward()
(a * 2).sum().backward()
handle.remove()
torch.autograd.graph.register_multi_grad_hook((a, b), lambda grad: seen.append(grad), mode="any")
(a * b).sum().backward()
result = seen
""",
        "saved tensors": """
with torch.autograd.graph.saved_tensors_hooks(lambda t: t * 2, lambda t: t):
    a = x * y
with torch.autograd.graph.save_on_cpu():
    b = (x * y).exp()
result = [a, b]
""",
        "mutation of what was saved": """
with torch.autograd.graph.allow_mutation_on_saved_tensors():
    a = v.clone().requires_grad_()
    b = a.clone()
    c = (b * b).sum()
    b.mul_(3)
    c.backward()
result = a.grad
""",
        "versions": """
a = v.clone()
torch.autograd.graph.increment_version(a)
result = a._version
""",
        "dual numbers": """
fw = torch.autograd.forward_ad
with torch.autograd.forward_ad.dual_level():
    dual = torch.autograd.forward_ad.make_dual(d, d * 2)
    out = torch.autograd.forward_ad.unpack_dual(dual.sin() * dual)
    other = torch.autograd.forward_ad.unpack_dual(d)
result = [out.primal, out.tangent, other.tangent]
""",
        "anomaly mode": """
with torch.autograd.set_detect_anomaly(True):
    a = v.clone().requires_grad_()
    (a * a).sum().backward()
with torch.autograd.detect_anomaly(check_nan=False):
    b = v.clone().requires_grad_()
    (b * b).sum().backward()
result = [a.grad, b.grad]
""",
        "checkpoint": """
result = torch.utils.checkpoint.checkpoint(lambda a, b: (a * b).exp().sin(), x, y, use_reentrant=False)
""",
        "reentrant checkpoint": """
result = torch.utils.checkpoint.checkpoint(lambda a, b: (a * b).exp().sin(), x, y, use_reentrant=True)
""",
        "checkpoint_sequential": """
steps = [torch.sin, torch.exp, lambda a: a * 2, torch.tanh]
result = torch.utils.checkpoint.checkpoint_sequential(steps, 2, x, use_reentrant=False)
""",
    },
    eager_only={
        "torch.autograd.gradcheck(lambda a: a.sin() * 2, "
        "torch.linspace(0, 1, 3, dtype=torch.float64, requires_grad=True))": "compares numbers",
        "torch.autograd.gradgradcheck(lambda a: a ** 3, "
        "torch.linspace(0, 1, 3, dtype=torch.float64, requires_grad=True))": "compares numbers",
        "anomaly mode": "looks for NaN in numbers",
    },
)
