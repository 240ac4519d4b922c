"""Proves by bit-vectors, of each function of `src/arith.h` as the file has it and for all arguments that the
function allows: no step overflows its type, shifts by too much, divides by zero or loses bits in a conversion, and
the result is the exact one, rounded once, half to even.

    arith_proofs.py CC ARITH_H [FUNCTION...]    prints each function and how many steps were proved
"""

import subprocess
import sys

from pycparser import c_ast, c_parser
from z3 import And, BitVec, BitVecVal, BoolRef, BoolVal, Extract, If, Implies, Not, Or, SignExt, Solver, UDiv, URem, ZeroExt, is_bv_value, sat, simplify, unsat

WIDTHS = {"int": 32, "int8_t": 8, "int32_t": 32, "int64_t": 64}
# Every exact result of the contracts below fits.
EXACT = 128


def extended(x, width=EXACT):
    return SignExt(width - x.size(), x) if x.size() < width else x


def fits(x, width):
    """Whether a variable of `width` bits has the value of `x`."""
    return BoolVal(True) if x.size() <= width else extended(Extract(width - 1, 0, x), x.size()) == x


def between(lo, x, hi):
    return And(lo <= x, x <= hi)


def rounded(floor, is_whole, shift):
    """round_half_even((floor + rest) / 2^shift), where 0 <= rest < 1 is 0 if `is_whole`: by the definition."""
    floor, shift = extended(floor), extended(shift)
    result = floor >> shift
    low, half = floor - (result << shift), BitVecVal(1, EXACT) << (shift - 1)
    up = Or(low > half, And(low == half, Or(Not(is_whole), result & 1 == 1)))
    return If(up, result + 1, result)


def is_multiplier(m, longest=62):
    return And(between(1 << 23, m["significand"], (1 << 24) - 1), between(1, m["shift"], longest))


def is_rescaled(result, acc, m):
    product = Product(extended(acc, 64), extended(m["significand"], 64))
    return extended(result) == rounded(product.value, BoolVal(True), m["shift"])


def is_rescaled_wide(result, acc, m):
    """The product is also that of the high bits, shifted, and that of the low ones."""
    factor = extended(m["significand"], 64)
    high, low = Product(acc >> 16, factor), Product(acc & 0xFFFF, factor)
    product = (extended(high.value) << 16) + extended(low.value)
    parts = And(acc == (acc >> 16 << 16) + (acc & 0xFFFF), extended(result) == rounded(product, BoolVal(True), m["shift"]))
    return If(m["shift"] < 17, is_rescaled(result, acc, m), parts)


def is_half(result, pair, i):
    """Of the unsigned byte, and 8 less."""
    byte = ZeroExt(24, pair)
    return result + 8 == If(i == 0, URem(byte, BitVecVal(16, 32)), UDiv(byte, BitVecVal(16, 32)))


def is_clamped(result, q, lo, hi):
    result, q, lo, hi = map(extended, (result, q, lo, hi))
    return result == If(q < lo, lo, If(q > hi, hi, q))


class Division:
    """What C says of n / d and n % d: n = quotient * d + rest, where rest is smaller than d and not against n."""

    known = {}

    def __new__(cls, n, d):
        key = n.sexpr(), d.sexpr()
        self = cls.known.get(key)
        if self is None:
            self = cls.known[key] = super().__new__(cls)
            self.quotient, self.rest = BitVec("quotient", n.size()), BitVec("rest", n.size())
            self.fact = And(Implies(n >= 0, between(0, self.rest, d - 1)),
                            Implies(n <= 0, between(1 - d, self.rest, 0)))
        return self


class Product:
    """a * b as a symbol between known ends, which a solver of bits finds hard to derive."""

    known = {}

    def __new__(cls, a, b):
        key = simplify(a).sexpr(), simplify(b).sexpr()
        self = cls.known.get(key)
        if self is None:
            self = cls.known[key] = super().__new__(cls)
            self.value, self.fact = BitVec(f"product{len(cls.known)}", a.size()), BoolVal(True)
        return self

    def within(self, ends, here):
        """Whether all of `ends` fit: `here` it is between them."""
        last = 1 << (self.value.size() - 1)
        do_fit = -last <= min(ends) and max(ends) < last
        if do_fit:
            self.fact = And(self.fact, Implies(here, between(min(ends), self.value, max(ends))))
        return BoolVal(do_fit)


def is_ratio(result, n, d, shift):
    at = Division(n, d)
    floor = If(at.rest < 0, at.quotient - 1, at.quotient)
    return extended(result) == rounded(floor, at.rest == 0, shift)


# What each function allows, and what its result has to be.
CONTRACTS = {
    "half_of": (lambda pair, i: between(0, i, 1), is_half),
    "round_shift": (
        lambda value, shift: And(between(1, shift, 63), value > -(1 << 62), value < 1 << 62),
        lambda result, value, shift: extended(result) == rounded(value, BoolVal(True), shift)),
    "round_ratio": (
        lambda n, d, shift: And(d > 0, between(1, shift, 62), Division(n, d).quotient > -(1 << 60),
                                Division(n, d).quotient < 1 << 60),
        is_ratio),
    "rescale": (lambda acc, m: is_multiplier(m), is_rescaled),
    "rescale_wide": (
        lambda acc, m: And(is_multiplier(m, 78), Or(between(1 - (1 << 38), acc, (1 << 38) - 1),
                                                And(m["shift"] >= 17, between(1 - (1 << 53), acc, (1 << 53) - 1)))),
        is_rescaled_wide),
    "clamp": (lambda q, lo, hi: lo <= hi, is_clamped),
}
# Its indices are those of arrays: below their lengths, which the generator keeps within 31 bits.
WITHOUT = {"strided_index"}


class Run:
    """A function, run on symbols."""

    def __init__(self, functions, name, arguments, allowed):
        self.allowed = allowed
        tree = functions[name]
        self.functions, self.steps = functions, []
        self.width = width_of(tree.decl.type.type)
        self.names = {p.name: a for p, a in zip(tree.decl.type.args.params, arguments)}
        self.path, self.returned, self.result = BoolVal(True), BoolVal(False), BitVecVal(0, self.width)
        self.statement(tree.body)

    def needs(self, tree, what, holds):
        self.steps.append((f"line {tree.coord.line}: {what}", Implies(And(self.path, Not(self.returned)), holds)))

    def statement(self, s):
        match s:
            case c_ast.Compound():
                for item in s.block_items:
                    self.statement(item)
            case c_ast.DeclList() | c_ast.Decl():
                for d in getattr(s, "decls", [s]):
                    self.names[d.name] = self.converted(self.value(d.init), width_of(d.type), d)
            case c_ast.Assignment():
                name, value = s.lvalue.name, self.value(s.rvalue)
                if s.op != "=":
                    value = self.binary(s, s.op[:-1], self.names[name], value)
                value = self.converted(value, self.names[name].size(), s)
                self.names[name] = If(self.path, value, self.names[name])
            case c_ast.If(iffalse=None):
                before = self.path
                self.path = And(before, truth(self.value(s.cond)))
                self.statement(s.iftrue)
                self.path = before
            case c_ast.Return():
                value = self.converted(self.value(s.expr), self.width, s)
                self.result = If(And(self.path, Not(self.returned)), value, self.result)
                self.returned = Or(self.returned, self.path)
            case _:
                raise SystemExit(f"{s.coord}: a {type(s).__name__} is not known here")

    def converted(self, x, width, tree):
        x = number(x)
        self.needs(tree, "a conversion", fits(x, width))
        return extended(x, width) if x.size() <= width else Extract(width - 1, 0, x)

    def value(self, e):
        match e:
            case c_ast.Constant(type="int"):
                return BitVecVal(int(e.value, 0), 32)
            case c_ast.ID():
                return self.names[e.name]
            case c_ast.StructRef(type="."):
                return self.names[e.name.name][e.field.name]
            case c_ast.Cast():
                return self.converted(self.value(e.expr), width_of(e.to_type.type), e)
            case c_ast.BinaryOp():
                return self.binary(e, e.op, self.value(e.left), self.value(e.right))
            case c_ast.TernaryOp():
                condition, before = truth(self.value(e.cond)), self.path
                self.path = And(before, condition)
                yes = number(self.value(e.iftrue))
                self.path = And(before, Not(condition))
                no = number(self.value(e.iffalse))
                self.path = before
                width = max(yes.size(), no.size())
                return If(condition, extended(yes, width), extended(no, width))
            case c_ast.FuncCall():
                arguments = [self.value(a) for a in e.args.exprs]
                params = self.functions[e.name.name].decl.type.args.params
                arguments = [a if isinstance(a, dict) else self.converted(a, width_of(p.type), e)
                             for a, p in zip(arguments, params)]
                allowed = CONTRACTS[e.name.name][0](*arguments)
                self.needs(e, f"what {e.name.name} allows", allowed)
                return Run(self.functions, e.name.name, arguments, And(self.allowed, self.path)).result
        raise SystemExit(f"{e.coord}: a {type(e).__name__} is not known here")

    def binary(self, tree, op, a, b):
        a, b = promoted(a), promoted(b)
        if op in ("<<", ">>"):
            self.needs(tree, "a shift", between(0, b, a.size() - 1))
            count = extended(b, a.size()) if b.size() <= a.size() else Extract(a.size() - 1, 0, b)
            if op == ">>":
                return a >> count
            self.needs(tree, "a shift of a number below 0, or out of its type",
                       And(a >= 0, extended(a) << extended(count) == extended(a << count)))
            return a << count
        width = max(a.size(), b.size())
        a, b = extended(a, width), extended(b, width)
        comparisons = {"==": lambda: a == b, "!=": lambda: a != b, "<": lambda: a < b, ">": lambda: a > b,
                       "<=": lambda: a <= b, ">=": lambda: a >= b, "&": lambda: a & b}
        if op in comparisons:
            return comparisons[op]()
        if op in "/%":
            self.needs(tree, "a division", And(b != 0, Or(b != -1, a != BitVecVal(1 << (width - 1), width))))
            division = Division(a, b)
            return division.quotient if op == "/" else division.rest
        if op == "*" and not any(is_bv_value(simplify(x)) for x in (a, b)):
            product = Product(a, b)
            ends = [x * y for x in self.ends(a) for y in self.ends(b)]
            self.needs(tree, "an overflow of *", product.within(ends, self.here()))
            return product.value
        exact = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}[op]
        whole = exact(extended(a, 2 * width), extended(b, 2 * width))
        self.needs(tree, f"an overflow of {op}", fits(whole, width))
        return exact(a, b)

    def ends(self, x):
        """The lowest and the highest value that `x` has here."""
        return ~self.highest(~x), self.highest(x)

    def highest(self, x):
        """By bisection."""
        solver = given([self.here()])
        lo, hi = -1 << (x.size() - 1), (1 << (x.size() - 1)) - 1
        while lo < hi:
            middle = (lo + hi) >> 1
            solver.push()
            solver.add(x > middle)
            lo, hi = (lo, middle) if solver.check() == unsat else (middle + 1, hi)
            solver.pop()
        return lo

    def here(self):
        return And(self.allowed, self.path, Not(self.returned))


def given(facts):
    solver = Solver()
    solver.set("timeout", 60_000)
    solver.add(*facts, *[d.fact for d in [*Division.known.values(), *Product.known.values()]])
    return solver


def disproof(facts, holds):
    """Arguments for which `holds` is false; `None` if there are none."""
    solver = given([*facts, Not(holds)])
    answer = solver.check()
    return None if answer == unsat else solver.model() if answer == sat else solver.reason_unknown()


def number(x):
    return If(x, BitVecVal(1, 32), BitVecVal(0, 32)) if isinstance(x, BoolRef) else x


def promoted(x):
    return extended(number(x), 32)


def truth(x):
    return x if isinstance(x, BoolRef) else x != 0


def width_of(declaration):
    return WIDTHS[declaration.type.names[-1]]


def symbol(parameter):
    names = parameter.type.type
    if isinstance(names, c_ast.Struct):
        return {field: BitVec(field, 32) for field in ("significand", "shift")}
    return BitVec(parameter.name, width_of(parameter.type))


def main(cc, header, *names):
    source = "".join("\n" if line.startswith("#include") else line for line in open(header, encoding="ascii"))
    types = "typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long long int64_t;\n"
    text = subprocess.run([cc, "-E", "-DCHAR_BIT=8", "-"], input=source, capture_output=True, text=True, check=True).stdout
    tree = c_parser.CParser().parse(types + text, "arith.h")
    functions = {f.decl.name: f for f in tree.ext if isinstance(f, c_ast.FuncDef)}
    missing = functions.keys() ^ (CONTRACTS.keys() | WITHOUT)
    if missing:
        raise SystemExit(f"without a contract, or without a function: {sorted(missing)}")
    for name in names or CONTRACTS:
        allows, gives = CONTRACTS[name]
        arguments = [symbol(p) for p in functions[name].decl.type.args.params]
        allowed = allows(*arguments)
        run = Run(functions, name, arguments, allowed)
        steps = [(what, [], holds) for what, holds in [*run.steps, ("a path without a result", run.returned)]]
        result = gives(run.result, *arguments)
        # A solver knows more of a shift by a number.
        shifts = [[BitVec("shift", 32) == k] for k in range(64)] if "shift" in allowed.sexpr() else [[]]
        steps += [("the result", shift, result) for shift in shifts]
        for what, facts, holds in steps:
            if (model := disproof([allowed, *facts], holds)) is not None:
                raise SystemExit(f"{name}: {what}: {model}")
        print(name, len(steps), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
