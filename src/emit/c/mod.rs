//! C99: `net.h`, `net.c`, the code of the operators that this network uses, a Makefile, and a program with
//! test vectors.

use std::fmt::Write;
use std::path::Path;

use super::{
    Build, File, Memory, Operators, Target, TestVector, code_width, comment, describe, emitters,
    fill, fnv1a, is_nothing, list, operators, total,
};
use crate::error::Result;
use crate::graph::ValueId;
use crate::lower::IntGraph;
use crate::ops::IntOp;
use crate::ops::language::c::{Element, Needs, Node};
use crate::ops::language::{C, Emit, Source, ToValue, Value};
use crate::ops::product::is_wide;
use crate::quant::Width;

operators!(
    C: Add, ArgMax, AveragePool, Clip, Concat, Conv, ConvTranspose, MatMul, Linear, MaxPool, Mean, Mul, Pad,
    PRelu, Reshape, Resize, Slice, Softmax, Transpose, Unary,
);

impl Target for C {
    fn name(&self) -> &'static str {
        "c"
    }

    fn about(&self) -> &'static str {
        "C99"
    }

    fn takes(&self, op: &IntOp) -> bool {
        Self::find(op).is_some()
    }

    fn files(&self, graph: &IntGraph, name: &str, vectors: &[TestVector]) -> Result<Vec<File>> {
        super::check(graph, name)?;
        let emitter = Emitter::new(graph, name, emitters(graph, self)?);
        let mut files = vec![
            (format!("{name}.h"), emitter.header()),
            (format!("{name}.c"), emitter.source()),
            ("arith.h".into(), include_str!("../../arith.h").into()),
            ("Makefile".into(), emitter.fill(include_str!("Makefile.in"), &[])),
        ];
        let sources = emitter.sources();
        files.extend(sources.into_iter().map(|source| (source.file.into(), source.text.into())));
        if !vectors.is_empty() {
            files.push(("main.c".into(), emitter.fill(include_str!("main.c.in"), &[])));
            files.push(("vectors.h".into(), emitter.vectors(vectors)));
        }
        Ok(files)
    }

    fn runner(&self, _: &IntGraph, name: &str) -> File {
        ("run.c".into(), named(include_str!("run.c.in"), name, &[]))
    }

    fn memory(&self, graph: &IntGraph) -> Memory {
        memory(graph, &needs(graph))
    }

    fn builds(&self) -> &'static [Build] {
        &[CHECKED, PORTABLE_DSP]
    }

    fn test(&self, folder: &Path) -> String {
        format!("make -C {} test", folder.display())
    }
}

/// With assertions on all bounds.
const CHECKED: Build = Build {
    name: "c",
    tool: ("CC", "cc"),
    install: "a C compiler (Debian: apt install gcc), or set CC",
    arguments: &["-std=c99", "-O2", "-DNET_TRACE", "-DNET_ASSERT", "net.c", "run.c", "-o", "run"],
    program: "run",
};

/// The code for the DSP extension, in its portable form.
const PORTABLE_DSP: Build = Build {
    name: "c for the DSP extension",
    arguments: &["-std=c99", "-O2", "-DNET_TRACE", "-DNET_DSP=1", "net.c", "run.c", "-o", "run"],
    ..CHECKED
};

/// Bytes of constants that the linker puts into flash.
pub fn constant_bytes(graph: &IntGraph) -> usize {
    let emitters = graph.nodes.iter().filter_map(|node| C::find(&node.op));
    let emitter = Emitter::new(graph, "net", emitters.collect());
    let nodes = (0..graph.nodes.len()).map(|i| emitter.print(i).bytes);
    let constants = graph.values.iter().filter(|v| v.constant.is_some());
    let codes = constants.map(|v| v.len() * code_width(graph).bytes());
    nodes.chain(codes).sum()
}

/// What each node needs; nothing, if it is not had in C.
fn needs(graph: &IntGraph) -> Vec<Needs> {
    let of = |op| C::find(op).map(|emitter| emitter.needs(code_width(graph)));
    graph.nodes.iter().map(|node| of(&node.op).unwrap_or_default()).collect()
}

fn memory(graph: &IntGraph, needs: &[Needs]) -> Memory {
    Memory::plan(
        graph,
        |node| needs[node].scratch.unwrap_or(0),
        |node, argument| needs[node].writes_over.contains(&argument),
    )
}

/// `template` for a network called `name`.
fn named(template: &str, name: &str, values: &[(&str, &str)]) -> String {
    let upper = name.to_uppercase();
    fill(template, &[&[("name", name), ("NAME", &*upper)], values].concat())
}

/// A constant as an initializer.
fn initializer(value: &Value) -> String {
    match value {
        Value::Int(number) if i32::try_from(*number).is_ok() => number.to_string(),
        Value::Int(number) => format!("INT64_C({number})"),
        Value::Bool(yes) => (*yes as i32).to_string(),
        Value::Name(name) => name.to_string(),
        Value::Pair(pair) => format!("{{{}, {}}}", initializer(&pair[0]), initializer(&pair[1])),
        Value::Array(items) | Value::List(items) => {
            format!("{{{}}}", list(items.iter().map(initializer)))
        }
        Value::Optional(None) => "NULL".into(),
        Value::Optional(Some(value)) => initializer(value),
        Value::Record(_, fields) => {
            format!("{{{}}}", list(fields.iter().map(|field| initializer(&field.value))))
        }
    }
}

/// Items of an array of `of`: all numbers have its type.
fn item(value: &Value, of: Element) -> String {
    match (value, of) {
        (Value::Int(number), Element::U32) => number.to_string(),
        _ => initializer(value),
    }
}

/// Each once, in the order of first use.
fn distinct(sources: impl Iterator<Item = &'static Source>) -> Vec<&'static Source> {
    let mut distinct: Vec<&Source> = Vec::new();
    for source in sources {
        if !distinct.contains(&source) {
            distinct.push(source);
        }
    }
    distinct
}

/// What a node adds to the file.
struct Printed {
    /// Declarations of constants.
    constants: String,
    /// Bytes of flash that they take.
    bytes: usize,
    /// Function, its constants, and the one argument, if it does not take all.
    calls: Vec<(&'static str, String, Option<usize>)>,
}

struct Emitter<'a> {
    graph: &'a IntGraph,
    name: &'a str,
    emitters: Vec<&'a dyn Emit<C>>,
    needs: Vec<Needs>,
    memory: Memory,
    /// Width of the widest weights: narrower ones are stored like them.
    weights: Width,
    /// Whether some accumulator needs 64 bits.
    wide: bool,
}

impl<'a> Emitter<'a> {
    fn new(graph: &'a IntGraph, name: &'a str, emitters: Vec<&'a dyn Emit<C>>) -> Self {
        let needs = needs(graph);
        let (memory, weights) = (memory(graph, &needs), needs.iter().map(|n| n.weights).max());
        let bounds = graph.nodes.iter().filter(|n| !n.op.sums_are_64_bits());
        let wide = bounds.filter_map(|n| n.op.acc_bound()).any(is_wide);
        let weights = weights.unwrap_or(Width::W8);
        Self { graph, name, emitters, needs, memory, weights, wide }
    }

    fn fill(&self, template: &str, values: &[(&str, &str)]) -> String {
        named(template, self.name, values)
    }

    /// The files that the network includes, in the order of first use, and before them what they are built on.
    fn included(&self) -> Vec<&'static Source> {
        let used = self.graph.nodes.iter().zip(&self.emitters);
        let used = used.filter(|(node, _)| !is_nothing(node, &self.memory));
        let sources: Vec<&Source> = used.map(|(_, emitter)| emitter.source()).collect();
        distinct(sources.iter().flat_map(|source| source.on).chain(sources.iter().copied()))
    }

    /// The files that the network includes, and what those include.
    fn sources(&self) -> Vec<&'static Source> {
        distinct(
            self.included().into_iter().flat_map(|source| [source].into_iter().chain(source.on)),
        )
    }

    fn print(&self, i: usize) -> Printed {
        let (node, name) = (&self.graph.nodes[i], format!("layer{i}"));
        let size = self.graph.values[node.output].len();
        let mut c = Node::new(code_width(self.graph), self.wide, size);
        if !is_nothing(node, &self.memory) {
            self.emitters[i].emit(&mut c);
        }
        let mut printed = Printed { constants: String::new(), bytes: 0, calls: vec![] };
        for (call, number) in c.calls.into_iter().zip(0..) {
            let suffix = call.argument.map_or(String::new(), |argument| format!("_{argument}"));
            let constants = format!("{name}{suffix}");
            let of_call = if number == 0 { String::new() } else { format!("_{number}") };
            let mut members = String::new();
            for (field, element) in call.fields {
                let value = match (element, &field.value) {
                    (Some(element), Value::List(items)) => {
                        let member = field.name.replace(['.', '['], "_").replace(']', "");
                        let array = format!("{name}{of_call}_{member}");
                        printed.bytes += items.len() * self.bytes(element);
                        printed.constants += &self.array(&array, element, items);
                        array
                    }
                    (_, value) => initializer(value),
                };
                let _ = writeln!(members, "    .{} = {value},", field.name);
            }
            let function = call.function;
            let _ = writeln!(
                printed.constants,
                "static const struct {function} {constants} = {{\n{members}}};"
            );
            printed.bytes += call.shared;
            printed.calls.push((function, constants, call.argument));
        }
        printed
    }

    fn array(&self, name: &str, of: Element, items: &[Value]) -> String {
        let items = list(items.iter().map(|value| item(value, of)));
        // Aligned, because some code reads several weights as one word.
        let align = if of == Element::Weight { "ALIGNED " } else { "" };
        format!("{align}static const {} {name}[] = {{\n    {items}\n}};\n", of.type_name())
    }

    fn bytes(&self, of: Element) -> usize {
        match of {
            Element::Code => code_width(self.graph).bytes(),
            Element::Weight => self.weights.bytes(),
            Element::Acc => self.acc_bits() / 8,
            Element::U8 => 1,
            Element::I32 | Element::U32 => 4,
            Element::Multiplier => 8,
            Element::Struct(_, bytes) => bytes,
        }
    }

    fn acc_bits(&self) -> usize {
        if self.wide { 64 } else { 32 }
    }

    fn header(&self) -> String {
        let graph = self.graph;
        let mut text = format!(
            "/*\n * {}: the network \"{}\" in integers, written by naive-ptq {}.\n *\n",
            self.name,
            comment(&graph.name),
            env!("CARGO_PKG_VERSION")
        );
        for (what, values) in [("Input ", &graph.inputs), ("Output", &graph.outputs)] {
            for &v in values {
                let _ = writeln!(text, " * {what} {}", describe(&graph.values[v]));
            }
        }
        let [input, output] =
            [&graph.inputs, &graph.outputs].map(|values| total(graph, values).to_string());
        let edges = [("INPUT", &graph.inputs), ("OUTPUT", &graph.outputs)];
        let parameters = edges.map(|(what, values)| self.parameters(what, values)).concat();
        let declare = |(edge, _)| self.fill(include_str!("place.h.in"), &[("EDGE", edge)]);
        let values = [
            ("BITS", &*code_width(graph).to_string()),
            ("INPUT_SIZE", &*input),
            ("OUTPUT_SIZE", &*output),
            ("ARENA_SIZE", &*self.memory.size.to_string()),
            ("PLACES", &*self.own_places().map(declare).collect::<String>()),
            ("LAYERS", &*graph.nodes.len().to_string()),
            ("PARAMETERS", &*parameters),
        ];
        text + " */\n" + &self.fill(include_str!("net.h.in"), &values)
    }

    /// Scale and zero point of inputs or outputs.
    fn parameters(&self, what: &str, values: &[ValueId]) -> String {
        let (mut text, name) = (String::new(), self.name.to_uppercase());
        for (i, &v) in values.iter().enumerate() {
            let quant = &self.graph.values[v].quant;
            let number = if i == 0 { String::new() } else { i.to_string() };
            let (scale, zero) = (quant.scale[0], quant.zero_point);
            let _ = writeln!(text, "#define {name}_{what}{number}_SCALE {scale:e}f");
            let _ = writeln!(text, "#define {name}_{what}{number}_ZERO_POINT ({zero})");
        }
        text
    }

    fn source(&self) -> String {
        let nodes: Vec<Printed> = (0..self.graph.nodes.len()).map(|i| self.print(i)).collect();
        let include = |source: &Source| format!("#include \"{}\"\n", source.file);
        let includes: String = self.included().into_iter().map(include).collect();
        let place = |(edge, v): (&str, ValueId)| {
            let offset = self.offset(self.memory.values[v].unwrap_or(0)).to_string();
            self.fill(include_str!("place.c.in"), &[("EDGE", edge), ("OFFSET", &offset)])
        };
        let values = [
            ("BITS", &*code_width(self.graph).to_string()),
            ("WEIGHT_BITS", &*self.weights.to_string()),
            ("ACC_BITS", &*self.acc_bits().to_string()),
            ("INCLUDES", &*includes),
            ("CONSTANTS", &*self.constants(&nodes)),
            ("PLACES", &*self.own_places().map(place).collect::<String>()),
            ("BODY", &*self.body(&nodes)),
        ];
        self.fill(include_str!("net.c.in"), &values)
    }

    fn constants(&self, nodes: &[Printed]) -> String {
        let (graph, mut text) = (self.graph, String::new());
        for (v, value) in graph.values.iter().enumerate() {
            if let Some(codes) = &value.constant {
                let items: Vec<Value> = codes.iter().map(|code| code.to_value()).collect();
                let array = self.array(&format!("value{v}_codes"), Element::Code, &items);
                let _ = write!(text, "\n/* {} */\n{array}", describe(value));
            }
        }
        for (i, (node, printed)) in graph.nodes.iter().zip(nodes).enumerate() {
            let bound = node.op.acc_bound().map_or(String::new(), |b| format!(", |acc| <= {b}"));
            let (name, op) = (comment(&node.name), node.op.name());
            let what = describe(&graph.values[node.output]);
            let _ = writeln!(text, "\n/* layer{i}: {op} \"{name}\"{bound}\n   {what} */");
            text += &printed.constants;
        }
        text
    }

    /// Inputs are copied, functions called, outputs copied.
    fn body(&self, nodes: &[Printed]) -> String {
        let (graph, mut text) = (self.graph, String::new());
        for (i, &v) in graph.inputs.iter().enumerate() {
            let start = total(graph, &graph.inputs[..i]);
            text += &self.copy(v, &self.place(v), &format!("input + {start}"));
        }
        for (i, (node, printed)) in graph.nodes.iter().zip(nodes).enumerate() {
            for (function, constants, argument) in &printed.calls {
                let inputs = match argument {
                    Some(argument) => &node.inputs[*argument..=*argument],
                    None => &node.inputs[..],
                };
                let mut arguments = vec![format!("&{constants}")];
                arguments.extend(inputs.iter().chain([&node.output]).map(|&v| self.place(v)));
                if self.needs[i].scratch.is_some() {
                    arguments.push(self.at(self.memory.scratch[i]));
                }
                let _ = writeln!(text, "    {function}({});", arguments.join(", "));
            }
            let y = node.output;
            let _ = writeln!(text, "    TRACE({i}, {}, {});", self.place(y), graph.values[y].len());
        }
        for (i, &v) in graph.outputs.iter().enumerate() {
            let start = total(graph, &graph.outputs[..i]);
            text += &self.copy(v, &format!("output + {start}"), &self.place(v));
        }
        text
    }

    /// The input and the output, as far as there is just one, and it is not a constant.
    fn own_places(&self) -> impl Iterator<Item = (&'static str, ValueId)> {
        let edges = [("input", &self.graph.inputs), ("output", &self.graph.outputs)];
        edges.into_iter().filter_map(|(name, values)| match values[..] {
            [v] if self.memory.values[v].is_some() => Some((name, v)),
            _ => None,
        })
    }

    fn offset(&self, bytes: usize) -> usize {
        bytes / code_width(self.graph).bytes()
    }

    fn at(&self, bytes: usize) -> String {
        format!("memory + {}", self.offset(bytes))
    }

    fn place(&self, v: ValueId) -> String {
        match self.memory.values[v] {
            Some(offset) => self.at(offset),
            None => format!("value{v}_codes"),
        }
    }

    /// Moves a value between the caller's memory and ours, unless the caller's is ours.
    fn copy(&self, v: ValueId, to: &str, from: &str) -> String {
        let size = self.graph.values[v].len().to_string();
        let values = [("TO", to), ("FROM", from), ("SIZE", &*size)];
        self.fill(include_str!("copy.c.in"), &values)
    }

    fn vectors(&self, vectors: &[TestVector]) -> String {
        let rows = |of: &dyn Fn(&TestVector) -> Vec<String>| {
            let rows = vectors.iter().map(|v| format!("    {{{}}}", lines(&of(v))));
            rows.collect::<Vec<_>>().join(",\n") + "\n"
        };
        let codes = |codes: &[i32]| codes.iter().map(i32::to_string).collect();
        let hashes =
            |v: &TestVector| v.layers.iter().map(|l| format!("0x{:08x}u", fnv1a(l))).collect();
        let values = [
            ("COUNT", &*vectors.len().to_string()),
            ("INPUTS", &*rows(&|v| codes(&v.input))),
            ("OUTPUTS", &*rows(&|v| codes(&v.output))),
            ("HASHES", &*rows(&hashes)),
        ];
        self.fill(include_str!("vectors.h.in"), &values)
    }
}

/// Twenty numbers in a line.
fn lines(numbers: &[String]) -> String {
    numbers.chunks(20).map(|line| line.join(",")).collect::<Vec<_>>().join(",\n     ")
}
