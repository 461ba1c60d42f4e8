"""Hand-written gradients equal float64 autograd's, whatever the shapes."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierebm.nn.flat import flat_parameters
from hierebm.nn.kernels import DenseKernel
from hierebm.nn.layers import MLP, EnsembleMLP
from hierebm.nn.losses import cross_entropy_, expected_value_, squared_error_
from hierebm.nn.scratch import CACHE_LINE, Scratch, aligned, padded
from tests.toys import lying_at

dims = st.integers(1, 12)
hidden_layers = st.lists(dims, max_size=3)
activations = st.sampled_from(["relu", "silu", "tanh"])
seeds = st.integers(0, 2**31)
# None is a plain MLP, a number an ensemble of that size.
members = st.one_of(st.none(), st.integers(1, 4))
# Rounding of a few chained float32 sums against the same maths in float64.
FLOAT32 = {"rtol": 2e-4, "atol": 2e-5}
FLOAT64 = {"rtol": 1e-9, "atol": 1e-11}


def make(
    n_members: int | None, n_in: int, hidden: list[int], n_out: int, activation: str, seed: int
) -> MLP | EnsembleMLP:
    generator = torch.Generator().manual_seed(seed)
    if n_members is None:
        return MLP(n_in, hidden, n_out, activation, generator)
    return EnsembleMLP(n_members, n_in, hidden, n_out, activation, generator)


def output_of(network: MLP | EnsembleMLP, x: Tensor) -> Tensor:
    out = network(x)
    return out if isinstance(network, EnsembleMLP) else out.reshape(1, *out.shape[-2:])


def clear_of_kinks(network: MLP | EnsembleMLP, x: Tensor) -> bool:
    """Whether rounding to float32 leaves every relu on its side of zero."""
    smallest = []
    hooks = [
        layer.register_forward_hook(lambda _, __, z: smallest.append(z.abs().min()))
        for layer in network.layers[:-1]
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return network.activation != "relu" or all(z > 1e-5 for z in smallest)


@settings(max_examples=120, deadline=None)
@given(
    n_members=members,
    n_in=dims,
    hidden=hidden_layers,
    n_out=dims,
    activation=activations,
    batches=st.lists(st.integers(1, 33), min_size=1, max_size=3),
    per_member=st.booleans(),
    columns=st.tuples(st.integers(0, 11), st.integers(1, 12)),
    double=st.booleans(),
    seed=seeds,
)
def test_passes_equal_float64_autograd(
    n_members: int | None,
    n_in: int,
    hidden: list[int],
    n_out: int,
    activation: str,
    batches: list[int],
    per_member: bool,
    columns: tuple[int, int],
    double: bool,
    seed: int,
) -> None:
    dtype, tolerance = (torch.float64, FLOAT64) if double else (torch.float32, FLOAT32)
    network = make(n_members, n_in, hidden, n_out, activation, seed)
    reference = copy.deepcopy(network).double()
    flat = flat_parameters(network.to(dtype))
    kernel = DenseKernel(network)
    generator = torch.Generator().manual_seed(seed)
    wanted = slice(columns[0] % n_in, columns[0] % n_in + columns[1])
    # Several batch sizes through one kernel: its buffers shrink and grow.
    for batch in batches:
        shape = (n_members or 1, batch, n_in) if per_member else (batch, n_in)
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        grad = torch.randn(n_members or 1, batch, n_out, generator=generator, dtype=torch.float64)
        assume(double or clear_of_kinks(reference, x))
        x.requires_grad_()
        out = output_of(reference, x)
        expected = torch.autograd.grad(out, [x, *reference.parameters()], grad)

        narrow = x.detach().to(dtype)
        torch.testing.assert_close(kernel.forward(narrow).double(), out.detach(), **tolerance)
        flat.grad.fill_(torch.nan)  # gradients are overwritten, not added to
        grad_x = kernel.backward(grad.to(dtype), input_columns=wanted)
        torch.testing.assert_close(grad_x.double(), expected[0][..., wanted], **tolerance)
        flat_expected = torch.cat([g.reshape(-1) for g in expected[1:]])
        torch.testing.assert_close(flat.grad.double(), flat_expected, **tolerance)


@settings(max_examples=40, deadline=None)
@given(n_members=members, hidden=hidden_layers, activation=activations, batch=dims, seed=seeds)
def test_input_gradient_alone_touches_no_parameter_gradient(
    n_members: int | None, hidden: list[int], activation: str, batch: int, seed: int
) -> None:
    network = make(n_members, 5, hidden, 3, activation, seed)
    flat = flat_parameters(network)
    flat.grad.fill_(7.0)
    kernel = DenseKernel(network)
    x = torch.randn(batch, 5, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    (expected,) = torch.autograd.grad(output_of(network, x).sum(), x)
    kernel.forward(x.detach())
    kernel.output_grad.fill_(1.0)
    grad_x = kernel.backward(parameters=False, input_columns=slice(3, 5))
    torch.testing.assert_close(grad_x, expected[:, 3:], **FLOAT32)
    assert (flat.grad == 7.0).all()
    # The output gradient survives: a second pass from it gives the same.
    torch.testing.assert_close(
        kernel.backward(parameters=False, input_columns=slice(3, 5)), grad_x, rtol=0, atol=0
    )


def test_input_may_be_a_window_of_a_wider_buffer() -> None:
    for n_members in (None, 3):
        network = make(n_members, 6, [8, 8], 2, "relu", 0)
        flat = flat_parameters(network)
        kernel = DenseKernel(network)
        wide = torch.randn(10, 9, generator=torch.Generator().manual_seed(0))
        grad = torch.randn(n_members or 1, 10, 2, generator=torch.Generator().manual_seed(1))
        results = []
        for x in (wide[:, 2:8], wide[:, 2:8].contiguous()):
            out = kernel.forward(x).clone()
            grad_x = kernel.backward(grad, input_columns=slice(None))
            results.append(torch.cat([out.reshape(-1), grad_x.reshape(-1), flat.grad]))
        assert torch.equal(results[0], results[1])


def test_kernel_and_module_share_their_memory() -> None:
    network, other = (make(2, 4, [8], 3, "silu", seed) for seed in (0, 1))
    flat_parameters(network)
    kernel = DenseKernel(network)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    network.load_state_dict(other.state_dict())
    torch.testing.assert_close(kernel.forward(x), other(x).detach())


def test_a_target_network_needs_no_gradient_buffers() -> None:
    network = make(2, 4, [8], 3, "relu", 0)
    kernel = DenseKernel(network, trainable=False)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(kernel.forward(x), network(x).detach())
    with pytest.raises(ValueError, match="trainable"):
        kernel.backward(torch.ones(2, 5, 3))
    with pytest.raises(ValueError, match="flat_parameters"):
        DenseKernel(network)


@settings(max_examples=40, deadline=None)
@given(
    n_members=members,
    hidden=hidden_layers,
    activation=activations,
    batches=st.lists(st.integers(1, 33), min_size=1, max_size=4),
    seed=seeds,
)
def test_kernels_that_share_scratch_take_turns(
    n_members: int | None, hidden: list[int], activation: str, batches: list[int], seed: int
) -> None:
    """The same bits as with memory of their own, whatever the other kernels do in between."""
    scratch = Scratch()
    networks = [make(n_members, 5, hidden, 3, activation, seed + i) for i in range(3)]
    flats = [flat_parameters(network) for network in networks[:2]]
    roles = [True, True, False]
    own, shared = (
        [
            DenseKernel(network, trainable=trainable, scratch=memory)
            for network, trainable in zip(networks, roles, strict=True)
        ]
        for memory in (None, scratch)
    )

    def pass_through(kernels: list[DenseKernel], x: Tensor, grad: Tensor) -> list[Tensor]:
        target = kernels[2].forward(x).clone()
        first = kernels[0].forward(x).clone()
        kernels[0].backward(grad)
        second = kernels[1].forward(x)
        # Kernel 0 forward and back while kernel 1 waits with what it kept.
        kernels[0].forward(x)
        through = kernels[0].backward(grad, parameters=False, input_columns=slice(1, 4))
        kernels[1].backward(grad)
        gradients = [flat.grad.clone() for flat in flats]
        return [target, first, second.clone(), through, *gradients]

    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        x = torch.randn(batch, 5, generator=generator)
        grad = torch.randn(n_members or 1, batch, 3, generator=generator)
        for a, b in zip(pass_through(own, x, grad), pass_through(shared, x, grad), strict=True):
            assert torch.equal(a, b)
    with pytest.raises(ValueError, match="scratch"):
        shared[2].backward(grad, parameters=False, input_columns=slice(0, 1))


@settings(max_examples=100, deadline=None)
@given(
    n_members=members,
    n_in=dims,
    hidden=st.lists(st.sampled_from([1, 2, 7, 8, 9, 16, 33]), max_size=3),
    n_out=dims,
    activation=activations,
    batch=st.integers(1, 40),
    per_member=st.booleans(),
    before=st.lists(st.integers(1, 80), max_size=3),
    beside=st.booleans(),
    offset=st.sampled_from([0, 1, 3, 4, 5, 16]),
    wider=st.sampled_from([0, 1, 16]),
    double=st.booleans(),
    seed=seeds,
)
def test_the_same_numbers_give_the_same_bits_wherever_they_lie(
    n_members: int | None,
    n_in: int,
    hidden: list[int],
    n_out: int,
    activation: str,
    batch: int,
    per_member: bool,
    before: list[int],
    beside: bool,
    offset: int,
    wider: int,
    double: bool,
    seed: int,
) -> None:
    """Whatever the buffers were used for before and whoever else works in them."""
    dtype = torch.float64 if double else torch.float32
    network, other = (
        make(n_members, n_in, hidden, n_out, activation, seed + i).to(dtype) for i in range(2)
    )
    flat = flat_parameters(network)
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: int) -> tuple[Tensor, Tensor]:
        shape = (n_members or 1, rows, n_in) if per_member else (rows, n_in)
        x = torch.randn(shape, generator=generator, dtype=dtype)
        return x, torch.randn(n_members or 1, rows, n_out, generator=generator, dtype=dtype)

    def passes(kernel: DenseKernel, target: DenseKernel, x: Tensor, grad: Tensor) -> list[Tensor]:
        value, output = target.forward(x).clone(), kernel.forward(x).clone()
        grad_x = kernel.backward(grad, input_columns=slice(n_in // 2, n_in))
        assert grad_x is not None
        gradient = flat.grad.clone()
        kernel.output_grad.copy_(grad)
        kernel.backward()
        assert torch.equal(flat.grad, gradient)
        return [value, output, grad_x, gradient]

    x, grad = draw(batch)
    fresh = DenseKernel(network), DenseKernel(other, trainable=False)
    expected = passes(*fresh, x, grad)

    scratch = Scratch() if beside else None
    used = [
        DenseKernel(network, scratch=scratch),
        DenseKernel(other, trainable=False, scratch=scratch),
    ]
    for rows in before:
        passes(*used, *draw(rows))
    wide = torch.zeros(*x.shape[:-1], n_in + wider, dtype=dtype)
    wide[..., :n_in] = x
    x = torch.from_numpy(lying_at(wide.numpy(), offset))[..., :n_in]
    grad = torch.from_numpy(lying_at(grad.numpy(), offset))
    for got, wanted in zip(passes(*used, x, grad), expected, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_begins_at_a_cache_line(dtype: torch.dtype) -> None:
    for n in (1, 5, 16, 33, 1000):
        network = make(None, n, [3], 1, "relu", 0).to(dtype)
        flat = flat_parameters(network)
        scratch = Scratch().window(padded(n) + 1, flat)
        parts = flat, flat.grad, scratch, scratch[padded(n) :]
        copy = aligned(flat[1:])
        assert not any(part.data_ptr() % CACHE_LINE for part in (*parts, copy))
        assert torch.equal(copy, flat[1:]) and aligned(flat) is flat


@pytest.mark.parametrize("hidden", [[], [8], [8, 8]])
def test_an_empty_batch_passes_and_leaves_a_gradient_of_zero(hidden: list[int]) -> None:
    network = make(2, 4, hidden, 3, "silu", 0)
    flat = flat_parameters(network)
    flat.grad.fill_(torch.nan)
    kernel = DenseKernel(network)
    with pytest.raises(ValueError, match=r"call forward\(x\) first"):
        kernel.backward(torch.zeros(2, 0, 3))
    assert kernel.forward(torch.zeros(0, 4)).shape == (2, 0, 3)
    grad = kernel.backward(input_columns=slice(1, 3))
    assert grad is not None and grad.shape == (0, 2)
    assert not flat.grad.any()


def test_passes_go_on_in_and_out_of_inference_mode() -> None:
    network = make(2, 4, [8], 3, "relu", 0)
    flat = flat_parameters(network)
    kernel = DenseKernel(network)
    x, grad = torch.ones(5, 4), torch.ones(2, 5, 3)
    with torch.inference_mode():
        inside = kernel.forward(x).clone()
        kernel.backward(grad)
        slope = flat.grad.clone()
    assert torch.equal(kernel.forward(x), inside)
    kernel.backward(grad)
    assert torch.equal(flat.grad, slope)


def test_scratch_is_of_the_type_and_device_that_was_asked_for() -> None:
    scratch = Scratch()
    narrow = scratch.window(10, torch.empty(0))
    wide = scratch.window(5, torch.empty(0, dtype=torch.float64))
    assert (narrow.dtype, wide.dtype) == (torch.float32, torch.float64)
    assert scratch.window(5, torch.empty(0, device="meta", dtype=torch.float64)).is_meta


def test_custom_networks_are_sent_to_the_reference() -> None:
    class Skip(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return x + super().forward(x)

    with pytest.raises(TypeError, match="Skip"):
        DenseKernel(Skip(3, [4], 3), trainable=False)


@pytest.mark.parametrize("shape", [(5, 3), (4,), (1, 1, 5, 4), (3, 5, 4), ()])
def test_a_wrong_input_is_named(shape: tuple[int, ...]) -> None:
    kernel = DenseKernel(make(2, 4, [8], 3, "relu", 0), trainable=False)
    with pytest.raises(ValueError, match=r"input must be \(B, 4\)"):
        kernel.forward(torch.zeros(shape))


def test_heads_are_finite_for_certain_logits() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]])
    target = torch.eye(3)[[2, 1]]
    grad = torch.empty(2, 3)
    loss = cross_entropy_(logits, target, grad=grad, weight=0.5)
    assert float(loss) == pytest.approx(1e4)
    torch.testing.assert_close(grad, 0.5 * (torch.eye(3)[[0, 1]] - target))
    mean = expected_value_(logits, torch.tensor([1.0, 2.0, 3.0]), grad=grad, weight=1.0)
    torch.testing.assert_close(mean, torch.tensor([1.0, 2.0]))
    assert not grad.any()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(2, 25)),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    weight=st.floats(0.01, 2.0),
    seed=seeds,
)
def test_heads_equal_float64_autograd(
    shape: tuple[int, int, int], scale: float, weight: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    target = torch.rand(shape, generator=generator, dtype=torch.float64).softmax(-1)
    support = torch.arange(1.0, shape[-1] + 1, dtype=torch.float64)
    grad = torch.empty(shape)

    logits.requires_grad_()
    loss = -weight * (target * logits.log_softmax(-1)).sum()
    (expected,) = torch.autograd.grad(loss, logits)
    narrow = logits.detach().float()
    got = cross_entropy_(narrow, target.float(), grad=grad, weight=weight)
    torch.testing.assert_close(got.double(), loss.detach(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(grad.double(), expected, **FLOAT32)

    mean = logits.softmax(-1) @ support
    (expected,) = torch.autograd.grad(weight * mean.sum(), logits)
    got = expected_value_(narrow, support.float(), grad=grad, weight=weight)
    torch.testing.assert_close(got.double(), mean.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grad.double(), expected, rtol=1e-3, atol=1e-4)

    loss = weight * (logits - target).square().sum()
    (expected,) = torch.autograd.grad(loss, logits)
    got = squared_error_(narrow, target.float(), grad=grad, weight=weight)
    torch.testing.assert_close(got.double(), loss.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grad.double(), expected, **FLOAT32)
