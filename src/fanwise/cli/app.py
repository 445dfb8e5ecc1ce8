"""The command `fanwise`: each function below is one subcommand. They parse, call and print.

Start-up counts: whatever only one subcommand needs is imported inside it.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import fanwise
from fanwise.cli.files import check_folder, check_writable, counted, read_plan, write_whole
from fanwise.cli.options import (
    FrameworkOption,
    InputOption,
    JsonOption,
    KeepOption,
    NamesOf,
    PolicyOption,
    RuleOption,
    SeedOption,
    TargetArgument,
    integers_from,
    rules_from,
)
from fanwise.cli.target import (
    find_beside,
    find_builder,
    find_object,
    load_model,
    load_module,
    load_object,
    need_inputs,
)
from fanwise.errors import ArgumentError, FanwiseError, TargetError, with_article

app = typer.Typer(
    name="fanwise",
    help="Weight initialization you can trust: plan it, draw it, check it.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command(epilog="Example: fanwise plan train.py:build --input 8x3x32x32")
def plan(
    target: TargetArgument,
    input: InputOption = None,
    policy: PolicyOption = "auto",
    rule: RuleOption = None,
    keep: KeepOption = "designs",
    framework: FrameworkOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the plan as JSON, for init --plan.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Show what differs from this plan instead.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what would be drawn for every parameter, and why. Nothing is drawn."""
    if output is not None:
        check_writable(output)
    model = load_model(target, input, framework)
    from fanwise.planning.designs import check_keep

    planned = model.plan(policy=policy, rules=rules_from(rule), keep=check_keep(keep))
    if output is not None:
        write_whole(output, lambda part: part.write_text(planned.to_json(), encoding="utf-8"))
    if against is not None:
        lines = read_plan(against, model).diff(planned)
        print(json.dumps(lines) if as_json else "\n".join(lines) or "the plans draw the same.")
    elif as_json:
        print(planned.to_json())
    else:
        from fanwise.cli.console import output_width, show
        from fanwise.report.terminal_tables import plan_table

        show(plan_table(planned, output_width()))


@app.command(epilog="Example: fanwise init train.py:build -o weights.safetensors --seed 0")
def init(
    target: TargetArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, NAME.safetensors (or .st); any other name is a folder of "
            "shards, to which a PyTorch model is drawn without ever being in memory.",
        ),
    ],
    seed: SeedOption = 0,
    input: InputOption = None,
    policy: PolicyOption = "auto",
    rule: RuleOption = None,
    keep: KeepOption = "designs",
    framework: FrameworkOption = None,
    saved: Annotated[
        Path | None, typer.Option("--plan", help="Apply this plan, as plan --output wrote it.")
    ] = None,
    shard_size: Annotated[
        str | None, typer.Option(help="Of a folder's files, at most; 5GB by default. 500MB, 2GiB.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of a folder's floats: bfloat16, float16, float32.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Of a folder: safetensors, or dcp for torch.distributed.checkpoint.load."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw every parameter and write the weights to a safetensors file, whole or not at all."""
    if output.suffix not in (".safetensors", ".st"):
        _init_folder(
            target, output, seed, dtype, input, framework, as_json,
            wanted={"format": format or "safetensors", "shard_size": shard_size},
            policy=policy, rules=rules_from(rule), keep=keep, saved=saved,
        )  # fmt: skip
        return
    if dtype is not None or shard_size is not None or format is not None:
        raise ArgumentError(
            "--dtype, --shard-size and --format are for a folder: leave .safetensors out."
        )
    check_writable(output)
    model = load_model(target, input, framework)
    from fanwise.cli.console import console, show_remarks
    from fanwise.cli.progress import progress
    from fanwise.planning.designs import check_keep

    if saved is not None and (policy != "auto" or rule or keep != "designs"):
        raise ArgumentError("--plan says it all: leave --policy, --rule and --keep out.")
    if saved is not None:
        planned = read_plan(saved, model)
    else:
        planned = model.plan(policy=policy, rules=rules_from(rule), keep=check_keep(keep))
    show_remarks(planned)
    with progress(console(stderr=True), "drawing", len(planned.rows)) as advance:
        model.draw(planned, seed, lambda *_: advance())
    notes = {"fanwise": fanwise.__version__, "fanwise_seed": str(seed)}
    write_whole(output, lambda part: model.save(part, notes))
    drawn = sum(1 for row in planned.rows if row.draws)
    if as_json:
        print(json.dumps({"output": str(output), "seed": seed, "parameters": drawn}))
    else:
        print(f"{counted(drawn, 'parameter')}, seed {seed}, written to {output}")


def _init_folder(
    target: str,
    folder: Path,
    seed: int,
    dtype: str | None,
    input: list[str] | None,
    framework: str | None,
    as_json: bool,
    wanted: dict[str, Any],
    **how: Any,
) -> None:
    """Draw a PyTorch model of a TARGET to a folder, in the format that is wanted."""
    check_folder(folder)
    from fanwise.cli.console import console, show_remarks
    from fanwise.cli.models import TorchTarget, float_type
    from fanwise.cli.progress import progress

    if how.pop("saved") is not None:
        raise ArgumentError("--plan is for a file: a folder's plan is made on the meta device.")
    model = load_model(target, input, framework, without_memory=True)
    if not isinstance(model, TorchTarget):
        raise ArgumentError(
            f"a folder of shards is for PyTorch's models, and {target} is one of "
            f"{model.framework}: write a file, -o {folder}.safetensors."
        )
    wanted["dtype"] = float_type(dtype)
    planned = model.plan_without_memory(**how)
    show_remarks(planned)
    with progress(console(stderr=True), "drawing", None) as advance:
        wanted["progress"] = lambda _, of: advance(of)
        files = model.write(planned, folder, seed, **wanted)
    drawn = sum(1 for row in planned.rows if row.draws)
    if as_json:
        print(json.dumps({"output": str(folder), "seed": seed, "parameters": drawn}))
    else:
        written = f"written to {folder}: {counted(len(files), 'file')}"
        print(f"{counted(drawn, 'parameter')}, seed {seed}, {written}")


@app.command(epilog="Example: fanwise check train.py:build --html report.html --strict")
def check(
    target: TargetArgument,
    input: InputOption = None,
    seed: SeedOption = 0,
    policy: PolicyOption = "auto",
    rule: RuleOption = None,
    keep: KeepOption = "designs",
    framework: FrameworkOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 unless the signal is healthy.")
    ] = False,
    as_json: JsonOption = False,
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
        check_writable(path)
    for picture, suffix in ((png, ".png"), (svg, ".svg")):
        if picture and picture.suffix.lower() != suffix:
            raise ArgumentError(f"--{suffix[1:]} {picture}: the name must end in {suffix}.")
    model = load_model(target, input, framework)
    need_inputs(target, model.inputs)
    from rich.text import Text

    from fanwise.cli.console import console, output_width, show
    from fanwise.cli.progress import progress
    from fanwise.planning.designs import check_keep
    from fanwise.report.terminal_tables import signal_table

    with progress(console(stderr=True), "measuring", 3) as advance:
        wanted: dict[str, Any] = {"policy": policy, "rules": rules_from(rule)}
        planned = model.plan(keep=check_keep(keep), **wanted)
        wanted["histograms"] = html is not None
        before = model.measure(**wanted)
        advance()
        model.draw(planned, seed, lambda *_: None)
        advance()
        after = model.measure(**wanted)
        advance()
    if html:
        write_whole(html, lambda p: before.to_html(p, after, plan=planned, target=target))
    if markdown:
        text = before.to_markdown(after, target=target)
        write_whole(markdown, lambda p: p.write_text(text, encoding="utf-8"))
    for path in filter(None, (png, svg)):
        write_whole(path, lambda p: before.plot(p, after))
    if as_json:
        print(json.dumps({"as_it_is": before.to_plain(), "after_init_": after.to_plain()}))
    else:
        show(signal_table(before, after, width=output_width()))
        for when, signal in (("As it is", before), (f"After {model.drawn_by}", after)):
            style = "bold green" if signal.healthy else "bold red"
            show(Text.assemble((f"{when}: ", style), signal.summary))
    if strict and not before.healthy:
        raise typer.Exit(1)


@app.command(epilog="Example: fanwise audit model.safetensors --target train.py:build --strict")
def audit(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A safetensors file, a folder with shards, or model.safetensors.index.json.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="The model that the weights are for, as file.py:name: its plan says what each "
            "kernel's use asks for.",
        ),
    ] = None,
    input: InputOption = None,
    framework: FrameworkOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 where something looks wrong.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say of a checkpoint which tensors were drawn, by which scheme, and which were trained.

    Also what looks wrong: copies, dead units, NaN, what was never trained. No pickle is opened.
    """
    from rich.text import Text

    from fanwise.auditing.audit import audit as audit_checkpoint
    from fanwise.cli.console import console, output_width, show
    from fanwise.cli.progress import progress
    from fanwise.report.audits import audit_table

    plan = None if target is None else load_model(target, input, framework).plan(keep="nothing")
    with progress(console(stderr=True), "reading", None) as advance:
        found = audit_checkpoint(path, plan, progress=lambda _, of: advance(of))
    if as_json:
        print(found.to_json())
    else:
        show(audit_table(found, output_width()))
        style = "bold yellow" if found.findings else "bold green"
        show(Text.assemble((found.summary, style)))
        for finding in found.findings:
            show(Text.assemble((f"{finding.kind}: ", "bold red"), finding.words))
    if strict and found.findings:
        raise typer.Exit(1)


@app.command(epilog="Example: fanwise compare train.py:build --starts own,init_ --seeds 5")
def compare(
    target: TargetArgument,
    batches: Annotated[
        str,
        typer.Option(
            help="What the model is trained on: a name in TARGET's file, or file.py:name."
        ),
    ] = "batches",
    loss: Annotated[
        str | None,
        typer.Option(
            help="A function of the output and the target, likewise. Without it `loss` of that "
            "file, and where there is none the model returns its loss."
        ),
    ] = None,
    starts: Annotated[
        str,
        typer.Option(help="own, default, init_, policies, commas between; the first is beaten."),
    ] = "own,init_",
    optimizer: Annotated[
        str,
        typer.Option(help="adamw, adam, sgd, or a function of (parameters, rate), likewise."),
    ] = "adamw",
    rate: Annotated[
        float | None, typer.Option(help="The learning rate that the sweep begins at.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of each run; by default one for each batch.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each start at its best rate.")] = 5,
    record: Annotated[
        Path | None, typer.Option(help="A file that keeps each run: an interrupted one goes on.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the losses: .png, .svg or .pdf, with Matplotlib.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train your model from several starts, each at its best rate, and say which trains better."""
    if figure is not None:
        from fanwise.report.figures import check_format

        check_format(figure)
    for path in filter(None, (figure, record)):
        check_writable(path)
    module = load_module(target)
    build, data = find_builder(module, target), find_beside(module, target, batches)
    wanted: dict[str, Any] = {"optimizer": optimizer, "rate": rate, "steps": steps}
    own_loss = getattr(module, "loss", None)
    wanted["loss"] = own_loss if loss is None else find_beside(module, target, loss)
    from fanwise.cli.console import console, show
    from fanwise.cli.progress import progress
    from fanwise.report.comparisons import comparison_table
    from fanwise.torch import compare as compare_starts
    from fanwise.torch.comparing.training import OPTIMIZERS

    if optimizer not in OPTIMIZERS or hasattr(module, optimizer):  # a function of one's own first
        wanted["optimizer"] = find_beside(module, target, optimizer)
    names = starts.split(",")
    with progress(console(stderr=True), "training", len(names) * (6 + 2 * seeds)) as advance:
        found = compare_starts(
            build, data, starts=names, seeds=seeds, record=record,
            progress=lambda *_: advance(), **wanted,
        )  # fmt: skip
    if figure is not None:
        write_whole(figure, lambda p: found.plot(p, title=target))
    if as_json:
        print(found.to_json())
    else:
        show(comparison_table(found))
        print(found.summary)


@app.command(
    epilog="Example: fanwise transfer train.py:build --policy completep --widths 64,128,256"
)
def transfer(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="file.py:name or package.module:name; a function that takes width= and depth= and "
            "returns (model, inputs) or (model, inputs, loss).",
        ),
    ],
    policy: PolicyOption = "completep",
    widths: Annotated[
        str, typer.Option(help="Three or more, the base first, commas between; or one.")
    ] = "64,128,256",
    depths: Annotated[str, typer.Option(help="Likewise, as TARGET counts them.")] = "2,4,8",
    optimizer: Annotated[str, typer.Option(help="adamw or adam.")] = "adamw",
    rate: Annotated[float | None, typer.Option(help="The learning rate at the base.")] = None,
    steps: Annotated[str, typer.Option(help="After which to look at what changed.")] = "1,3,10",
    seeds: Annotated[int, typer.Option(help="Models of each shape.")] = 2,
    rates: Annotated[
        int,
        typer.Option(
            min=0,
            help="Also sweep the learning rate, in runs of so many steps: on `batches` and `loss` "
            "of TARGET's file, or on the one batch that it returns.",
        ),
    ] = 0,
    record: Annotated[
        Path | None,
        typer.Option(
            help="A file that keeps each run of the sweep, to go on from; other data or another "
            "loss need another file."
        ),
    ] = None,
    as_json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page of it, in one file.")
    ] = None,
) -> None:
    """Check that layers, and what training changes, are as large at every width and depth.

    With --rates also that the best learning rate moves by an octave at most. Exit status: 0 where
    that is so, 1 where it isn't.
    """
    for path in filter(None, (record, html)):
        check_writable(path)
    module = load_module(target)
    build = find_object(module, target)
    from fanwise.cli.console import console
    from fanwise.cli.progress import progress
    from fanwise.comparing.transfer import finite_json
    from fanwise.torch import transfer as check_transfer
    from fanwise.torch.comparing.drift import prepare_sweep

    sizes: dict[str, Any] = {
        "widths": integers_from("--widths", widths),
        "depths": integers_from("--depths", depths),
    }
    sweep = None
    if rates:  # what the sweep refuses is said before the check has run
        batches = getattr(module, "batches", None)
        own_loss = None if batches is None else getattr(module, "loss", None)
        sweep = prepare_sweep(
            build, batches, loss=own_loss, policy=policy, **sizes, optimizer=optimizer, rate=rate,
            steps=rates, record=record,
        )  # fmt: skip
    models = seeds * (len(sizes["widths"]) + len(sizes["depths"]) - 1)
    with progress(console(stderr=True), "training", models) as advance:
        found = check_transfer(
            build, policy=policy, **sizes, optimizer=optimizer, rate=rate,
            steps=integers_from("--steps", steps), seeds=seeds, progress=lambda *_: advance(),
        )  # fmt: skip
    drift = None
    if sweep is not None:
        with progress(console(stderr=True), "sweeping", None) as advance:
            drift = sweep.run(lambda done, of: advance(of))
    if html is not None:
        write_whole(html, lambda p: found.to_html(p, drift, target=target))
    if as_json:
        more = {} if drift is None else {"rates": drift.to_dict()}
        print(finite_json(found.to_dict() | more))
    else:
        print(found, *filter(None, [drift]), sep="\n\n")
    if not found.passed or (drift is not None and not drift.passed):
        raise typer.Exit(1)


@app.command(epilog="Example: fanwise explain --fan-in 128 --fan-out 256 --activation tanh")
def explain(
    fan_in: Annotated[int, typer.Option("--fan-in", min=1, help="Terms that one output sums.")],
    fan_out: Annotated[
        int, typer.Option("--fan-out", min=1, help="Outputs that one input reaches.")
    ],
    activation: Annotated[
        str,
        typer.Option(
            "--activation",
            "-a",
            help="What feeds the kernel: relu, tanh, gelu…, or any "
            "function: file.py:name, package.module:name.",
        ),
    ] = "linear",
    as_json: JsonOption = False,
) -> None:
    """Derive Xavier's, He's and LeCun's variance with your own numbers, and measure them."""
    from fanwise.cli.explain import explain as derive

    function = load_object(activation) if ":" in activation else None
    if function is not None and not callable(function):
        raise TargetError(f"{activation} is {with_article(type(function).__name__)}, no function.")
    found = derive(fan_in, fan_out, activation, function)
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        from fanwise.cli.console import show
        from fanwise.cli.explain import explanation_text

        show(explanation_text(found))


@app.command(epilog="Example: fanwise migrate src/ --diff")
def migrate(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="Python files, notebooks, folders.")
    ],
    to: Annotated[NamesOf, typer.Option(help="Whose names to write.")] = NamesOf.keras,
    tf_version: Annotated[
        str | None,
        typer.Option(metavar="1.x", help="The TensorFlow that the code was written for."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Replace the files.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Print the change as a patch, the rest to stderr.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    simplify: Annotated[
        bool,
        typer.Option("--simplify", help="VarianceScaling(1, 'fan_avg', …) → GlorotUniform."),
    ] = False,
) -> None:
    """Convert old TensorFlow initializers to today's, distributions kept.

    Nothing is written without --write, and no code is run. Exit status: 0 when nothing is left to
    do, 1 when changes wait for --write or something needs a person, 2 when it was called wrongly.
    """
    from fanwise.cli.console import console
    from fanwise.cli.progress import progress
    from fanwise.migrate import migrate as migrate_paths

    try:
        with progress(console(stderr=True), "reading", None) as advance:
            report = migrate_paths(
                paths,
                to=to.value,
                tf_version=tf_version,
                write=write,
                simplify=simplify,
                workers=os.cpu_count() or 1,
                progress=lambda _, of: advance(of),
            )
    except FanwiseError as error:
        typer.echo(f"fanwise: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(report.to_json())
    elif diff:
        sys.stdout.buffer.write(report.diff().encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    if not as_json:
        report.print(console(stderr=diff))
    raise typer.Exit(report.exit_status)


@app.command(epilog="Example: fanwise doctor --json")
def doctor(as_json: JsonOption = False) -> None:
    """Say what works here: engines, frameworks, Triton, threads, cache; and the remedies.

    Exit status: 0, and 1 where fanwise itself can't draw. No framework is imported.
    """
    from fanwise.cli import doctor as found_here

    findings = found_here.examine()
    print(found_here.as_json(findings) if as_json else found_here.as_text(findings))
    if not found_here.can_draw(findings):
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the versions of what is here.")
    ] = False,
) -> None:
    if version:
        from fanwise.cli.doctor import versions

        print("\n".join(versions()))
        raise typer.Exit


def main() -> None:
    """Run the command line: exit status 0; 1 for a defect that was asked for; 2 for misuse."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe on Windows knows no arrows
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="fanwise")
        sys.stdout.flush()
    except OSError as error:  # as when the disk that a pipe ends on is full
        from fanwise.cli.console import show_error

        show_error(f"can't write the output: {error.strerror or error}.")
        raise SystemExit(2) from None
    except FanwiseError as error:
        from fanwise.cli.console import show_error

        show_error(str(error))
        raise SystemExit(2) from None
