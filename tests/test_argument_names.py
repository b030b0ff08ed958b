"""The names of arguments: NumPy's, those of PyTorch's overloads, and numbers given before tensors."""

import pytest

import vitrify as torch

X = torch.arange(12.0).reshape(3, 4)


def test_functions_and_methods_take_axis() -> None:
    assert torch.equal(X.sum(axis=0), X.sum(0))
    assert torch.equal(torch.max(X, axis=1).values, X.amax(1))
    assert torch.equal(X.std(axis=(0, 1), keepdims=True), X.std((0, 1), keepdim=True))
    assert torch.equal(torch.linalg.norm(X, axis=1), torch.linalg.norm(X, dim=1))
    assert torch.equal(torch.fft.fft(X, axis=0), torch.fft.fft(X, dim=0))
    assert torch.equal(X.clone().cumsum_(axis=1), X.cumsum(1))


def test_shape_methods_in_place_take_keywords() -> None:
    assert X.clone().unsqueeze_(dim=0).shape == (1, 3, 4)
    assert X.clone().transpose_(dim0=0, dim1=1).shape == (4, 3)
    assert X.clone().lt_(other=5.0).sum() == 5


@pytest.mark.parametrize("call", [lambda: X.sum(dim=0, axis=0), lambda: torch.cat([X], keepdims=True)])
def test_names_that_do_not_fit_are_refused(call: object) -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument '(axis|keepdims)'"):
        call()  # type: ignore[operator]


Q, V = torch.eye(3) + 1, torch.arange(3.0)
COUNTS, ROW = torch.tensor([1, 2]), torch.tensor([1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("named", "plain"),
    [
        # several numbers one by one, as a sequence, by name
        ("X.view(size=(4, 3))", "X.view(4, 3)"),
        ("X.view(dtype=torch.int32)", "X.view(torch.int32)"),
        ("X.reshape(shape=[2, 6])", "X.reshape(2, 6)"),
        ("X.permute(dims=(1, 0))", "X.permute(1, 0)"),
        ("X.flip(dims=[0])", "X.flip(0)"),
        ("V.expand(size=(2, 3))", "V.expand(2, 3)"),
        ("V.repeat(repeats=(2, 1))", "V.repeat(2, 1)"),
        ("torch.tile(V, dims=(2,))", "V.tile(2)"),
        ("X.clone().resize_(size=(2, 3))", "X.clone().resize_(2, 3)"),
        ("X.sum_to_size(size=(1, 4))", "X.sum_to_size(1, 4)"),
        ("torch.zeros(size=(2,))", "torch.zeros(2)"),
        # names that PyTorch's overloads give an argument
        ("X.split(split_size=2)", "X.split(2)"),
        ("torch.split(tensor=X, split_size_or_sections=[1, 2])", "X.split([1, 2])"),
        ("torch.unsafe_split(input=X, split_size=2)", "X.split(2)"),
        ("X.tensor_split(indices=(1,))", "X.tensor_split((1,))"),
        ("torch.tensor_split(X, sections=2)", "X.tensor_split(2)"),
        ("X.hsplit(sections=2)", "X.hsplit(2)"),
        ("X.vsplit(indices=(1,))", "X.vsplit((1,))"),
        ("torch.isin(element=1, test_elements=X)", "torch.isin(1, X)"),
        ("torch.isin(elements=X, test_element=1)", "torch.isin(X, 1)"),
        ("torch.searchsorted(sorted_sequence=ROW, self=2.0)", "torch.searchsorted(ROW, 2.0)"),
        ("torch.bucketize(self=2.0, boundaries=ROW)", "torch.bucketize(2.0, ROW)"),
        ("torch.det(input=Q)", "torch.linalg.det(Q)"),
        ("torch.inverse(input=Q)", "torch.linalg.inv(A=Q)"),
        ("torch.slogdet(input=Q)[1]", "torch.linalg.slogdet(Q)[1]"),
        ("torch.matrix_exp(input=Q)", "torch.matrix_exp(Q)"),
        ("torch.matrix_power(input=Q, n=2)", "Q @ Q"),
        ("torch.cholesky_solve(input=Q, input2=Q)", "torch.cholesky_solve(Q, Q)"),
        ("Q.cholesky_solve(input2=Q)", "torch.cholesky_solve(Q, Q)"),
        ("torch.ormqr(input=Q, input2=V, input3=Q)", "torch.ormqr(Q, V, Q)"),
        ("torch.index_put(input=V, indices=(COUNTS,), values=ROW[0])", "V.index_put((COUNTS,), ROW[0])"),
        ("V.clone().copy_(other=ROW)", "ROW"),
        ("V.clone().map_(other=ROW, callable=max)", "torch.maximum(V, ROW)"),
        ("V.polygamma(n=1)", "torch.polygamma(1, V)"),
        ("torch.result_type(scalar=1, tensor=V)", "torch.result_type(V, other=1)"),
        ("torch.promote_types(type1=torch.int32, type2=torch.half)", "torch.half"),
        ("torch.manual_seed(0) and V.clone().uniform_(**{'from': 0, 'to': 5})", "uniform(5)"),
        # the first of several arguments left out
        ("torch.arange(end=5)", "torch.arange(5)"),
        ("torch.arange(start=1, end=5)", "torch.arange(1, 5)"),
        ("torch.randint(high=1, size=(2,))", "torch.zeros(2, dtype=torch.long)"),
        ("torch.randint_like(V, high=1)", "torch.zeros(3)"),
        ("torch.repeat_interleave(repeats=COUNTS)", "torch.tensor([0, 1, 1])"),
        # results into given tensors
        ("torch.argsort(V, descending=True, out=new(torch.long))", "torch.tensor([2, 1, 0])"),
        ("torch.diag(Q, out=new())", "torch.full((3,), 2.0)"),
        ("torch.softmax(Q, dim=0, out=new())", "Q.softmax(0)"),
        ("torch.log_softmax(Q, dim=0, out=new())", "Q.log_softmax(0)"),
        ("torch.masked_select(V, V > 0, out=new())", "V[1:]"),
        ("torch.tril(Q, -1, out=new())", "Q.tril(-1)"),
        ("torch.triu(Q, 1, out=new())", "Q.triu(1)"),
        ("torch.slice_scatter(Q, V[None], end=1, out=new())", "torch.cat([V[None], Q[1:]])"),
        ("torch.threshold(Q, 1.0, 0.0, out=new())", "torch.eye(3) * 2"),
        ("torch.hardshrink(V, 1.0, out=new())", "torch.tensor([0.0, 0.0, 2.0])"),
        ("torch.bernoulli(V * 0, out=new())", "V * 0"),
        ("torch.multinomial(torch.tensor([0.0, 1.0]), 1, out=new(torch.long))", "torch.tensor([1])"),
    ],
)
def test_arguments_by_all_their_names(named: str, plain: str) -> None:
    names = {
        "torch": torch, "X": X, "Q": Q, "V": V, "COUNTS": COUNTS, "ROW": ROW,
        "new": lambda dtype=torch.float: torch.empty(0, dtype=dtype),
        "uniform": lambda high: torch.manual_seed(0) and V.clone().uniform_(0, high),
    }  # fmt: skip
    found, wanted = eval(named, names), eval(plain, names)
    if isinstance(wanted, torch.dtype):
        assert found is wanted
    elif isinstance(wanted, tuple):
        assert all(map(torch.equal, found, wanted))
    else:
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("deprecated", "named"),
    [
        ("torch.add(V, 2, ROW)", "V + 2 * ROW"),
        ("V.clone().add_(-0.5, ROW)", "V - 0.5 * ROW"),
        ("V.sub(2, ROW)", "V - 2 * ROW"),
        ("V.clone().addcmul_(2, V, ROW)", "V + 2 * V * ROW"),
        ("V.addcdiv(2, V, ROW)", "V + 2 * V / ROW"),
        ("torch.addmm(2, Q, 3, Q, Q)", "2 * Q + 3 * (Q @ Q)"),
        ("Q.addmm(2, 3, Q, Q)", "2 * Q + 3 * (Q @ Q)"),
        ("Q.clone().addmm_(2, Q, Q)", "2 * Q + Q @ Q"),
        ("torch.addmv(2, V, 3, Q, ROW)", "2 * V + 3 * (Q @ ROW)"),
        ("Q.addr(2, V, V)", "2 * Q + torch.outer(V, V)"),
        ("Q.addbmm(2, 3, Q[None], Q[None])", "2 * Q + 3 * (Q @ Q)"),
    ],
)
def test_numbers_before_tensors(deprecated: str, named: str) -> None:
    names = {"torch": torch, "Q": Q, "V": V, "ROW": ROW}
    with pytest.warns(UserWarning, match="deprecated"):
        found = eval(deprecated, names)
    assert torch.allclose(found, eval(named, names))


def test_too_many_arguments_are_refused() -> None:
    for call in (lambda: torch.add(V, V, V), lambda: torch.add(V, 1, 2), lambda: torch.arange()):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError, match="unexpected keyword argument 'self'"):
        torch.bucketize(self=2, input=3, boundaries=V)
