"""Items of containers, and NumPy's numbers and arrays."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from outside_values import Object, Programs, check_followed

import vitrify as torch

program = Programs()


TABLE = {"scale": 2.0}


@program
def dict_get():
    h = Object(opt={"scale": 2.0})
    return (lambda x: x * h.opt.get("scale", 1.0)), lambda: h.opt.update(scale=5.0)


@program
def dict_get_default():
    h = Object(opt={})
    return (lambda x: x * h.opt.get("scale", 1.0)), lambda: h.opt.update(scale=5.0)


@program
def dict_computed_key():
    h = Object(opt={"a1": 2.0, "a2": 3.0})

    def f(x):
        for i in (1, 2):
            x = x * h.opt[f"a{i}"]
        return x

    return f, lambda: h.opt.update(a2=5.0)


@program
def dict_of_objects():
    h = Object(opt={"a": Object(scale=2.0), "b": Object(scale=3.0)})

    def f(x):
        for c in h.opt.values():
            x = x * c.scale
        return x

    return f, lambda: setattr(h.opt["b"], "scale", 5.0)


@program
def dict_alias_global():
    def f(x):
        t = TABLE
        return x * t["scale"]

    return f, lambda: TABLE.update(scale=TABLE["scale"] + 3)


@program
def nested_dict_alias():
    h = Object(opt={"a": {"b": {"scale": 2.0}}})

    def f(x):
        a = h.opt["a"]
        b = a["b"]
        return x * b["scale"]

    return f, lambda: h.opt["a"]["b"].update(scale=5.0)


@program
def deep_containers():
    h = Object(opt=[[[[2.0]]]])

    def f(x):
        o = h.opt
        return x * o[0][0][0][0]

    return f, lambda: h.opt[0][0][0].__setitem__(0, 5.0)


@program
def long_list():
    h = Object(scales=[1.0] * 99 + [2.0])

    def f(x):
        for s in h.scales:
            x = x * s
        return x

    return f, lambda: h.scales.__setitem__(99, 5.0)


@program
def long_list_alias():
    h = Object(scales=[1.0] * 99 + [2.0])

    def f(x):
        s = h.scales
        return x * s[-1]

    return f, lambda: h.scales.__setitem__(99, 5.0)


@program
def named_tuple():
    P = collections.namedtuple("P", "cfg k")
    p = P(Object(scale=2.0), 1)

    def f(x):
        q = p
        return x * q.cfg.scale

    return f, lambda: setattr(p.cfg, "scale", 5.0)


@program
def chain_map():
    a, b = {}, {"scale": 2.0}
    c = collections.ChainMap(a, b)
    return (lambda x: x * c["scale"]), lambda: a.update(scale=5.0)


@program
def deque():
    d = collections.deque([2.0, 3.0])
    return (lambda x: x * d[0]), lambda: d.rotate(1)


@program
def set_members():
    s = {"a"}
    return (lambda x: x * (2 if "b" in s else 3)), lambda: s.add("b")


@program
def dict_subclass():
    class D(dict):
        def __getattr__(self, k):
            return self[k]

    d = D(scale=2.0)

    def f(x):
        e = d
        return x * e.scale

    return f, lambda: d.update(scale=5.0)


@program
def numpy_scalar():
    h = Object(k=np.float32(2.0))
    return (lambda x: x * float(h.k)), lambda: setattr(h, "k", np.float32(5.0))


@program
def numpy_array():
    h = Object(k=np.array([2.0, 3.0], np.float32))
    return (lambda x: x * torch.tensor(h.k)[0]), lambda: h.k.__setitem__(0, 5.0)


@program
def numpy_array_number():
    a = np.array([2.0, 3.0])
    return (lambda x: x * float(a[0])), lambda: a.__setitem__(0, 5.0)


@pytest.mark.parametrize("name", program.found)
def test_a_change_is_followed(name):
    check_followed(*program.found[name]())
