"""All mutants of a file: one small edit each, of a kind that a tired engineer makes.

Edits are made by span, so that the rest of the file stays as it is written. What only words a message, names
a type or states an assertion is left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass

Edit = tuple[str, ast.expr | ast.stmt, str]
"""The operator, the node that is replaced, and by what."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.FloorDiv),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitAnd: (ast.BitOr,),
}
NAMES = {
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "ceil": "floor",
    "floor": "ceil",
    "argmax": "argmin",
    "argmin": "argmax",
    "any": "all",
    "all": "any",
    "sum": "max",
    "prod": "sum",
    "mean": "sum",
    "cumsum": "sort",
    "zeros": "ones",
    "ones": "zeros",
    "union": "intersection",
    "left": "right",
}
IDENTITIES = {"max", "min", "maximum", "minimum", "sqrt", "abs", "clip", "sorted", "ceil", "floor", "round"}
"""Calls that may be forgotten around their first argument."""
BOUNDS = {"max", "min", "maximum", "minimum"}
UNORDERED = BOUNDS | {"gcd", "isinstance", "range", "print"}
SLIGHT = 1e-3
"""Below this a float allows for rounding, and only a gross change of it is a mistake."""


@dataclass(frozen=True, order=True)
class Mutant:
    """One edit of one file.

    Attributes:
        path: of the file, from the root of the repository.
        line, column: where it starts (from 1, from 0).
        start, end: the bytes of the file that go.
        function: qualified name around it; empty at the level of the module.
        operator: kind of the edit.
        was, now: text before and after it.
    """

    path: str
    line: int
    column: int
    start: int
    end: int
    function: str
    operator: str
    was: str
    now: str

    @property
    def id(self) -> str:
        """A name that is the same whenever the file is."""
        return f"{self.path}:{self.line}:{self.column} {self.operator} {self.now}"

    def applied(self, source: bytes) -> bytes:
        """The file with the edit."""
        return source[: self.start] + self.now.encode() + source[self.end :]


def mutants(path: str, source: bytes) -> list[Mutant]:
    """Every mutant of a file."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = set()
    for name, node in walk(tree, ""):
        for operator, target, now in edits(node):
            start = starts[target.lineno - 1] + target.col_offset
            end = starts[(target.end_lineno or 0) - 1] + (target.end_col_offset or 0)
            was = source[start:end].decode()
            place = (target.lineno, target.col_offset, start, end)
            found.add(Mutant(path, *place, name, operator, was, now))
    return sorted(found)


def differs(mutant: Mutant, source: bytes) -> bool:
    """Whether the mutant still compiles, and reads differently."""
    try:
        return ast.dump(ast.parse(mutant.applied(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def walk(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    """Nodes that may be mutated, each with the function that it stands in."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        name = f"{name}.{node.name}" if name else node.name
    yield name, node
    for child in considered(node):
        yield from walk(child, name)


def considered(node: ast.AST) -> Iterator[ast.AST]:
    """Children that compute something: no types, decorators, texts, messages or assertions."""
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    skipped = {"annotation", "returns", "decorator_list", "bases", "keywords", "items"}
    if isinstance(node, ast.Call):
        skipped = set()
    if isinstance(node, ast.Assign) and is_type(node.value):
        return
    for name, value in ast.iter_fields(node):
        if name in skipped:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not is_text(child) and not is_guard(node, child):
                yield child


def is_guard(node: ast.AST, child: ast.AST) -> bool:
    """The least of `max(n, 1)`, which only an empty sum reaches, and `strict=True`, which asserts.

    The guard as a whole is mutated: without the call.
    """
    if isinstance(child, ast.keyword):
        return child.arg == "strict"
    return isinstance(node, ast.Call) and name_of(node) in BOUNDS and isinstance(child, ast.Constant)


def name_of(node: ast.Call) -> str:
    """The last part of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def is_text(node: ast.AST) -> bool:
    """A docstring, or a condition for a type checker."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_type(node: ast.expr) -> bool:
    """Whether an alias of a type is assigned: `Ids = npt.NDArray[np.int64]`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return is_type(node.left) or is_type(node.right)
    if not isinstance(node, ast.Subscript):
        return False
    base = ast.unparse(node.value).rpartition(".")[2]
    return base in {"NDArray", "Callable", "Mapping", "Sequence", "Literal", "dict", "tuple", "list", "type"}


def edits(node: ast.AST) -> Iterator[Edit]:
    """What can go wrong at a node."""
    for kind, operators in OPERATORS.items():
        if isinstance(node, kind):
            for operator in operators:
                yield from operator(node)


def changed(node: ast.expr, **fields: object) -> str:
    """The expression with other fields, in parentheses of its own."""
    other = copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return f"({ast.unparse(other)})"


def compared(node: ast.Compare) -> Iterator[Edit]:
    """Another comparison, at each operator of a chain."""
    for at, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            yield "comparison", node, changed(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]])


def reckoned(node: ast.BinOp) -> Iterator[Edit]:
    """Other arithmetic, a forgotten operand, and the other rounding of a division."""
    for other in ARITHMETIC.get(type(node.op), ()):
        yield "arithmetic", node, changed(node, op=other())
    if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.BitAnd | ast.BitOr | ast.Pow):
        yield "dropped term", node, f"({ast.unparse(node.left)})"
    if isinstance(node.op, ast.Add | ast.Mult | ast.BitAnd | ast.BitOr):
        yield "dropped term", node, f"({ast.unparse(node.right)})"
    if isinstance(node.op, ast.FloorDiv):
        yield "floor to ceil", node, f"(-(-({ast.unparse(node.left)}) // ({ast.unparse(node.right)})))"


def joined(node: ast.BoolOp) -> Iterator[Edit]:
    """`and` for `or`, and a forgotten condition; `name or ""` only says that there is always a text."""
    if isinstance(node.values[-1], ast.Constant | ast.Tuple):
        return
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and for or", node, changed(node, op=other)
    for at in range(len(node.values)):
        yield "dropped condition", node, changed(node, values=[*node.values[:at], *node.values[at + 1 :]])


def signed(node: ast.UnaryOp) -> Iterator[Edit]:
    """A forgotten sign or `not`."""
    if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield "dropped sign", node, f"({ast.unparse(node.operand)})"


def constant(node: ast.Constant) -> Iterator[Edit]:
    """Off by one, twice as much, or the opposite."""
    value = node.value
    if isinstance(value, bool):
        yield "constant", node, str(not value)
    elif isinstance(value, int):
        yield "off by one", node, str(value + 1)
        if value > 0:
            yield "off by one", node, str(value - 1)
    elif isinstance(value, float) and value:
        yield "constant", node, repr(2 * value if abs(value) >= SLIGHT else 0.05)


def called(node: ast.Call) -> Iterator[Edit]:
    """Another function of its family, a forgotten one, and swapped arguments."""
    name = name_of(node)
    plain = [each for each in node.args if not isinstance(each, ast.Starred)]
    if name in NAMES:
        func = copy(node.func)
        setattr(func, "attr" if isinstance(func, ast.Attribute) else "id", NAMES[name])
        yield "other function", node, changed(node, func=func)
    if name in IDENTITIES and plain:
        for each in plain if name in BOUNDS and len(plain) > 1 else plain[:1]:
            yield "dropped call", node, f"({ast.unparse(each)})"
    if name not in UNORDERED and len(plain) == len(node.args) >= 2:
        swapped = [node.args[1], node.args[0], *node.args[2:]]
        yield "swapped arguments", node, changed(node, args=swapped)


def branched(node: ast.If | ast.While | ast.IfExp) -> Iterator[Edit]:
    """The wrong branch, and a branch that is never taken."""
    yield "negated condition", node.test, f"(not ({ast.unparse(node.test)}))"
    if not isinstance(node, ast.While):
        yield "dropped branch", node.test, "False"


def filtered(node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> Iterator[Edit]:
    """A filter that lets all through."""
    for clause in node.generators:
        for test in clause.ifs:
            yield "dropped filter", test, "True"


def dropped(node: ast.Expr | ast.AugAssign) -> Iterator[Edit]:
    """A forgotten statement."""
    if not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call):
        yield "dropped statement", node, "pass"


def left(node: ast.Break | ast.Continue) -> Iterator[Edit]:
    """The other way out of a round."""
    yield "break for continue", node, "continue" if isinstance(node, ast.Break) else "break"


OPERATORS: dict[type[ast.AST], tuple[Callable[..., Iterator[Edit]], ...]] = {
    ast.Compare: (compared,),
    ast.BinOp: (reckoned,),
    ast.BoolOp: (joined,),
    ast.UnaryOp: (signed,),
    ast.Constant: (constant,),
    ast.Call: (called,),
    ast.If: (branched,),
    ast.While: (branched,),
    ast.IfExp: (branched,),
    ast.ListComp: (filtered,),
    ast.SetComp: (filtered,),
    ast.DictComp: (filtered,),
    ast.GeneratorExp: (filtered,),
    ast.Expr: (dropped,),
    ast.AugAssign: (dropped,),
    ast.Break: (left,),
    ast.Continue: (left,),
}
