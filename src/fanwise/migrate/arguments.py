"""The arguments of a call, read without running it: bound to parameters, or refused."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias, TypeVar

import libcst as cst
import numpy as np

from fanwise.migrate.meanings import UNKNOWN, Argument, Arguments, Refusal
from fanwise.migrate.module_names import ModuleNames

Number: TypeAlias = int | float
Entry = TypeVar("Entry")


def _numeric_functions() -> Mapping[str, Callable[..., object]]:
    """Return the pure functions of numbers, of Python, `math` and NumPy, that take no long time."""
    python = {f"builtins.{f.__name__}": f for f in (float, int, abs, round, min, max)}
    names = """sqrt cbrt exp exp2 expm1 log log2 log10 log1p sin cos tan sinh cosh tanh
        arcsin arccos arctan floor ceil trunc hypot fabs absolute abs sign square reciprocal
        power maximum minimum add subtract multiply divide true_divide negative
        float16 float32 float64 int32 int64""".split()
    numpy = {f"numpy.{name}": getattr(np, name) for name in names}
    names = """sqrt exp expm1 log log2 log10 log1p sin cos tan sinh cosh tanh asin acos atan
        atan2 floor ceil trunc hypot fabs pow erf erfc""".split()
    standard = {f"math.{name}": getattr(math, name) for name in names}
    return python | numpy | standard | {"builtins.pow": math.pow, "numpy.pow": np.power}


NUMERIC_FUNCTIONS: Final = _numeric_functions()

NUMERIC_CONSTANTS: Final[Mapping[str, float]] = {
    f"{module}.{name}": getattr(math, name) for module in ("math", "numpy") for name in ("pi", "e")
} | {"math.tau": math.tau}

OPERATORS: Final[Mapping[type[cst.BaseBinaryOp], Callable[[Number, Number], Number]]] = {
    cst.Add: operator.add,
    cst.Subtract: operator.sub,
    cst.Multiply: operator.mul,
    cst.Divide: operator.truediv,
    cst.FloorDivide: operator.floordiv,
    cst.Modulo: operator.mod,
    cst.Power: math.pow,  # Whole powers could take forever.
}


def bind(args: Sequence[cst.Arg], parameters: Sequence[str], names: ModuleNames) -> Arguments:
    """Return the arguments by parameter, each with its code and, if literal, its value.

    Raises:
        Refusal: `*args`, a `**mapping` whose keys the code doesn't show, or a call that its own
            signature would reject.
    """
    given: dict[str, Argument] = {}
    positional = 0
    known = f"no more than {', '.join(parameters)}"
    for keyword, value in _flatten(args, names):
        if keyword is None:
            if positional == len(parameters):
                raise Refusal(f"it never took more than {len(parameters)} arguments", known)
            keyword = parameters[positional]
            positional += 1
            value = replace(value, positional=True)
        if keyword not in parameters:
            raise Refusal(f"it never had a parameter {keyword!r}", known)
        if keyword in given:
            raise Refusal(f"{keyword!r} is given twice", f"{keyword} once")
        given[keyword] = value
    return Arguments(given)


def _flatten(args: Sequence[cst.Arg], names: ModuleNames) -> Iterator[tuple[str | None, Argument]]:
    for index, arg in enumerate(args):
        if arg.star == "*":
            raise Refusal(
                f"*{names.code(arg.value)} hides which arguments are meant", "the arguments in full"
            )
        if arg.star == "**":
            yield from _mapping(arg.value, names)
        else:
            keyword = None if arg.keyword is None else arg.keyword.value
            yield keyword, given(arg.value, names, index)


def _mapping(node: cst.BaseExpression, names: ModuleNames) -> Iterator[tuple[str, Argument]]:
    hidden = Refusal(
        f"**{names.code(node)} hides which arguments are meant", "the arguments in full"
    )
    if isinstance(node, cst.Name):
        node = _private_dict(node, names, hidden)
    match node:
        case cst.Dict(elements=elements):
            for element in elements:
                match element:
                    case cst.DictElement(key=cst.SimpleString() as key, value=value):
                        yield str(key.evaluated_value), given(value, names, None)
                    case _:
                        raise hidden
        case cst.Call(func=cst.Name("dict"), args=args):
            for arg in args:
                if arg.keyword is None:
                    raise hidden
                yield arg.keyword.value, given(arg.value, names, None)
        case _:
            raise hidden


def _private_dict(node: cst.Name, names: ModuleNames, hidden: Refusal) -> cst.BaseExpression:
    """Return the literal a name was assigned, if every reader of it is a `**name` and no more."""
    assignment = names.only_assignment(node)
    value = names.value(node)
    if not isinstance(assignment, cst.Name) or value is node:
        raise hidden
    readers = names.readers(assignment)
    if readers is None or not all(_is_double_star(reader, names) for reader in readers):
        raise hidden
    constants = [e.value for e in getattr(value, "elements", ()) if isinstance(e, cst.DictElement)]
    constants += [arg.value for arg in getattr(value, "args", ())]
    if not all(literal_value(constant) is not UNKNOWN for constant in constants):
        raise hidden
    return value


def _is_double_star(reader: cst.CSTNode, names: ModuleNames) -> bool:
    parent = names.parents.get(reader)
    return isinstance(parent, cst.Arg) and parent.star == "**"


def given(node: cst.BaseExpression, names: ModuleNames, source: int | None) -> Argument:
    """Return an expression as an argument."""
    return Argument(
        names.code(node),
        _value(node, names),
        source,
        scalar=is_scalar(node, names),
    )


def literal_value(node: cst.BaseExpression) -> object:
    """Return a literal's value; `UNKNOWN` for any other expression.

    >>> literal_value(cst.parse_expression("-2.5e-1"))
    -0.25
    """
    try:
        value: object = ast.literal_eval(cst.Module([]).code_for_node(node).strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return UNKNOWN
    return value


def _value(node: cst.BaseExpression, names: ModuleNames) -> object:
    """Return what an expression is: a literal, or a number computed of constants alone."""
    value = literal_value(node)
    if value is UNKNOWN:
        try:
            value = _computed(node, names)
        except (ArithmeticError, ValueError, TypeError):
            return UNKNOWN
    return value


def _computed(node: cst.BaseExpression, names: ModuleNames) -> object:
    """Return the number that arithmetic and pure functions make of constants; else `UNKNOWN`.

    Raises:
        ArithmeticError, ValueError, TypeError: they make none.
    """
    match node:
        case cst.Integer() | cst.Float():
            return node.evaluated_value
        case cst.UnaryOperation(operator=cst.Minus() | cst.Plus() as sign, expression=inner):
            number = _computed(inner, names)
            return _finite(number) * (-1 if isinstance(sign, cst.Minus) else 1)
        case cst.BinaryOperation(left=left, operator=operation, right=right):
            compute = OPERATORS.get(type(operation))
            operands = [_finite(_computed(side, names)) for side in (left, right)]
            return UNKNOWN if compute is None else _finite(compute(*operands))
        case cst.Call(func=func, args=args):
            function = _known(func, NUMERIC_FUNCTIONS, names)
            if function is None or any(arg.star or arg.keyword is not None for arg in args):
                return UNKNOWN
            with np.errstate(all="raise"):
                result = function(*(_finite(_computed(arg.value, names)) for arg in args))
            return _finite(result.item() if isinstance(result, np.generic) else result)
        case cst.Name() | cst.Attribute():
            return _known(node, NUMERIC_CONSTANTS, names) or UNKNOWN
    return UNKNOWN


def _finite(value: object) -> Number:
    """Return a number.

    Raises:
        ValueError: it is none, or infinite.
    """
    if isinstance(value, (int, float)) and math.isfinite(value):
        return value
    raise ValueError(f"{value!r} is no finite number")


def _known(
    node: cst.BaseExpression, table: Mapping[str, Entry], names: ModuleNames
) -> Entry | None:
    """Return the entry of a table that an expression names, where it names just one."""
    dotted = names.dotted(node)
    return table.get(next(iter(dotted))) if len(dotted) == 1 else None


def is_scalar(node: cst.BaseExpression, names: ModuleNames) -> bool:
    """Whether an expression is provably one number."""
    node = names.value(node)
    match node:
        case cst.Integer() | cst.Float():
            return True
        case cst.Name("True" | "False"):
            return True
        case cst.UnaryOperation(expression=inner):
            return is_scalar(inner, names)
        case cst.BinaryOperation(left=left, right=right):
            return is_scalar(left, names) and is_scalar(right, names)
        case cst.Call(func=func, args=args):
            known = names.dotted(func)
            return bool(known) and known <= NUMERIC_FUNCTIONS.keys() and _all_scalar(args, names)
        case cst.Name():
            return _is_numeric_parameter(node, names)
        case cst.Attribute():
            known = names.dotted(node)
            return bool(known) and known <= NUMERIC_CONSTANTS.keys()
    return False


def _all_scalar(args: Sequence[cst.Arg], names: ModuleNames) -> bool:
    return all(not arg.star and is_scalar(arg.value, names) for arg in args)


def _is_numeric_parameter(name: cst.Name, names: ModuleNames) -> bool:
    parameter = names.only_assignment(name)
    if not isinstance(parameter, cst.Param):
        return False
    if parameter.annotation is not None:
        return names.code(parameter.annotation.annotation) in ("float", "int")
    return isinstance(parameter.default, (cst.Integer, cst.Float))
