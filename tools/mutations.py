"""All mutants of a module's source: one change each, where a test should notice.

The changes are those of mutmut (mutmut.mutation.mutators) and four of our own. Left out is what
proves nothing: a name or an argument replaced by None, which only crashes; and the wording of
messages, docstrings, annotations and `__all__`.
"""

from dataclasses import dataclass

import libcst as cst
from libcst import metadata
from mutmut.mutation import mutators

ONLY_CRASH = (mutators.operator_assignment, mutators.operator_lambda)
WORDING_AFTER_THE_FIRST = ("_require",)  # functions whose later arguments make up a message


@dataclass(frozen=True)
class Mutant:
    """One change of the text: `source[start:end]` becomes `new`."""

    operator: str
    where: str  # the class or function
    start: int
    end: int
    new: str
    lines: range  # of the statement, counted from 1
    scope: range  # of the outermost class or function
    runs_on_import: bool

    @property
    def name(self):
        return f"{self.start}-{self.end} {self.new}"

    def apply(self, source):
        return source[: self.start] + self.new + source[self.end :]

    def change(self, source):
        """The changed lines before and after, without what both begin and end with."""
        mutated = self.apply(source)
        begin = source.rfind("\n", 0, self.start) + 1
        was_end, is_end = (
            source.find("\n", self.end),
            mutated.find("\n", self.start + len(self.new)),
        )
        return [" ".join(text.split()) for text in (source[begin:was_end], mutated[begin:is_end])]


def mutants_of(source):
    """The list of all mutants, in the order of the text; no two give the same text."""
    wrapper = metadata.MetadataWrapper(cst.parse_module(source))
    finder = _Finder(source, wrapper)
    wrapper.visit(finder)
    different = {}
    for mutant in finder.found:
        different.setdefault(mutant.apply(source), mutant)
    return sorted(different.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.new))


def negated(node):
    test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    space = cst.SimpleWhitespace(" ")
    yield node.test, cst.UnaryOperation(cst.Not(whitespace_after=space), test)


def not_raised(node):
    yield node, cst.Pass()


def nothing_returned(node):
    if node.value is not None and getattr(node.value, "value", "") != "None":
        yield node.value, cst.Name("None")


def nearby(node):
    """mutmut adds 1 to a number; a tenth more of a float, and one less of an int, are subtler."""
    value = node.evaluated_value
    near = value - 1 if isinstance(node, cst.Integer) else value * 1.1
    if near != value and abs(near) != float("inf"):
        yield (
            node,
            node.with_changes(value=repr(near)) if near >= 0 else cst.parse_expression("(-1)"),
        )


OURS = [
    (cst.If, negated),
    (cst.Raise, not_raised),
    (cst.Return, nothing_returned),
    (cst.Integer, nearby),
    (cst.Float, nearby),
]


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (
        metadata.WhitespaceInclusivePositionProvider,
        metadata.PositionProvider,
        metadata.ParentNodeProvider,
    )

    def __init__(self, source, wrapper):
        self.source, self.module, self.found = source, wrapper.module, []
        self.line_starts = [0, 0]
        for line in source.splitlines(keepends=True):
            self.line_starts.append(self.line_starts[-1] + len(line))
        self.names, self.statements, self.scopes, self.in_body = [], [], [], []

    # --- where we are ---

    def lines_of(self, node):
        place = self.get_metadata(metadata.PositionProvider, node)
        return range(place.start.line, place.end.line + 1)

    def header_of(self, node):
        lines = self.lines_of(node)
        body = self.lines_of(node.body)
        return range(lines.start, max(lines.start + 1, body.start))

    def on_visit(self, node):
        if self.is_wording(node):
            return False
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self.names.append(node.name.value)
            self.scopes.append(self.lines_of(node))
        if isinstance(node, cst.SimpleStatementLine):
            self.statements.append(self.lines_of(node))
        elif isinstance(node, cst.BaseCompoundStatement):
            self.statements.append(self.header_of(node))
        if isinstance(node, cst.BaseSuite):
            self.in_body.append(isinstance(self.parent(node), cst.FunctionDef) or any(self.in_body))
        if self.statements:
            self.mutate(node)
        return not isinstance(node, cst.Raise)

    def on_leave(self, node):
        if self.is_wording(node):
            return
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self.names.pop()
            self.scopes.pop()
        if isinstance(node, (cst.SimpleStatementLine, cst.BaseCompoundStatement)):
            self.statements.pop()
        if isinstance(node, cst.BaseSuite):
            self.in_body.pop()

    def parent(self, node):
        return self.get_metadata(metadata.ParentNodeProvider, node, None)

    def is_wording(self, node):
        if isinstance(node, (cst.Annotation, cst.FormattedString, cst.Import, cst.ImportFrom)):
            return True
        if isinstance(node, cst.SimpleString):
            return " " in node.value or isinstance(self.parent(node), cst.Expr)
        if isinstance(node, cst.Assign):
            return getattr(node.targets[0].target, "value", None) == "__all__"
        call = self.parent(node) if isinstance(node, cst.Arg) else None
        return (
            isinstance(call, cst.Call)
            and getattr(call.func, "value", None) in WORDING_AFTER_THE_FIRST
            and node is not call.args[0]
        )

    # --- what changes there ---

    def mutate(self, node):
        for kind, operator in OURS:
            if isinstance(node, kind):
                for old, new in operator(node):
                    self.add(operator.__name__, old, new)
        for kind, operator in mutators.mutation_operators:
            if isinstance(node, kind) and operator not in ONLY_CRASH:
                new_nodes = list(operator(node))
                if operator is mutators.operator_string:
                    new_nodes = new_nodes[:1]
                if operator is mutators.operator_arg_removal:
                    new_nodes = [new for new in new_nodes if len(new.args) < len(node.args)]
                    if getattr(node.func, "value", None) in WORDING_AFTER_THE_FIRST:
                        new_nodes = []
                for new in new_nodes:
                    self.add(operator.__name__.removeprefix("operator_"), node, new)

    def add(self, operator, old, new):
        place = self.get_metadata(metadata.WhitespaceInclusivePositionProvider, old)
        start = self.line_starts[place.start.line] + place.start.column
        end = self.line_starts[place.end.line] + place.end.column
        text = self.module.code_for_node(new)
        # libcst's text of an expression over several lines lacks the block's indentation, which
        # means nothing between parentheses.
        same = self.source[start:end].split() == self.module.code_for_node(old).split()
        if isinstance(old, cst.BaseStatement) or not same:
            raise ValueError(f"line {place.start.line}: {operator} cannot be put in place as text")
        runs_on_import = not (self.in_body and self.in_body[-1])
        scope = self.scopes[0] if self.scopes else range(0)
        self.found.append(
            Mutant(
                operator,
                ".".join(self.names),
                start,
                end,
                text,
                self.statements[-1],
                scope,
                runs_on_import,
            )
        )
