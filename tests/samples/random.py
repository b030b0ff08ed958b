"""Random numbers: PyTorch's own, after its seed. Compiled code draws others (`tests/test_random_compiled.py`)."""

from __future__ import annotations

from .table import Family, given, normal, uniform

_SAMPLES = """
torch.rand(5)
torch.rand((2, 3), dtype=torch.float64)
torch.rand(3, 17, dtype=torch.bfloat16)
torch.randn(7)
torch.randn(4, 5)
torch.randn(20, dtype=torch.float64)
torch.randint(10, (2, 5))
torch.randint(-3, 7, (5,), dtype=torch.int32)
torch.randint(0, 1 << 40, (5,))
torch.randperm(12)
torch.randperm(1)
torch.randperm(5, dtype=torch.int32)
torch.rand_like(x)
torch.rand_like(x, dtype=torch.float64)
torch.randn_like(x)
torch.randint_like(x, 3, 9)
torch.normal(x, 2.0)
torch.normal(0.5, p)
torch.normal(x, p)
torch.normal(1.0, 3.0, (4, 5))
torch.bernoulli(p)
torch.bernoulli(x.detach(), 0.25)
torch.multinomial(p, 2)
torch.multinomial(p, 7, replacement=True)
torch.multinomial(p, 1, replacement=True)
torch.multinomial(p[0], 3)
torch.poisson(r)
torch.poisson(r * 20)
torch.binomial(n, p.detach())
torch.binomial(n * 50, p.detach())
torch._standard_gamma(r)
torch._sample_dirichlet(r.detach())
x.detach().clone().uniform_()
x.detach().clone().uniform_(-2, 5)
x.detach().clone().normal_()
x.detach().clone().normal_(1, 0.5)
x.detach().clone().random_()
x.detach().clone().random_(5)
x.detach().clone().random_(-5, 5)
x.detach().clone().exponential_()
x.detach().clone().exponential_(3.5)
x.detach().clone().cauchy_()
x.detach().clone().cauchy_(1.0, 0.25)
x.detach().clone().log_normal_()
x.detach().clone().log_normal_(0.5, 0.25)
x.detach().clone().geometric_(0.3)
x.detach().clone().bernoulli_()
x.detach().clone().bernoulli_(0.2)
x.detach().clone().bernoulli_(p.detach())
x.bernoulli()
p.multinomial(2)
torch.manual_seed(5); torch.rand(3)
torch.manual_seed(-1); torch.initial_seed()
torch.random.manual_seed(7); torch.random.initial_seed()
g = torch.Generator(); g.manual_seed(3); (torch.rand(3, generator=g), g.initial_seed(), torch.rand(2))
s = torch.get_rng_state(); a = torch.rand(3); torch.set_rng_state(s); (a, torch.rand(3), s.shape)
s = torch.random.get_rng_state(); a = torch.rand(3); torch.random.set_rng_state(s); (a, torch.rand(3))
g = torch.Generator(); s = g.get_state(); a = torch.rand(3, generator=g); g.set_state(s); (a, torch.rand(3, generator=g))
type(torch.seed()).__name__
type(torch.random.seed()).__name__
torch.default_generator.initial_seed()
torch.cuda.manual_seed(3); torch.cuda.manual_seed_all(3); torch.rand(2)
"""
_PROGRAMS = {
    "fork_rng": """
with torch.random.fork_rng(devices=[]):
    a = torch.rand(3)
result = a, torch.rand(3)
""",
}
_STREAM = "draws of compiled code come from another stream"
_LINES = [line for line in _SAMPLES.splitlines() if line]

FAMILY = Family(
    inputs={
        "x": uniform(3, 4),
        "p": uniform(3, 4),
        "r": uniform(3, 4, low=0.2, high=5.0),
        "n": given([[1, 5, 10, 20], [2, 3, 4, 5], [0, 7, 8, 9]]),
        "y": normal(3, 4),
    },
    samples=_SAMPLES,
    programs=_PROGRAMS,
    eager_only=dict.fromkeys([*_LINES, *_PROGRAMS], _STREAM),
    exact={
        "torch._standard_gamma(r)": "gradient 20, here 0.01",
    },
)
