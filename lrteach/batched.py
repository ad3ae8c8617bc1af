"""Training many runs of one model at once: R parameter vectors as the rows of one array.

A stack holds the runs as `theta` (R, n) and fills `g` (R, n) with their gradients. No operation
mixes rows, so a run is bit for bit the same whatever runs beside it, and one that diverges
disturbs nobody. `train_together` is the loop of `training.train` around a stack.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn import functional as F

from lrteach.models import fresh_copy
from lrteach.schedules import Feedback, Schedule, constant
from lrteach.training import (
    Gradient,
    Loss,
    Update,
    batches,
    check_rates,
    cut,
    device,
    flatten,
    mean_squares,
    replayed,
    tensors,
)

if TYPE_CHECKING:
    from lrteach.rules import Hyper, Rule
    from lrteach.sweeps import Job

__all__ = [
    "DenseStack", "MappedStack", "Results", "can_be_dense", "can_be_mapped", "train_together",
]  # fmt: skip


@dataclass
class Results:
    """What R runs of T updates with E evaluations left behind. Float arrays are float64.

    Attributes
    ----------
    losses, grad_norms : (R, T)
        As in `Run`; NaN after a run was stopped.
    val_losses, val_accuracies : (R, E)
        NaN after a run was stopped.
    test_losses, test_accuracies : (R,)
    updates : int array (R,)
        Updates made; T unless the run was stopped.
    diverged : bool array (R,)
    """

    losses: np.ndarray
    grad_norms: np.ndarray
    val_losses: np.ndarray
    val_accuracies: np.ndarray
    test_losses: np.ndarray
    test_accuracies: np.ndarray
    updates: np.ndarray
    diverged: np.ndarray

    @classmethod
    def empty(cls, R: int, T: int, E: int) -> Results:
        """Results in which nothing has happened yet."""

        def unknown(*shape: int) -> np.ndarray:
            return np.full(shape, np.nan)

        return cls(
            unknown(R, T), unknown(R, T), unknown(R, E), unknown(R, E), unknown(R), unknown(R),
            updates=np.full(R, T), diverged=np.zeros(R, bool),
        )  # fmt: skip


class Stack:
    """R runs of one model. A subclass computes outputs and gradients.

    Attributes
    ----------
    theta, g : tensors (R, n)
        Parameters of every run, in the order of `training.flatten`, and their gradients.
    """

    def __init__(self, model: nn.Module, theta: torch.Tensor, loss: Loss) -> None:
        self.model = model
        self.loss = loss
        self.shapes = [p.shape for p in model.parameters() if p.requires_grad]
        self.sizes = [shape.numel() for shape in self.shapes]
        self._hold(theta, torch.zeros_like(theta))

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (R, B, ...) for inputs (R, B, ...), or (1, B, ...) that all runs share."""
        raise NotImplementedError

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of every run, (R,)."""
        raise NotImplementedError

    def gradient(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Fill `g` with the gradients on a batch; returns the losses (R,)."""
        raise NotImplementedError

    def _hold(self, theta: torch.Tensor, g: torch.Tensor) -> None:
        self.theta, self.g = theta, g
        self.parameters, self.gradients = self._views(self.theta), self._views(self.g)

    def _views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        parts = zip(flat.split(self.sizes, dim=1), self.shapes, strict=True)
        return [part.unflatten(1, shape) for part, shape in parts]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows, and their gradients, only."""
        self._hold(self.theta[rows], self.g[rows])

    @contextmanager
    def at(self, theta: torch.Tensor) -> Iterator[None]:
        """Inside, the runs have other parameters (R, n), and gradients of their own."""
        if theta is self.theta:
            yield
            return
        before = self.theta, self.g
        self._hold(theta, torch.zeros_like(theta))
        try:
            yield
        finally:
            self._hold(*before)

    def gradient_at(
        self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, clip: float | None = None
    ) -> torch.Tensor:
        """The gradients (R, n) of a batch at other parameters, each row cut to length `clip`."""
        with self.at(theta):
            self.gradient(x, y)
            return cut(self.g, torch.linalg.vector_norm(self.g, dim=1), clip)

    @torch.no_grad()
    def evaluate(
        self, x: torch.Tensor, y: torch.Tensor, chunk: int = 250
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean loss and accuracy of every run on a whole part of the data: two arrays (R,).

        Both float64; in the chunks of `training.evaluate`, so that the sums are the same.
        """
        total, correct = np.zeros(len(self.theta)), np.zeros(len(self.theta))
        for start in range(0, len(x), chunk):
            targets = y[start : start + chunk]
            outputs = self.outputs(x[None, start : start + chunk])
            losses = self.losses(outputs, targets.expand(len(outputs), *targets.shape))
            total += losses.double().cpu().numpy() * len(targets)
            if not y.is_floating_point():
                correct += (outputs.argmax(2) == targets).sum(1).cpu().numpy()
        return total / len(x), correct / len(x) if not y.is_floating_point() else correct * math.nan


class DenseStack(Stack):
    """R dense networks: each layer is one batched matrix product, backward too, by hand.

    The products run as fast as the processor can; what automatic differentiation and one call
    per run and layer would cost is most of a small network's time.
    """

    def __init__(self, model: nn.Module, theta: torch.Tensor, loss: Loss) -> None:
        super().__init__(model, theta, loss)
        self.layers = _layers_of(model) or []

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (R, B, C) for inputs (R, B, ...), or (1, B, ...) that all runs share."""
        return self._forward(x)[-1]

    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The inputs of every layer, then the outputs; each of shape (R, B, features)."""
        values = [x.flatten(2).expand(len(self.theta), -1, -1)]
        parameters = iter(self.parameters)
        for layer in self.layers:
            z = torch.bmm(values[-1], next(parameters).transpose(1, 2))
            if layer.bias:
                z.add_(next(parameters).unsqueeze(1))
            values.append(_ACTIVATIONS[layer.activation][0](z))
        return values

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of every run, (R,)."""
        return _losses_and_slopes(self.loss, outputs, targets, slopes=False)[0]

    def gradient(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Fill `g` with the gradients on a batch; returns the losses (R,)."""
        values = self._forward(x)
        outputs = values.pop()
        losses, slope = _losses_and_slopes(self.loss, outputs, y)
        gradients = iter(reversed(self.gradients))
        weights = [p for p in self.parameters if p.ndim == 3]
        for layer, weight in zip(reversed(self.layers), reversed(weights), strict=True):
            inputs = values.pop()
            slope = _ACTIVATIONS[layer.activation][1](slope, outputs)
            if layer.bias:
                torch.sum(slope, 1, out=next(gradients))
            torch.bmm(slope.transpose(1, 2), inputs, out=next(gradients))
            if values:
                slope = torch.bmm(slope, weight)
            outputs = inputs
        return losses


class MappedStack(Stack):
    """R runs of any model without memory or chance, by `torch.func.vmap`: for a GPU.

    On a CPU convolutions and attention gain nothing from it (see `sweeps`).
    """

    def __init__(self, model: nn.Module, theta: torch.Tensor, loss: Loss) -> None:
        super().__init__(copy.deepcopy(model).to(theta), theta, loss)
        self.names = [name for name, p in self.model.named_parameters() if p.requires_grad]

    def _call(self, theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        parts = zip(self.names, theta.split(self.sizes), self.shapes, strict=True)
        values = {name: part.view(shape) for name, part, shape in parts}
        return torch.func.functional_call(self.model, values, (x,))

    def outputs(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (R, B, ...) for inputs (R, B, ...), or (1, B, ...) that all runs share."""
        x = x.expand(len(self.theta), *x.shape[1:])
        return torch.func.vmap(self._call)(self.theta, x)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of every run, (R,)."""
        return torch.func.vmap(self.loss)(outputs, targets)

    def gradient(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Fill `g` with the gradients on a batch; returns the losses (R,)."""
        theta = self.theta.detach().requires_grad_()
        x = x.expand(len(theta), *x.shape[1:])
        losses = torch.func.vmap(lambda p, x, y: self.loss(self._call(p, x), y))(theta, x, y)
        # The sum is only a way to ask for all gradients: each row of theta has its own loss.
        (gradient,) = torch.autograd.grad(losses.sum(), theta)
        self.g.copy_(gradient)
        return losses.detach()


def train_together(
    stack_class: type[Stack],
    job: Job,
    lrs: ArrayLike,
    seeds: list[int],
    stopped: Callable[[], bool] = lambda: False,
    advance: Callable[[int], object] = lambda n: None,
) -> Results | None:
    """Train one run for each pair of `lrs` and `seeds`, all at once. Returns `Results`.

    `job` has what `train` takes otherwise (see `sweeps.Job`). `stopped()` is asked at every update
    and ends the work with None; `advance(n)` hears of n updates that are done.
    """
    where = device()
    lrs, row_seeds = np.asarray(lrs, np.float64), np.asarray(seeds)
    parts = {name: tensors(job.data, name, where, job.dtype) for name in ("train", "val", "test")}
    stack = stack_class(job.model, _starts(job, row_seeds).to(where), job.loss_function)
    update = _Update(job.rule, job.rule.defaults | job.hyper, stack)
    eval_steps = job.eval_steps
    followers = None
    planned: Schedule = constant()  # not used with followers
    if isinstance(job.schedule, Feedback):  # one for each run
        followers = [job.schedule.online() for _ in lrs]
    else:
        planned = job.schedule
    results = Results.empty(len(lrs), job.steps, len(eval_steps))
    alive, lost = np.arange(len(lrs)), []  # rows still in the stack; (row, theta) of the others
    used = np.zeros((len(lrs) if followers else 1, job.steps))  # a planned factor is everyone's

    def measure(t: int) -> np.ndarray:
        """Measure the validation part after t updates; returns which runs are not finite."""
        with stack.at(update.evaluated(stack.theta)):
            losses, accuracies = stack.evaluate(*parts["val"])
        column = eval_steps.index(t)
        results.val_losses[alive, column] = losses
        results.val_accuracies[alive, column] = accuracies
        if followers and t > 0:
            for row, loss in zip(alive, losses, strict=True):
                followers[row].update(loss)
        return ~(np.isfinite(losses) & stack.theta.isfinite().all(1).cpu().numpy())

    def lose(rows: np.ndarray, t: int) -> None:
        """Take runs that are not finite out of the stack after t updates."""
        nonlocal alive
        results.updates[alive[rows]], results.diverged[alive[rows]] = t, True
        lost.append((alive[rows], update.evaluated(stack.theta)[torch.from_numpy(rows)]))
        left = torch.from_numpy(~rows)
        alive = alive[~rows]
        stack.keep(left)
        update.keep(left)

    measure(0)
    orders = {seed: batches(len(parts["train"][0]), job.batch_size, seed) for seed in set(seeds)}
    for t in range(job.steps):
        if stopped():
            return None
        if len(alive) == 0:
            break
        x, y = _batch(parts["train"], orders, row_seeds[alive])
        batch_losses = stack.gradient(x, y)
        losses = batch_losses.double().cpu().numpy()
        results.losses[alive, t] = losses
        finite = np.isfinite(losses)
        if not finite.all():
            lose(~finite, t)
            if len(alive) == 0:
                break
            left = torch.from_numpy(finite)
            batch_losses = batch_losses[left]
            x, y = x[left] if len(x) > 1 else x, y[left]
        norms = torch.linalg.vector_norm(stack.g, dim=1)
        results.grad_norms[alive, t] = norms.double().cpu().numpy()
        cut(stack.g, norms, job.clip)
        factor = np.array([followers[row].rate for row in alive]) if followers else planned(t)
        used[alive if followers else 0, t] = factor
        rates = torch.from_numpy(lrs[alive] * factor).to(stack.theta).unsqueeze(1)
        loss = batch_losses.unsqueeze(1) if "loss" in job.rule.asks else None
        again = None
        if "gradient" in job.rule.asks:
            again = partial(stack.gradient_at, x=x, y=y, clip=job.clip)
        update(stack.theta, stack.g, t + 1, rates, loss, again)
        if t + 1 in eval_steps:
            bad = measure(t + 1)
            if bad.any():
                lose(bad, t + 1)
        advance(len(lrs))
    if followers:
        for row, made in enumerate(results.updates):
            plan = replayed(
                followers[row].rule, np.array(eval_steps), results.val_losses[row], made
            )
            check_rates(used[row, :made], plan, of="the losses")
    else:
        made = results.updates.max()
        check_rates(used[0, :made], planned(np.arange(made)))

    final = [(alive, update.evaluated(stack.theta)), *lost]
    rows = np.concatenate([rows for rows, _ in final])
    everyone = stack_class(job.model, torch.cat([theta for _, theta in final]), job.loss_function)
    results.test_losses[rows], results.test_accuracies[rows] = everyone.evaluate(*parts["test"])
    return results


class _Update:
    """A rule and its state for R runs, applied to a few rows at a time.

    So a formula's temporaries stay in the core's cache, which makes it a fifth faster. A second
    gradient is computed for all rows at once.
    """

    NUMBERS = 2**17

    def __init__(self, rule: Rule, hyper: Hyper, stack: Stack) -> None:
        self.update = Update(rule, hyper, stack.shapes, runs=True)
        R, n = stack.theta.shape
        self.rows = R if "gradient" in rule.asks else max(1, self.NUMBERS // n)
        self._hold(self.update.start(stack.theta), R)

    def _hold(self, slots: list[torch.Tensor], R: int) -> None:
        blocks = [slice(first, first + self.rows) for first in range(0, R, self.rows)]
        self.state = [(block, [slot[block] for slot in slots]) for block in blocks]

    def __call__(
        self,
        theta: torch.Tensor,
        g: torch.Tensor,
        t: int,
        rates: torch.Tensor,
        losses: torch.Tensor | None,
        gradient: Gradient | None,
    ) -> None:
        """Update theta (R, n) in place; rates, and losses where the rule asks for them, (R, 1)."""
        for i, (block, slots) in enumerate(self.state):
            loss = None if losses is None else losses[block]
            slots = self.update(theta[block], g[block], slots, t, rates[block], loss, gradient)
            self.state[i] = (block, slots)

    def evaluated(self, theta: torch.Tensor) -> torch.Tensor:
        """The parameters to evaluate, (R, n): theta itself, or its average."""
        if self.update.rule.average is None:
            return theta
        return torch.cat([self.update.evaluated(theta[b], slots) for b, slots in self.state])

    def keep(self, left: torch.Tensor) -> None:
        """Go on with the rows in `left`, a mask of shape (R,)."""
        columns = zip(*(slots for _, slots in self.state), strict=True)
        self._hold([torch.cat(column)[left] for column in columns], int(left.sum()))


def _starts(job: Job, seeds: np.ndarray) -> torch.Tensor:
    """The first parameters of every run, (R, n)."""
    start = {}
    for seed in set(seeds.tolist()):
        model = fresh_copy(job.model, seed if job.initialise else None).to(job.dtype)
        start[seed] = flatten(model)[0]
    return torch.stack([start[seed] for seed in seeds.tolist()])


def _batch(
    part: tuple[torch.Tensor, torch.Tensor],
    orders: dict[int, Iterator[np.ndarray]],
    seeds: np.ndarray,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next batch of every run: x (R, B, ...), or (1, B, ...) if all share it; y (R, B, ...).

    Every seed's order moves on, also when all of its runs are lost.
    """
    drawn = {seed: next(order) for seed, order in orders.items()}
    distinct = set(seeds.tolist())
    if len(distinct) == 1:
        rows = torch.from_numpy(drawn[distinct.pop()])
        x, y = (tensor[rows.to(tensor.device)][None] for tensor in part)
        return x, y.expand(len(seeds), *y.shape[1:])
    place = {seed: i for i, seed in enumerate(drawn)}
    rows = torch.from_numpy(np.stack(list(drawn.values()))[[place[s] for s in seeds.tolist()]])
    x, y = (_rows(tensor, rows.to(tensor.device)) for tensor in part)
    return x, y


def _rows(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """tensor[rows], twice as fast."""
    return tensor.index_select(0, rows.flatten()).view(*rows.shape, *tensor.shape[1:])


# --- Dense networks -------------------------------------------------------------------------------


class _Layer(NamedTuple):
    bias: bool
    activation: str | None


# name: (apply it, in place; turn the slope by its outputs into that by its inputs, in place)
_ACTIVATIONS: dict[str | None, tuple[Callable[..., torch.Tensor], ...]] = {
    None: (lambda z: z, lambda slope, a: slope),
    "ReLU": (
        torch.relu_,
        lambda slope, a: torch.ops.aten.threshold_backward.grad_input(
            slope, a, 0, grad_input=slope
        ),
    ),
    "Tanh": (
        torch.tanh_,
        lambda slope, a: torch.ops.aten.tanh_backward.grad_input(slope, a, grad_input=slope),
    ),
}


def can_be_dense(model: nn.Module, x: torch.Tensor) -> bool:
    """Whether `DenseStack` computes what the model does on inputs like x (N, ...).

    That is a chain of Linear layers with ReLU or Tanh between them, perhaps flattened first, all
    of it trainable and nothing hooked into it.
    """
    return _layers_of(model) is not None and (x.ndim == 2 or _flattens(model))


def _modules_of(model: nn.Module) -> list[nn.Module]:
    """The modules that a sequential model applies, in order; None where it is not sequential."""
    if type(model) is not nn.Sequential:
        return [model]
    return [module for child in model for module in _modules_of(child)]


def _flattens(model: nn.Module) -> bool:
    first = _modules_of(model)[0]
    return type(first) is nn.Flatten and (first.start_dim, first.end_dim) == (1, -1)


def _layers_of(model: nn.Module) -> list[_Layer] | None:
    modules = _modules_of(model)
    hooked = any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        for module in model.modules()
    )
    frozen = any(not p.requires_grad for p in model.parameters())
    if hooked or frozen or len({id(m) for m in modules}) < len(modules):
        return None
    layers = []
    for module in modules[1:] if _flattens(model) else modules:
        kind = type(module).__name__
        if type(module) is nn.Linear:
            layers.append(_Layer(module.bias is not None, None))
        elif type(module) in (nn.ReLU, nn.Tanh) and layers and layers[-1].activation is None:
            layers[-1] = layers[-1]._replace(activation=kind)
        elif type(module) is not nn.Identity:
            return None
    return layers or None


# --- Losses of many runs --------------------------------------------------------------------------


def _losses_and_slopes(
    loss: Loss, outputs: torch.Tensor, targets: torch.Tensor, slopes: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Losses (R,) for outputs (R, B, C), and what they change by per output, (R, B, C).

    The two losses that `train` takes by itself are written out; any other function is called, and
    differentiated, for one run after the other.
    """
    if loss is F.cross_entropy:
        # torch's softmax is ten times faster along an axis that is not the last.
        log_p = torch.log_softmax(outputs.transpose(1, 2).contiguous(), 1)
        right = targets.unsqueeze(1)
        losses = -log_p.gather(1, right).squeeze(1).mean(1)
        if not slopes:
            return losses, None
        slope = log_p.exp_()
        slope.scatter_add_(1, right, slope.new_full((1, 1, 1), -1.0).expand_as(right))
        return losses, slope.div_(outputs.shape[1]).transpose(1, 2)
    if loss is mean_squares:
        error = outputs.reshape(targets.shape) - targets
        losses = (error * error).flatten(1).mean(1)
        return losses, (error * (2 / error[0].numel())).reshape(outputs.shape)
    each: list[torch.Tensor] = []
    slope = torch.zeros_like(outputs)
    for row, (one, y) in enumerate(zip(outputs, targets, strict=True)):
        with torch.enable_grad():
            one = one.detach().requires_grad_()
            value = loss(one, y)
        if slopes:
            (slope[row],) = torch.autograd.grad(value, one)
        each.append(value.detach())
    return torch.stack(each), slope


def can_be_mapped(model: nn.Module) -> bool:
    """Whether `MappedStack` computes what the model does: it must not keep running statistics."""
    return not list(model.buffers())
