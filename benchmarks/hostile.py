"""Attack every command by what it reads and writes: run a table of attacks, and print which were held and which failed.

    python benchmarks/hostile.py                  (--kind NAME; --match TEXT; --json; --list)

Each attack is one command line in a folder of its own with a small trained run and a few inputs, some of them forged. It is held if the
command ends in time, in bounded memory and with the right exit code, shows no traceback and no Python warning, writes no control
character to the terminal, leaves no temporary file, and changes no file that must stay. The commands run in forked processes of one that
has imported the program, so the whole table takes a few minutes. Exit code 1 if an attack failed.
"""

import argparse
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: threads do not survive a fork

import numpy as np
import torch
from attack import RUN, Attack, forge
from hostile_files import FILE_KINDS
from hostile_inputs import INPUT_KINDS
from hostile_process import PROCESS_KINDS
from PIL import Image

import tiedae_cli.cli.app  # noqa: F401  what the forked processes would import
import tiedae_cli.output.terminal  # noqa: F401
import tiedae_cli.tasks.train  # noqa: F401
from tiedae_cli.__main__ import main as tiedae
from tiedae_cli.runs import checkpoint
from tiedae_cli.runs.run_folder import STATE

SLOWEST, LONGEST = 60.0, 300.0  # s of processor time, and of waiting on a machine that does other things too
MOST_MEMORY = 700  # MB beside what the parent has already
COMMANDING = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]")
TITLE = "\x1b]0;owned\x07"
NAMES = (TITLE, "two\nlines", "\u202egnp.exe", "[bold]:smile:", "$x^$", "caf\udce9", "\x9b31m", "tab\tand\rreturn")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


OUTPUTS = {  # the command line, its output option, what it reads
    "encode -o": (("encode", RUN, "x.npy", "--format", "npy"), "-o", "x.npy"),
    "decode -o": (("decode", RUN, "codes.npy", "--format", "npy"), "-o", "codes.npy"),
    "score -o": (("score", RUN, "x.npy", "--format", "csv"), "-o", "x.npy"),
    "score --contact-sheet": (("score", RUN, "x.npy"), "--contact-sheet", "x.npy"),
    "reconstruct -o": (("reconstruct", RUN, "photos", "--no-preview"), "-o", "photos/0.png"),
    "inspect --features": (("inspect", "copy.safetensors"), "--features", "copy.safetensors"),
    "inspect --codes": (("inspect", "copy.safetensors"), "--codes", "copy.safetensors"),
    "export -o": (("export", "copy.safetensors", "--format", "safetensors"), "-o", "copy.safetensors"),
    "compare -o": (("compare", "copy.safetensors", RUN), "-o", "copy.safetensors"),
    "report -o": (("report", "copy.safetensors"), "-o", "copy.safetensors"),
}


def outputs() -> Iterator[Attack]:
    """Yield attacks on what is written."""
    for name, (arguments, option, source) in OUTPUTS.items():
        for state in STATE:
            yield Attack(
                "outputs", f"{name} {state} of a run", (*arguments, option, f"{RUN}/{state}"), says="holds the state of a run"
            )
        yield Attack("outputs", f"{name} its input", (*arguments, option, source), says="this command reads this file")
        yield Attack(
            "outputs", f"{name} a link to its input", (*arguments, option, "l"), prepare=partial(os.symlink, source, "l")
        )
        yield Attack("outputs", f"{name} a looping link", (*arguments, option, "loop"), prepare=loop, says="in a circle")
        yield Attack("outputs", f"{name} a temporary name", (*arguments, option, ".tiedae-x"), says="temporary files")
    score = ("score", RUN, "x.npy", "--format", "csv")
    for name in ("f.csv", "-", "./f.csv"):
        yield Attack("outputs", f"two outputs in {name}", (*score, "-o", name.removeprefix("./"), "--contact-sheet", name))
    yield Attack("outputs", "the file behind stdin", ("encode", RUN, "-", "-o", "x.npy"), stdin=Path("x.npy"))
    for name in ("loss.png", "metrics.jsonl", "previous.safetensors"):
        yield Attack(
            "outputs",
            f"{name} is a link to a file of the user's",
            ("train", "--resume", RUN, "--set", "training.epochs=3"),
            code=0,
            prepare=partial(put_link, name),
            may_change=(f"{RUN}/*",),
        )


def put_link(name: str) -> None:
    """Put a link to a file of the user's in the place of one of the run's."""
    os.unlink(f"{RUN}/{name}")
    os.symlink(os.path.abspath("x.npy"), f"{RUN}/{name}")


def put_pipe(name: str) -> None:
    """Put a pipe in the place of a file of the run's."""
    os.unlink(f"{RUN}/{name}")
    os.mkfifo(f"{RUN}/{name}")


def put_photos(bad: str, good: str) -> None:
    """Put a file that is not an image, and one that is, into the folder."""
    Path(bad).write_text("no")
    shutil.copy("photos/0.png", good)


def loop() -> None:
    """Make links that lead in a circle."""
    os.symlink("other", "loop")
    os.symlink("loop", "other")


def text() -> Iterator[Attack]:
    """Yield attacks by names and other text from outside."""
    for name in NAMES:
        bad, good = f"photos/{name}.png", f"photos/good{name}.png"
        for kind in ("csv", "jsonl"):
            yield Attack(
                "text",
                f"score a folder with {name!r}, {kind}",
                ("score", RUN, "photos", "--format", kind, "--contact-sheet", "sheet.png"),
                code=1,
                prepare=partial(put_photos, bad, good),
                may_change=("sheet.png",),
            )
            yield Attack(
                "text",
                f"encode {name!r}, {kind}",
                ("encode", RUN, good, "--format", kind),
                code=0,
                prepare=partial(shutil.copy, "photos/0.png", good),
            )
        yield Attack(
            "text",
            f"a run called {name!r}",
            ("inspect", "forged.safetensors"),
            code=0,
            prepare=partial(forge, run=name),
        )
        yield Attack(
            "text",
            f"a table of runs with {name!r}",
            ("runs",),
            code=0,
            prepare=partial(shutil.copytree, RUN, f"runs/{name}"),
        )
        yield Attack(
            "text",
            f"a report of a run called {name!r}",
            ("report", "forged.safetensors", "-o", "report.html"),
            code=0,
            prepare=partial(forge, run=name),
            may_change=("report.html",),
        )
        yield Attack(
            "text",
            f"train on a folder with {name!r}",
            ("train", "--set", "data.dataset=photos"),
            prepare=partial(Path(bad).write_text, "no"),
        )
        words: tuple[str, ...]
        for words in (("eval", name), ("train", "--config", name), ("train", "--set", f"data.dataset=./{name}")):
            yield Attack("text", f"{words[0]} {name!r} as an argument", words)
    for words in ((TITLE,), ("eval", f"--{TITLE}"), ("train", "--set", f"{TITLE}=1"), ("train", "--device", TITLE)):
        yield Attack("text", f"usage: {words!r}", words)
    yield Attack(
        "text",
        "a cell that commands",
        ("score", RUN, "c.csv"),
        prepare=partial(Path("c.csv").write_text, f"a,b\n1,{TITLE}\n2,3\n"),
    )


def opened() -> Iterator[Attack]:
    """Yield attacks by special files, and by files that unpack to more than they seem."""
    train = ("train", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]")
    for arguments in (
        (*train, "--set", "data.dataset=photos"),
        ("score", RUN, "photos"),
        ("encode", RUN, "photos", "--format", "csv"),
        ("reconstruct", RUN, "photos", "--no-preview"),
        ("score", RUN, "--against", "photos"),
    ):
        yield Attack(
            "opened",
            f"{arguments[0]} a folder with a pipe",
            arguments,
            code=0,
            prepare=partial(os.mkfifo, "photos/pipe.png"),
            says="a pipe, not a file; skipped",
            may_change=("*/*",),
        )
    for name in (*STATE, "loss.png", "reconstructions.png"):
        for command in (("eval", RUN), ("train", "--resume", RUN, "--set", "training.epochs=3")):
            needed = name == ("best.safetensors" if command[0] == "eval" else "last.safetensors")
            yield Attack(
                "opened",
                f"{command[0]} with a pipe called {name}",
                command,
                code=int(needed),
                prepare=partial(put_pipe, name),
                may_change=(f"{RUN}/*",),
            )
    for suffix in ("png", "jpg", "tif", "gif"):
        for reader in ("score", "encode", "reconstruct"):
            yield Attack(
                "opened",
                f"{reader} an EPS called x.{suffix}",
                (reader, RUN, f"x.{suffix}"),
                prepare=partial(Path(f"x.{suffix}").write_bytes, EPS),
            )
    for shape in ((10**18, 6), (10**18, 0), (2**63, 1), (-1, 6)):
        for fortran in (False, True):
            for arguments in (("score", RUN, "huge.npy"), ("train", "--set", "data.dataset=huge.npy")):
                yield Attack(
                    "opened",
                    f"{arguments[0]} an array that promises {shape}, {'Fortran' if fortran else 'C'} order",
                    arguments,
                    prepare=partial(promise, shape, fortran),
                )
    for reader in ("eval", "inspect", "score"):
        yield Attack("opened", f"{reader} a hole of a terabyte", (reader, "hole.safetensors"), code=1, prepare=hole)
    for arguments in (("score", RUN, "/dev/zero"), ("score", RUN, "-"), ("reconstruct", RUN, "-"), ("train", "--config", "-")):
        yield Attack("opened", f"{' '.join(arguments)}, zeros without end", arguments, stdin=Path("/dev/zero"))
    for name in ("y.npy", "y.png", "y.csv"):
        yield Attack(
            "opened",
            f"a run folder called {name}",
            ("score", name),
            code=0,
            prepare=partial(shutil.copytree, RUN, name),
            may_change=(f"{name}/*",),
        )


def promise(shape: tuple[int, int], fortran: bool) -> None:
    """Write the head of an array and a few of its bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": fortran, "shape": shape})
    Path("huge.npy").write_bytes(buffer.getvalue() + bytes(64))


def hole() -> None:
    """Make a file of a terabyte that takes no room."""
    with open("hole.safetensors", "wb") as file:
        file.write((16).to_bytes(8, "little") + b"{}              ")
        file.truncate(1 << 40)


def believed() -> Iterator[Attack]:
    """Yield attacks by forged files and by values that are not numbers."""
    for value in ("nan", "inf"):
        for command in ("eval", "score", "inspect", "encode", "compare"):
            yield Attack(
                "believed",
                f"{command} weights of {value}",
                (command, "forged.safetensors"),
                code=1,
                prepare=partial(forge_weights, float(value)),
            )
    for command in ("eval", "score", "encode"):
        yield Attack(
            "believed",
            f"{command}: a checkpoint names where to download to",
            (command, "forged.safetensors"),
            prepare=forge_root,
        )
    for forgery in ("zeros", "nan", "scaled"):
        yield Attack(
            "believed",
            f"eval with {forgery} as PCA",
            ("eval", "forged.safetensors"),
            code=1,
            prepare=partial(forge_pca, forgery),
        )
    for dtype in ("float16", "float32", "float64"):
        for value in ("inf", "nan"):
            for arguments in (("train", "--set", "data.dataset=v.npy"), ("train", "--set", "data.dataset=i.npy")):
                yield Attack(
                    "believed",
                    f"train on {dtype} {'vectors' if 'v.npy' in arguments[2] else 'images'} with {value}",
                    arguments,
                    prepare=partial(with_value, dtype, float(value)),
                    says="row 8 holds",
                )
    for option in ("--threshold=nan", "--threshold=inf", "--quantile=nan", "--quantile=2"):
        yield Attack("believed", f"score {option}", ("score", RUN, option))
    for value in ("1:30", "1_0", "0b11", "yes", "1e1", "~", ".inf", ".nan", "2024-01-01", "1e999"):
        yield Attack(
            "believed", f"training.epochs: {value}", ("train", "--set", f"training.epochs={value}"), says="training.epochs"
        )
    for cell in ("1_0", "\uff11", "0x10"):
        yield Attack(
            "believed",
            f"a cell {cell!r}",
            ("train", "--set", "data.dataset=t.csv"),
            prepare=partial(table, cell),
            says="row 30",
        )


def forge_weights(value: float) -> None:
    """Write a checkpoint with all weights equal to this value."""
    weights = checkpoint.load(f"{RUN}/best.safetensors").weights
    forge(weights={name: torch.full_like(weight, value) for name, weight in weights.items()})


def forge_root() -> None:
    """Write a checkpoint of data that are not here, under a root that must not be made."""
    config = checkpoint.load(f"{RUN}/best.safetensors").config
    forge(
        config=config.model_copy(
            update={"data": config.data.model_copy(update={"dataset": "kmnist", "root": os.path.abspath("theirs")})}
        )
    )


def forge_pca(forgery: str) -> None:
    """Write a checkpoint with components that are none, with a right digest."""
    finished = checkpoint.load(f"{RUN}/best.safetensors").finished
    assert finished is not None
    factor = {"zeros": 0.0, "nan": float("nan"), "scaled": 1.01}[forgery]
    forge(finished=replace(finished, pca=replace(finished.pca, components=finished.pca.components * factor)))


def with_value(dtype: str, value: float) -> None:
    """Write vectors and images with one value that is not finite."""
    for name, shape in (("v.npy", (60, 6)), ("i.npy", (60, 4, 4))):
        x = np.random.default_rng(0).random(shape).astype(dtype)
        x.reshape(60, -1)[7, 2] = value
        np.save(name, x)


def table(cell: str) -> None:
    """Write a table with one cell that only a programmer takes for a number."""
    rows = ["a,b,c", *(f"{i},{i * i % 7},{i % 5}" for i in range(40))]
    rows[30] = f"3,{cell},1"
    Path("t.csv").write_text("\n".join(rows))


def stops() -> Iterator[Attack]:
    """Yield attacks by signals and closed streams."""
    hangup, interrupt, terminate, user = signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
    train = ("train", "--config", "long.yaml", "--run-dir", "long")
    sent: tuple[int, ...]
    for sent in ((hangup,), (interrupt,), (terminate,), (user, terminate), (user, user, hangup)):
        says = "continue with: tiedae train --resume long"
        numbers = "+".join(signal.Signals(number).name for number in sent)
        yield Attack(
            "stops",
            f"train, {numbers}",
            train,
            code=128 + sent[-1],
            says=says,
            stop=("long/best.safetensors", sent),
            may_change=("long/*",),
        )
    for ignored in (hangup, interrupt):
        yield Attack(
            "stops",
            f"train where {ignored.name} is ignored",
            train,
            code=143,
            ignored=(ignored,),
            stop=("long/best.safetensors", (ignored, terminate)),
            may_change=("long/*",),
        )
    for command in ("score", "encode"):
        for number in (hangup, interrupt, terminate):
            arguments = (command, RUN, "endless", "-o", "out.csv")
            yield Attack(
                "stops",
                f"{command}, {number.name}",
                arguments,
                code=128 + number,
                prepare=partial(os.mkfifo, "endless"),
                stop=(".tiedae-*", (number,)),
            )
    for command in ("score", "encode", "decode"):
        yield Attack("stops", f"{command} - <&-", (command, RUN, "-", "-o", "out.csv"), closed=0, says="stdin is closed")
    yield Attack("stops", "train --config - <&-", ("train", "--config", "-"), closed=0, says="stdin is closed")
    for command in ("score", "encode", "eval", "inspect", "compare"):
        yield Attack("stops", f"{command} >&-", (command, RUN), code=1, closed=1, says="stdout: cannot be written")
    for command in ("score", "eval"):
        yield Attack("stops", f"{command} 2>&-", (command, RUN), code=0, closed=2)
    yield Attack(
        "stops",
        "a temporary file of a dead process",
        ("encode", RUN, "x.npy", "-o", "out.npy"),
        code=0,
        prepare=partial(Path(".tiedae-0123456789abcdef").write_text, "half"),
        may_change=("out.npy", ".tiedae-*"),
    )


LONG_NAMES = ("a" * 300, f"{'a' * 300}.npy", "/".join(["a" * 200] * 30))
NAMING = (  # every command and option that takes a path
    "train {}",
    "train --config {}",
    "train --run-dir {}",
    "train --resume {}",
    "train --set data.dataset={}",
    "train --set output.runs={}",
    "train --set training.init_from={}",
    "eval {}",
    "inspect {}",
    "report {}",
    "export {} -o x.onnx",
    f"score {RUN} {{}}",
    f"encode {RUN} {{}}",
    f"decode {RUN} {{}}",
    f"reconstruct {RUN} {{}}",
    f"compare {RUN} {{}}",
    f"score {RUN} x.npy -o {{}}",
    f"score {RUN} x.npy --contact-sheet {{}}",
    f"encode {RUN} x.npy -o {{}}",
    f"reconstruct {RUN} -o {{}}",
    f"inspect {RUN} --features {{}}",
    f"inspect {RUN} --codes {{}}",
)


def limits() -> Iterator[Attack]:
    """Yield attacks by names, numbers and nesting beyond all limits."""
    for words in NAMING:
        for name in LONG_NAMES:
            code = 1 if "--run-dir" in words or ("output.runs" in words and len(name) < 4096) else 2
            yield Attack("limits", f"{words.format(name)[:60]} ...", tuple(words.format(name).split()), code=code)
    yield Attack("limits", "half of a surrogate pair as a key", ("train", "s.jsonl"), prepare=surrogate, says="not Unicode")
    yield Attack("limits", "a rate of 1e-320", ("score", RUN, "x.npy", "--false-alarms", "1e-320"), says="too few")
    yield Attack(
        "limits", "a run name of 10 MB", ("inspect", "forged.safetensors"), code=0, prepare=partial(forge, run="a" * 10**7)
    )


def surrogate() -> None:
    """Write rows with a key that UTF-8 cannot hold."""
    Path("s.jsonl").write_text("".join(json.dumps({"\ud800": i, "b": i % 7}) + "\n" for i in range(50)))


def memory() -> Iterator[Attack]:
    """Yield attacks by a few bytes that unpack to many."""
    for make in (long_line, long_row, many_labels):
        name = make.__doc__.split()[-1].rstrip(".") if make.__doc__ else ""
        yield Attack("memory", f"train on {name}", ("train", name), prepare=make, says=name)


def long_line() -> None:
    """Write a line of 200 MB into long.jsonl."""
    Path("long.jsonl").write_bytes(b"[1, 2]\n" * 20_000 + b"[" + b"1, " * 70_000_000)


def long_row() -> None:
    """Write a line of 200 MB into long.txt."""
    Path("long.txt").write_bytes(b"1 2\n" * 20_000 + b"1 " * 100_000_000)


def many_labels() -> None:
    """Write 800 MB of labels in 800 KB into labels.npz."""
    with zipfile.ZipFile("labels.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, count, columns in (("x", 100, (4,)), ("y", 100_000_000, ())):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (count, *columns)})
                for _ in range(max(1, count // 1_000_000)):
                    file.write(bytes(8 * min(count * 4, 1_000_000)))


def bombs() -> Iterator[Attack]:
    """Small files that unpack to more than fits, in the formats that count for themselves."""
    yield Attack(
        "bombs", "a cell of 500 MB of text", ("train", "x.parquet", "-q"), says="the limit is 64 MB", prepare=long_cell
    )
    yield Attack(
        "bombs", "one text of 4 MB, 20,000 times", ("train", "x.parquet", "-q"), says="unpacked", prepare=repeated_text
    )
    yield Attack("bombs", "a tensor beyond its file", ("train", "x.pt", "-q"), says="damaged", prepare=torn_tensor)
    yield Attack("bombs", "an object in a tensor file", ("train", "x.pt", "-q"), says="never unpickled", prepare=trapped_tensor)


def long_cell() -> None:
    """Write a text of 500 MB into x.parquet."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"a": ["x" * 500_000_000, "y"], "b": [1.0, 2.0]})
    pyarrow.parquet.write_table(table, "x.parquet", compression="zstd")


def repeated_text() -> None:
    """Write 80 GB of text in 10 KB into x.parquet."""
    import pyarrow
    import pyarrow.parquet

    words = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(20_000, np.int32)), pyarrow.array(["x" * 4_000_000]))
    pyarrow.parquet.write_table(pyarrow.table({"a": words, "b": np.arange(20_000.0)}), "x.parquet", compression="zstd")


def torn_tensor() -> None:
    """Write a tensor with too few values into x.pt."""
    torch.save(torch.zeros(40, 6), "x.pt")
    with zipfile.ZipFile("x.pt") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile("x.pt", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:100] if "/data/" in name else content)


def trapped_tensor() -> None:
    """Write what would run a command when it is unpickled into x.pt."""
    torch.save(partial(os.system, "touch trapped"), "x.pt")


def machine() -> Iterator[Attack]:
    """Yield attacks by the settings of other programs in the working folder."""
    train = ("train", "--set", "training.epochs=1", "--set", "model.hidden_sizes=[4]")
    settings: dict[str, Callable[[], object]] = {
        "usetex": partial(Path("matplotlibrc").write_text, "text.usetex: True\nsavefig.dpi: 2000\n"),
        "garbage": partial(Path("matplotlibrc").write_bytes, bytes(range(256))),
        "a pipe": partial(os.mkfifo, "matplotlibrc"),
    }
    for name, prepare in settings.items():
        yield Attack("machine", f"{name} as matplotlibrc", train, code=0, prepare=prepare, may_change=("runs/*/*",))


def kept() -> Iterator[Attack]:
    """Yield attacks on special files and modes of outputs."""
    for name in ("/dev/null", "/dev/stdout", "/dev/fd/1"):
        for words in ("score {run} x.npy --format csv -o", "encode {run} x.npy --format csv -o", "inspect {run} --features"):
            command = (*words.format(run=RUN).split(), name)
            yield Attack("kept", f"{command[0]} to {name}", command, code=0)


KINDS = {
    "outputs": outputs,
    "text": text,
    "opened": opened,
    "believed": believed,
    "stops": stops,
    "limits": limits,
    "memory": memory,
    "bombs": bombs,
    "machine": machine,
    "kept": kept,
    **FILE_KINDS,
    **PROCESS_KINDS,
    **INPUT_KINDS,
}


def main() -> None:
    """Run the table and print what was held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, help="only these")
    parser.add_argument("--match", default="", metavar="TEXT", help="only those with this text in their names")
    parser.add_argument("--json", action="store_true", help="one JSON object an attack on stdout")
    parser.add_argument("--list", action="store_true", help="print the table and run nothing")
    options = parser.parse_args()
    attacks = [attack for kind, make in KINDS.items() if options.kind in (None, kind) for attack in make()]
    attacks = [attack for attack in attacks if options.match in attack.what]
    if options.list:
        print("\n".join(f"{attack.kind:9} {attack.what}" for attack in attacks).encode(errors="backslashreplace").decode())
        return
    tally: Counter[tuple[str, bool]] = Counter()
    name = tempfile.mkdtemp()  # a TemporaryDirectory would be removed by the first forked process that ends
    try:
        pattern = prepare_pattern(Path(name))
        for number, attack in enumerate(attacks):
            folder = Path(name) / str(number)
            shutil.copytree(pattern, folder)
            problems = carry_out(attack, folder)
            shutil.rmtree(folder)
            tally[attack.kind, not problems] += 1
            if options.json:
                print(
                    json.dumps({"kind": attack.kind, "attack": attack.what, "held": not problems, "problems": problems}),
                    flush=True,
                )
            elif problems:
                print(f"FAILED  {attack.kind}: {attack.what!a}: {'; '.join(problems)!a}", flush=True)
    finally:
        os.chdir("/")
        shutil.rmtree(name)
    for kind in KINDS:
        if tally[kind, True] + tally[kind, False]:
            print(f"{kind:9} {tally[kind, True]:4} held  {tally[kind, False]:3} failed", file=sys.stderr)
    failed = sum(count for (_, held), count in tally.items() if not held)
    print(f"{len(attacks)} attacks: {len(attacks) - failed} held, {failed} failed", file=sys.stderr)
    sys.exit(failed > 0)


def prepare_pattern(parent: Path) -> Path:
    """Make the folder that each attack gets a copy of."""
    folder = parent / "pattern"
    folder.mkdir()
    trained = Attack(
        "", "", ("train", "-q", "--set", "training.epochs=2", "--set", "model.hidden_sizes=[16, 4]"), code=0, may_change=("*",)
    )
    problems = carry_out(trained, folder)
    if problems:
        sys.exit(f"the run to attack cannot be trained: {problems}")
    shutil.rmtree(folder / "cache", ignore_errors=True)
    generator = np.random.default_rng(0)
    np.save(folder / "x.npy", generator.integers(0, 256, (5, 8, 8), dtype=np.uint8))
    np.save(folder / "codes.npy", generator.normal(size=(3, 4)).astype(np.float32))
    (folder / "photos").mkdir()
    for index in range(12):
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / "photos" / f"{index}.png")
    shutil.copy(folder / RUN / "best.safetensors", folder / "copy.safetensors")
    (folder / "long.yaml").write_text("training: {epochs: 100000, batch_size: 10}\nmodel: {hidden_sizes: [16, 4]}\n")
    return folder


def carry_out(attack: Attack, folder: Path) -> list[str]:
    """Run one attack in its folder and return what is wrong with the answer."""
    os.chdir(folder)
    attack.prepare()
    before = contents()
    child = os.fork()
    if not child:
        try:
            be_attacked(attack, folder)
        except BaseException as error:  # this process must never continue as the attacker
            os.write(2, f"Traceback: {error!r}".encode())
        os._exit(99)
    status, seconds, memory = wait_for(attack, child)
    out, err = ((folder.parent / name).read_bytes() for name in ("out", "err"))
    problems = list(wrong_answers(attack, status, out, err))
    os.chdir(folder)
    problems += attack.after(out.decode(errors="replace"), err.decode(errors="replace"))
    if seconds > SLOWEST:
        problems.append("it hangs")
    if memory > MOST_MEMORY:
        problems.append(f"it takes {memory} MB")
    after = contents()
    for name in sorted(before.keys() | after.keys()):
        allowed = any(Path(name).match(glob) for glob in attack.may_change) or name.startswith("cache")
        if before.get(name) != after.get(name) and not allowed:
            problems.append(
                f"{name} was {'changed' if name in before and name in after else 'made' if name in after else 'removed'}"
            )
    os.chdir(folder.parent)
    return problems


def contents() -> dict[str, object]:
    """Return what each entry of the working folder is and holds; a hole is not read."""
    found: dict[str, object] = {}
    for path in Path().rglob("*"):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = path.stat().st_size if path.stat().st_size > 1 << 30 else path.read_bytes()
        elif not path.is_dir() or path.name == "theirs":
            found[str(path)] = None
    return found


def be_attacked(attack: Attack, folder: Path) -> None:
    """Be the process that runs the command."""
    for sent in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        usual = signal.default_int_handler if sent == signal.SIGINT else signal.SIG_DFL
        signal.signal(sent, signal.SIG_IGN if sent in attack.ignored else usual)
    os.environ.update(XDG_CACHE_HOME=str(folder / "cache"), TIEDAE_DATA=str(folder / "cache"), no_proxy="", COLUMNS="100")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        os.environ[name] = "http://127.0.0.1:9"  # nobody is there: nothing is downloaded
    for number, name, flags in ((1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        os.dup2(os.open(folder.parent / name, flags | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(attack.stdin or os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, errors="backslashreplace")
    if attack.closed is not None:
        os.close(attack.closed)
        setattr(sys, ("stdin", "stdout", "stderr")[attack.closed], None)
    sys.argv = ["tiedae", *attack.arguments]
    attack.enter()
    try:
        tiedae()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(0)


def wait_for(attack: Attack, child: int) -> tuple[int, float, int]:
    """Wait for a process, send it its signals when it is time.

    Returns:
        its exit code, its processor time in s (infinite if it had to be killed), and the memory that it took more, MB.
    """
    base = int(
        next(line for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines() if line.startswith("VmRSS")).split()[
            1
        ]
    )
    began, pipe, meanwhile, hangs = time.monotonic(), None, attack.meanwhile, False
    signals: list[int] = list(attack.stop[1]) if attack.stop else []
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if Path("endless").is_fifo():
            pipe = feed(pipe)
        if attack.stop and signals and any(Path().glob(attack.stop[0])):
            os.kill(child, signals.pop(0))
            time.sleep(0.3)
        if meanwhile is not None and any(Path().glob(meanwhile[0])):
            meanwhile[1]()
            meanwhile = None
        if time.monotonic() - began > LONGEST:
            hangs = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    if pipe is not None:
        os.close(pipe)
    code = os.waitstatus_to_exitcode(status)
    seconds = float("inf") if hangs else usage.ru_utime + usage.ru_stime
    return code, seconds, max(0, usage.ru_maxrss - base) >> 10


def feed(pipe: int | None) -> int | None:
    """Write rows into the pipe, as many as it takes, as soon as somebody reads."""
    row = (",".join(["3"] * 64) + "\n").encode()
    try:
        pipe = os.open("endless", os.O_WRONLY | os.O_NONBLOCK) if pipe is None else pipe
        for _ in range(400):
            os.write(pipe, row * 31)  # below PIPE_BUF: whole or not at all
    except OSError:
        pass
    return pipe


def wrong_answers(attack: Attack, code: int, out: bytes, err: bytes) -> Iterator[str]:
    """Yield what is wrong with an exit code and what was said."""
    said = err.decode(errors="replace")
    if code not in (attack.code if isinstance(attack.code, tuple) else (attack.code,)):
        yield f"exit code {code}, not {attack.code} ({said[-200:]})"
    if code < 0:
        return
    for word in ("Traceback", "Warning", "findfont", "unexpected"):
        if word in said:
            yield f"{word} in {said[-300:]}"
    if "\nFORGED" in said or said.startswith("FORGED"):
        yield f"a line of a message is faked: {said[-300:]}"
    if attack.says not in said:
        yield f"it does not say {attack.says}: {said[-200:]}"
    binary = out.startswith((b"\x93NUMPY", b"\x89PNG"))
    if COMMANDING.search(err) or (COMMANDING.search(out) and not binary):
        yield "it writes a character that commands a terminal"


if __name__ == "__main__":
    main()
