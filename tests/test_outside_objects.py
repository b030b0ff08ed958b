"""Attributes of objects, in whatever way code asks for them."""

from __future__ import annotations

import contextvars
import dataclasses
import os
import threading
import types
import warnings
import weakref

import pytest
from outside_values import Data, Object, Programs, check_followed, scaled

import vitrify as torch

program = Programs()


@program
def through_property():
    class T:
        def __init__(self):
            self.c = Object(scale=2.0)

        @property
        def config(self):
            return self.c

    t = T()
    return (lambda x: x * t.config.scale), lambda: setattr(t.c, "scale", 5.0)


@program
def getattr_call():
    cfg = Object(scale=2.0)
    return (lambda x: x * getattr(cfg, "sca" + "le")), lambda: setattr(cfg, "scale", 5.0)


@program
def hasattr_call():
    cfg = Object(scale=2.0)
    return (lambda x: x * (3 if hasattr(cfg, "flag") else 2)), lambda: setattr(cfg, "flag", 1)


@program
def getattr_default():
    cfg = Object(scale=2.0)
    return (lambda x: x * getattr(cfg, "other", 2.0)), lambda: setattr(cfg, "other", 5.0)


@program
def vars_call():
    cfg = Object(scale=2.0)

    def f(x):
        for v in vars(cfg).values():
            x = x * v
        return x

    return f, lambda: setattr(cfg, "scale", 5.0)


@program
def operator_method():
    class S:
        def __init__(self):
            self.k = 2.0

        def __rmul__(self, x):
            return x * self.k

        def __getitem__(self, i):
            return self.k

        def __iter__(self):
            yield self.k

        def __len__(self):
            return int(self.k)

    h = Object(s=S())

    def f(x):
        s = h.s
        return x * s[0] + len(s)

    return f, lambda: setattr(h.s, "k", 5.0)


@program
def iterable_object():
    class S:
        def __init__(self):
            self.k = [Object(scale=2.0)]

        def __iter__(self):
            return iter(self.k)

    s = S()

    def f(x):
        for c in s:
            x = x * c.scale
        return x

    return f, lambda: setattr(s.k[0], "scale", 5.0)


@program
def dataclass_property():
    h = Object(cfg=Data())

    def f(x):
        c = h.cfg
        return x * c.doubled

    return f, lambda: setattr(h.cfg, "scale", 5.0)


@program
def dataclass_fields():
    h = Object(cfg=Data())
    return (lambda x: x * dataclasses.asdict(h.cfg)["scale"]), lambda: setattr(h.cfg, "scale", 5.0)


@program
def simple_namespace_alias():
    h = Object(cfg=types.SimpleNamespace(scale=2.0))

    def f(x):
        c = h.cfg
        return x * c.scale

    return f, lambda: setattr(h.cfg, "scale", 5.0)


@program
def simple_namespace_parameter():
    cfg = types.SimpleNamespace(scale=2.0)
    return (lambda x: scaled(cfg, x)), lambda: setattr(cfg, "scale", 5.0)


@program
def proxy():
    class P:
        def __init__(self, d):
            self._d = d

        def __getattr__(self, k):
            return self._d[k]

    p = P({"scale": 2.0})

    def f(x):
        q = p
        return x * q.scale

    return f, lambda: p._d.update(scale=5.0)


@program
def eq_dataclass_replaced():
    h = Object(cfg=Data())

    def f(x):
        c = h.cfg
        return x * c.scale

    def change():
        h.cfg = Data()
        h.cfg.scale = 5.0

    return f, change


@program
def weakref_value():
    cfg = Object(scale=2.0)
    r = weakref.ref(cfg)
    keep = [cfg]
    return (lambda x: x * r().scale), lambda: setattr(keep[0], "scale", 5.0)


@program
def context_variable():
    v = contextvars.ContextVar("v", default=2.0)
    return (lambda x: x * v.get()), lambda: v.set(5.0)


@program
def thread_local():
    t = threading.local()
    t.scale = 2.0
    h = Object(t=t)

    def f(x):
        u = h.t
        return x * u.scale

    return f, lambda: setattr(t, "scale", 5.0)


@program
def environment():
    os.environ["OUTSIDE_SCALE"] = "2"
    return (lambda x: x * float(os.environ.get("OUTSIDE_SCALE"))), lambda: os.environ.__setitem__(
        "OUTSIDE_SCALE", "5"
    )


@program
def environment_item():
    os.environ["OUTSIDE_SCALE"] = "2"
    return (lambda x: x * float(os.environ["OUTSIDE_SCALE"])), lambda: os.environ.__setitem__(
        "OUTSIDE_SCALE", "5"
    )


@pytest.mark.parametrize("name", program.found)
def test_a_change_is_followed(name):
    check_followed(*program.found[name]())


def test_an_attribute_that_the_code_sets_and_resets_is_traced_once() -> None:
    """As transformers collects what its layers give."""

    class Box:
        def __init__(self) -> None:
            self.seen, self.count = None, 0

    box = Box()

    def collecting(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        box.seen = []
        y = x * 2
        box.seen.append(y)
        found = tuple(box.seen)
        box.seen = None
        return (y + 1, *found)

    compiled = torch.compile(collecting)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert [t.tolist() for t in compiled(torch.ones(1))] == [[3], [2]]
    assert len(compiled.explain().facts["compiles"]) == 1
    box.seen = ()
    assert [t.tolist() for t in compiled(torch.ones(1))] == [[3], [2]]
    assert box.seen is None

    def counting(x: torch.Tensor) -> torch.Tensor:
        box.count += 1
        return x * box.count

    counts = torch.compile(counting)
    with pytest.warns(RuntimeWarning, match="changes box.count itself"):
        assert [counts(torch.ones(1)).item() for _ in range(3)] == [1, 2, 3]


def test_a_class_whose_special_methods_name_it() -> None:
    class First:
        def __init__(self, factor: float):
            self.factor = factor

        def __eq__(self, other: object) -> bool:
            return isinstance(other, First) and self.factor == other.factor

    class Second(First):
        pass

    held = Second(2.0)
    assert torch.compile(lambda x: x * held.factor)(torch.ones(2)).tolist() == [2, 2]
