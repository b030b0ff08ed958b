"""Plain objects that modules, tensors and optimizers hold."""

from __future__ import annotations

import pytest
from outside_values import Object, Programs, check_followed, scaled

import vitrify as torch
import vitrify.nn as nn

program = Programs()


@program
def module_attribute_object():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.cfg = Object(scale=2.0)

        def forward(self, x):
            cfg = self.cfg
            return x * cfg.scale

    m = M()
    return m, lambda: setattr(m.cfg, "scale", 5.0)


@program
def module_list_of_objects():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = [Object(scale=2.0), Object(scale=3.0)]

        def forward(self, x):
            for p in self.parts:
                x = x * p.scale
            return x

    m = M()
    return nn.Sequential(m), lambda: setattr(m.parts[1], "scale", 5.0)


@program
def module_dict_alias():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.opt = {"scale": 2.0}

        def forward(self, x):
            opt = self.opt
            return self.of(opt, x)

        def of(self, opt, x):
            return x * opt["scale"]

    m = M()
    return m, lambda: m.opt.update(scale=5.0)


@program
def module_parameter():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.cfg = Object(scale=2.0)

        def forward(self, x):
            return scaled(self.cfg, x)

    m = M()
    return (lambda x: m(x)), lambda: setattr(m.cfg, "scale", 5.0)


@program
def module_class_attribute():
    class M(nn.Module):
        scale = 2.0

        def forward(self, x):
            return x * self.scale

    m = M()
    return m, lambda: setattr(M, "scale", 5.0)


@program
def modules_in_plain_list():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.cfg = Object(scale=2.0)

        def forward(self, x):
            return x * self.cfg.scale

    ms = [M(), M()]

    def f(x):
        for m in ms:
            x = m(x)
        return x

    return f, lambda: setattr(ms[1].cfg, "scale", 5.0)


@program
def tensor_attribute():
    p = torch.ones(1)
    p.scale = 2.0
    h = Object(p=p)

    def f(x):
        q = h.p
        return x * q.scale

    return f, lambda: setattr(p, "scale", 5.0)


@program
def tensor_in_object():
    h = Object(cfg=Object(scale=torch.full((1,), 2.0)))

    def f(x):
        c = h.cfg
        return x * c.scale

    return f, lambda: setattr(h.cfg, "scale", torch.full((1,), 5.0))


@program
def lr_of_library_optimizer():
    p = nn.Parameter(torch.ones(1))
    o = torch.optim.SGD([p], lr=2.0)
    h = Object(o=o)

    def f(x):
        for g in h.o.param_groups:
            x = x * g["lr"]
        return x

    return f, lambda: o.param_groups[0].__setitem__("lr", 5.0)


@pytest.mark.parametrize("name", program.found)
def test_a_change_is_followed(name):
    check_followed(*program.found[name]())
