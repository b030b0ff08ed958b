"""Values from outside are followed through variables, loops and comprehensions."""

from __future__ import annotations

import contextlib
import functools

import pytest
from outside_values import Data, Object, Programs, check_followed, scaled

program = Programs()


GLOBAL = Object(scale=2.0)
FACTOR = 2.0


@program
def local_alias():
    h = Object(cfg=Object(scale=2.0))

    def f(x):
        cfg = h.cfg
        return x * cfg.scale

    return f, lambda: setattr(h.cfg, "scale", 5.0)


@program
def local_alias_branch():
    h = Object(cfg=Object(flag=True))

    def f(x):
        cfg = h.cfg
        if cfg.flag:
            return x * 2
        return x

    return f, lambda: setattr(h.cfg, "flag", False)


@program
def local_alias_dict():
    h = Object(opt={"scale": 2.0})

    def f(x):
        opt = h.opt
        return x * opt["scale"]

    return f, lambda: h.opt.update(scale=5.0)


@program
def self_method_alias():
    class T:
        def __init__(self):
            self.cfg = Object(scale=2.0)

        def f(self, x):
            cfg = self.cfg
            return x * cfg.scale

    t = T()
    return t.f, lambda: setattr(t.cfg, "scale", 5.0)


@program
def walrus():
    h = Object(cfg=Object(scale=2.0))

    def f(x):
        if (c := h.cfg) is not None:
            return x * c.scale

    return f, lambda: setattr(h.cfg, "scale", 5.0)


@program
def conditional_value():
    h = Object(a=Object(scale=2.0), b=Object(scale=3.0), which=True)

    def f(x):
        c = h.a if h.which else h.b
        return x * c.scale

    return f, lambda: setattr(h.a, "scale", 5.0)


@program
def or_value():
    h = Object(a=None, b=Object(scale=3.0))
    return (lambda x: x * (h.a or h.b).scale), lambda: setattr(h.b, "scale", 5.0)


@program
def tuple_unpacking():
    h = Object(pair=(Object(scale=2.0), Object(scale=3.0)))

    def f(x):
        a, b = h.pair
        return x * a.scale * b.scale

    return f, lambda: setattr(h.pair[1], "scale", 5.0)


@program
def reassigned_local():
    h = Object(a=Object(scale=2.0), next=None)
    h.next = Object(a=Object(scale=3.0), next=None)

    def f(x):
        n = h
        while n is not None:
            x = x * n.a.scale
            n = n.next
        return x

    return f, lambda: setattr(h.next.a, "scale", 5.0)


@program
def nested_closure():
    h = Object(cfg=Object(scale=2.0))

    def f(x):
        cfg = h.cfg

        def inner(y):
            return y * cfg.scale

        return inner(x)

    return f, lambda: setattr(h.cfg, "scale", 5.0)


@program
def loop_over_objects():
    h = Object(layers=[Object(scale=2.0), Object(scale=3.0)])

    def f(x):
        for layer in h.layers:
            x = layer.scale * x
        return x

    return f, lambda: setattr(h.layers[1], "scale", 5.0)


@program
def loop_over_global_objects():
    layers = [Object(scale=2.0), Object(scale=3.0)]

    def f(x):
        for i in range(len(layers)):
            x = layers[i].scale * x
        return x

    return f, lambda: setattr(layers[1], "scale", 5.0)


@program
def enumerate_zip():
    a, b = [Object(scale=2.0), Object(scale=3.0)], (Object(scale=1.0), Object(scale=2.0))

    def f(x):
        for i, (p, q) in enumerate(zip(a, b)):
            x = x * p.scale * q.scale + i
        return x

    return f, lambda: setattr(b[1], "scale", 5.0)


@program
def comprehension():
    layers = [Object(scale=2.0), Object(scale=3.0)]
    return (lambda x: sum([x * c.scale for c in layers])), lambda: setattr(layers[0], "scale", 5.0)


@program
def generator():
    layers = [Object(scale=2.0), Object(scale=3.0)]
    return (lambda x: sum(x * c.scale for c in layers if c.scale > 0)), lambda: setattr(
        layers[0], "scale", 5.0
    )


@program
def map_lambda():
    layers = [Object(scale=2.0), Object(scale=3.0)]
    return (lambda x: sum(map(scaled, layers, (x, x)))), lambda: setattr(layers[0], "scale", 5.0)


@program
def sorted_objects():
    layers = [Object(scale=2.0), Object(scale=3.0)]

    def f(x):
        first = sorted(layers, key=lambda c: c.scale)[0]
        return x * first.scale

    return f, lambda: setattr(layers[1], "scale", 1.0)


@program
def reduce_objects():
    layers = [Object(scale=2.0), Object(scale=3.0)]
    return (lambda x: functools.reduce(lambda y, c: y * c.scale, layers, x)), lambda: setattr(
        layers[1], "scale", 5.0
    )


@program
def with_target():
    cfg = Object(scale=2.0)

    @contextlib.contextmanager
    def using():
        yield cfg

    def f(x):
        with using() as c:
            return x * c.scale

    return f, lambda: setattr(cfg, "scale", 5.0)


@program
def with_object():
    class W:
        def __init__(self):
            self.cfg = Object(scale=2.0)

        def __enter__(self):
            return self.cfg

        def __exit__(self, *a):
            pass

    w = W()

    def f(x):
        with w as c:
            return x * c.scale

    return f, lambda: setattr(w.cfg, "scale", 5.0)


@program
def match_statement():
    h = Object(cfg=Data())

    def f(x):
        match h.cfg:
            case Data(scale=s):
                return x * s

    return f, lambda: setattr(h.cfg, "scale", 5.0)


@program
def try_value():
    h = Object(opt={"a": 2.0})

    def f(x):
        opt = h.opt
        try:
            return x * opt["b"]
        except KeyError:
            return x * opt["a"]

    return f, lambda: h.opt.update(b=5.0)


@program
def global_object_alias():
    def f(x):
        c = GLOBAL
        return x * c.scale

    return f, lambda: setattr(GLOBAL, "scale", GLOBAL.scale + 3)


@program
def global_object_replaced():
    def f(x):
        c = GLOBAL
        return x * c.scale

    return f, lambda: globals().update(GLOBAL=Object(scale=GLOBAL.scale + 3))


@program
def globals_call():
    return (lambda x: x * globals()["FACTOR"]), lambda: globals().update(FACTOR=FACTOR + 3)


@pytest.mark.parametrize("name", program.found)
def test_a_change_is_followed(name):
    check_followed(*program.found[name]())
