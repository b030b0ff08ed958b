"""Loading machine code: symbols, the cache of helper modules, bad text."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from vitrify.codegen.llvm import compile as llvm_compile
from vitrify.runtime import loading

TEXT = "define i64 @thrice(i64 %x) {\n  %y = mul i64 %x, 3\n  ret i64 %y\n}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_a_function_is_found_by_name_and_called() -> None:
    code = loading.load_llvm_text(TEXT)
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address("thrice"))(14) == 42
    with pytest.raises(KeyError, match="the object code has no function 'four'"):
        code.address("four")


def test_a_helper_module_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading.load_llvm_text(TEXT)
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(loading, "compile_module", lambda *_: pytest.fail("compiled again"))
    assert loading.load_llvm_text(TEXT).address("thrice")


def test_text_that_is_no_module_says_where() -> None:
    with pytest.raises(RuntimeError, match="LLVM IR parsing error"):
        llvm_compile.compile_module("define i64 @f() { ret i32 0 }", loading.Target.host())


FAR_APART = """
import ctypes
import vitrify as torch

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE, FAR = 4096, 4 << 30
x = torch.randn(20, 30)


def reserve(size):
    return libc.mmap(None, size, 0, 0x4022, -1, 0)  # no access, private, anonymous, nothing reserved


def check(factor):
    f = torch.compile(lambda x: ((x @ x.T) * factor).softmax(1).sum(0) + x.std())
    torch.testing.assert_close(f(x), ((x @ x.T) * factor).softmax(1).sum(0) + x.std())


check(100.0)
for pages in range(1, 13):
    hole = reserve(PAGE * pages)
    bottom = reserve(FAR)
    while reserve(PAGE) > bottom:  # no other place is left above
        pass
    libc.munmap(hole, PAGE * pages)
    check(float(pages))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux' mmap")
def test_code_and_its_constants_lie_together_in_a_full_address_space() -> None:
    subprocess.run([sys.executable, "-c", FAR_APART], check=True, timeout=120)
