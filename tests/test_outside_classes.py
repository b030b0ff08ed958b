"""Attributes of classes, and what classes make of attributes."""

from __future__ import annotations

import enum
import functools
import types

import pytest
from outside_values import Object, Programs, check_followed, scaled

program = Programs()


class Slotted:
    __slots__ = ("scale",)

    def __init__(self):
        self.scale = 2.0


@program
def class_alias():
    class C:
        scale = 2.0

    h = Object(cls=C)

    def f(x):
        c = h.cls
        return x * c.scale

    return f, lambda: setattr(C, "scale", 5.0)


@program
def class_parameter():
    class C:
        scale = 2.0

    return (lambda x: scaled(C, x)), lambda: setattr(C, "scale", 5.0)


@program
def class_default_attribute():
    class C:
        scale = 2.0

    c = C()

    def f(x):
        d = c
        return x * d.scale

    return f, lambda: setattr(C, "scale", 5.0)


@program
def type_of_self():
    class C:
        scale = 2.0

        def of(self, x):
            return x * type(self).scale

    c = C()
    return c.of, lambda: setattr(C, "scale", 5.0)


@program
def class_method():
    class C:
        scale = 2.0

        @classmethod
        def of(cls, x):
            return x * cls.scale

    return (lambda x: C.of(x)), lambda: setattr(C, "scale", 5.0)


@program
def super_attribute():
    class B:
        scale = 2.0

    class C(B):
        scale = 7.0

        def of(self, x):
            return x * super().scale

    c = C()
    return c.of, lambda: setattr(B, "scale", 5.0)


@program
def super_method():
    class B:
        def of(self, x):
            c = self.cfg
            return x * c.scale

    class C(B):
        def __init__(self):
            self.cfg = Object(scale=2.0)

        def of(self, x):
            return super().of(x)

    c = C()
    return c.of, lambda: setattr(c.cfg, "scale", 5.0)


@program
def enum_member():
    class E(enum.Enum):
        A = 2.0
        B = 5.0

    h = Object(e=E.A)

    def f(x):
        e = h.e
        return x * e.value

    return f, lambda: setattr(h, "e", E.B)


@program
def descriptor():
    class Field:
        def __set_name__(self, o, n):
            self.n = "_" + n

        def __get__(self, o, t=None):
            return self if o is None else getattr(o, self.n)

        def __set__(self, o, v):
            setattr(o, self.n, v)

    class C:
        scale = Field()

        def __init__(self):
            self.scale = 2.0

    h = Object(c=C())

    def f(x):
        c = h.c
        return x * c.scale

    return f, lambda: setattr(h.c, "scale", 5.0)


@program
def cached_property():
    class C:
        def __init__(self):
            self.k = 2.0

        @functools.cached_property
        def double(self):
            return self.k * 2

    c = C()

    def change():
        del c.double
        c.k = 5.0

    return (lambda x: x * c.double), change


@program
def slots():
    h = Object(cfg=Slotted())

    def f(x):
        c = h.cfg
        return x * c.scale

    return f, lambda: setattr(h.cfg, "scale", 5.0)


@program
def python_module_alias():
    mod = types.ModuleType("settings")
    mod.scale = 2.0
    mod.__file__ = "settings.py"
    h = Object(m=mod)

    def f(x):
        m = h.m
        return x * m.scale

    return f, lambda: setattr(mod, "scale", 5.0)


@pytest.mark.parametrize("name", program.found)
def test_a_change_is_followed(name):
    check_followed(*program.found[name]())
