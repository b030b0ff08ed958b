"""`torch.func`: functions to functions: derivatives (`grad`, `vjp`, `jvp`, `jacrev`, ...) and batches (`vmap`)."""

from .differentiation import grad, grad_and_value, jvp, linearize, vjp
from .functional_call import (
    functional_call,
    functionalize,
    replace_all_batch_norm_modules_,
    stack_module_state,
)
from .jacobians import hessian, jacfwd, jacrev
from .rearranging import rearrange
from .unwrap import debug_unwrap
from .vmap_api import vmap

__all__ = [
    "debug_unwrap", "functional_call", "functionalize", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev",
    "jvp", "linearize", "rearrange", "replace_all_batch_norm_modules_", "stack_module_state", "vjp", "vmap",
]  # fmt: skip
