"""lrteach: the small package behind the book *The Learning Rate*.

Everything a user needs is an attribute of this module and is loaded on first use, so
`import lrteach` alone imports neither torch nor matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# attribute -> the module that defines it
_HOMES = {
    "TorchOptimizer": "torch_optimizer",
    "check": "checks",
    "claim": "claims",
    "device": "training",
    "diagnose": "diagnosis",
    "Diagnosis": "diagnosis",
    "range_test": "range_tests",
    "read_log": "logs",
    "sharpness": "hessians",
    "train": "training",
    "Run": "training",
    "sweep": "sweeps",
    "Sweep": "sweeps",
}
_MODULES = (
    "autodiff", "batched", "checks", "claims", "curve_shapes", "data", "diagnosis", "diagnosis_cases",
    "doctor", "hessians", "interactive", "kernels", "logs", "models", "optimizers", "plots", "problems", "range_tests", "rules",
    "schedules", "sweep_files", "sweeps", "torch_optimizer", "training",
)  # fmt: skip

__all__ = sorted([*_HOMES, *_MODULES])

if TYPE_CHECKING:  # the same for type checkers, which know nothing of what `__getattr__` loads
    # isort: off
    from lrteach import (
        autodiff as autodiff, batched as batched, checks as checks, claims as claims,
        curve_shapes as curve_shapes, data as data, diagnosis as diagnosis,
        diagnosis_cases as diagnosis_cases, doctor as doctor, hessians as hessians,
        interactive as interactive, kernels as kernels, logs as logs, models as models,
        optimizers as optimizers, plots as plots, problems as problems,
        range_tests as range_tests, rules as rules, schedules as schedules,
        sweep_files as sweep_files, sweeps as sweeps, torch_optimizer as torch_optimizer,
        training as training,
    )  # fmt: skip
    from lrteach.checks import check as check
    from lrteach.claims import claim as claim
    from lrteach.diagnosis import diagnose as diagnose, Diagnosis as Diagnosis
    from lrteach.hessians import sharpness as sharpness
    from lrteach.logs import read_log as read_log
    from lrteach.range_tests import range_test as range_test
    from lrteach.sweeps import sweep as sweep, Sweep as Sweep
    from lrteach.torch_optimizer import TorchOptimizer as TorchOptimizer
    from lrteach.training import device as device, train as train, Run as Run

else:

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            value = getattr(import_module(f"lrteach.{_HOMES[name]}"), name)
        elif name in _MODULES:
            value = import_module(f"lrteach.{name}")
        else:
            raise AttributeError(f"module 'lrteach' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
