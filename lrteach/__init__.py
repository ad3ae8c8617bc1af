"""lrteach: the small package behind the book *The Learning Rate*.

Everything a user needs is an attribute of this module and is loaded on first use, so
`import lrteach` alone imports neither torch nor matplotlib.
"""

from importlib import import_module

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


def __getattr__(name):
    if name in _HOMES:
        value = getattr(import_module(f"lrteach.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"lrteach.{name}")
    else:
        raise AttributeError(f"module 'lrteach' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
