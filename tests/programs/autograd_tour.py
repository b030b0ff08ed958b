import torch

x = torch.ones(5)
y = torch.zeros(3)
w = torch.randn(5, 3, requires_grad=True)
b = torch.randn(3, requires_grad=True)
z = torch.matmul(x, w) + b
loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
print(f"Gradient function for z = {z.grad_fn}")
print(f"Gradient function for loss = {loss.grad_fn}")
loss.backward()
print(w.grad)
print(b.grad)

z = torch.matmul(x, w) + b
print(z.requires_grad)
with torch.no_grad():
    z = torch.matmul(x, w) + b
print(z.requires_grad)
print((torch.matmul(x, w) + b).detach().requires_grad)

inp = torch.eye(4, 5, requires_grad=True)
out = (inp + 1).pow(2).t()
out.backward(torch.ones_like(out), retain_graph=True)
print(f"First call\n{inp.grad}")
out.backward(torch.ones_like(out), retain_graph=True)
print(f"\nSecond call\n{inp.grad}")
inp.grad.zero_()
out.backward(torch.ones_like(out), retain_graph=True)
print(f"\nCall after zeroing gradients\n{inp.grad}")

# Second derivatives, hooks, gradients of what is in between.
t = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
first, = torch.autograd.grad((t ** 3).sum(), t, create_graph=True)
second, = torch.autograd.grad(first.sum(), t)
print(first, second)

v = torch.tensor([0., 0., 0.], requires_grad=True)
h = v.register_hook(lambda grad: grad * 2)
v.backward(torch.tensor([1., 2., 3.]))
print(v.grad)
h.remove()

inner = t * 2
inner.retain_grad()
inner.exp().sum().backward()
print(inner.grad)
print(t.is_leaf, inner.is_leaf, inner.grad_fn.next_functions)

for broken in (
    lambda: torch.ones(2).sum().backward(),
    lambda: torch.ones(2, requires_grad=True).mul(2).backward(),
    lambda: torch.ones(2, requires_grad=True).add_(1),
    lambda: torch.ones(2, 3) @ torch.ones(2, 3),
    lambda: torch.ones(2, 3) + torch.ones(2, 4),
    lambda: torch.ones(2).view(3),
    lambda: torch.zeros(2)[5],
    lambda: torch.ones(2, requires_grad=True).numpy(),
):
    try:
        broken()
    except (RuntimeError, IndexError) as error:
        print(type(error).__name__, error)

e = torch.ones(3, requires_grad=True)
s = e.exp()
s.add_(1)
try:
    s.sum().backward()
except RuntimeError as error:
    print(str(error).split(';')[0])
