"""A small PTX machine: runs what Triton's compiler made for a GPU, where there is no GPU.

All threads of a block take each instruction together, as arrays; branches must be uniform. Memory
is an array of bytes at `BASE`. What the machine doesn't know, or a GPU would fault on (addresses
out of bounds or misaligned), raises. Semantics: NVIDIA, "PTX ISA", chapter 9.
"""

from __future__ import annotations

import re

import numpy as np

BASE = 1 << 40
SHARED = 1 << 16
KINDS = {"s": "i", "u": "u", "b": "u", "f": "f"}
COMPARE = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
PLAIN = {
    "add": np.add,
    "sub": np.subtract,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "min": np.minimum,
    "max": np.maximum,
    "shl": np.left_shift,
    "shr": np.right_shift,
}


def dtype_of(name):
    """The NumPy type of a PTX type such as u32, s64, b16, f32 or pred."""
    return np.dtype(bool) if name == "pred" else np.dtype(f"{KINDS[name[0]]}{int(name[1:]) // 8}")


def bfloat16(values):
    """Float32 to the bits of the nearest bfloat16, ties to even, by the format's definition."""
    wide = values.view(np.uint32).astype(np.uint64)
    kept, rest = wide >> np.uint64(16), wide & np.uint64(0xFFFF)
    up = (rest > 0x8000) | ((rest == 0x8000) & (kept & np.uint64(1) == 1))
    return (kept + up).astype(np.uint16)


class Kernel:
    """A kernel's assembly, parsed: `run` executes one block of it."""

    def __init__(self, text, threads):
        self.threads = threads
        self.parameters = re.findall(r"\.param \.\w+ (?:\.ptr[^_]*)?(\w+_param_\d+)", text)
        self.code, self.labels = [], {}
        body = text[text.index("\n{") + 2 : text.index("\n}")]
        body = re.sub(r"//.*|^\s*\.loc\s.*$", "", body, flags=re.MULTILINE)
        for statement in re.sub(r"(\$\w+):", r"\1:;", body).split(";"):
            line = " ".join(statement.replace("\t", " ").split()).strip("{} ")
            if not line or line.startswith("."):
                continue
            if line.endswith(":"):
                self.labels[line[:-1]] = len(self.code)
                continue
            unless, guard, operation, rest = re.fullmatch(
                r"(?:@(!?)(%p\d+) )?([a-z][\w.:]*) ?(.*)", line
            ).groups()
            operands = re.findall(r"\{[^}]*\}?|\[[^\]]*\]|[^,{}\[\]\s]+", rest)
            self.code.append((unless, guard, operation.split("."), operands))

    def run(self, block, arguments, memory, written):
        """Run block number `block`; count in `written` how often each byte of memory is set."""
        self.block, self.memory, self.written = block, memory, written
        self.arguments = dict(zip(self.parameters, arguments, strict=False))
        self.registers, self.shared = {}, np.zeros(SHARED, np.uint8)
        at = 0
        with np.errstate(all="ignore"):
            while True:
                unless, guard, operation, operands = self.code[at]
                at += 1
                active = np.ones(self.threads, bool)
                if guard:
                    active = ~self.registers[guard] if unless else self.registers[guard]
                if operation[0] == "bra":
                    assert active.all() or not active.any(), "a branch that divides the threads"
                    at = self.labels[operands[0]] if active.all() else at
                elif operation[0] == "ret":
                    return
                elif operation[:2] in (["st", "global"], ["st", "shared"]):
                    self.store(operation, operands, active)
                elif operation[0] != "bar":  # threads keep step
                    assert active.all()
                    self.step(operation, operands)

    def value(self, operand, kind):
        """The operand's value in each thread."""
        kind = np.dtype(kind)
        if operand in self.registers:
            found = self.registers[operand]
            assert found.itemsize == kind.itemsize, operand
            return found.view(kind)
        if operand == "%tid.x":
            return np.arange(self.threads, dtype=np.uint32)
        if operand in ("%ctaid.x", "global_smem"):
            number = self.block if operand == "%ctaid.x" else 0
        else:
            number = int(operand.replace("0f", "0x"), 0)
        bits = np.array(number % (1 << 8 * kind.itemsize), f"u{kind.itemsize}")
        return np.full(self.threads, bits).view(kind)

    def set(self, register, value):
        value = np.asarray(value)
        self.registers[register] = (
            value if value.dtype == bool else value.view(f"u{value.itemsize}")
        )

    def addresses(self, operand):
        place, _, offset = operand.strip("[] ").partition("+")
        return self.value(place.strip(), np.uint64 if place[:3] == "%rd" else np.uint32).astype(
            np.int64
        ) + int(offset or 0)

    def store(self, operation, operands, active):
        size = int(operation[-1][1:]) // 8
        names = re.findall(r"%\w+", operands[1])
        places = self.addresses(operands[0])
        assert not (places[active] % (size * len(names))).any(), "a misaligned store"
        memory = self.memory if operation[1] == "global" else self.shared
        places = places[active] - (BASE if operation[1] == "global" else 0)
        for i, name in enumerate(names):
            data = self.value(name, f"u{size}")[active]
            where = places[:, None] + np.arange(i * size, (i + 1) * size)
            assert ((where >= 0) & (where < len(memory))).all(), "a store out of bounds"
            memory[where] = data.view(np.uint8).reshape(-1, size)
            if operation[1] == "global":
                np.add.at(self.written, where, 1)

    def step(self, operation, operands):
        """Take one instruction that changes registers."""
        name, kind = operation[0], operation[-1]
        to = operands[0]
        if operation[:2] == ["ld", "param"]:
            number = self.arguments[operands[1].strip("[]")]
            if isinstance(number, float):
                number = int(np.float64(number).view(np.uint64))
            narrow = np.array(number % (1 << int(kind[1:])), f"u{int(kind[1:]) // 8}")
            wide = narrow.view(dtype_of(kind)).astype("i8" if kind[0] == "s" else "u8")
            self.set(to, np.full(self.threads, wide if to[:3] == "%rd" else narrow))
        elif operation[:2] == ["ld", "shared"]:
            size = int(kind[1:]) // 8
            for i, register in enumerate(re.findall(r"%\w+", to)):
                where = self.addresses(operands[1])[:, None] + np.arange(i * size, (i + 1) * size)
                self.set(register, self.shared[where].view(f"u{size}")[:, 0])
        elif name == "mov":
            self.move(dtype_of(kind), *operands)
        elif name == "cvt":
            self.set(to, self.convert(operation, operands))
        elif name == "selp":
            chosen = [self.value(operand, dtype_of(kind)) for operand in operands[1:3]]
            self.set(to, np.where(self.registers[operands[3]], *chosen))
        elif name == "setp":
            compared = [self.value(operand, dtype_of(kind)) for operand in operands[1:]]
            self.set(to, COMPARE[operation[1]](*compared))
        else:
            self.set(to, self.arithmetic(operation, operands[1:]))

    def move(self, kind, to, source):
        parts = re.findall(r"[%\w]+", to if to.startswith("{") else source)
        width = 8 * kind.itemsize // len(parts)
        if to.startswith("{"):  # take apart
            whole = self.value(source, kind)
            for i, part in enumerate(parts):
                self.set(part, (whole >> kind.type(i * width)).astype(f"u{width // 8}"))
        elif source.startswith("{"):  # put together
            pieces = [self.value(part, f"u{width // 8}").astype(kind) for part in parts]
            self.set(to, sum(piece << kind.type(i * width) for i, piece in enumerate(pieces)))
        else:
            self.set(to, self.value(source, kind))

    def convert(self, operation, operands):
        target, source = operation[-2:]
        if "f" in target:
            assert operation[1] == "rn", operation
        values = [self.value(operand, dtype_of(source)) for operand in operands[1:]]
        if target.endswith("x2"):
            narrow = bfloat16 if target == "bf16x2" else lambda v: v.astype(np.float16)
            high, low = (narrow(v).view(np.uint16).astype(np.uint32) for v in values)
            return high << np.uint32(16) | low
        return bfloat16(*values) if target == "bf16" else values[0].astype(dtype_of(target))

    def arithmetic(self, operation, operands):
        name, kind = operation[0], dtype_of(operation[-1])
        if name in ("shl", "shr"):
            count = self.value(operands[1], np.uint32)
            assert (count < 8 * kind.itemsize).all()
            return PLAIN[name](self.value(operands[0], kind), count.astype(kind))
        if name in ("mul", "mad") and kind.kind != "f":
            wide = np.dtype(f"{kind.kind}8")
            one, other = (self.value(operand, kind) for operand in operands[:2])
            if operation[1] == "lo":
                product = one * other
            else:
                assert kind.itemsize == 4
                product = one.astype(wide) * other.astype(wide)
            if operation[1] == "hi":
                product = (product >> wide.type(32)).astype(kind)
            return product + self.value(operands[2], product.dtype) if name == "mad" else product
        values = [self.value(operand, kind) for operand in operands]
        if kind.kind == "f":
            assert operation[1] == "rn", operation  # or the compiler of the next stage may fuse it
            return {"add": np.add, "mul": np.multiply}[name](*values)
        if name == "bfe":
            width, (place, length) = (
                8 * kind.itemsize,
                (int(operand, 0) for operand in operands[1:]),
            )
            shifted = values[0] << kind.type(width - place - length)
            return shifted >> kind.type(width - length)
        if name in ("div", "rem"):
            quotient = np.trunc(values[0].astype(np.longdouble) / values[1]).astype(kind)
            return quotient if name == "div" else values[0] - quotient * values[1]
        return PLAIN[name](*values)
