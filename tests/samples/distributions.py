"""Distributions, their divergences, constraints and transforms.

`_DISTRIBUTIONS` has a constructor for each, a value in its support and what to ask for; everything is computed in
float64, where the tolerances are tight. Draws are compared eagerly: compiled ones come from another stream.
"""

from __future__ import annotations

from .table import Family, given, normal, uniform

# Constructor, value, what to ask for beside log_prob.
_MOMENTS = "mean variance stddev"
_DISTRIBUTIONS: tuple[tuple[str, str, str], ...] = (
    ("Normal(x, p)", "y", f"{_MOMENTS} mode entropy cdf icdf perplexity"),
    ("Uniform(x - 3, x + p + 3)", "y", f"{_MOMENTS} entropy cdf icdf"),
    ("Laplace(x, p)", "y", f"{_MOMENTS} mode entropy cdf icdf"),
    ("Cauchy(x, p)", "y", "variance mode entropy cdf icdf"),
    ("Exponential(p)", "q", f"{_MOMENTS} mode entropy cdf icdf"),
    ("Gamma(p, q)", "u", f"{_MOMENTS} mode entropy"),
    ("Chi2(p)", "u", f"{_MOMENTS} entropy df"),
    ("Beta(p, q)", "u", f"{_MOMENTS} entropy concentration1"),
    ("Dirichlet(p)", "s", "mean variance entropy"),
    ("StudentT(p + 2, x, q)", "y", f"{_MOMENTS} mode entropy"),
    ("FisherSnedecor(p + 2, q + 4)", "u", f"{_MOMENTS} mode"),
    ("VonMises(x, p * 3)", "y", "mean mode variance"),
    ("Bernoulli(u)", "k", "mean variance mode entropy"),
    ("Bernoulli(logits=x)", "k", "mean variance mode entropy"),
    ("ContinuousBernoulli(u)", "v", f"{_MOMENTS} entropy cdf icdf"),
    ("ContinuousBernoulli(logits=x)", "v", f"{_MOMENTS} entropy cdf"),
    ("Geometric(u)", "n", "mean variance mode entropy"),
    ("Binomial(10, u)", "n", "mean variance mode"),
    ("Binomial(10, logits=x)", "n", "mean variance mode"),
    ("NegativeBinomial(p, u)", "n", "mean variance mode"),
    ("Poisson(p)", "n", "mean variance mode"),
    ("Categorical(s)", "j", "mode entropy"),
    ("Categorical(logits=x)", "j", "mode entropy perplexity"),
    ("OneHotCategorical(s)", "h", "mean variance mode entropy"),
    ("OneHotCategoricalStraightThrough(logits=x)", "h", "mean variance mode entropy"),
    ("Multinomial(6, s)", "c6", "mean variance entropy"),
    ("Gumbel(x, p)", "y", f"{_MOMENTS} mode entropy cdf icdf"),
    ("HalfNormal(p)", "q", f"{_MOMENTS} mode entropy cdf icdf"),
    ("HalfCauchy(p)", "q", "mode entropy cdf icdf"),
    ("LogNormal(x, p)", "q", f"{_MOMENTS} mode entropy cdf icdf"),
    ("LogisticNormal(x, p)", "s4", ""),
    ("InverseGamma(p + 3, q)", "u", "mean variance mode entropy"),
    ("Kumaraswamy(p, q)", "u", f"{_MOMENTS} entropy cdf icdf"),
    ("Pareto(u / 4, p + 3)", "u", "mean variance mode entropy cdf icdf"),
    ("Weibull(p, q)", "u", "mean variance entropy cdf icdf"),
    ("RelaxedBernoulli(t, u)", "v", ""),
    ("RelaxedBernoulli(t, logits=x)", "v", ""),
    ("RelaxedOneHotCategorical(t, s)", "s2", ""),
    ("Independent(torch.distributions.Normal(x, p), 1)", "y", "mean variance stddev mode entropy"),
    ("MultivariateNormal(x, S)", "y", "mean variance mode entropy precision_matrix scale_tril"),
    ("MultivariateNormal(x, precision_matrix=S)", "y", "covariance_matrix entropy"),
    ("MultivariateNormal(x, scale_tril=L)", "y", "covariance_matrix entropy"),
    (
        "LowRankMultivariateNormal(x, w, p)",
        "y",
        "mean variance entropy covariance_matrix precision_matrix scale_tril",
    ),
    ("LKJCholesky(3, p[0])", "C", ""),
    ("Wishart(p[:, 0] + 4, S)", "S", "mean variance entropy"),
    (
        "MixtureSameFamily(torch.distributions.Categorical(s), torch.distributions.Normal(x, p))",
        "y[:, 0]",
        "mean variance cdf",
    ),
    (
        "TransformedDistribution(torch.distributions.Normal(x, p), [torch.distributions.AffineTransform(u, q), "
        "torch.distributions.ExpTransform()])",
        "v + 1",
        "cdf icdf",
    ),
)


def _asked(name: str, value: str) -> str:
    if name in ("entropy", "perplexity"):
        return f"d.{name}()"
    return f"d.cdf({value})" if name == "cdf" else "d.icdf(v)" if name == "icdf" else f"d.{name}"


def _lines() -> str:
    rows = []
    for made, value, asked in _DISTRIBUTIONS:
        parts = [f"d.log_prob({value})", *(_asked(name, value) for name in asked.split())]
        rows.append(f"d = torch.distributions.{made}; ({', '.join(parts)},)")
    return "\n".join(rows)


_RSAMPLED = (
    "Normal(x, p)", "Uniform(x - 3, x + p)", "Laplace(x, p)", "Cauchy(x, p)", "Exponential(p)", "Gumbel(x, p)",
    "HalfNormal(p)", "HalfCauchy(p)", "LogNormal(x, p)", "LogisticNormal(x, p)", "Kumaraswamy(p, q)",
    "Pareto(u, p)", "Weibull(p, q)", "GeneralizedPareto(x, p, u - 0.5)", "ContinuousBernoulli(u)",
    "RelaxedBernoulli(t, u)", "RelaxedOneHotCategorical(t, s)", "OneHotCategoricalStraightThrough(s)",
    "Independent(torch.distributions.Normal(x, p), 1)", "MultivariateNormal(x, S)",
    "LowRankMultivariateNormal(x, w, p)",
)  # fmt: skip
# PyTorch's gradient of a gamma or beta number is an approximation, good to a few parts in a thousand; here it is exact.
_APPROXIMATE = {
    "Gamma(p, q)": "gradient 620, here 2e-8",
    "Chi2(p)": "gradient 580, here 1e-8",
    "Beta(p, q)": "gradient 830, here 6e-9",
    "Dirichlet(p)": "gradient 290, here 5e-10",
    "StudentT(p, x, q)": "gradient 110, here 3e-9",
    "FisherSnedecor(p, q)": "gradient 780, here 3e-8",
    "InverseGamma(p + 1, q)": "gradient 600, here 5e-9",
}
_SAMPLED = (
    "Bernoulli(u)", "Geometric(u)", "Binomial(40, u)", "NegativeBinomial(p, u)", "Poisson(p * 10)",
    "Categorical(s)", "OneHotCategorical(s)", "Multinomial(6, s)", "VonMises(x, p)", "LKJCholesky(3, p[0])",
    "MixtureSameFamily(torch.distributions.Categorical(s), torch.distributions.Normal(x, p))",
)  # fmt: skip
_rsamples = [f"torch.distributions.{made}.rsample((2,))" for made in (*_RSAMPLED, *_APPROXIMATE)]
_samples = [f"torch.distributions.{made}.sample((2, 3))" for made in _SAMPLED]

_PAIRS = """
Bernoulli(u), Bernoulli(v)
Beta(p, q), Beta(q, p)
Binomial(4, u), Binomial(4, v)
Categorical(s), Categorical(logits=x)
OneHotCategorical(s), OneHotCategorical(logits=x)
Cauchy(x, p), Cauchy(y, q)
ContinuousBernoulli(u), ContinuousBernoulli(v)
Dirichlet(p), Dirichlet(q)
Exponential(p), Exponential(q)
Gamma(p, q), Gamma(q, p)
Chi2(p), Chi2(q)
Geometric(u), Geometric(v)
Gumbel(x, p), Gumbel(y, q)
HalfNormal(p), HalfNormal(q)
Laplace(x, p), Laplace(y, q)
Normal(x, p), Normal(y, q)
LogNormal(x, p), LogNormal(y, q)
Pareto(v + 1, p), Pareto(u, q)
Poisson(p), Poisson(q)
Uniform(u, u + p), Uniform(u - 1, u + p + q)
MultivariateNormal(x, S), MultivariateNormal(y, scale_tril=L)
LowRankMultivariateNormal(x, w, p), LowRankMultivariateNormal(y, w, q)
MultivariateNormal(x, S), LowRankMultivariateNormal(y, w, q)
LowRankMultivariateNormal(x, w, p), MultivariateNormal(y, S)
Independent(torch.distributions.Normal(x, p), 1), Independent(torch.distributions.Normal(y, q), 1)
Bernoulli(u), Poisson(p)
Beta(p, q), ContinuousBernoulli(u)
Beta(p, q), Exponential(p)
Beta(p, q), Gamma(q, p)
Beta(p, q), Normal(x, p)
Beta(p, q), Uniform(-u, 1 + v)
Beta(p, q), Pareto(u, p)
ContinuousBernoulli(u), Exponential(p)
ContinuousBernoulli(u), Normal(x, p)
ContinuousBernoulli(u), Uniform(-u, 1 + v)
ContinuousBernoulli(u), Pareto(p, q)
Exponential(p), Gamma(q, p)
Exponential(p), Gumbel(x, q)
Exponential(p), Normal(x, q)
Exponential(p), Beta(q, p)
Gamma(p, q), Exponential(p)
Gamma(p, q), Gumbel(x, p)
Gamma(p, q), Normal(x, p)
Gamma(p, q), Uniform(x, x + 1)
Gumbel(x, p), Normal(y, q)
Gumbel(x, p), Gamma(p, q)
Laplace(x, p), Normal(y, q)
Laplace(x, p), Exponential(q)
Normal(x, p), Gumbel(y, q)
Normal(x, p), Laplace(y, q)
Normal(x, p), Beta(p, q)
Pareto(u, p + 1), Exponential(q)
Pareto(u, p + 1), Gamma(p, q)
Pareto(u, p + 2), Normal(x, q)
Pareto(u, p), Uniform(x, x + 1)
Poisson(p), Binomial(3, u)
Uniform(u / 4, u / 4 + v / 4), Beta(p, q)
Uniform(u / 4, u / 4 + v / 4), ContinuousBernoulli(u)
Uniform(u, u + p), Exponential(q)
Uniform(u, u + p), Gamma(p, q)
Uniform(x, x + p), Gumbel(y, q)
Uniform(x, x + p), Normal(y, q)
Uniform(p + 1, p + 2), Pareto(u, q)
"""
_kl = [
    "torch.distributions.kl_divergence("
    + ", ".join(f"torch.distributions.{part}" for part in line.replace("), ", ")\t", 1).split("\t"))
    + ")"
    if not line.startswith("Independent")
    else "torch.distributions.kl_divergence(torch.distributions.Independent(torch.distributions.Normal(x, p), 1), "
    "torch.distributions.Independent(torch.distributions.Normal(y, q), 1))"
    for line in _PAIRS.split("\n")
    if line
]

# Transform, argument.
_TRANSFORMS = """
ExpTransform() | x
PowerTransform(torch.tensor(2.5, dtype=torch.float64)) | p
SigmoidTransform() | x
SoftplusTransform() | x
TanhTransform() | x
AffineTransform(x, p) | y
AffineTransform(1.0, -2.0, event_dim=1) | y
ComposeTransform([torch.distributions.AffineTransform(1.0, 2.0), torch.distributions.TanhTransform()]) | x
IndependentTransform(torch.distributions.ExpTransform(), 1) | x
ReshapeTransform((3,), (3, 1)) | x
StickBreakingTransform() | x
CorrCholeskyTransform() | x
CatTransform([torch.distributions.ExpTransform(), torch.distributions.TanhTransform()], 0, [1, 1]) | x
StackTransform([torch.distributions.ExpTransform(), torch.distributions.TanhTransform()], dim=0) | x
CumulativeDistributionTransform(torch.distributions.Normal(x, p)) | y
"""
_transforms = [
    f"t = torch.distributions.{made}; z = t({value}); (z, t.inv(z), t.log_abs_det_jacobian({value}, z), "
    f"t.forward_shape({value}.shape), t.inverse_shape(z.shape))"
    for made, value in (line.split(" | ") for line in _TRANSFORMS.split("\n") if line)
]
_transforms += [
    "t = torch.distributions.AbsTransform(); (t(x), t.inv(p), repr(t))",
    "t = torch.distributions.SoftmaxTransform(); (t(x), t.inv(s), repr(t))",
    "t = torch.distributions.LowerCholeskyTransform(); (t(S), t.inv(L))",
    "t = torch.distributions.PositiveDefiniteTransform(); (t(S), t.inv(S))",
    "torch.distributions.identity_transform(x)",
    "torch.distributions.biject_to(torch.distributions.constraints.positive)(x)",
    "torch.distributions.biject_to(torch.distributions.constraints.simplex)(x)",
    "torch.distributions.biject_to(torch.distributions.constraints.less_than(2.0))(x)",
    "torch.distributions.transform_to(torch.distributions.constraints.interval(-1.0, 3.0))(x)",
    "torch.distributions.transform_to(torch.distributions.constraints.simplex)(x)",
    "torch.distributions.transform_to(torch.distributions.constraints.lower_cholesky)(S)",
    "torch.distributions.transform_to(torch.distributions.constraints.corr_cholesky)(x)",
    "torch.distributions.transform_to(torch.distributions.constraints.independent("
    "torch.distributions.constraints.positive, 1))(x)",
]
_more = [
    "torch.distributions.Bernoulli(u).enumerate_support()",
    "torch.distributions.Binomial(3, u).enumerate_support(expand=False)",
    "torch.distributions.Binomial(3, u).entropy()",
    "torch.distributions.Categorical(s).enumerate_support()",
    "torch.distributions.OneHotCategorical(s).enumerate_support()",
    "torch.distributions.Gamma(torch.tensor(1.5, dtype=torch.float64), q).cdf(u)",
    "torch.distributions.Normal(x, p).expand((4, 2, 3)).log_prob(y)",
    "torch.distributions.Bernoulli(u).expand((4, 2, 3)).entropy()",
    "torch.distributions.Dirichlet(p).expand((4, 2)).log_prob(s)",
    "torch.distributions.MultivariateNormal(x, S).expand((4, 2)).log_prob(y)",
    "torch.distributions.Weibull(p, q).expand((4, 2, 3)).log_prob(u)",
    "torch.distributions.Independent(torch.distributions.Normal(x, p), 1).expand((5, 2)).log_prob(y)",
    "torch.distributions.Poisson(p).log_prob(n)",
    "d = torch.distributions.MultivariateNormal(x[0], S); d.log_prob(torch.stack([y, y * 2, y + 1]))",
]
_programs = {
    "register_kl": """
class Mine(torch.distributions.Normal):
    pass
@torch.distributions.register_kl(Mine, torch.distributions.Normal)
def rule(p, q):
    return p.loc - q.loc
result = torch.distributions.kl_divergence(Mine(x, p), torch.distributions.Normal(y, q))
""",
    "exponential family": """
class Mine(torch.distributions.ExponentialFamily):
    arg_constraints = {"rate": torch.distributions.constraints.positive}
    _mean_carrier_measure = 0
    def __init__(self, rate):
        self.rate = rate
        super().__init__(rate.shape)
    @property
    def _natural_params(self):
        return (-self.rate,)
    def _log_normalizer(self, x):
        return -torch.log(-x)
result = Mine(p).entropy(), torch.distributions.kl_divergence(Mine(p), Mine(q))
""",
    "own distribution": """
class Mine(torch.distributions.Distribution):
    arg_constraints = {}
    support = torch.distributions.constraints.real
    def __init__(self, loc):
        self.loc = loc
        super().__init__(loc.shape)
    def log_prob(self, value):
        return -(value - self.loc) ** 2
result = Mine(x).log_prob(y), Mine(x).batch_shape, Mine(x).event_shape
""",
    "own transform": """
class Cube(torch.distributions.Transform):
    domain = torch.distributions.constraints.real
    codomain = torch.distributions.constraints.real
    bijective = True
    sign = +1
    def _call(self, x):
        return x ** 3
    def _inverse(self, y):
        return y.sign() * y.abs() ** (1 / 3)
    def log_abs_det_jacobian(self, x, y):
        return (3 * x ** 2).log()
result = torch.distributions.TransformedDistribution(torch.distributions.Normal(x, p), Cube()).log_prob(y)
""",
}
_CLASSES = "classes made inside outlive the call, and hold its tensors"
_STREAM = "draws of compiled code come from another stream"
_float64 = [_lines(), *_rsamples, *_samples, *_kl, *_transforms, *_more]
_single = [
    "d = torch.distributions.Normal(x, p); (d.log_prob(y), d.entropy(), d.cdf(y))",
    "d = torch.distributions.Bernoulli(logits=x); (d.log_prob(k), d.entropy())",
    "d = torch.distributions.Categorical(logits=x); (d.log_prob(j), d.entropy())",
    "torch.distributions.kl_divergence(torch.distributions.Normal(x, p), torch.distributions.Normal(y, q))",
    "torch.distributions.Normal(x, p).rsample((2,))",
    "torch.distributions.Normal(x, p).sample((7,))",
    "torch.distributions.Categorical(logits=x).sample((7,))",
    "torch.distributions.Gamma(p, q).sample((7,))",
    # In float64 PyTorch compares the concentration with a float32 number and refuses.
    "d = torch.distributions.GeneralizedPareto(x, p, u - 0.5); (d.log_prob(x + u / 10), d.mean, d.mode, d.entropy(), "
    "d.cdf(x + u / 10), d.icdf(v))",
    "repr(torch.distributions.Normal(x, p))",
    "repr(torch.distributions.Normal(0.0, 1.0))",
    "repr(torch.distributions.Independent(torch.distributions.Bernoulli(u), 1))",
    "repr(torch.distributions.constraints.interval(0, 2))",
    "repr(torch.distributions.constraints.real_vector)",
    "t = torch.distributions.ExpTransform(); repr(torch.distributions.ComposeTransform([t, t.inv]))",
]
_drawing = [
    *(f"{line} [float64]" for line in (*_rsamples, *_samples)),
    *(line for line in _single if "sample(" in line),
]

FAMILY = Family(
    inputs={
        "x": normal(2, 3),
        "y": normal(2, 3),
        "p": uniform(2, 3, low=0.5, high=3.0),
        "q": uniform(2, 3, low=0.5, high=3.0),
        "u": uniform(2, 3, low=0.1, high=0.9),
        "v": uniform(2, 3, low=0.2, high=0.8),
        "s": given([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]], grad=True),
        "s2": given([[0.5, 0.25, 0.25], [0.375, 0.125, 0.5]]),
        "s4": given([[0.25, 0.5, 0.125, 0.125], [0.125, 0.125, 0.5, 0.25]]),
        "t": given(0.75, grad=True),
        "k": given([[0, 1, 1], [1, 0, 1]]),
        "n": given([[0, 3, 1], [5, 2, 4]]),
        "j": given([2, 0], dtype="int64"),
        "h": given([[0, 0, 1], [1, 0, 0]]),
        "c6": given([[2, 3, 1], [0, 0, 6]]),
        "w": normal(2, 3, 2),
        "S": given([[2.0, 0.5, 0.25], [0.5, 1.5, -0.25], [0.25, -0.25, 1.0]], grad=True),
        "L": given([[1.5, 0.0, 0.0], [0.5, 1.0, 0.0], [-0.25, 0.75, 2.0]], grad=True),
        "C": given([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8]], dtype="float64"),
    },
    samples="\n".join(_single),
    variants={"float64": "\n".join(_float64)},
    programs=_programs,
    eager_only=dict.fromkeys(_drawing, _STREAM)
    | {
        "torch.distributions.Binomial(3, u).entropy() [float64]": "the total count is read on the host",
        "torch.distributions.Binomial(3, u).enumerate_support(expand=False) [float64]": "the same",
        "torch.distributions.kl_divergence(torch.distributions.Binomial(4, u), torch.distributions.Binomial(4, v)) "
        "[float64]": "the total counts are compared on the host",
        "repr(torch.distributions.Normal(0.0, 1.0))": "prints values",
        "register_kl": _CLASSES,
        "exponential family": _CLASSES,
    },
    exact={
        f"torch.distributions.{made}.rsample((2,)) [float64]": reason for made, reason in _APPROXIMATE.items()
    },
)
