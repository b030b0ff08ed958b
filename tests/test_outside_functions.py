"""Functions that compiled code calls: which they are, and what they read."""

from __future__ import annotations

import functools
import operator

import pytest
from outside_values import Object, Programs, check_followed, scaled

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F

program = Programs()


FACTOR = 2.0


def by_global(x):
    return x * FACTOR


@program
def helper_replaced():
    return (lambda x: by_global(x)), lambda: globals().update(by_global=lambda x: x * 7)


@program
def closure_helper_replaced():
    g = lambda x: x * 2

    def change():
        nonlocal g
        g = lambda x: x * 5

    return (lambda x: g(x)), change


@program
def attribute_function_replaced():
    h = Object(act=F.relu)
    return (lambda x: h.act(x)), lambda: setattr(h, "act", torch.exp)


@program
def attribute_function_user():
    h = Object(act=lambda x: x * 2)
    return (lambda x: h.act(x)), lambda: setattr(h, "act", lambda x: x * 5)


@program
def method_replaced():
    class T:
        def of(self, x):
            return x * 2

    t = T()
    return (lambda x: t.of(x)), lambda: setattr(T, "of", lambda self, x: x * 5)


@program
def functions_in_list():
    k = 2.0

    def g(x):
        return x * k

    h = Object(fns=[g])

    def change():
        nonlocal k
        k = 5.0

    def f(x):
        for fn in h.fns:
            x = fn(x)
        return x

    return f, change


@program
def function_from_table():
    state = Object(scale=2.0)

    def g(x):
        return x * state.scale

    table = {"g": g}
    h = Object(name="g")
    return (lambda x: table[h.name](x)), lambda: setattr(state, "scale", 5.0)


@program
def function_by_parameter():
    k = [2.0]

    def g(x):
        return x * k[0]

    def apply(fn, x):
        return fn(x)

    return (lambda x: apply(g, x)), lambda: k.__setitem__(0, 5.0)


@program
def partial_object():
    cfg = Object(scale=2.0)
    g = functools.partial(scaled, cfg)
    return (lambda x: g(x)), lambda: setattr(cfg, "scale", 5.0)


@program
def compiled_partial():
    cfg = Object(scale=2.0)
    return functools.partial(scaled, cfg), lambda: setattr(cfg, "scale", 5.0)


@program
def decorated():
    cfg = Object(scale=2.0)

    def times(fn):
        def wrapper(x):
            return fn(x) * cfg.scale

        return wrapper

    @times
    def g(x):
        return x

    return (lambda x: g(x)), lambda: setattr(cfg, "scale", 5.0)


@program
def callable_object():
    class C:
        def __init__(self):
            self.k = Object(scale=2.0)

        def __call__(self, x):
            return x * self.k.scale

    c = C()
    return (lambda x: c(x)), lambda: setattr(c.k, "scale", 5.0)


@program
def callable_alias():
    class C:
        def __init__(self):
            self.k = 2.0

        def __call__(self, x):
            return x * self.k

    h = Object(c=C())

    def f(x):
        c = h.c
        return c(x)

    return f, lambda: setattr(h.c, "k", 5.0)


@program
def custom_function():
    cfg = Object(scale=2.0)

    class Fn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            c = cfg
            return x * c.scale

        @staticmethod
        def backward(ctx, g):
            return g

    return (lambda x: Fn.apply(x)), lambda: setattr(cfg, "scale", 5.0)


@program
def hook_object():
    cfg = Object(scale=2.0)
    lin = nn.Identity()
    lin.register_forward_hook(lambda m, a, out: scaled(cfg, out))
    return lin, lambda: setattr(cfg, "scale", 5.0)


@program
def made_inside():
    h = Object(cfg=Object(scale=2.0))

    class L:
        def __init__(self, cfg):
            self.cfg = cfg

        def __call__(self, x):
            return x * self.cfg.scale

    def f(x):
        return L(h.cfg)(x)

    return f, lambda: setattr(h.cfg, "scale", 5.0)


@program
def made_inside_global():
    class L:
        def __call__(self, x):
            return x * FACTOR

    def f(x):
        return L()(x)

    return f, lambda: globals().update(FACTOR=FACTOR + 3)


@program
def attrgetter():
    cfg = Object(inner=Object(scale=2.0))
    g = operator.attrgetter("inner.scale")
    return (lambda x: x * g(cfg)), lambda: setattr(cfg.inner, "scale", 5.0)


@pytest.mark.parametrize("name", program.found)
def test_a_change_is_followed(name):
    check_followed(*program.found[name]())
