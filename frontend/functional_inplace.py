"""The in-place functions of `torch` (`torch.abs_`): the tensor's method of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .arguments import tensor_argument
from .elementwise import named
from .tensor import Tensor


def _inplace(name: str) -> Callable[..., Tensor]:
    method = getattr(Tensor, name)

    def function(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = method(tensor_argument(input, name), *args, **kwargs)
        return result

    return named(function, name, f"`Tensor.{name}`.")


abs_ = _inplace("abs_")
acos_ = _inplace("acos_")
acosh_ = _inplace("acosh_")
addmv_ = _inplace("addmv_")
arccos_ = _inplace("arccos_")
arccosh_ = _inplace("arccosh_")
arcsin_ = _inplace("arcsin_")
arcsinh_ = _inplace("arcsinh_")
arctan_ = _inplace("arctan_")
arctanh_ = _inplace("arctanh_")
as_strided_ = _inplace("as_strided_")
asin_ = _inplace("asin_")
asinh_ = _inplace("asinh_")
atan_ = _inplace("atan_")
atanh_ = _inplace("atanh_")
ceil_ = _inplace("ceil_")
clamp_ = _inplace("clamp_")
clamp_max_ = _inplace("clamp_max_")
clamp_min_ = _inplace("clamp_min_")
clip_ = _inplace("clip_")
conj_physical_ = _inplace("conj_physical_")
cos_ = _inplace("cos_")
cosh_ = _inplace("cosh_")
deg2rad_ = _inplace("deg2rad_")
detach_ = _inplace("detach_")
erf_ = _inplace("erf_")
erfc_ = _inplace("erfc_")
exp2_ = _inplace("exp2_")
exp_ = _inplace("exp_")
expm1_ = _inplace("expm1_")
fill_ = _inplace("fill_")
fix_ = _inplace("fix_")
floor_ = _inplace("floor_")
frac_ = _inplace("frac_")
gcd_ = _inplace("gcd_")
i0_ = _inplace("i0_")
index_put_ = _inplace("index_put_")
lcm_ = _inplace("lcm_")
ldexp_ = _inplace("ldexp_")
log10_ = _inplace("log10_")
log1p_ = _inplace("log1p_")
log2_ = _inplace("log2_")
log_ = _inplace("log_")
logit_ = _inplace("logit_")
nan_to_num_ = _inplace("nan_to_num_")
neg_ = _inplace("neg_")
negative_ = _inplace("negative_")
rad2deg_ = _inplace("rad2deg_")
reciprocal_ = _inplace("reciprocal_")
resize_as_ = _inplace("resize_as_")
round_ = _inplace("round_")
rsqrt_ = _inplace("rsqrt_")
sigmoid_ = _inplace("sigmoid_")
sin_ = _inplace("sin_")
sinc_ = _inplace("sinc_")
sinh_ = _inplace("sinh_")
sqrt_ = _inplace("sqrt_")
square_ = _inplace("square_")
tan_ = _inplace("tan_")
tanh_ = _inplace("tanh_")
trunc_ = _inplace("trunc_")
xlogy_ = _inplace("xlogy_")
zero_ = _inplace("zero_")


# The names of `torch` that are defined here. (Those of activations are in `nn.functional`.)
__all__ = [
    "abs_",
    "acos_",
    "acosh_",
    "addmv_",
    "arccos_",
    "arccosh_",
    "arcsin_",
    "arcsinh_",
    "arctan_",
    "arctanh_",
    "as_strided_",
    "asin_",
    "asinh_",
    "atan_",
    "atanh_",
    "ceil_",
    "clamp_",
    "clamp_max_",
    "clamp_min_",
    "clip_",
    "conj_physical_",
    "cos_",
    "cosh_",
    "deg2rad_",
    "detach_",
    "erf_",
    "erfc_",
    "exp2_",
    "exp_",
    "expm1_",
    "fill_",
    "fix_",
    "floor_",
    "frac_",
    "gcd_",
    "i0_",
    "index_put_",
    "lcm_",
    "ldexp_",
    "log1p_",
    "log2_",
    "log10_",
    "log_",
    "logit_",
    "nan_to_num_",
    "neg_",
    "negative_",
    "rad2deg_",
    "reciprocal_",
    "resize_as_",
    "round_",
    "rsqrt_",
    "sigmoid_",
    "sin_",
    "sinc_",
    "sinh_",
    "sqrt_",
    "square_",
    "tan_",
    "tanh_",
    "trunc_",
    "xlogy_",
    "zero_",
]  # fmt: skip
