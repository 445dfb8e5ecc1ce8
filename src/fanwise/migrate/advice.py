"""What a careful reader would point out and leave alone: wrong limits, Xavier before ReLU."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from fanwise.migrate.arguments import literal_value
from fanwise.migrate.module_names import ModuleNames, root_name
from fanwise.migrate.old_initializers import CONTRIB_MODULES, OLD_NAMES, without_compat
from fanwise.migrate.receivers import callee_name
from fanwise.migrate.report import Finding, Kind, one_line

INITIALIZER_KEYWORDS = frozenset({"kernel_initializer", "weights_initializer", "initializer"})
ACTIVATION_KEYWORDS = frozenset({"activation", "activation_fn"})
RELU_NAMES = frozenset({"relu", "relu6", "ReLU"})
RELU_BY_DEFAULT = frozenset(
    "conv1d conv2d conv3d convolution convolution1d convolution2d convolution3d fully_connected "
    "conv2d_transpose convolution2d_transpose conv2d_in_plane separable_conv2d "
    "separable_convolution2d".split()
)
"""Layers of tf.contrib.layers and slim whose activation_fn is ReLU unless another is given."""

CONTRACTION_CALLS = frozenset(
    "matmul conv1d conv2d conv3d depthwise_conv2d convolution tensordot einsum".split()
)
PASSED_THROUGH = frozenset(
    {"add", "bias_add", "xw_plus_b", "batch_normalization", "identity", "reshape"}
)

XAVIER_STRINGS = frozenset({"glorot_uniform", "glorot_normal", "GlorotUniform", "GlorotNormal"})
MATRIX_LIMIT = (
    "shape[0] + shape[1] is fan_in + fan_out for a matrix only: a kernel of more axes has fan_in = "
    "shape[-2] · prod(shape[:-2]) and fan_out = shape[-1] · prod(shape[:-2])"
)
RIGHT_LIMIT = "(shape[-2] + shape[-1]) * prod(shape[:-2]) in place of {sum}"


def advice(names: ModuleNames) -> Iterator[Finding]:
    """Yield what is questionable in the module, whether or not anything is converted."""
    yield from _xavier_before_relu(names)
    yield from _matrix_limits(names)


# Xavier on a layer whose activation is ReLU.


def _xavier_before_relu(names: ModuleNames) -> Iterator[Finding]:
    for call in names.calls:
        for arg in call.args:
            keyword = "" if arg.keyword is None else arg.keyword.value
            if keyword not in INITIALIZER_KEYWORDS:
                continue
            xavier = _xavier_form(arg.value, names)
            if xavier and _activates_with_relu(call, names):
                yield _he_instead(arg, xavier, names)
    yield from _xavier_weights_before_relu(names)


def _he_instead(node: cst.CSTNode, form: str, names: ModuleNames) -> Finding:
    he = "HeUniform" if form == "uniform" else "HeNormal"
    return Finding(
        Kind.ADVICE,
        names.line(node),
        one_line(names.code(node)).rstrip(", "),
        "Xavier before ReLU: a rectifier halves the second moment, and Xavier doesn't make up for "
        "it, so between layers of one width the signal's power halves at each. Left as it is.",
        f"keras.initializers.{he}()",
    )


def _xavier_form(node: cst.BaseExpression, names: ModuleNames) -> str:
    """Return "uniform" or "normal" where an expression is Xavier's initializer, else ""."""
    node = names.value(node)
    if isinstance(node, cst.SimpleString):
        word = literal_value(node)
        return _form(str(word)) if word in XAVIER_STRINGS else ""
    func = node.func if isinstance(node, cst.Call) else node
    for dotted in names.dotted(func):
        name = dotted.rsplit(".", 1)[-1]
        old = OLD_NAMES.get(without_compat(dotted)[0])
        if name in XAVIER_STRINGS or (old is not None and "glorot" in old.name):
            return _form(name)
        if old is not None and "xavier" in old.name:
            return _contrib_form(node)
    return ""


def _form(name: str) -> str:
    return "uniform" if "uniform" in name.lower() else "normal"


def _contrib_form(node: cst.BaseExpression) -> str:
    args = node.args if isinstance(node, cst.Call) else ()
    for index, arg in enumerate(args):
        named = arg.keyword is not None and arg.keyword.value == "uniform"
        if named or (index == 0 and arg.keyword is None):
            return "uniform" if literal_value(arg.value) else "normal"
    return "uniform"


def _activates_with_relu(call: cst.Call, names: ModuleNames) -> bool:
    for arg in call.args:
        if arg.keyword is not None and arg.keyword.value in ACTIVATION_KEYWORDS:
            return _is_relu(arg.value, names)
    return callee_name(call, names) in RELU_BY_DEFAULT and any(
        dotted.rsplit(".", 1)[0] in CONTRIB_MODULES for dotted in names.dotted(call.func)
    )


def _is_relu(node: cst.BaseExpression, names: ModuleNames) -> bool:
    node = names.value(node)
    if isinstance(node, cst.SimpleString):
        return literal_value(node) in RELU_NAMES
    func = node.func if isinstance(node, cst.Call) else node
    return any(
        dotted.rsplit(".", 1)[-1] in RELU_NAMES
        and dotted.split(".", 1)[0] in ("tensorflow", "keras")
        for dotted in names.dotted(func)
    )


def _xavier_weights_before_relu(names: ModuleNames) -> Iterator[Finding]:
    seen: set[cst.CSTNode] = set()
    for call in names.calls:
        if not call.args or not _is_relu(call.func, names):
            continue
        for weight in _weights(call.args[0].value, names, depth=4):
            made = names.value(weight)
            if made in seen or not isinstance(made, cst.Call):
                continue
            for arg in made.args:
                if arg.keyword is not None and arg.keyword.value == "initializer":
                    form = _xavier_form(arg.value, names)
                    if form:
                        seen.add(made)
                        yield _he_instead(arg, form, names)


def _weights(node: cst.BaseExpression, names: ModuleNames, depth: int) -> Iterator[cst.Name]:
    """Yield the names that a pre-activation contracts its input with, the last layer only."""
    node = names.value(node)
    if depth == 0:
        return
    if isinstance(node, cst.BinaryOperation):
        operands = (node.left, node.right)
        if isinstance(node.operator, cst.MatrixMultiply):
            yield from (side for side in operands if isinstance(side, cst.Name))
        else:
            for side in operands:
                yield from _weights(side, names, depth - 1)
    elif isinstance(node, cst.Call):
        name = callee_name(node, names)
        for arg in node.args:
            if name in CONTRACTION_CALLS and isinstance(arg.value, cst.Name):
                yield arg.value
            elif name in PASSED_THROUGH:
                yield from _weights(arg.value, names, depth - 1)


# A hand-written limit from shape[0] + shape[1].


def _matrix_limits(names: ModuleNames) -> Iterator[Finding]:
    seen: set[cst.CSTNode] = set()
    for node in _sums(names):
        shape = _summed_shape(node, names)
        if shape is None or node in seen or not _under_a_root(node, names):
            continue
        seen.add(node)
        reason = _why_wrong(_ranks(shape, names))
        if reason:
            yield Finding(
                Kind.ADVICE,
                names.line(node),
                one_line(names.code(_statement(node, names))),
                reason,
                RIGHT_LIMIT.format(sum=names.code(node)),
            )


def _why_wrong(ranks: list[int]) -> str:
    if not ranks:
        return f"{MATRIX_LIMIT}. This file doesn't show how many axes it meets."
    if max(ranks) > 2:
        return f"{MATRIX_LIMIT}. Here it meets {max(ranks)} axes."
    return ""


def _sums(names: ModuleNames) -> Iterator[cst.BinaryOperation]:
    for node in names.parents:
        if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
            yield node


def _summed_shape(node: cst.BinaryOperation, names: ModuleNames) -> cst.BaseExpression | None:
    """Return X where a sum is X[0] + X[1], directly or through names."""
    left, right = _axis(node.left, names), _axis(node.right, names)
    if left is None or right is None or {left[1], right[1]} != {0, 1}:
        return None
    same = names.code(left[0]) == names.code(right[0])
    return left[0] if same else None


def _axis(node: cst.BaseExpression, names: ModuleNames) -> tuple[cst.BaseExpression, int] | None:
    node = names.value(node)
    while isinstance(node, cst.Call) and len(node.args) == 1:  # float(shape[0]), int(shape[0])
        node = names.value(node.args[0].value)
    if not isinstance(node, cst.Subscript) or len(node.slice) != 1:
        return None
    index = node.slice[0].slice
    if not isinstance(index, cst.Index) or not isinstance(index.value, cst.Integer):
        return None
    return node.value, int(index.value.value)


def _under_a_root(node: cst.CSTNode, names: ModuleNames) -> bool:
    """Whether a sum ends up under a square root, in place or through the name it is given."""
    for outer in names.ancestors(node):
        if isinstance(outer, cst.Call) and callee_name(outer, names) in ("sqrt", "rsqrt"):
            return True
        if isinstance(outer, cst.BinaryOperation) and isinstance(outer.operator, cst.Power):
            return True
        if isinstance(outer, cst.Assign):
            target = outer.targets[0].target
            readers = names.readers(target) if isinstance(target, cst.Name) else None
            return any(_under_a_root(reader, names) for reader in readers or ())
        if isinstance(outer, cst.BaseStatement):
            return False
    return False


def _ranks(shape: cst.BaseExpression, names: ModuleNames) -> list[int]:
    """Return the numbers of axes that a shape is seen with in this file."""
    literal = _rank(shape, names)
    if literal:
        return [literal]
    root = root_name(shape)
    param = None if root is None else names.only_assignment(root)
    if not isinstance(param, cst.Param):
        return []
    function = next((a for a in names.ancestors(param) if isinstance(a, cst.FunctionDef)), None)
    return [] if function is None else list(_ranks_at_calls(function, param, names))


def _rank(shape: cst.BaseExpression, names: ModuleNames) -> int:
    shape = names.value(shape)
    elements = getattr(shape, "elements", None)
    if not isinstance(shape, (cst.List, cst.Tuple)) or elements is None:
        return 0
    starred = any(isinstance(element, cst.StarredElement) for element in elements)
    return 0 if starred else len(elements)


def _ranks_at_calls(
    function: cst.FunctionDef, param: cst.Param, names: ModuleNames
) -> Iterator[int]:
    position = next((i for i, p in enumerate(function.params.params) if p is param), -1)
    for call in names.calls:
        if isinstance(call.func, cst.Name) and call.func.value == function.name.value:
            for index, arg in enumerate(call.args):
                keyword = "" if arg.keyword is None else arg.keyword.value
                if keyword == param.name.value or (not keyword and index == position):
                    rank = _rank(arg.value, names)
                    if rank:
                        yield rank
        elif _receives(call, function):
            convolution = re.search(r"conv\w*?([123])d", callee_name(call, names), re.IGNORECASE)
            if convolution:
                yield int(convolution[1]) + 2


def _receives(call: cst.Call, function: cst.FunctionDef) -> bool:
    return any(
        isinstance(arg.value, cst.Name) and arg.value.value == function.name.value
        for arg in call.args
    )


def _statement(node: cst.CSTNode, names: ModuleNames) -> cst.CSTNode:
    for outer in names.ancestors(node):
        if isinstance(outer, cst.BaseSmallStatement):
            return outer
    return node
