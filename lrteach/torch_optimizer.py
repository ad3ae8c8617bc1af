"""Any rule of `lrteach.optimizers` as a torch optimizer, any schedule as a torch scheduler."""

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrteach.optimizers import Rule, plain

__all__ = ["TorchOptimizer"]


class TorchOptimizer(Optimizer):
    """A `torch.optim.Optimizer` that updates with a rule of this package.

    Works where torch's own optimizers work: parameter groups with their own hyperparameters,
    closures, `state_dict`, torch's schedulers, gradient clipping, `torch.amp.GradScaler`.

    Parameters
    ----------
    params : iterable of tensors, or of dicts
        As for every torch optimizer.
    rule : Rule
        For example `lrteach.optimizers.adam`.
    lr : float
        The rate, in the rule's units. A group of its own may have another.
    **hyper
        Hyperparameters of the rule, for example `momentum=0.9`.

    Raises
    ------
    TypeError
        `rule` is not a rule, or a keyword is not a hyperparameter of it.
    ValueError
        A value out of range; no parameters; a sparse gradient at `step`.
    """

    def __init__(self, params, rule, *, lr, **hyper):
        if not isinstance(rule, Rule):
            raise TypeError(f"rule must be a rule such as lrteach.optimizers.adam, not {rule!r}")
        self.rule = rule
        self._check(lr=lr, **hyper)
        defaults = {"lr": lr, **rule.defaults, **hyper}
        super().__init__(params, {name: plain(value) for name, value in defaults.items()})

    def _check(self, lr, **hyper):
        self.rule.check(lr=lr, **hyper)
        if getattr(lr, "ndim", 0) > 0:
            raise ValueError(f"lr={lr!r} is not allowed: lr must be one number for each group")

    def add_param_group(self, param_group):
        """Add a group of parameters, checked like the arguments of the constructor."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, not {type(param_group).__name__}")
        # Groups of a loaded or scheduled optimizer also carry what torch's schedulers keep there.
        schedulers = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"}
        others = {"params", "param_names", *schedulers}
        own = {name: plain(value) for name, value in param_group.items() if name not in others}
        self._check(**{"lr": self.defaults["lr"], **own})
        super().add_param_group(param_group | own)

    def __getstate__(self):
        return super().__getstate__() | {"rule": self.rule}

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter that has a gradient. Returns the closure's loss, if any."""
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
        for group in self.param_groups:
            hyper = {name: group[name] for name in self.rule.defaults}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], hyper)
        return loss

    def _update(self, parameter, lr, hyper):
        state = self.state[parameter]
        if not state:
            state.update(self.rule.init(parameter))
        state["t"] += 1
        slots = [state[name] for name in self.rule.slots]
        new = self.rule.update(parameter, parameter.grad, slots, state["t"], lr, hyper)
        parameter.copy_(new[0])
        state.update(zip(self.rule.slots, new[1:], strict=True))

    def __repr__(self):
        return f"{self.rule.__name__} as a " + super().__repr__()


class _StepScheduler(LRScheduler):
    """A schedule of this package behind torch's scheduler interface."""

    def __init__(self, optimizer, schedule, last_epoch=-1):
        self.schedule = schedule
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        factor = self.schedule(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def state_dict(self):
        return {"step": self.last_epoch}

    def load_state_dict(self, state_dict):
        """Go to the saved step and set every group's rate to what it is there."""
        if set(state_dict) != {"step"}:
            raise ValueError(f"state_dict must hold only 'step', not {sorted(state_dict)}")
        self.last_epoch = state_dict["step"]
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def make_scheduler(schedule, optimizer, last_step=-1):
    """The torch scheduler behind `Schedule.torch`."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer)!r}")
    return _StepScheduler(optimizer, schedule, last_step)
