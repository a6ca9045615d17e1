"""Training a character GPT: tinyattn beside PyTorch, JAX and HIPS autograd, with the sizes of nanoGPT's CPU recipe.

4 blocks of 4 heads, d_model 128, 64 characters, 12 sequences a step; AdamW with β₂ 0.99 and weight decay 0.1 on
matrices, gradients clipped to norm 1, rate 1e-3 to 1e-4 after 100 steps of warm-up; no dropout, no biases, tied
embeddings, the exact GELU. All subjects start from the same numbers and see the same batches; the losses of the first
20 steps are compared before anything is timed. With --steps they are trained on, and compared on what is held out.

A sample is the mean of a few steps, taken as in `benchmarks/attention.py`. PyTorch (with its fused attention and AdamW)
is timed with one thread and with all, eager and compiled; the fastest counts. MyGrad is left out: it has no erf.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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

PROGRAM = "python -m benchmarks.gpt"
BLOCKS, HEADS, D_MODEL, LENGTH, BATCH = 4, 4, 128, 64, 12
RATE, FLOOR, WARM_UP, RUN = 1e-3, 1e-4, 100, 2000  # steps of a whole run
BETAS, EPS, DECAY, CLIP = (0.9, 0.99), 1e-8, 0.1, 1.0
ROUNDS, COMPARED, VALIDATION = 9, 20, 20
CLOSE = 2e-3  # of losses in float32, over the first steps
ROOT = Path(__file__).parent.parent

Arrays = dict[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray]
rate_at = ta.optim.cosine(RATE, RUN, warmup=WARM_UP, floor=FLOOR)


class Trained(NamedTuple):
    """Somebody's model in training."""

    step: Callable[[np.ndarray, np.ndarray], float]  # takes a step, gives the loss before it
    loss: Callable[[np.ndarray, np.ndarray], float]


# ---------------------------------------------------------------------------------------------------- the text


class Text(NamedTuple):
    """Characters as numbers."""

    train: np.ndarray
    heldout: np.ndarray
    vocab_size: int

    def batches(self) -> Iterator[Batch]:
        """Those of the steps, without end."""
        for step in itertools.count():
            yield _batch(self.train, np.random.default_rng([1, step]))

    def validation(self) -> list[Batch]:
        return [_batch(self.heldout, np.random.default_rng([2, i])) for i in range(VALIDATION)]


def _batch(ids: np.ndarray, rng: np.random.Generator) -> Batch:
    starts = rng.integers(0, len(ids) - LENGTH, BATCH)
    windows = ids[starts[:, None] + np.arange(LENGTH + 1)]
    return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def read(path: Path | None) -> Text:
    """The text of a file; of this project's own pages and sources unless one is named."""
    if path is None:
        paths = [ROOT / "README.md", *sorted((ROOT / "tinyattn").rglob("*.py"))]
    else:
        paths = [path]
    try:
        text = "\n".join(one.read_text(encoding="utf-8") for one in paths)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BenchmarkError(f"{path}: no text that can be read ({why})") from None
    characters, ids = np.unique(np.frombuffer(text.encode("utf-32-le"), np.uint32), return_inverse=True)
    cut = int(len(ids) * 0.9)
    if len(ids) - cut <= LENGTH:
        raise BenchmarkError(f"{path}: {len(ids)} characters are too few; a tenth of them must be more than {LENGTH}")
    return Text(ids[:cut].astype(np.int64), ids[cut:].astype(np.int64), len(characters))


# ---------------------------------------------------------------------------------------------------- the subjects


def start(vocab_size: int) -> tuple[ta.nn.GPT, Arrays]:
    """tinyattn's model, and the numbers that all start from."""
    model = ta.nn.GPT(vocab_size, LENGTH, D_MODEL, BLOCKS, HEADS, bias=False, rng=0)
    return model, model.state_dict()


def tinyattn_gpt(arrays: Arrays, vocab_size: int) -> Trained:
    model, _ = start(vocab_size)
    model.load_state_dict(arrays)
    optimizer = ta.optim.AdamW(
        model.parameters(), betas=BETAS, eps=EPS, weight_decay=DECAY, decayed=lambda parameter: parameter.ndim > 1
    )
    steps = itertools.count()

    def loss_of(ids: np.ndarray, following: np.ndarray) -> Any:
        return ta.cross_entropy(model(ids), following)

    def step(ids: np.ndarray, following: np.ndarray) -> float:
        loss = loss_of(ids, following)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(rate_at(next(steps)), max_norm=CLIP)
        return loss.item()

    def look(ids: np.ndarray, following: np.ndarray) -> float:
        with ta.no_grad():
            return loss_of(ids, following).item()

    return Trained(step, look)


def torch_gpt(arrays: Arrays, vocab_size: int, *, compiled: bool) -> Trained:
    """As nanoGPT has it: one projection for queries, keys and values, the fused attention, matrices transposed."""
    import torch
    from torch.nn import functional

    def parameter(x: np.ndarray) -> Any:
        return torch.tensor(np.ascontiguousarray(x), requires_grad=True)

    words, positions = parameter(arrays["words.weight"]), parameter(arrays["positions.weight"])
    last = parameter(arrays["blocks.norm.weight"])
    blocks = []
    for i in range(BLOCKS):
        own = {name.removeprefix(f"blocks.blocks.{i}."): x for name, x in arrays.items()}
        projection = np.concatenate([own[f"attention.w_{name}"].T for name in ("query", "key", "value")])
        matrices = projection, own["attention.w_output"].T, own["mlp.expand.weight"].T, own["mlp.contract.weight"].T
        blocks.append([parameter(x) for x in (own["norm_attention.weight"], own["norm_mlp.weight"], *matrices)])
    everything = [words, positions, *(x for block in blocks for x in block), last]
    groups = [
        {"params": [x for x in everything if x.ndim > 1], "weight_decay": DECAY},
        {"params": [x for x in everything if x.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS, fused=True)

    def loss_of(ids: Any, following: Any) -> Any:
        x = functional.embedding(ids, words) + positions[: ids.shape[1]]
        for norm_1, norm_2, project, output, expand, contract in blocks:
            made = functional.linear(functional.layer_norm(x, (D_MODEL,), norm_1), project)
            q, k, v = (y.unflatten(-1, (HEADS, -1)).transpose(1, 2) for y in made.split(D_MODEL, dim=2))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + functional.linear(mixed.transpose(1, 2).flatten(-2), output)
            hidden = functional.gelu(functional.linear(functional.layer_norm(x, (D_MODEL,), norm_2), expand))
            x = x + functional.linear(hidden, contract)
        scores = functional.linear(functional.layer_norm(x, (D_MODEL,), last), words)
        return functional.cross_entropy(scores.flatten(0, 1), following.flatten())

    compiled_loss = torch.compile(loss_of) if compiled else loss_of
    steps = itertools.count()

    def step(ids: np.ndarray, following: np.ndarray) -> float:
        rate = rate_at(next(steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = compiled_loss(torch.from_numpy(ids), torch.from_numpy(following))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(everything, CLIP)
        optimizer.step()
        return float(loss.item())

    def look(ids: np.ndarray, following: np.ndarray) -> float:
        with torch.no_grad():
            return float(loss_of(torch.from_numpy(ids), torch.from_numpy(following)).item())

    return Trained(step, look)


def jax_gpt(arrays: Arrays, vocab_size: int) -> Trained:
    import jax
    from jax import numpy as jnp

    def norm(x: Any, weight: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * weight

    def loss_of(p: Any, ids: Any, following: Any) -> Any:
        x = p["words.weight"][ids] + p["positions.weight"][: ids.shape[1]]
        for i in range(BLOCKS):
            own = f"blocks.blocks.{i}."
            seen = norm(x, p[own + "norm_attention.weight"])
            q, k, v = (
                (seen @ p[f"{own}attention.w_{name}"]).reshape(*x.shape[:2], HEADS, -1)
                for name in ("query", "key", "value")
            )
            mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape)
            x = x + mixed @ p[own + "attention.w_output"]
            hidden = norm(x, p[own + "norm_mlp.weight"]) @ p[own + "mlp.expand.weight"]
            x = x + jax.nn.gelu(hidden, approximate=False) @ p[own + "mlp.contract.weight"]
        scores = norm(x, p["blocks.norm.weight"]) @ p["words.weight"].T
        log_weights = jax.nn.log_softmax(scores)
        return -jnp.take_along_axis(log_weights, following[..., None], axis=-1).mean()

    def move(state: Any, ids: Any, following: Any, rate: Any) -> Any:
        p, m, v, t = state
        loss, g = jax.value_and_grad(loss_of)(p, ids, following)
        size = jnp.sqrt(sum((x * x).sum() for x in g.values()))
        factor = jnp.minimum(1.0, CLIP / size)
        t, (beta1, beta2) = t + 1, BETAS
        m = {name: beta1 * m[name] + (1 - beta1) * factor * x for name, x in g.items()}
        v = {name: beta2 * v[name] + (1 - beta2) * (factor * x) ** 2 for name, x in g.items()}
        p = {
            name: x * (1 - rate * DECAY * (x.ndim > 1))
            - rate / (1 - beta1**t) * m[name] / (jnp.sqrt(v[name] / (1 - beta2**t)) + EPS)
            for name, x in p.items()
        }
        return loss, (p, m, v, t)

    compiled, look = jax.jit(move, donate_argnums=0), jax.jit(loss_of)
    p = {name: jnp.asarray(x) for name, x in arrays.items()}
    zeros = [{name: jnp.zeros_like(x) for name, x in p.items()} for _ in range(2)]
    state, steps = [(p, *zeros, jnp.float32(0))], itertools.count()

    def step(ids: np.ndarray, following: np.ndarray) -> float:
        loss, state[0] = compiled(state[0], ids.astype(np.int32), following.astype(np.int32), rate_at(next(steps)))
        return float(loss)

    return Trained(step, lambda ids, y: float(look(state[0][0], ids.astype(np.int32), y.astype(np.int32))))


def autograd_gpt(arrays: Arrays, vocab_size: int) -> Trained:
    """HIPS autograd, with clipping and AdamW in NumPy."""
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import erf

    p = {name: x.copy() for name, x in arrays.items()}
    means, squares = ({name: np.zeros_like(x) for name, x in p.items()} for _ in range(2))
    steps = itertools.count()
    hidden = np.where(np.tri(LENGTH, dtype=bool), 0.0, -np.inf).astype(np.float32)

    def norm(x: Any, weight: Any) -> Any:
        centred = x - anp.mean(x, axis=-1, keepdims=True)
        return centred / anp.sqrt(anp.mean(centred * centred, axis=-1, keepdims=True) + np.float32(1e-5)) * weight

    def softmax(x: Any) -> Any:
        exp = anp.exp(x - anp.max(x, axis=-1, keepdims=True))
        return exp / anp.sum(exp, axis=-1, keepdims=True)

    def split(x: Any) -> Any:
        return anp.swapaxes(anp.reshape(x, (*x.shape[:2], HEADS, -1)), 1, 2)

    def loss_of(p: Any, ids: np.ndarray, following: np.ndarray) -> Any:
        x = p["words.weight"][ids] + p["positions.weight"][: ids.shape[1]]
        for i in range(BLOCKS):
            own = f"blocks.blocks.{i}."
            seen = norm(x, p[own + "norm_attention.weight"])
            q, k, v = (split(anp.dot(seen, p[f"{own}attention.w_{name}"])) for name in ("query", "key", "value"))
            scores = anp.matmul(q, anp.swapaxes(k, -1, -2)) * np.float32((D_MODEL // HEADS) ** -0.5)
            mixed = anp.swapaxes(anp.matmul(softmax(scores + hidden), v), 1, 2)
            x = x + anp.dot(anp.reshape(mixed, x.shape), p[own + "attention.w_output"])
            made = anp.dot(norm(x, p[own + "norm_mlp.weight"]), p[own + "mlp.expand.weight"])
            made = made * (np.float32(0.5) + np.float32(0.5) * erf(made * np.float32(0.5**0.5)))
            x = x + anp.dot(made, p[own + "mlp.contract.weight"])
        scores = anp.dot(norm(x, p["blocks.norm.weight"]), anp.transpose(p["words.weight"]))
        weights = anp.reshape(softmax(scores), (-1, scores.shape[-1]))
        return -anp.mean(anp.log(weights[np.arange(following.size), following.reshape(-1)]))

    gradients = autograd.value_and_grad(loss_of)

    def step(ids: np.ndarray, following: np.ndarray) -> float:
        loss, g = gradients(p, ids, following)
        t = next(steps)
        rate, (beta1, beta2) = rate_at(t), BETAS
        factor = np.float32(min(1.0, CLIP / math.sqrt(sum(float(np.vdot(x, x)) for x in g.values()))))
        for name, x in g.items():
            means[name] += (1 - beta1) * (factor * x - means[name])
            squares[name] += (1 - beta2) * ((factor * x) ** 2 - squares[name])
            if x.ndim > 1:
                p[name] *= np.float32(1 - rate * DECAY)
            root = np.sqrt(squares[name] / np.float32(1 - beta2 ** (t + 1))) + np.float32(EPS)
            p[name] -= np.float32(rate / (1 - beta1 ** (t + 1))) * means[name] / root
        return float(loss)

    return Trained(step, lambda ids, following: float(loss_of(p, ids, following)))


class Subject(NamedTuple):
    """Somebody who can train the model."""

    name: str
    make: Callable[[Arrays, int], Trained]
    ready: Callable[[], None] = lambda: None


def subjects(*, with_compiled: bool = True) -> list[Subject]:
    found = [Subject("tinyattn", tinyattn_gpt)]
    if is_installed("torch"):
        import torch

        for threads in sorted({1, machine()["cores"]}):
            ready = partial(torch.set_num_threads, threads)
            found.append(Subject(f"pytorch, {threads}", partial(torch_gpt, compiled=False), ready))
            if with_compiled:
                found.append(Subject(f"pytorch compiled, {threads}", partial(torch_gpt, compiled=True), ready))
    if is_installed("jax"):
        found.append(Subject("jax", jax_gpt))
    if is_installed("autograd") and is_installed("scipy"):
        found.append(Subject("autograd", autograd_gpt))
    return found


# ---------------------------------------------------------------------------------------------------- timing them


def compared(subjects: Sequence[Subject], text: Text, arrays: Arrays) -> dict[str, Trained]:
    """All models after their first steps. Raises `BenchmarkError` where their losses differ."""
    models: dict[str, Trained] = {}
    right: list[float] = []
    for subject in subjects:
        subject.ready()
        model = subject.make({name: x.copy() for name, x in arrays.items()}, text.vocab_size)
        try:
            losses = [model.step(*batch) for batch in itertools.islice(text.batches(), COMPARED)]
        except Exception as error:
            if not subject.name.startswith("pytorch compiled"):
                raise
            print(f"{PROGRAM}: {subject.name} is left out: {str(error).splitlines()[0][:200]}", file=sys.stderr)
            continue
        right = right or losses
        off = max(abs(x - y) / abs(y) for x, y in zip(losses, right, strict=True))
        if not off <= CLOSE:
            raise BenchmarkError(f"{subject.name}: the losses of the first steps are off by {off:.1e} from tinyattn's")
        models[subject.name] = model
    return models


def measure(subjects: Sequence[Subject], text: Text, rounds: int, steps: int) -> dict[str, Any]:
    """A row: the medians, and tinyattn's over the fastest peer's; with `steps`, losses of what is held out."""
    _, arrays = start(text.vocab_size)
    models = compared(subjects, text, arrays)
    ready = {subject.name: subject.ready for subject in subjects}
    own_batches = {name: itertools.islice(text.batches(), COMPARED, None) for name in models}
    timers = {
        name: timer(lambda step=model.step, batches=own_batches[name]: step(*next(batches)), ready[name])
        for name, model in models.items()
    }
    case = [BLOCKS, HEADS, D_MODEL, LENGTH, BATCH, text.vocab_size]
    row = row_of(case, "training step", timers, rounds, ("tinyattn",))
    if steps:
        row |= {"steps": steps, "validation_loss": trained(subjects, text, arrays, steps)}
    return row


def trained(subjects: Sequence[Subject], text: Text, arrays: Arrays, steps: int) -> dict[str, float]:
    """The loss on what is held out, after so many steps from the beginning; of each project in one of its ways."""
    found: dict[str, float] = {}
    for subject in reversed(subjects):  # the ways with all threads come last
        project = subject.name.partition(",")[0].partition(" ")[0]
        if project in found or "compiled" in subject.name or project == "autograd":  # which takes 20 times as long
            continue
        subject.ready()
        model = subject.make({name: x.copy() for name, x in arrays.items()}, text.vocab_size)
        for i, batch in enumerate(itertools.islice(text.batches(), steps)):
            model.step(*batch)
            if sys.stderr.isatty():
                print(f"\r{project}: step {i + 1} of {steps} ", end="\r", file=sys.stderr, flush=True)
        found[project] = statistics.fmean(model.loss(*batch) for batch in text.validation())
        if not math.isfinite(found[project]):
            raise BenchmarkError(f"{project}: the loss after {steps} steps isn't finite")
    return dict(sorted(found.items(), key=lambda item: item[0] != "tinyattn"))


# ---------------------------------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        text = read(options.file)
    except BenchmarkError as error:
        parser.error(str(error))
    if not options.as_set:
        with_the_best_kernels()
    ta.keep_memory()
    row = measure(subjects(with_compiled=not options.eager), text, options.rounds, options.steps)
    if options.json:
        print(as_json([row]))
        print("\n".join(settings()), file=sys.stderr)
        return
    print("A training step of a character GPT, float32: milliseconds, medians; ratio: over the fastest peer\n")
    names = list(row["milliseconds"])
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    shown = [("training step", *(f"{row['milliseconds'][name]:.2f}" for name in names), ratio)]
    print(table([("", *names, "ratio"), *shown]))
    for name, loss in row.get("validation_loss", {}).items():
        print(f"{name}: loss {loss:.4f} on what is held out, after {options.steps} steps")
    print("\n" + told(machine()))
    print("\n".join(settings()))
    print(
        ", ".join(f"{name} {version(name)}" for name in ("tinyattn", "torch", "jax", "autograd") if is_installed(name))
    )


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Time the training of a character GPT beside its peers.")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a text in UTF-8 (default: our own sources)")
    parser.add_argument("--json", action="store_true", help="print a list with one row as JSON instead of a table")
    parser.add_argument(
        "--steps", type=whole_number(0, 10**6), default=0, metavar="N", help="train so far, and compare"
    )
    parser.add_argument("--rounds", type=whole_number(1, 1000), default=ROUNDS, metavar="R", help="samples (default 9)")
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out: it takes a minute to compile")
    parser.add_argument("--as-set", action="store_true", help="keep BLAS's kernels as the environment has them")
    return parser


if __name__ == "__main__":
    sys.exit(run(PROGRAM, main))
