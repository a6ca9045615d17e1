"""One training step of a small transformer: tinyattn beside PyTorch, JAX, HIPS autograd, MyGrad, and by hand.

    x = words[ids] + positions;   h = x + attention(norm(x));   y = h + W₂ relu(W₁ norm(h) + b₁) + b₂
    loss = cross-entropy of y_last W;   Adam at 1e-3

float32, no biases in attention. All subjects start from the same numbers and see the same batches; their losses over
the first 20 steps are compared before anything is timed. Samples are taken as in `benchmarks/attention.py`. PyTorch is
timed with one thread and with all, eager and compiled, and the fastest counts for each; so is tinyattn, on the tape and
as `tinyattn.compile` replays it, with BLAS on one thread and on all. The step by hand is shown beside them, and doesn't
count.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

import tinyattn as ta
from benchmarks.common import (
    BenchmarkError,
    Parser,
    as_json,
    is_installed,
    machine,
    row_of,
    run,
    settings,
    table,
    timer,
    told,
    version,
    whole_number,
    with_the_best_kernels,
)
from benchmarks.step_by_hand import ByHand

PROGRAM = "python -m benchmarks.step"
RATE, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8
ROUNDS, N_BATCHES, COMPARED = 9, 32, 20
CLOSE = 1e-3  # of losses in float32, after 20 steps
OWN, BESIDE = ("tinyattn", "tinyattn compiled"), ("by hand",)

Arrays = dict[str, np.ndarray]
Step = Callable[[np.ndarray, np.ndarray], float]


class Sizes(NamedTuple):
    """Of the model and the batch."""

    batch: int
    n: int
    d_model: int
    n_heads: int
    vocab_size: int
    d_ff: int


CASES = (
    Sizes(16, 12, 16, 2, 40, 32),
    Sizes(8, 12, 32, 4, 64, 64),
    Sizes(64, 16, 32, 4, 64, 64),
    Sizes(32, 32, 64, 4, 64, 256),
)


def start(sizes: Sizes) -> Arrays:
    """The parameters before the first step."""
    rng = np.random.default_rng(sum(sizes))
    _, n, d, _, v, f = sizes

    def matrix(*shape: int) -> np.ndarray:
        return rng.normal(0.0, shape[0] ** -0.5, shape).astype(np.float32)

    return {
        "words": matrix(v, d), "positions": matrix(n, d),
        "gain_1": np.ones(d, np.float32), "shift_1": np.zeros(d, np.float32),
        "w_query": matrix(d, d), "w_key": matrix(d, d), "w_value": matrix(d, d), "w_output": matrix(d, d),
        "gain_2": np.ones(d, np.float32), "shift_2": np.zeros(d, np.float32),
        "w_expand": matrix(d, f), "b_expand": np.zeros(f, np.float32),
        "w_contract": matrix(f, d), "b_contract": np.zeros(d, np.float32),
        "head": matrix(d, v),
    }  # fmt: skip


def batches(sizes: Sizes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random ids; what is asked for is the first one."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(N_BATCHES):
        ids = rng.integers(0, sizes.vocab_size, (sizes.batch, sizes.n))
        found.append((ids, ids[:, 0].copy()))
    return found


# ---------------------------------------------------------------------------------------------------- tinyattn


class Model(ta.nn.Module):
    """The model on layers."""

    def __init__(self, sizes: Sizes, arrays: Arrays) -> None:
        _, _, d, n_heads, v, f = sizes
        self.words = ta.nn.Embedding(v, d, rng=0)
        self.positions = ta.tensor(arrays["positions"], requires_grad=True)
        self.norm_1, self.norm_2 = ta.nn.LayerNorm(d), ta.nn.LayerNorm(d)
        self.attention = ta.nn.MultiHeadAttention(d, n_heads, bias=False, rng=0)
        self.mlp = ta.nn.MLP(d, f, activation="relu", rng=0)
        self.head = ta.nn.Linear(d, v, bias=False, rng=0)
        self.load_state_dict({ours: arrays[name] for name, ours in OURS.items()})

    def forward(self, ids: np.ndarray) -> Any:
        x = self.words(ids) + self.positions
        h = x + self.attention(self.norm_1(x))
        y = h + self.mlp(self.norm_2(h))
        return self.head(y[:, -1])


OURS = {
    "words": "words.weight", "positions": "positions", "gain_1": "norm_1.weight", "shift_1": "norm_1.bias",
    "w_query": "attention.w_query", "w_key": "attention.w_key", "w_value": "attention.w_value",
    "w_output": "attention.w_output", "gain_2": "norm_2.weight", "shift_2": "norm_2.bias",
    "w_expand": "mlp.expand.weight", "b_expand": "mlp.expand.bias", "w_contract": "mlp.contract.weight",
    "b_contract": "mlp.contract.bias", "head": "head.weight",
}  # fmt: skip


def tinyattn_step(sizes: Sizes, arrays: Arrays, *, compiled: bool = False) -> Step:
    model = Model(sizes, arrays)
    optimizer = ta.optim.Adam(model.parameters(), RATE, betas=BETAS, eps=EPS)

    def loss_of(ids: np.ndarray, targets: np.ndarray) -> ta.Tensor:
        return ta.cross_entropy(model(ids), targets)

    loss_of = ta.compile(loss_of) if compiled else loss_of

    def step(ids: np.ndarray, targets: np.ndarray) -> float:
        loss = loss_of(ids, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---------------------------------------------------------------------------------------------------- PyTorch


def torch_step(sizes: Sizes, arrays: Arrays, *, compiled: bool) -> Step:
    import torch
    from torch.nn import functional

    p = {name: torch.tensor(x, requires_grad=True) for name, x in arrays.items()}
    optimizer = torch.optim.Adam(p.values(), lr=RATE, betas=BETAS, eps=EPS)
    d, heads = sizes.d_model, sizes.n_heads

    def loss_of(ids: Any, targets: Any) -> Any:
        x = functional.embedding(ids, p["words"]) + p["positions"]
        seen = functional.layer_norm(x, (d,), p["gain_1"], p["shift_1"])
        q, k, v = (
            (seen @ p[f"w_{name}"]).unflatten(-1, (heads, -1)).transpose(1, 2) for name in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        h = x + mixed @ p["w_output"]
        seen = functional.layer_norm(h, (d,), p["gain_2"], p["shift_2"])
        y = h + torch.relu(seen @ p["w_expand"] + p["b_expand"]) @ p["w_contract"] + p["b_contract"]
        return functional.cross_entropy(y[:, -1] @ p["head"], targets)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step(ids: np.ndarray, targets: np.ndarray) -> float:
        loss = loss_of(torch.from_numpy(ids), torch.from_numpy(targets))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


# ---------------------------------------------------------------------------------------------------- JAX, autograd


def numpy_loss(np: Any, n_heads: int, p: Any, ids: Any, targets: Any, hits: Any = None) -> Any:
    """The model in NumPy's names, which JAX and HIPS autograd have, too."""

    def norm(x: Any, gain: Any, shift: Any) -> Any:
        centred = x - np.mean(x, axis=-1, keepdims=True)
        return centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * gain + shift

    def split(x: Any) -> Any:
        return np.swapaxes(np.reshape(x, (*x.shape[:-1], n_heads, -1)), 1, 2)

    x = p["words"][ids] + p["positions"]
    seen = norm(x, p["gain_1"], p["shift_1"])
    q, k, v = (split(np.matmul(seen, p[f"w_{name}"])) for name in ("query", "key", "value"))
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * q.shape[-1] ** -0.5
    w = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    w = w / np.sum(w, axis=-1, keepdims=True)
    mixed = np.reshape(np.swapaxes(np.matmul(w, v), 1, 2), x.shape)
    h = x + np.matmul(mixed, p["w_output"])
    active = np.maximum(np.matmul(norm(h, p["gain_2"], p["shift_2"]), p["w_expand"]) + p["b_expand"], 0.0)
    y = h + np.matmul(active, p["w_contract"]) + p["b_contract"]
    scores = np.matmul(y[:, -1], p["head"])
    shifted = scores - np.max(scores, axis=-1, keepdims=True)
    log_sums = np.log(np.sum(np.exp(shifted), axis=-1))
    return np.mean(log_sums - shifted[np.arange(len(targets)), targets])


def jax_step(sizes: Sizes, arrays: Arrays) -> Step:
    import jax

    gradients = jax.value_and_grad(lambda p, ids, targets: numpy_loss(jax.numpy, sizes.n_heads, p, ids, targets))

    def move(state: Any, ids: Any, targets: Any) -> Any:
        p, m, v, t = state
        loss, g = gradients(p, ids, targets)
        t = t + 1
        (beta1, beta2), tree = BETAS, jax.tree.map
        m = tree(lambda m, g: beta1 * m + (1 - beta1) * g, m, g)
        v = tree(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, g)
        m_factor, v_factor = RATE / (1 - beta1**t), 1 / (1 - beta2**t)
        p = tree(lambda p, m, v: p - m_factor * m / (jax.numpy.sqrt(v * v_factor) + EPS), p, m, v)
        return loss, (p, m, v, t)

    compiled = jax.jit(move, donate_argnums=0)
    p = {name: jax.numpy.asarray(x) for name, x in arrays.items()}
    zeros = {name: jax.numpy.zeros_like(x) for name, x in p.items()}
    state = [(p, zeros, {name: jax.numpy.zeros_like(x) for name, x in p.items()}, jax.numpy.float32(0))]

    def step(ids: np.ndarray, targets: np.ndarray) -> float:
        loss, state[0] = compiled(state[0], ids.astype(np.int32), targets.astype(np.int32))
        return float(loss)

    return step


def adam_in_place(arrays: Arrays) -> Callable[[Arrays], None]:
    """Adam for those that have none."""
    means, squares = ({name: np.zeros_like(x) for name, x in arrays.items()} for _ in range(2))
    steps = itertools.count(1)

    def move(gradients: Arrays) -> None:
        t = next(steps)
        (beta1, beta2) = BETAS
        for name, g in gradients.items():
            means[name] += (1 - beta1) * (g - means[name])
            squares[name] += (1 - beta2) * (g * g - squares[name])
            root = np.sqrt(squares[name] / np.float32(1 - beta2**t)) + np.float32(EPS)
            arrays[name] -= np.float32(RATE / (1 - beta1**t)) * means[name] / root

    return move


def autograd_step(sizes: Sizes, arrays: Arrays) -> Step:
    import autograd
    import autograd.numpy

    gradients = autograd.value_and_grad(lambda p, ids, y: numpy_loss(autograd.numpy, sizes.n_heads, p, ids, y))
    p = {name: x.copy() for name, x in arrays.items()}
    move = adam_in_place(p)

    def step(ids: np.ndarray, targets: np.ndarray) -> float:
        loss, g = gradients(p, ids, targets)
        move(g)
        return float(loss)

    return step


def mygrad_step(sizes: Sizes, arrays: Arrays) -> Step:
    import mygrad

    p = {name: x.copy() for name, x in arrays.items()}
    move = adam_in_place(p)

    def step(ids: np.ndarray, targets: np.ndarray) -> float:
        tensors = {name: mygrad.tensor(x, copy=False) for name, x in p.items()}
        loss = numpy_loss(mygrad, sizes.n_heads, tensors, ids, targets)
        loss.backward()
        value = float(loss.item())
        gradients = {name: np.asarray(x.grad, np.float32) for name, x in tensors.items()}
        del loss, tensors  # MyGrad locks what its graph was made of
        move(gradients)
        return value

    return step


# ---------------------------------------------------------------------------------------------------- timing them


class Subject(NamedTuple):
    """Somebody who can take the step."""

    name: str
    make: Callable[[Sizes, Arrays], Step]
    ready: Callable[[], None] = lambda: None


def subjects(*, with_compiled: bool = True) -> list[Subject]:
    one_or_all = sorted({1, machine()["cores"]})
    found = []
    for threads in one_or_all:
        ready = _blas_threads(threads)
        found += [
            Subject(f"tinyattn, {threads}", tinyattn_step, ready),
            Subject(f"tinyattn compiled, {threads}", partial(tinyattn_step, compiled=True), ready),
            Subject(f"by hand, {threads}", lambda sizes, arrays: ByHand(arrays, sizes.n_heads, RATE).step, ready),
        ]
    if is_installed("torch"):
        import torch

        for threads in one_or_all:
            ready = _torch_threads(threads)
            found.append(Subject(f"pytorch, {threads}", partial(torch_step, compiled=False), ready))
            if with_compiled:
                found.append(Subject(f"pytorch compiled, {threads}", partial(torch_step, compiled=True), ready))
        torch.set_num_threads(1)
    for module, name, make in (
        ("jax", "jax", jax_step), ("autograd", "autograd", autograd_step), ("mygrad", "mygrad", mygrad_step)
    ):  # fmt: skip
        if is_installed(module):
            found.append(Subject(name, make))
    return found


def _blas_threads(n: int) -> Callable[[], None]:
    """NumPy's: small products are done sooner by one thread than two are told of them."""
    blas = ThreadpoolController().select(user_api="blas")
    return lambda: blas.limit(limits=n) and None


def _torch_threads(n: int) -> Callable[[], None]:
    import torch

    return lambda: torch.set_num_threads(n)


def losses(subject: Subject, sizes: Sizes, arrays: Arrays) -> list[float]:
    """Of the first steps."""
    subject.ready()
    step = subject.make(sizes, {name: x.copy() for name, x in arrays.items()})
    return [step(*batch) for batch in itertools.islice(itertools.cycle(batches(sizes)), COMPARED)]


def measure(subjects: Sequence[Subject], sizes: Sizes, rounds: int) -> dict[str, Any]:
    """A row: the medians, and the faster one of tinyattn's over the fastest peer's; None where there is no peer.

    Raises `BenchmarkError` where somebody's losses aren't those of the others.
    """
    arrays, cycle = start(sizes), itertools.cycle(batches(sizes))
    timers, right = {}, None
    for subject in subjects:
        try:
            found = losses(subject, sizes, arrays)
        except Exception as error:
            if not subject.name.startswith("pytorch compiled"):
                raise
            print(f"{PROGRAM}: {subject.name} is left out: {str(error).splitlines()[0][:200]}", file=sys.stderr)
            continue
        right = right or found
        off = max(abs(x - y) / abs(y) for x, y in zip(found, right, strict=True))
        if not off <= CLOSE:
            raise BenchmarkError(f"{subject.name}: losses of {tuple(sizes)} are off by {off:.1e} from {OWN[0]}'s")
        step = subject.make(sizes, {name: x.copy() for name, x in arrays.items()})
        timers[subject.name] = timer(lambda step=step: step(*next(cycle)), subject.ready)
    return row_of(sizes, "training step", timers, rounds, OWN, BESIDE)


# ---------------------------------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if not options.as_set:
        with_the_best_kernels()
    ta.keep_memory()
    here = subjects(with_compiled=not options.eager)
    rows = [measure(here, sizes, options.rounds) for sizes in CASES]
    if options.json:
        print(as_json(rows))
        print("\n".join(settings()), file=sys.stderr)
        return
    names = list(dict.fromkeys(name for row in rows for name in row["milliseconds"]))
    print("A training step, float32: milliseconds, medians of interleaved samples; ratio: the faster of tinyattn's two")
    print("over the fastest peer's\n")
    shown = [
        (
            str(tuple(row["case"])),
            *(f"{row['milliseconds'][name]:.3f}" if name in row["milliseconds"] else "-" for name in names),
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
        )
        for row in rows
    ]
    print(table([("(batch, n, d_model, heads, vocabulary, d_ff)", *names, "ratio"), *shown]))
    print("\n" + told(machine()))
    print("\n".join(settings()))
    known = ("tinyattn", "torch", "jax", "autograd", "mygrad")
    print(", ".join(f"{name} {version(name)}" for name in known if is_installed(name)))


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Time a training step of a small transformer beside the peers installed.")
    parser.add_argument("--json", action="store_true", help="print a list of rows as JSON instead of a table")
    parser.add_argument("--rounds", type=whole_number(1, 1000), default=ROUNDS, metavar="R", help="samples (default 9)")
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out: it takes a minute to compile")
    parser.add_argument("--as-set", action="store_true", help="keep BLAS's kernels as the environment has them")
    return parser


if __name__ == "__main__":
    sys.exit(run(PROGRAM, main))
