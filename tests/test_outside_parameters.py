"""Values from outside are followed through parameters and results of helpers."""

from __future__ import annotations

import functools

import pytest
from outside_values import Object, Programs, check_followed, scaled, scaled_item

program = Programs()


def scaled_default(x, cfg=Object(scale=2.0)):
    return x * cfg.scale


def second_first(function, config, x):
    return function(x, config)


@program
def helper_parameter():
    cfg = Object(scale=2.0)
    return (lambda x: scaled(cfg, x)), lambda: setattr(cfg, "scale", 5.0)


@program
def helper_parameter_item():
    h = Object(opt={"scale": 2.0})
    return (lambda x: scaled_item(h.opt, x)), lambda: h.opt.update(scale=5.0)


@program
def helper_keyword():
    cfg = Object(scale=2.0)
    return (lambda x: scaled(x=x, config=cfg)), lambda: setattr(cfg, "scale", 5.0)


@program
def helper_star():
    pair = (Object(scale=2.0),)

    def f(x):
        return scaled(*pair, x)

    return f, lambda: setattr(pair[0], "scale", 5.0)


@program
def default_argument():
    return (lambda x: scaled_default(x)), lambda: setattr(
        scaled_default.__defaults__[0], "scale", scaled_default.__defaults__[0].scale + 3
    )


@program
def own_default():
    cfg = Object(scale=2.0)

    def f(x, c=cfg):
        return x * c.scale

    return f, lambda: setattr(cfg, "scale", 5.0)


@program
def own_default_dict():
    cfg = {"scale": 2.0}

    def f(x, c=cfg):
        return x * c["scale"]

    return f, lambda: cfg.update(scale=5.0)


@program
def method_parameter():
    class T:
        def of(self, cfg, x):
            return x * cfg.scale

    t, cfg = T(), Object(scale=2.0)
    return (lambda x: t.of(cfg, x)), lambda: setattr(cfg, "scale", 5.0)


@program
def lambda_parameter():
    cfg = Object(scale=2.0)
    g = lambda c, x: x * c.scale
    return (lambda x: g(cfg, x)), lambda: setattr(cfg, "scale", 5.0)


@program
def static_method():
    class C:
        @staticmethod
        def of(c, x):
            return x * c.scale

    cfg = Object(scale=2.0)
    return (lambda x: C.of(cfg, x)), lambda: setattr(cfg, "scale", 5.0)


@program
def through_keyword_dictionary():
    cfg = Object(scale=2.0)

    def outer(x, *args, **kw):
        return scaled(kw["c"], x)

    return (lambda x: outer(x, c=cfg)), lambda: setattr(cfg, "scale", 5.0)


@program
def returned_by_helper():
    cfg = Object(scale=2.0)

    def get():
        return cfg

    return (lambda x: x * get().scale), lambda: setattr(cfg, "scale", 5.0)


@program
def returned_by_method():
    class T:
        def __init__(self):
            self.c = Object(scale=2.0)

        def config(self):
            return self.c

    t = T()
    return (lambda x: x * t.config().scale), lambda: setattr(t.c, "scale", 5.0)


@program
def recursion():
    tree = Object(k=2.0, children=[Object(k=3.0, children=[])])

    def walk(t, x):
        x = x * t.k
        for c in t.children:
            x = walk(c, x)
        return x

    return (lambda x: walk(tree, x)), lambda: setattr(tree.children[0], "k", 5.0)


@program
def argument_object():
    cfg = Object(scale=2.0)

    def f(x, c):
        d = c
        return scaled(d, x)

    return functools.partial(second_first, f, cfg), lambda: setattr(cfg, "scale", 5.0)


@program
def argument_list_of_objects():
    cs = [Object(scale=2.0)]
    return functools.partial(second_first, lambda x, c: x * c[0].scale, cs), lambda: setattr(
        cs[0], "scale", 5.0
    )


@pytest.mark.parametrize("name", program.found)
def test_a_change_is_followed(name):
    check_followed(*program.found[name]())
