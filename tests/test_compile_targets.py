"""The same step for every x86-64 vector width that this machine can run, and NEON as assembly."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from networks import digits, lenet
from test_compile_step import OPTIMIZERS, make_step, relative

import vitrify as torch
from vitrify.codegen.llvm import assembly, emit_program
from vitrify.codegen.lower import lower_graph
from vitrify.codegen.target import Target
from vitrify.runtime.compiled_graph import CompileOptions

WIDTHS = {"sse2": 16, "avx2": 32, "avx512": 64}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="runs x86-64 code")
@pytest.mark.parametrize("isa", WIDTHS)
def test_a_step_compiled_for_a_vector_width_follows_eager(isa):
    target = Target.named(f"x86-64-{isa}")
    if target.vector_bytes > Target.host().vector_bytes:
        pytest.skip(f"this machine has no {isa}")
    eager_net, net = lenet(), lenet()
    eager = make_step(eager_net, OPTIMIZERS["momentum"](eager_net.parameters()))
    step = torch.compile(
        make_step(net, OPTIMIZERS["momentum"](net.parameters())),
        options=CompileOptions(target=target, cache=False),
    )
    x, y = digits(9)
    for _ in range(3):
        assert relative(step(x, y), eager(x, y)) < 1e-4
    for p, q in zip(net.parameters(), eager_net.parameters()):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_a_step_for_neon_is_vector_code():
    net = lenet()
    step = torch.compile(make_step(net, OPTIMIZERS["momentum"](net.parameters())))
    step(*digits(9))
    target = Target.named("aarch64-neon")
    program = lower_graph(step.graph("fused"), target)
    text = "".join(assembly(module, target) for module in emit_program(program, target))
    assert text.count("fmla\tv") > 100
