"""A formula taken apart, to be compiled: what it does to numbers, and what it does to arrays.

The numbers of Adam (1 − β₁ᵗ, for one) change at every step and cost nothing, so Python computes
them, as it does for the formula itself. What is left is arithmetic on arrays, element by element:
`torch.compile` makes one loop of it, which reads each array once and changes them in place.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import torch
from torch import fx

if TYPE_CHECKING:
    from lrteach.rules import Hyper, Rule

__all__ = ["Kernel", "kernel_of"]

# Changes arrays in place.
Loop: TypeAlias = Callable[..., object]

# What treats every element alike and for itself. A formula with anything else in it, a norm or a
# matrix product, must see whole tensors: it is neither compiled nor applied in blocks.
_OPERATORS = {
    operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.neg,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.and_, operator.or_,
}  # fmt: skip
_FUNCTIONS = {"sqrt", "abs", "sign", "square", "exp", "log", "maximum", "minimum", "where", "clamp"}


class Kernel:
    """The formula of an elementwise rule, in two parts.

    Attributes
    ----------
    arrays : function
        `arrays(theta, g, *slots, numbers)` changes theta and the slots in place, all of them
        vectors of one length, dtype and device; `numbers` is the vector of the numbers.
    source : str
        Both parts as Python code, to be read.
    """

    def __init__(self, graph: fx.Graph, inputs: list[fx.Node], outputs: list[fx.Node]) -> None:
        in_arrays = set(inputs)
        for node in graph.nodes:
            if any(source in in_arrays for source in node.all_input_nodes):
                in_arrays.add(node)
        _check_elementwise(in_arrays - set(inputs), outputs, in_arrays)
        for node in list(graph.nodes):
            _divide_by_multiplying(graph, node, in_arrays)
        between = [n for n in graph.nodes if n not in in_arrays and n.users.keys() & in_arrays]

        copies: dict[fx.Node, Any]
        first, copies = fx.Graph(), {}
        for node in graph.nodes:
            if node not in in_arrays:
                copies[node] = first.node_copy(node, copies.get)
                if node.op == "call_method" and node.target == "sqrt":  # numbers have no methods
                    copies[node].op, copies[node].target = "call_function", math.sqrt
        first.output([copies[node] for node in between])

        second, copies = fx.Graph(), {}
        for node in inputs:
            copies[node] = second.node_copy(node)
        numbers = second.placeholder("numbers")
        for i, node in enumerate(between):
            copies[node] = second.call_function(operator.getitem, (numbers, i))
        for node in graph.nodes:
            if node in in_arrays and node not in inputs:
                copies[node] = second.node_copy(node, copies.get)
        # (to, from) of the arrays that are handed on as they came: what was theta becomes a slot.
        self._moves = []
        targets = [0, *range(2, len(inputs))]
        for target, node in zip(targets, outputs, strict=True):
            if node in inputs:
                self._moves.append((target, inputs.index(node)))
            else:
                second.call_method("copy_", (copies[inputs[target]], copies[node]))
        second.output(())

        of_numbers, of_arrays = fx.GraphModule({}, first), fx.GraphModule({}, second)
        self._compiled: dict[tuple[torch.dtype, torch.device, int], tuple[Loop | None, str]] = {}
        self._count = (len(inputs), len(between))
        self._numbers = of_numbers.forward
        self._arrays = of_arrays.forward
        self.arrays = _moving(self._arrays, self._moves)
        self.source = f"{of_numbers.code}\n{of_arrays.code}"

    def compiled(self, dtype: torch.dtype, device: torch.device) -> tuple[Loop | None, str]:
        """`arrays` through `torch.compile`, for vectors of one dtype on one device.

        Returns (loop, "") or (None, why it cannot be compiled). The first call takes seconds.
        """
        key = (dtype, device, torch.get_num_threads())  # the loop is made for so many threads
        if key not in self._compiled:
            try:
                loop = _compile_loop(self._arrays, *self._count, dtype, device)
                self._compiled[key] = _moving(loop, self._moves), ""
            except Exception as error:  # of whatever kind torch or its compiler may raise
                self._compiled[key] = None, _reason(error)
        return self._compiled[key]

    def numbers(self, lr: float | torch.Tensor, t: int, hyper: Hyper) -> list[float]:
        """The numbers that update `t` needs, as a list of floats."""
        floats = chain.from_iterable(_floats(value) for value in hyper.values())
        return self._numbers(float(lr), t, *floats)


def kernel_of(rule: Rule, hyper: Hyper) -> tuple[Kernel | None, str]:
    """The kernel of a rule with these hyperparameters, and why it has none.

    Returns (kernel, "") or (None, reason). Floats in `hyper` may change from call to call; with
    another value of anything else, a bool or a string, the formula is taken apart anew.
    """
    if not rule.elementwise:
        return None, (
            f"{rule.__name__} asks for {', '.join(sorted(rule.asks))}" if rule.asks
            else f"{rule.__name__} keeps a number beside its arrays"
        )  # fmt: skip
    try:
        return _kernel_of(rule, tuple((name, _template(value)) for name, value in hyper.items()))
    except TypeError as error:  # a value that cannot be hashed
        return None, str(error)


@lru_cache(maxsize=64)
def _kernel_of(rule: Rule, template: tuple[tuple[str, Any], ...]) -> tuple[Kernel | None, str]:
    graph = fx.Graph()
    tracer = _Tracer(graph)

    def symbol(name: str) -> Any:  # numbered, as a pair of betas is two symbols
        return tracer.proxy(graph.placeholder(f"{name}_{len(graph.nodes)}"))

    try:
        theta, g, *slots = (symbol(name) for name in ("theta", "g", *rule.slots))
        lr, t = symbol("lr"), symbol("t")
        hyper = {name: _fill(value, partial(symbol, name)) for name, value in template}
        new = rule.update(theta, g, slots, t, lr, hyper)
        kernel = Kernel(graph, [x.node for x in (theta, g, *slots)], [x.node for x in new])
        _check_result(kernel, rule, {name: _fill(value, lambda: 0.5) for name, value in template})
        return kernel, ""
    except Exception as error:  # whatever a formula may do with a symbol
        reason = str(error).split(". ")[0]
        return None, f"{rule.__name__} is not plain arithmetic, element by element ({reason})"


def _moving(loop: Loop, moves: list[tuple[int, int]]) -> Loop:
    """`loop`, which then hands arrays on.

    Not a part of the loop: torch 2.14 compiles `a.copy_(new); b.copy_(old_a)` so that `b` gets
    what is new.
    """
    if not moves:
        return loop

    def moving(*arrays: torch.Tensor) -> None:
        before = [arrays[source].clone() for _, source in moves]
        loop(*arrays)
        for (target, _), value in zip(moves, before, strict=True):
            arrays[target].copy_(value)

    return moving


def _compile_loop(
    arrays: Loop, vectors: int, numbers: int, dtype: torch.dtype, device: torch.device
) -> Loop:
    """Compile `arrays`, and on a CPU spare it the checks that torch makes before each call.

    They ask what kind of arrays these are, which our caller knows, and take longer than the loop
    itself on 10 000 elements. Torch hands the loop to its backend only, with arguments in an
    order of its own: so we stand in for the backend and see which of ours went where.
    """
    from torch._dynamo import lookup_backend

    backend = lookup_backend("inductor")
    seen: list[Any] = []  # the loop, and what it was called with

    def listen(module: fx.GraphModule, examples: list[torch.Tensor]) -> Loop:
        loop = backend(module, examples)

        def call(*arguments: Any) -> object:
            if not seen:
                seen.append((loop, arguments))
            return loop(*arguments)

        return call

    guarded = torch.compile(arrays, dynamic=True, fullgraph=True, backend=listen)
    n = 2**20  # so long that torch divides the loop among all threads
    generator = torch.Generator().manual_seed(0)
    ours: list[Any] = [
        torch.rand(size, dtype=dtype, generator=generator).to(device)
        for size in (*[n] * vectors, numbers)
    ]
    expected = [x.clone() for x in ours]
    arrays(*expected)
    guarded(*ours)
    for x, wanted in zip(ours, expected, strict=True):  # rounding may turn a sign here and there
        if x.isclose(wanted, rtol=1e-3, atol=1e-3, equal_nan=True).double().mean() < 0.999:
            raise RuntimeError("the compiled formula gives other results")

    (loop, theirs), seen[0] = seen[0], None  # which torch keeps, and large arrays with it
    ours += [n, numbers]
    # By identity, and the two lengths by their value.
    where = {x if isinstance(x, int) else id(x): i for i, x in enumerate(ours)}
    order: list[Any] = [where.get(x if isinstance(x, int) else id(x)) for x in theirs]
    if device.type != "cpu" or None in order:
        return guarded

    def direct(*arguments: Any) -> None:
        arguments += (arguments[0].numel(), numbers)
        loop(*[arguments[i] for i in order])

    return direct


def _reason(error: BaseException) -> str:
    """What went wrong in the compiler, in a line: the innermost cause says it best."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]


class _Symbol(fx.Proxy):
    """Stands for an array or a number while a formula is taken apart; NumPy must not touch it."""

    __array_ufunc__ = None

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("it calls NumPy")

    def __abs__(self) -> fx.Proxy:
        return self.abs()


class _Tracer(fx.proxy.GraphAppendingTracer):
    def proxy(self, node: fx.Node) -> _Symbol:
        return _Symbol(node, self)


def _template(value: Any) -> Any:
    """What of a hyperparameter a kernel is made for: `float` in the place of each float."""
    if isinstance(value, (tuple, list)):
        return tuple(_template(part) for part in value)
    return float if isinstance(value, float) else value


def _fill(template: Any, make: Callable[[], Any]) -> Any:
    """A template with a new `make()` in the place of each float."""
    if isinstance(template, tuple):
        return tuple(_fill(part, make) for part in template)
    return make() if template is float else template


def _floats(value: Any) -> list[float]:
    if isinstance(value, (tuple, list)):
        return [x for part in value for x in _floats(part)]
    return [value] if isinstance(value, float) else []


def _check_elementwise(
    nodes: set[fx.Node], outputs: list[fx.Node], in_arrays: set[fx.Node]
) -> None:
    for node in nodes:
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        known = name in _FUNCTIONS and (
            node.op == "call_method" or node.target is getattr(torch, name)
        )
        if not known and node.target not in _OPERATORS:
            raise TypeError(f"it uses {name or node.target}")
    if not in_arrays.issuperset(outputs):
        raise TypeError("it returns a number")


@torch.no_grad()
def _check_result(kernel: Kernel, rule: Rule, hyper: Hyper) -> None:
    """A formula that treats tensors and symbols differently is noticed by its result."""
    theta, g, *slots = torch.rand(
        2 + len(rule.slots), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    expected = rule.update(theta.clone(), g, [s.clone() for s in slots], 3, 0.1, hyper)
    numbers = torch.tensor(kernel.numbers(0.1, 3, hyper), dtype=theta.dtype)
    kernel.arrays(theta, g, *slots, numbers)
    for ours, wanted in zip((theta, *slots), expected, strict=True):
        if not torch.allclose(ours, wanted, rtol=1e-9, atol=0, equal_nan=True):
            raise TypeError("it treats tensors in a way of their own")


def _divide_by_multiplying(graph: fx.Graph, node: fx.Node, in_arrays: set[fx.Node]) -> None:
    """Make array / number into array · (1 / number), which a processor does five times faster."""
    if node.target is operator.truediv and node in in_arrays and node.args[1] not in in_arrays:
        with graph.inserting_before(node):
            inverse = graph.call_function(_inverse, (node.args[1],))
        node.target, node.args = operator.mul, (node.args[0], inverse)


def _inverse(number: float) -> float:
    return 1 / number if number else math.inf
