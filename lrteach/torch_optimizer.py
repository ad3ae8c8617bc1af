"""Any rule of `lrteach.optimizers` as a torch optimizer, any schedule as a torch scheduler."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import ParamsT

from lrteach.kernels import kernel_of
from lrteach.rules import Rule, number, plain

if TYPE_CHECKING:
    from lrteach.kernels import Loop
    from lrteach.rules import Hyper, State
    from lrteach.schedules import Feedback, Schedule
    from lrteach.training import Gradient

__all__ = ["TorchOptimizer"]

# A formula makes an array for each operation. On this many elements, for each thread, they all
# stay in the cache, and the formula takes half to a quarter of the time.
_BLOCK = 2**15
# What groups hold beside hyperparameters; torch's schedulers keep theirs there.
_NOT_HYPER = {
    "params", "param_names", "train_mode", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr",
}  # fmt: skip
# From this size on, calling a kernel for one tensor costs less than copying it beside others.
_ALONE = 2**15


class TorchOptimizer(Optimizer):
    """A `torch.optim.Optimizer` that updates with a rule of this package.

    Works where torch's own optimizers work: parameter groups with their own hyperparameters,
    closures, `state_dict`, torch's schedulers, gradient clipping, `torch.amp.GradScaler`.

    With `compile=True`, `torch.compile` makes one loop of the formula, which reads every array
    once and changes it in place. The first step takes seconds (a dozen on a new machine, one for
    each rule and dtype after that); later ones about as long as with torch's `fused=True`. Large
    tensors are changed where they are, small ones through one vector. Only the rounding differs
    from the uncompiled rule, and a `state_dict` of either goes into the other. The uncompiled
    rule is used

    - for parameters that are neither float32 nor float64 or not contiguous, without a word;
    - for all, after one warning that says why, where there is no C++ compiler (on a CPU), where
      torch cannot compile, and for a rule that is not arithmetic element by element: one with a
      norm, say, or with an `if` on a number.

    What a rule asks for it gets as in `train`, with these differences.

    - A layer-wise rule is applied to each parameter. Any other rule with a norm sees all
      parameters of a group as one vector; a parameter whose gradient is None is no part of it.
      Its numbers and its `t` are the group's. A group must then have one dtype and one device.
    - The loss is what the closure returns: `step(closure)`.
    - A rule that asks for the gradient at another point calls the closure there once more, with
      all parameters of all groups moved; only `lr` may then differ between groups. The gradients
      that are left in the parameters are those of the last call.

    A rule with an average (`ema(adam)`, Schedule-Free) needs `eval()` before an evaluation or the
    last save, which puts the average into the parameters, and `train()` before the next step,
    which takes it out again. For other rules both do nothing.

    Parameters
    ----------
    params : iterable of tensors, or of dicts
        As for every torch optimizer.
    rule : Rule
        For example `lrteach.optimizers.adam`.
    lr : float
        The rate, in the rule's units. A group of its own may have another.
    compile : bool
        Use a compiled form of the rule, as said above.
    **hyper
        Hyperparameters of the rule, for example `momentum=0.9`.

    Raises
    ------
    TypeError
        `rule` is not a rule, `compile` is no bool, or a keyword is not a hyperparameter.
    ValueError
        A value out of range; no parameters; a sparse gradient at `step`; something that the rule
        asks for and `step` cannot give.
    RuntimeError
        `step` after `eval()`.
    """

    def __init__(
        self, params: ParamsT, rule: Rule, *, lr: float, compile: bool = False, **hyper: Any
    ) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"rule must be a rule such as lrteach.optimizers.adam, not {rule!r}")
        if not isinstance(compile, bool):
            raise TypeError(f"compile must be True or False, not {compile!r}")
        self.rule = rule
        self.compile = compile
        self._check(lr=lr, **hyper)
        defaults = {"lr": lr, **rule.defaults, **hyper}
        super().__init__(params, {name: plain(value) for name, value in defaults.items()})

    def _check(self, lr: Any, **hyper: Any) -> None:
        self.rule.check(lr=lr, **hyper)
        if getattr(lr, "ndim", 0) > 0:
            raise ValueError(f"lr={lr!r} is not allowed: lr must be one number for each group")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, checked like the arguments of the constructor."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, not {type(param_group).__name__}")
        own = {name: plain(value) for name, value in param_group.items() if name not in _NOT_HYPER}
        self._check(**{"lr": self.defaults["lr"], **own})
        super().add_param_group(param_group | own)
        if self.rule.average is not None:
            first, new = self.param_groups[0], self.param_groups[-1]
            new.setdefault("train_mode", first.get("train_mode", True))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, which is checked first.

        Raises
        ------
        ValueError
            `state_dict` is damaged, of another rule or of other parameters: nothing was changed.
        """
        try:
            groups, states = list(state_dict["param_groups"]), state_dict["state"]
            if not isinstance(states, dict):
                raise ValueError("its state is no dict")
            if [len(g["params"]) for g in groups] != [len(g["params"]) for g in self.param_groups]:
                raise ValueError("its groups have other numbers of parameters")
            self._check_saved_groups(groups)
            ids = [i for group in groups for i in group["params"]]
            parameters = [p for group in self.param_groups for p in group["params"]]
            if len(set(ids)) != len(ids) or not set(states) <= set(ids):
                raise ValueError("its state is of other parameters than its groups")
            for i, parameter in zip(ids, parameters, strict=True):
                if i in states:
                    self._check_saved_state(i, states[i], parameter)
        # RuntimeError: torch's, of a tensor where a number should be
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            why = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise ValueError(
                f"state_dict is damaged, or not that of {self.rule.__name__} with these parameters: {why}"
            ) from None
        super().load_state_dict(state_dict)

    def _check_saved_groups(self, groups: list[dict[str, Any]]) -> None:
        wanted = {"lr", *self.rule.defaults}
        for group in groups:
            own = set(group) - _NOT_HYPER
            if own != wanted:
                raise ValueError(f"a group holds {sorted(map(str, own))}, not {sorted(wanted)}")
            self._check(**{name: group[name] for name in own})
            if not isinstance(group.get("train_mode", True), bool):
                raise ValueError(f"train_mode is {group['train_mode']!r}")

    def _check_saved_state(self, i: object, state: object, parameter: torch.Tensor) -> None:
        wanted = self.rule.init(parameter)
        if not isinstance(state, dict):
            raise ValueError(f"the state of parameter {i} is {state!r}, no dict")
        if not state:  # it has had no gradient yet
            return
        if set(state) != set(wanted):
            raise ValueError(f"parameter {i} has {sorted(map(str, state))}, not {sorted(wanted)}")
        for name, start in wanted.items():
            value = state[name]
            if name == "t":
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise ValueError(f"t of parameter {i} is {value!r}, not a number of updates")
            elif not torch.is_tensor(value) or not value.is_floating_point():
                raise ValueError(f"{name} of parameter {i} is no tensor of real numbers")
            elif self.rule.kinds[name] is number:  # in a shape of its own that fits
                _require_fits(name, value, torch.empty(1) if self._together else parameter)
            elif value.shape != start.shape:
                raise ValueError(
                    f"{name} of parameter {i} has shape {tuple(value.shape)}, not {tuple(start.shape)}"
                )

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"rule": self.rule, "compile": self.compile}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient. Returns the closure's loss, if any."""
        if not self.param_groups[0].get("train_mode", True):
            raise RuntimeError(
                f"the parameters hold the average of {self.rule.__name__}: call train() before step()"
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:  # all checks come before the first change
            self._check(**{name: group[name] for name in ("lr", *self.rule.defaults)})
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    raise ValueError(
                        f"{self.rule.__name__} cannot use a sparse gradient (of a parameter of "
                        f"shape {tuple(parameter.shape)}): build the embedding with sparse=False"
                    )
        if "gradient" in self.rule.asks:
            self._update_twice(closure)
            return loss
        value = None if loss is None or "loss" not in self.rule.asks else float(loss)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            hyper = {name: group[name] for name in self.rule.defaults}
            if self.compile:
                parameters = self._update_compiled(parameters, group["lr"], hyper)
            if self._together:
                self._update_together(parameters, group["lr"], hyper, value)
                continue
            for parameter in parameters:
                self._update(parameter, group["lr"], hyper)
        return loss

    @property
    def _together(self) -> bool:
        """Whether the rule must see all parameters of a group at once."""
        return bool(self.rule.asks) and not self.rule.layerwise

    @torch.no_grad()
    def eval(self) -> None:
        """Put the average, if the rule has one, into the parameters, to evaluate or to save."""
        self._switch(False)

    @torch.no_grad()
    def train(self) -> None:
        """Take the average out of the parameters again, to go on training."""
        self._switch(True)

    def _switch(self, train: bool) -> None:
        # The parameter and its average change places, so that calling twice is harmless.
        for group in self.param_groups:
            if group.get("train_mode", train) == train:
                continue
            group["train_mode"] = train
            for parameter in group["params"]:
                state = self.state.get(parameter)
                if state:
                    values = parameter.clone()
                    parameter.copy_(state[self.rule.average])
                    state[self.rule.average].copy_(values)

    def _state_of(self, parameter: torch.Tensor) -> tuple[State, list[torch.Tensor]]:
        """The parameter's state, and its slots in the formula's order."""
        state = self.state[parameter]
        if not state:
            state.update(self.rule.init(parameter))
        return state, [state[name] for name in self.rule.slots]

    def _update(self, parameter: torch.Tensor, lr: float | torch.Tensor, hyper: Hyper) -> None:
        state, slots = self._state_of(parameter)
        t = state["t"] + 1
        if self.rule.elementwise:
            for theta, g, *rest in self._blocks([parameter, _gradient(parameter), *slots], hyper):
                _store([theta, *rest], self.rule.update(theta, g, rest, t, lr, hyper))
        elif parameter.numel():
            new = self.rule.update(parameter, _gradient(parameter), slots, t, lr, hyper)
            self._keep(parameter, state, new)
        state["t"] = t

    def _keep(self, parameter: torch.Tensor, state: State, new: Sequence[torch.Tensor]) -> None:
        """Store arrays over the old ones, and numbers in their place, as their shape may change."""
        arrays = [(parameter, new[0])]
        for name, value in zip(self.rule.slots, new[1:], strict=True):
            if self.rule.kinds[name] is number:
                state[name] = value.to(state[name].dtype)
            else:
                arrays.append((state[name], value))
        _store(*zip(*arrays, strict=True))

    def _update_together(
        self,
        parameters: list[torch.Tensor],
        lr: float | torch.Tensor,
        hyper: Hyper,
        loss: float | None = None,
        gradient: Gradient | None = None,
    ) -> None:
        """Update the parameters as one vector, with one `t` and one of each number."""
        if not parameters:
            return
        kinds = {(p.dtype, p.device) for p in parameters}
        if len(kinds) > 1:
            raise ValueError(
                f"{self.rule.__name__} takes norms over all parameters of a group, so they must "
                f"have one dtype and one device, not {sorted(map(str, kinds))}: make groups"
            )
        states = [self._state_of(p)[0] for p in parameters]
        newest = max(states, key=lambda state: state["t"])
        t = newest["t"] + 1
        theta, g = _vector(parameters), _vector(map(_gradient, parameters))
        slots = [
            newest[name] if self.rule.kinds[name] is number else _vector(s[name] for s in states)
            for name in self.rule.slots
        ]
        new = self.rule.update(theta, g, slots, t, lr, hyper, loss=loss, gradient=gradient)
        sizes = [p.numel() for p in parameters]
        for name, value in zip(("theta", *self.rule.slots), new, strict=True):
            if name == "theta":
                _spread(value, sizes, parameters)
            elif self.rule.kinds[name] is number:
                for state in states:
                    state[name] = value.to(state[name].dtype)
            else:
                _spread(value, sizes, [state[name] for state in states])
        for state in states:
            state["t"] = t

    def _update_twice(self, closure: Callable[[], Any] | None) -> None:
        """One update of all groups by a rule that asks for gradients at other points."""
        groups = self.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        hyper = {name: groups[0][name] for name in self.rule.defaults}
        if any(group[name] != value for group in groups for name, value in hyper.items()):
            raise ValueError(f"{self.rule.__name__} allows the groups no difference but in lr")
        lrs = [group["lr"] for group in groups for p in group["params"] if p.grad is not None]
        lr = lrs[0] if lrs else 0.0
        sizes = [p.numel() for p in parameters]
        if any(other != lr for other in lrs):
            lr = torch.cat(
                [p.new_full((p.numel(),), float(x)) for p, x in zip(parameters, lrs, strict=True)]
            )

        def gradient(point: torch.Tensor) -> torch.Tensor:
            before = [p.clone() for p in parameters]
            _spread(point, sizes, parameters)
            assert closure is not None  # or this function is not handed on
            with torch.enable_grad():
                closure()
            for p, value in zip(parameters, before, strict=True):
                p.copy_(value)
            return _vector(map(_gradient, parameters))

        self._update_together(parameters, lr, hyper, gradient=None if closure is None else gradient)

    def _blocks(self, arrays: list[torch.Tensor], hyper: Hyper) -> Iterable[Sequence[torch.Tensor]]:
        """The arrays; or, if the rule is elementwise, parts of them that fit into the cache."""
        block = _BLOCK * torch.get_num_threads()
        large = arrays[0].numel() > block and arrays[0].device.type == "cpu"
        if not (large and _contiguous(arrays) and kernel_of(self.rule, hyper)[0]):
            return [arrays]
        return zip(*(x.detach().view(-1).split(block) for x in arrays), strict=True)

    def _update_compiled(
        self, parameters: list[torch.Tensor], lr: float | torch.Tensor, hyper: Hyper
    ) -> list[torch.Tensor]:
        """Update the parameters with the rule's kernel; return those that it cannot take."""
        kernel, reason = kernel_of(self.rule, hyper)
        if kernel is None:
            self._give_up(reason)
            return parameters
        others, jobs, small = [], [], defaultdict(list)
        for parameter in parameters:
            state, slots = self._state_of(parameter)
            arrays = (parameter.detach(), _gradient(parameter), *slots)
            if not _compilable(arrays):
                others.append(parameter)
                continue
            member = (parameter, state, [x.view(-1) for x in arrays])
            key = (parameter.dtype, parameter.device, state["t"] + 1)
            if parameter.numel() >= _ALONE:
                jobs.append((key, [member]))
            else:
                small[key].append(member)
        for key, members in small.items():
            if sum(parameter.numel() for parameter, *_ in members) > 1:
                jobs.append((key, members))
            else:  # torch would compile again for vectors of length 1
                others += [parameter for parameter, *_ in members]
        numbers = {}
        for key, members in jobs:
            dtype, device, t = key
            loop, reason = kernel.compiled(dtype, device)
            if loop is None:
                self._give_up(reason)
                others += [parameter for parameter, *_ in members]
                continue
            if key not in numbers:
                values = kernel.numbers(lr, t, hyper)
                numbers[key] = torch.tensor(values, dtype=dtype, device=device)
            _run(loop, [arrays for *_, arrays in members], numbers[key])
            for _, state, _ in members:
                state["t"] = t
        return others

    def _give_up(self, reason: str) -> None:
        if self.compile:
            self.compile = False
            warnings.warn(
                f"compile=True has no effect, the uncompiled rule is used: {reason}", stacklevel=2
            )

    def __repr__(self) -> str:
        return f"{self.rule.__name__} as a " + super().__repr__()


def _store(old: Sequence[torch.Tensor], new: Sequence[torch.Tensor]) -> None:
    """Copy the new values over the old ones, in place.

    A formula may hand on an array as it got it, theta as next time's previous theta, say. Such a
    one is copied before anything is written.
    """
    addresses = {x.data_ptr() for x in old}
    new = [x.clone() if x.data_ptr() in addresses else x for x in new]
    for x, value in zip(old, new, strict=True):
        x.copy_(value)


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    """The gradient of a parameter that has one."""
    assert parameter.grad is not None
    return parameter.grad


def _vector(arrays: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([x.detach().reshape(-1) for x in arrays])


def _spread(vector: torch.Tensor, sizes: list[int], arrays: list[torch.Tensor]) -> None:
    """Copy the parts of a vector into the arrays that it was made of."""
    for x, part in zip(arrays, vector.split(sizes), strict=True):
        x.copy_(part.view(x.shape))


def _contiguous(arrays: list[torch.Tensor]) -> bool:
    return all(x.is_contiguous() for x in arrays)


def _compilable(arrays: Sequence[torch.Tensor]) -> bool:
    """Whether a kernel may take these arrays: all of one kind, and rounding as the rule does.

    In half precision the rule rounds after every operation, a kernel only at its end.
    """
    dtype, device, shape = arrays[0].dtype, arrays[0].device, arrays[0].shape
    return dtype in (torch.float32, torch.float64) and all(
        x.dtype == dtype and x.device == device and x.shape == shape and x.is_contiguous()
        for x in arrays
    )


def _run(loop: Loop, members: list[list[torch.Tensor]], numbers: torch.Tensor) -> None:
    """Apply a compiled loop in place to each member's vectors (theta, g, *slots)."""
    if len(members) == 1:
        loop(*members[0], numbers)
        return
    columns = list(zip(*members, strict=True))
    together = [torch.cat(column) for column in columns]
    loop(*together, numbers)
    sizes = [theta.numel() for theta in columns[0]]
    for i, (column, new) in enumerate(zip(columns, together, strict=True)):
        if i != 1:  # the gradients stay
            torch.split_with_sizes_copy(new, sizes, out=column)


class _StepScheduler(LRScheduler):
    """A schedule of this package behind torch's scheduler interface."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule, last_epoch: int = -1) -> None:
        self.schedule = schedule
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        factor = self.schedule(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the saved step and set every group's rate to what it is there."""
        _require_keys(state_dict, {"step"}, "only 'step'")
        step = state_dict["step"]
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise ValueError(f"state_dict['step'] must be an int >= 0, not {step!r}")
        self.last_epoch = step
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def _require_fits(name: str, value: torch.Tensor, array: torch.Tensor) -> None:
    try:
        fits = torch.broadcast_shapes(value.shape, array.shape) == array.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} of shape {tuple(value.shape)} does not fit {tuple(array.shape)}")


def _require_keys(state_dict: object, wanted: set[str], words: str) -> None:
    if not isinstance(state_dict, dict) or set(state_dict) != wanted:
        found = list(state_dict) if isinstance(state_dict, dict) else type(state_dict).__name__
        raise ValueError(f"state_dict must hold {words}, not {found}")


def make_scheduler(schedule: Schedule, optimizer: Optimizer, last_step: int = -1) -> _StepScheduler:
    """The torch scheduler behind `Schedule.torch`."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer)!r}")
    return _StepScheduler(optimizer, schedule, last_step)


class _Follower:
    """A feedback rule that sets the rates of an optimizer, as torch's ReduceLROnPlateau does."""

    def __init__(self, rule: Feedback, optimizer: Optimizer) -> None:
        self.optimizer, self.online = optimizer, rule.online()
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self._set_rates()

    def _set_rates(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * self.online.rate

    def step(self, loss: float) -> None:
        """Take in the loss of one more evaluation and set the rates it asks for."""
        self.online.update(loss)
        self._set_rates()

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers, and the rates it multiplies."""
        return {"base_lrs": list(self.base_lrs), "state": self.online.state._asdict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        _require_keys(state_dict, {"base_lrs", "state"}, "'base_lrs' and 'state'")
        for name, kind in (("base_lrs", list), ("state", dict)):
            if not isinstance(state_dict[name], kind):
                raise ValueError(
                    f"state_dict[{name!r}] must be a {kind.__name__}, not {state_dict[name]!r}"
                )
        base_lrs, state = list(state_dict["base_lrs"]), state_dict["state"]
        if len(base_lrs) != len(self.optimizer.param_groups):
            raise ValueError(
                f"state_dict is of {len(base_lrs)} parameter groups, and this optimizer has "
                f"{len(self.optimizer.param_groups)}"
            )
        if set(state) != set(self.online.state._fields):
            raise ValueError(
                f"state_dict['state'] must hold {list(self.online.state._fields)} for "
                f"{self.online.rule!r}, not {sorted(state)}"
            )
        for value in (*base_lrs, *state.values()):
            if not isinstance(value, (int, float)):
                raise ValueError(f"state_dict must hold numbers, not {value!r}")
        self.base_lrs = base_lrs
        self.online.state = type(self.online.state)(**state)
        self._set_rates()


def make_follower(rule: Feedback, optimizer: Optimizer) -> _Follower:
    """The torch scheduler behind `Feedback.torch`."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer)!r}")
    return _Follower(rule, optimizer)
