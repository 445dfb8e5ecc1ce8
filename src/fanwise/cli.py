"""The command line: parse, call, print."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.text import Text

import fanwise
from fanwise.errors import ArgumentError, FanwiseError, TargetError
from fanwise.explain import explain as derive
from fanwise.migrate.command import migrate_command
from fanwise.policies import POLICIES
from fanwise.report.terminal import explanation_text, plain, plan_table, progress, signal_table
from fanwise.schemes import get

if TYPE_CHECKING:
    from fanwise.plan import Rule
    from fanwise.torch import Plan

app = typer.Typer(
    name="fanwise",
    help="Weight initialization you can trust: plan it, draw it, check it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

PIPE_WIDTH = 200
"""Columns of a table that isn't printed on a terminal."""

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="file.py:name or package.module:name; a model, or a function that returns one, "
        "or a function that returns (model, inputs).",
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="SHAPE[:DTYPE]",
        help="An example input, such as 8x3x32x32 or 8x128:int64; once for each argument. "
        "name=8x3x32x32 gives a keyword argument.",
    ),
]
Policy = Annotated[
    str,
    typer.Option("--policy", help=f"What depth asks for: {', '.join(POLICIES)}."),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        "-r",
        metavar="WHERE=SCHEME",
        help="Your own choice: WHERE is a glob on the name, role:ROLE or type:MODULE; SCHEME a "
        "name such as zeros or he_normal, or none to leave alone. The first that matches wins.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Seed = Annotated[int, typer.Option("--seed", help="An integer in [0, 2**64).")]


def _console(*, stderr: bool = False) -> Console:
    """Return a console on a standard stream."""
    return Console(stderr=stderr, highlight=False)


def _show(renderable: RenderableType) -> None:
    """Print in colour on a terminal, as plain text into a pipe."""
    console = _console()
    if console.is_terminal:
        console.print(renderable, soft_wrap=isinstance(renderable, Text))
    else:
        print(plain(renderable, width=PIPE_WIDTH))


def _load(target: str) -> Any:
    """Return the object that a TARGET names.

    Raises:
        TargetError: it isn't of the form file.py:name, can't be found, or fails to import.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise TargetError(f"{target!r} names no model: write file.py:name or package.module:name.")
    try:
        if place.endswith(".py"):
            path = Path(place)
            if not path.is_file():
                raise TargetError(f"there is no file {place!r}.")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(path.stem, module)
            sys.path.insert(0, str(path.parent))
            spec.loader.exec_module(module)
        else:
            sys.path.insert(0, "")
            module = importlib.import_module(place)
    except TargetError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's file raises
        remedy = ""
        if isinstance(error, ModuleNotFoundError) and not place.startswith(error.name or "?"):
            remedy = f": pip install what gives {error.name!r} where fanwise runs"
        raise TargetError(
            f"{place} can't be imported: {type(error).__name__}: {error}{remedy}"
        ) from error
    try:
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        known = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise TargetError(
            f"{place} has no {name!r}; it has {', '.join(known[:12]) or 'nothing to call'}."
        ) from None
    return found


def _inputs(specifications: list[str] | None) -> Any:
    """Return example inputs from SHAPE[:DTYPE] texts: normal floats, small integers."""
    if not specifications:
        return None
    import torch

    generator = torch.Generator().manual_seed(0)
    positional, named = [], {}
    for text in specifications:
        found = re.fullmatch(r"(?:(\w+)=)?(\d+(?:x\d+)*)(?::(\w+))?", text)
        dtype = getattr(torch, (found and found[3]) or "float32", None)
        if not found or not isinstance(dtype, torch.dtype):
            raise ArgumentError(
                f"--input {text!r} can't be read: write a shape and a dtype, such as 8x3x32x32 or "
                "tokens=8x128:int64."
            )
        shape = [int(n) for n in found[2].split("x")]
        if dtype.is_floating_point or dtype.is_complex:
            value = torch.randn(shape, generator=generator, dtype=dtype)
        else:
            value = torch.randint(0, 2, shape, generator=generator).to(dtype)
        if found[1]:
            named[found[1]] = value
        else:
            positional.append(value)
    if named and positional:
        raise ArgumentError("--input: name every input, or none.")
    return named or tuple(positional)


def _model(target: str, specifications: list[str] | None) -> tuple[Any, Any]:
    """Return (model, example inputs or None) of a TARGET."""
    found = _load(target)
    try:
        from torch import nn
    except ImportError:
        raise TargetError(
            'PyTorch is missing: pip install "fanwise[torch]", or see the README.'
        ) from None
    given: Any = None
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise TargetError(f"{target} is a {type(found).__name__}, no model and no function.")
        try:
            found = found()
        except (Exception, SystemExit) as error:  # whatever a stranger's function raises
            raise TargetError(
                f"{target}() failed: {type(error).__name__}: {error}. Name a function without "
                "arguments that returns the model."
            ) from error
    if isinstance(found, tuple) and len(found) == 2:
        found, given = found
    if not isinstance(found, nn.Module):
        raise TargetError(
            f"{target} gives a {type(found).__name__}, and a torch.nn.Module is needed."
        )
    if isinstance(given, list):
        given = tuple(given)
    return found, _inputs(specifications) or given


def _rules(texts: list[str] | None) -> tuple[Rule, ...]:
    """Return rules from WHERE=SCHEME texts; the scheme `none` leaves a parameter alone."""
    from fanwise.plan import Rule

    rules = []
    for text in texts or ():
        where, equals, scheme = text.rpartition("=")
        if not equals or not where or not scheme:
            raise ArgumentError(
                f"--rule {text!r} can't be read: write WHERE=SCHEME, such as '*.head.weight=zeros' "
                "or 'type:Embedding=none'."
            )
        rules.append(Rule(where, None if scheme == "none" else get(scheme)))
    return tuple(rules)


def _need_inputs(target: str, inputs: Any) -> Any:
    if inputs is None:
        raise TargetError(
            f"{target} gives no example inputs, and the signal needs a batch: return "
            "(model, inputs), or pass --input SHAPE[:DTYPE]."
        )
    return inputs


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it there whole; or leave nothing."""
    from safetensors import SafetensorError

    part = path.with_name(f".part.{path.name}")  # writers go by the suffix
    try:
        write(part)
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # safetensors writes for the owner alone
        part.replace(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"{path} can't be written: {reason}.") from error
    finally:
        part.unlink(missing_ok=True)


def _check_writable(path: Path) -> None:
    """Raise `TargetError` where a file can't be put there, before work is done for it."""
    if not path.parent.is_dir():
        raise TargetError(f"{path} can't be written: there is no folder {path.parent}.")
    if path.is_dir():
        raise TargetError(f"{path} can't be written: it is a folder. Name a file in it.")


def _read_plan(path: Path) -> Plan:
    """Return the plan that a file holds."""
    from fanwise.torch import Plan

    try:
        return Plan.load(path)
    except OSError as error:
        raise TargetError(f"{path} can't be read: {error.strerror}.") from error


@app.command()
def plan(
    target: Target,
    input: Input = None,
    policy: Policy = "auto",
    rule: Rules = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan as JSON, for init --plan.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Show what differs from this plan instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what would be drawn for every parameter, and why. Nothing is drawn."""
    if output is not None:
        _check_writable(output)
    model, inputs = _model(target, input)
    from fanwise.torch import plan as plan_model

    planned = plan_model(model, inputs, policy=policy, rules=_rules(rule))
    if output is not None:
        _write_whole(output, lambda part: part.write_text(planned.to_json(), encoding="utf-8"))
    if against is not None:
        lines = _read_plan(against).diff(planned)
        print(json.dumps(lines) if as_json else "\n".join(lines) or "the plans draw the same.")
    elif as_json:
        print(planned.to_json())
    else:
        console = _console()
        _show(plan_table(planned, console.width if console.is_terminal else PIPE_WIDTH))


@app.command()
def init(
    target: Target,
    output: Annotated[Path, typer.Option("--output", "-o", help="The safetensors file to write.")],
    seed: Seed = 0,
    input: Input = None,
    policy: Policy = "auto",
    rule: Rules = None,
    saved: Annotated[
        Path | None, typer.Option("--plan", help="Apply this plan, as plan --output wrote it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw every parameter and write the weights to a safetensors file, whole or not at all."""
    _check_writable(output)
    model, inputs = _model(target, input)
    from safetensors.torch import save_model

    from fanwise.torch import plan as plan_model

    if saved is not None and (policy != "auto" or rule):
        raise ArgumentError("--plan says it all: leave --policy and --rule out.")
    if saved is not None:
        planned = _read_plan(saved)
    else:
        planned = plan_model(model, inputs, policy=policy, rules=_rules(rule))
    if planned.note:
        _console(stderr=True).print(escape(planned.note))
    with progress(_console(stderr=True), "drawing", len(planned.rows)) as advance:
        planned.apply(model, seed=seed, progress=advance)
    notes = {"fanwise": fanwise.__version__, "fanwise_seed": str(seed)}
    _write_whole(output, lambda part: save_model(model, str(part), metadata=notes))
    drawn = sum(1 for row in planned.rows if row.draws)
    if as_json:
        print(json.dumps({"output": str(output), "seed": seed, "parameters": drawn}))
    else:
        print(f"{drawn} parameters, seed {seed}, written to {output}")


@app.command()
def check(
    target: Target,
    input: Input = None,
    seed: Seed = 0,
    policy: Policy = "auto",
    rule: Rules = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 unless the signal is healthy.")
    ] = False,
    as_json: Json = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page of it, in one file.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write a summary, as GitHub shows it.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Draw it, with Matplotlib.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Draw it, for a paper.")] = None,
) -> None:
    """Measure the signal as the code initializes it, and beside it after init_; one verdict."""
    for path in filter(None, (html, markdown, png, svg)):
        _check_writable(path)
    for picture, suffix in ((png, ".png"), (svg, ".svg")):
        if picture and picture.suffix.lower() != suffix:
            raise ArgumentError(f"--{suffix[1:]} {picture}: the name must end in {suffix}.")
    model, inputs = _model(target, input)
    inputs = _need_inputs(target, inputs)
    from fanwise.torch import measure
    from fanwise.torch import plan as plan_model
    from fanwise.torch.histograms import measure_histograms

    look = measure_histograms if html else measure
    with progress(_console(stderr=True), "measuring", 3) as advance:
        wanted: dict[str, Any] = {"policy": policy, "rules": _rules(rule)}
        planned = plan_model(model, inputs, **wanted)
        before = look(model, inputs, **wanted)
        advance()
        planned.apply(model, seed=seed)
        advance()
        after = look(model, inputs, **wanted)
        advance()
    if html:
        _write_whole(html, lambda p: before.to_html(p, after, plan=planned, target=target))
    if markdown:
        text = before.to_markdown(after, target=target)
        _write_whole(markdown, lambda p: p.write_text(text, encoding="utf-8"))
    for path in filter(None, (png, svg)):
        _write_whole(path, lambda p: before.plot(p, after))
    if as_json:
        print(json.dumps({"as_it_is": before.to_plain(), "after_init_": after.to_plain()}))
    else:
        console = _console()
        width = console.width if console.is_terminal else PIPE_WIDTH
        _show(signal_table(before, after, width=width))
        for when, signal in (("As it is", before), ("After init_", after)):
            style = "bold green" if signal.healthy else "bold red"
            _show(Text.assemble((f"{when}: ", style), signal.summary))
    if strict and not before.healthy:
        raise typer.Exit(1)


@app.command()
def explain(
    fan_in: Annotated[int, typer.Option("--fan-in", min=1, help="Terms that one output sums.")],
    fan_out: Annotated[
        int, typer.Option("--fan-out", min=1, help="Outputs that one input reaches.")
    ],
    activation: Annotated[
        str, typer.Option("--activation", "-a", help="What feeds the kernel: relu, tanh, gelu…")
    ] = "linear",
    as_json: Json = False,
) -> None:
    """Derive Xavier's, He's and LeCun's variance with your own numbers, and measure them."""
    found = derive(fan_in, fan_out, activation)
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        _show(explanation_text(found))


app.command("migrate")(migrate_command)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"fanwise {fanwise.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line: exit status 0; 1 with check --strict and a defect; 2 for misuse."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe on Windows knows no arrows
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="fanwise")
        sys.stdout.flush()
    except OSError as error:  # as when the disk that a pipe ends on is full
        reason = escape(error.strerror or str(error))
        _console(stderr=True).print(f"[bold red]fanwise:[/] can't write the output: {reason}.")
        raise SystemExit(2) from None
    except FanwiseError as error:
        _console(stderr=True).print(f"[bold red]fanwise:[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None
