"""Tests of what importing costs: `import lrteach` is light, and a run needs no compiler."""

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import lrteach

ROOT = Path(__file__).parents[1]


def modules_after(code):
    """Names of all modules that a fresh Python has loaded after running some code."""
    code += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_lrteach_loads_no_library():
    loaded = modules_after("import lrteach")
    assert "lrteach" in loaded
    heavy = {"torch", "numpy", "matplotlib", "torchvision", "tqdm", "scipy", "pandas"}
    assert not heavy & loaded
    assert not [name for name in loaded if name.startswith("lrteach.")]


def test_rules_schedules_problems_and_claims_load_numpy_only():
    loaded = modules_after(
        "from lrteach import claim, optimizers, problems, schedules\n"
        "from lrteach.schedules import cosine\n"
        "problems.descend(problems.quadratic(1, 9), optimizers.adam, [1., 1.], 0.1, 9, cosine(9))"
    )
    assert {"lrteach.optimizers", "lrteach.schedules", "numpy"} <= loaded
    assert not {"torch", "matplotlib", "torchvision", "tqdm", "scipy", "pandas"} & loaded


def test_a_training_run_loads_neither_torchs_compiler_nor_matplotlib():
    loaded = modules_after(
        "import numpy as np\n"
        "from types import SimpleNamespace\n"
        "import lrteach\n"
        "from lrteach.optimizers import adam\n"
        "from lrteach.schedules import cosine\n"
        "x, y = np.ones((8, 2), np.float32), np.arange(8) % 2\n"
        "data = SimpleNamespace(x_train=x, y_train=y, x_val=x, y_val=y, x_test=x, y_test=y)\n"
        "lrteach.train(lrteach.models.mlp((2, 4, 2)), data, adam, 0.1, schedule=cosine,\n"
        "              steps=5, batch_size=4, clip=1.0)"
    )
    assert "torch" in loaded
    assert not {"torch._dynamo", "torch._inductor", "sympy", "matplotlib", "torchvision"} & loaded


def test_a_diagnosis_loads_neither_torch_nor_matplotlib():
    loaded = modules_after(
        "import lrteach\n"
        "print(lrteach.diagnose([{'step': t, 'loss': 1 / (1 + t)} for t in range(100)]))"
    )
    assert "lrteach.diagnosis" in loaded
    assert not {"torch", "matplotlib", "pandas", "torchvision"} & loaded


def test_an_optimizer_loads_the_compiler_only_to_compile():
    loaded = modules_after(
        "import sys, torch\n"
        "from lrteach import TorchOptimizer\n"
        "from lrteach.optimizers import adam\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "p = torch.nn.Parameter(torch.ones(100_000))\n"
        "p.grad = torch.ones_like(p)\n"
        "TorchOptimizer([p], adam, lr=0.1).step()"
    )
    # torch's own class Optimizer loads torch._dynamo at its first step, but no compiler.
    assert not {"torch._inductor.compile_fx", "torch._inductor.codegen.cpp"} & loaded


def test_every_public_name_resolves_and_is_listed():
    assert {"train", "Run", "TorchOptimizer", "claim", "device", "optimizers"} <= set(
        lrteach.__all__
    )
    for name in lrteach.__all__:
        assert getattr(lrteach, name) is not None
    assert set(lrteach.__all__) <= set(dir(lrteach))


def test_every_public_name_of_every_module_exists_and_is_documented():
    for name in lrteach._MODULES:
        module = import_module(f"lrteach.{name}")
        assert module.__doc__
        for public in module.__all__:
            value = getattr(module, public)
            assert not callable(value) or value.__doc__, f"lrteach.{name}.{public}"


def test_no_module_shares_a_name_with_a_public_function_or_class():
    assert not set(lrteach._HOMES) & set(lrteach._MODULES)
    for name, home in lrteach._HOMES.items():
        assert getattr(lrteach, name) is getattr(import_module(f"lrteach.{home}"), name)


def test_every_module_of_the_package_is_listed():
    found = {
        path.stem
        for path in (ROOT / "lrteach").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert found - {"__init__", "__main__"} == set(lrteach._MODULES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lrteach' has no attribute 'optimiser'"):
        _ = lrteach.optimiser


def test_the_version_is_that_of_the_installed_package():
    assert lrteach.__version__ == version("lrteach")
