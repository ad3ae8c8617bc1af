"""The training loop: one model, one rule, one rate, one seed: one `Run`."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from numbers import Integral, Real
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from lrteach.models import fresh_copy
from lrteach.rules import Hyper, Rule, plain
from lrteach.schedules import Feedback, Schedule, constant

__all__ = ["train", "Run", "batches", "device"]

# Mean loss of outputs and targets.
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Parameters to their gradient on the batch at hand.
Gradient: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
# A schedule or a feedback rule, or what makes one, such as the class itself.
AnySchedule: TypeAlias = Schedule | Feedback | Callable[..., Schedule | Feedback] | None


class Dataset(Protocol):
    """Inputs and targets in three parts: arrays, tensors, or what torch can make tensors of."""

    @property
    def x_train(self) -> Any: ...
    @property
    def y_train(self) -> Any: ...
    @property
    def x_val(self) -> Any: ...
    @property
    def y_val(self) -> Any: ...
    @property
    def x_test(self) -> Any: ...
    @property
    def y_test(self) -> Any: ...


def device() -> torch.device:
    """Where training runs: the first GPU if torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class Run:
    """What happened in one training run of T updates.

    Attributes
    ----------
    losses : float64 array (T,)
        Loss of the batch before update t. A run that was stopped by a loss that is not finite
        has this loss as one entry more.
    rates : float64 array (T,)
        The rate that update t really used, read where the rule used it.
    grad_norms : float64 array (T,)
        Length of the gradient before update t, before clipping.
    eval_steps, val_losses, val_accuracies : arrays (E,)
        After how many updates the validation part was measured, and what it gave: at the
        parameters, or at their average for a rule that has one. Accuracy is NaN for a regression.
    test_loss, test_accuracy : float
        On the test part, after the last update.
    diverged : bool
        Whether the run was stopped because its loss, or its parameters, were not finite.
    status : str
        One sentence on how the run ended.
    model : torch.nn.Module
        The trained copy of the model, with the parameters that were evaluated.
    config : dict
        Rule, rate, schedule, steps, batch size and seed.
    """

    losses: np.ndarray
    rates: np.ndarray
    grad_norms: np.ndarray
    eval_steps: np.ndarray
    val_losses: np.ndarray
    val_accuracies: np.ndarray
    test_loss: float
    test_accuracy: float
    diverged: bool
    status: str
    model: torch.nn.Module = field(repr=False)
    config: dict[str, Any]

    @property
    def steps(self) -> int:
        """T, the number of updates made."""
        return len(self.rates)

    @property
    def val_loss(self) -> float:
        """Validation loss after the last update; infinite for a diverged run."""
        return math.inf if self.diverged else float(self.val_losses[-1])

    @property
    def val_accuracy(self) -> float:
        """Validation accuracy after the last update; that of a diverged model is what it is."""
        return float(self.val_accuracies[-1])

    def smooth_loss(self, window: int = 50) -> float:
        """Mean training loss of the last `window` updates; infinite for a diverged run."""
        return math.inf if self.diverged else float(np.mean(self.losses[-window:]))

    def __repr__(self) -> str:
        rule, lr, seed = (self.config[k] for k in ("rule", "lr", "seed"))
        return f"<Run {rule} lr={lr:g} seed={seed}: {self.status}>"


def train(
    model: torch.nn.Module,
    data: Dataset,
    rule: Rule,
    lr: float,
    *,
    schedule: AnySchedule = None,
    steps: int = 1000,
    batch_size: int | None = 100,
    seed: int = 0,
    initialise: bool = True,
    loss: Loss | None = None,
    eval_every: int | None = None,
    clip: float | None = None,
    dtype: torch.dtype = torch.float32,
    progress: bool | None = None,
    **hyper: Any,
) -> Run:
    """Train a copy of `model` on `data` and return everything that happened as a `Run`.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is; the run works on a copy.
    data : lrteach.data.Data
        Arrays x_train, y_train, x_val, y_val, x_test, y_test.
    rule : Rule
        For example `lrteach.optimizers.adam`.
    lr : float
        The rate. With a schedule, what its values are multiplied by.
    schedule : Schedule or Feedback, or a function of `steps` that returns one, or None
        `cosine` and `cosine(steps=1000)` are the same for 1000 steps; None is a constant rate.
        A feedback rule such as `plateau()` is told the validation loss that is measured after
        every `eval_every` updates.
    steps : int
        Number of updates.
    batch_size : int or None
        Examples per update, drawn without replacement within each pass; None is the whole set.
    seed : int
        Determines the first parameters, the order of the batches and the draws of layers such
        as dropout, and nothing else does.
    initialise : bool
        False starts from the model's present parameters.
    loss : function(outputs, targets) -> scalar tensor, or None
        None is cross-entropy for integer targets and the mean squared error otherwise.
    eval_every : int or None
        Measure the validation part every so many updates; None only before and after.
    clip : float or None
        Scale a gradient that is longer than this down to this length.
    dtype : torch.dtype
        Of parameters and inputs.
    progress : bool or None
        Show a progress bar; None shows it in a terminal only.
    **hyper
        Hyperparameters of the rule.

    Raises
    ------
    TypeError, ValueError
        An argument that cannot be used; the message names it.
    """
    check_arguments(rule, lr, hyper, steps, batch_size, eval_every, seed, clip)
    lr = plain(lr)
    chosen = as_schedule(schedule, steps, eval_every)
    follower = chosen.online() if isinstance(chosen, Feedback) else None
    planned = chosen if isinstance(chosen, Schedule) else constant()  # not used with a follower
    plan = lr * planned(np.arange(steps))
    rule.check(lr=lr * follower.rate if follower else plan)
    loss = loss or default_loss(data.y_train)
    where = device()
    model = fresh_copy(model, seed if initialise else None).to(where, dtype)
    parts = {name: tensors(data, name, where, dtype) for name in ("train", "val", "test")}

    theta, g = flatten(model)
    hyper = rule.defaults | {name: plain(value) for name, value in hyper.items()}
    update = Update(rule, hyper, [p.shape for p in model.parameters() if p.requires_grad])
    slots = update.start(theta)
    eval_every = eval_every or steps
    losses, rates, grad_norms = [], [], []

    def measure(part: str) -> tuple[float, float]:
        with _in_place_of(theta, update.evaluated(theta, slots)):
            return evaluate(model, *parts[part], loss)

    evaluations = [(0, *measure("val"))]
    status, diverged = f"finished {steps} steps", False
    twice = "gradient" in rule.asks

    if progress is None:
        progress = sys.stderr.isatty()
    x, y = parts["train"]
    order = batches(len(x), batch_size, seed)
    with _own_random_numbers(seed, where):
        updates = range(steps)
        if progress:
            updates = tqdm(updates, desc=rule.__name__, leave=False)
        for t in updates:
            batch = torch.from_numpy(next(order)).to(where)
            again = _Gradient(model, loss, x[batch], y[batch], theta, g, clip) if twice else None
            g.zero_()
            value = loss(model(x[batch]), y[batch])
            value.backward()
            losses.append(value.item())
            if not math.isfinite(losses[-1]):
                diverged, status = True, f"diverged: the loss is {losses[-1]} after {t} updates"
                break
            norm = torch.linalg.vector_norm(g)
            cut(g, norm, clip)
            rate = lr * (follower.rate if follower else planned(t))
            with torch.no_grad():
                seen = value.detach() if update.asks_loss else None
                slots = update(theta, g, slots, t + 1, rate, seen, again)
            rates.append(rate)
            grad_norms.append(norm.item())
            if (t + 1) % eval_every == 0 or t + 1 == steps:
                evaluations.append((t + 1, *measure("val")))
                val_loss = evaluations[-1][1]
                if follower:
                    follower.update(val_loss)
                if not math.isfinite(val_loss) or not theta.isfinite().all():
                    what = f"the validation loss is {val_loss}"
                    if math.isfinite(val_loss):  # units that a ReLU keeps at zero hide it
                        what = "parameters are not finite"
                    diverged, status = True, f"diverged: {what} after {t + 1} updates"
                    break

    eval_steps, val_losses, val_accuracies = (
        np.array(column) for column in zip(*evaluations, strict=True)
    )
    if follower:
        plan = lr * replayed(follower.rule, eval_steps, val_losses, len(rates))
        check_rates(rates, plan, of="the losses")
    else:
        check_rates(rates, plan)
    theta.copy_(update.evaluated(theta, slots))
    test_loss, test_accuracy = evaluate(model, *parts["test"], loss)
    return Run(
        losses=np.array(losses),
        rates=np.array(rates),
        grad_norms=np.array(grad_norms),
        eval_steps=eval_steps,
        val_losses=val_losses,
        val_accuracies=val_accuracies,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        diverged=diverged,
        status=status,
        model=model,
        config={
            "rule": rule.__name__, "lr": lr, "schedule": chosen, "steps": steps,
            "batch_size": batch_size, "seed": seed, "clip": clip, **hyper,
        },
    )  # fmt: skip


@contextmanager
def _own_random_numbers(seed: int, where: torch.device) -> Iterator[None]:
    """Inside, torch draws (for dropout, say) from `seed`; outside, its state is as it was."""
    with torch.random.fork_rng([where] if where.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def batches(n: int, batch_size: int | None, seed: int) -> Iterator[np.ndarray]:
    """Yield int64 index arrays for ever: every pass over n examples in a new random order.

    Passes are shuffled by NumPy from `seed`; what is left at the end of a pass, smaller than a
    batch, is skipped. `batch_size=None` yields all n in order, every time.
    """
    if batch_size is not None and not 1 <= batch_size <= n:
        raise ValueError(f"batch_size={batch_size} is not allowed: there are {n} training examples")
    rng = np.random.default_rng([seed, 1])  # not the stream that draws the parameters
    while True:
        if batch_size is None:
            yield np.arange(n)
            continue
        order = rng.permutation(n)
        for start in range(0, n - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


class Update:
    """A rule with its hyperparameters, applied in place to all parameters of one run or of many.

    Parameters are one vector θ (n,), or the rows of (R, n) with `runs`. `slots` is the state: a
    list, for a layer-wise rule that of the first layer, then of the next.
    """

    def __init__(
        self, rule: Rule, hyper: Hyper, shapes: Sequence[torch.Size], runs: bool = False
    ) -> None:
        self.rule, self.hyper, self.runs = rule, hyper, runs
        self.asks_loss = "loss" in rule.asks
        self.layers = None
        if rule.layerwise:
            sizes = [shape.numel() for shape in shapes]
            ends = list(accumulate(sizes))
            self.layers = [
                (slice(end - size, end), tuple(shape))
                for size, end, shape in zip(sizes, ends, shapes, strict=True)
            ]

    def start(self, theta: torch.Tensor) -> list[torch.Tensor]:
        """The state before the first update."""
        return [
            slot
            for part in self._parts(theta)
            for slot in list(self.rule.init(part, self.runs).values())[1:]
        ]

    def __call__(
        self,
        theta: torch.Tensor,
        g: torch.Tensor,
        slots: list[torch.Tensor],
        t: int,
        lr: float | torch.Tensor,
        loss: torch.Tensor | None = None,
        gradient: Gradient | None = None,
    ) -> list[torch.Tensor]:
        """Update theta where it is; returns the new slots. `g` is the caller's to write over.

        With `runs`, lr and loss have shape (R, 1).
        """
        if self.layers is None:
            return self._update(theta, g, slots, t, lr, loss, gradient)
        new, count = [], len(self.rule.slots)
        parts = zip(self._parts(theta), self._parts(g), strict=True)
        for i, (part, slope) in enumerate(parts):
            state = slots[i * count : (i + 1) * count]
            if part.numel():
                rate, value = (self._shaped(x, part) for x in (lr, loss))
                state = self._update(part, slope, state, t, rate, value, gradient)
            new += state
        return new

    def _update(
        self,
        theta: torch.Tensor,
        g: torch.Tensor,
        slots: list[torch.Tensor],
        t: int,
        lr: float | torch.Tensor,
        loss: torch.Tensor | None,
        gradient: Gradient | None,
    ) -> list[torch.Tensor]:
        """A formula may keep theta or g as it got it, for the next update. Both change under it,
        so such a slot becomes a copy.
        """
        new_theta, *slots = self.rule.update(
            theta, g, slots, t, lr, self.hyper, runs=self.runs, loss=loss, gradient=gradient
        )
        slots = [slot.clone() if slot is theta or slot is g else slot for slot in slots]
        theta.copy_(new_theta)
        return slots

    def _parts(self, flat: torch.Tensor) -> list[torch.Tensor]:
        if self.layers is None:
            return [flat]
        return [flat[..., part].view(flat.shape[:-1] + shape) for part, shape in self.layers]

    def _shaped(self, value: Any, part: torch.Tensor) -> Any:
        return (
            value.view((-1,) + (1,) * (part.ndim - 1)) if self.runs and value is not None else value
        )

    def evaluated(self, theta: torch.Tensor, slots: list[torch.Tensor]) -> torch.Tensor:
        """The parameters to evaluate: theta itself, or an average of the shape of theta."""
        if self.rule.average is None:
            return theta
        first, count = self.rule.slots.index(self.rule.average), len(self.rule.slots)
        return torch.cat([x.reshape(*theta.shape[:-1], -1) for x in slots[first::count]], dim=-1)


@contextmanager
def _in_place_of(theta: torch.Tensor, other: torch.Tensor) -> Iterator[None]:
    """Inside, theta holds the values of `other`."""
    if other is theta:
        yield
        return
    before = theta.clone()
    theta.copy_(other)
    try:
        yield
    finally:
        theta.copy_(before)


class _Gradient:
    """The gradient of one batch, at any parameters: made before the batch is used.

    Layers that draw random numbers draw the same again, and the run's own draws stay as they are.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        loss: Loss,
        x: torch.Tensor,
        y: torch.Tensor,
        theta: torch.Tensor,
        g: torch.Tensor,
        clip: float | None,
    ) -> None:
        self.model, self.loss, self.x, self.y = model, loss, x, y
        self.theta, self.g, self.clip = theta, g, clip
        self.cuda = [theta.device] if theta.device.type == "cuda" else []
        self.random = torch.random.get_rng_state(), [torch.cuda.get_rng_state(d) for d in self.cuda]

    def __call__(self, point: torch.Tensor) -> torch.Tensor:
        first = self.g.clone()
        with (
            torch.random.fork_rng(self.cuda),
            _in_place_of(self.theta, point),
            torch.enable_grad(),
        ):
            torch.random.set_rng_state(self.random[0])
            for where, state in zip(self.cuda, self.random[1], strict=True):
                torch.cuda.set_rng_state(state, where)
            self.g.zero_()
            self.loss(self.model(self.x), self.y).backward()
        gradient = self.g.clone()
        self.g.copy_(first)
        return cut(gradient, torch.linalg.vector_norm(gradient), self.clip)


def cut(g: torch.Tensor, norm: torch.Tensor, clip: float | None) -> torch.Tensor:
    """Scale the gradients g (…, n) of length `norm` (…) that are longer than `clip`, in place."""
    return g if clip is None else g.mul_(torch.clamp(clip / norm, max=1.0).unsqueeze(-1))


def flatten(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Put all trainable parameters of a model into one vector θ, and their gradients into one g.

    The parameters become views into θ, so changing θ changes the model; backward adds to g.
    Returns (theta, g), both of shape (number of parameters,).
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model has no trainable parameter")
    theta = torch.cat([p.detach().reshape(-1) for p in parameters])
    g = torch.zeros_like(theta)
    sizes = [p.numel() for p in parameters]
    for p, values, gradient in zip(parameters, theta.split(sizes), g.split(sizes), strict=True):
        p.data = values.view_as(p)
        p.grad = gradient.view_as(p)
    return theta, g


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss, chunk: int = 250
) -> tuple[float, float]:
    """Mean loss and accuracy on a whole part of the data, `chunk` examples at a time."""
    model.eval()
    total, correct = 0.0, 0.0
    for start in range(0, len(x), chunk):
        targets = y[start : start + chunk]
        outputs = model(x[start : start + chunk])
        total += loss(outputs, targets).item() * len(targets)
        if not targets.is_floating_point():
            correct += (outputs.argmax(1) == targets).sum().item()
    model.train()
    return total / len(x), math.nan if y.is_floating_point() else correct / len(x)


def default_loss(targets: Any) -> Loss:
    """Cross-entropy of logits for integer targets, mean squared error otherwise."""
    if np.issubdtype(np.asarray(targets).dtype, np.integer):
        return F.cross_entropy
    return mean_squares


def mean_squares(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean squared error; outputs may have an axis more than the targets, of length 1."""
    return F.mse_loss(outputs.reshape(y.shape), y)


def tensors(
    data: Dataset, part: str, where: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.as_tensor(getattr(data, f"x_{part}")).to(where)
    x = x.to(dtype) if x.is_floating_point() else x.long()  # whole numbers are tokens
    # Images: on a CPU, pooling is faster with a pixel's channels side by side.
    if x.ndim == 4 and x.stride(1) != 1:
        x = torch.empty_like(x, memory_format=torch.channels_last).copy_(x)
    y = torch.as_tensor(getattr(data, f"y_{part}")).to(where)
    return x, y.to(dtype) if y.is_floating_point() else y.long()


def as_schedule(schedule: Any, steps: int, eval_every: int | None) -> Schedule | Feedback:
    """The schedule or feedback rule that the argument `schedule` of `train` and `sweep` means."""
    if schedule is None:
        return constant()
    if isinstance(schedule, type) and issubclass(schedule, Feedback):
        schedule = schedule()
    elif callable(schedule) and not isinstance(schedule, Schedule):
        schedule = schedule(steps=steps)
    if not isinstance(schedule, Schedule | Feedback):
        raise TypeError(
            "schedule must be a Schedule or a Feedback rule, or make one, not "
            f"{type(schedule).__name__}"
        )
    if isinstance(schedule, Feedback) and eval_every is None:
        raise ValueError(
            f"eval_every=None is not allowed with {schedule!r}, which hears of the validation "
            "loss only when it is measured: give an int >= 1"
        )
    return schedule


def replayed(
    feedback: Feedback, eval_steps: np.ndarray, val_losses: np.ndarray, steps: int
) -> np.ndarray:
    """The factor of each of `steps` updates, as a run's evaluations make it."""
    factors = feedback.replay(val_losses[1:])  # the first is of the untrained model
    return factors[np.searchsorted(eval_steps[1:], np.arange(steps), side="right")]


def check_rates(rates: Iterable[float], plan: np.ndarray, of: str = "the step") -> None:
    """The rates used must be those planned: a schedule that changes is refused."""
    for t, rate in enumerate(rates):
        if rate != plan[t]:
            raise ValueError(
                f"schedule is not a pure function of {of}: update {t} was planned at "
                f"{plan[t]!r} and used {rate!r}"
            )


def check_arguments(
    rule: Rule,
    lr: float,
    hyper: Hyper,
    steps: int,
    batch_size: int | None,
    eval_every: int | None,
    seed: int,
    clip: float | None,
) -> None:
    if not isinstance(rule, Rule):
        raise TypeError(f"rule must be a rule such as lrteach.optimizers.sgd, not {rule!r}")
    rule.check(lr=lr, **hyper)
    if isinstance(lr, np.ndarray) or torch.is_tensor(lr):
        raise TypeError(f"lr must be one number, not {lr!r}: one run has one rate")
    for name, value, low, optional in (
        ("steps", steps, 1, False),
        ("batch_size", batch_size, 1, True),
        ("eval_every", eval_every, 1, True),
        ("seed", seed, 0, False),
    ):
        whole = isinstance(value, Integral) and not isinstance(value, bool) and value >= low
        if not whole and not (optional and value is None):
            words = f"an int >= {low}" + (" or None" if optional else "")
            raise ValueError(f"{name}={value!r} is not allowed: {name} must be {words}")
    if clip is not None and not (isinstance(clip, Real) and clip > 0):
        raise ValueError(f"clip={clip!r} is not allowed: clip must be None or a number > 0")
