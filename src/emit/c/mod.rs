//! C99: `net.h`, `net.c`, the code of the operators that this network uses, a Makefile, and a program with
//! test vectors; or the same in another [layout](Layout).

mod blob;
mod package;
mod prefix;
mod project;
mod text;

use std::fmt::Write;
use std::path::Path;

pub use blob::ByteOrder;
use blob::{Blob, HEAD, MAGIC, ORDER_MARK};
pub use package::{Layout, Network};
pub use project::Project;
use text::{bytes, c_type, code, declaration, initializer, lines, nested, quoted, typed};

use super::{
    Build, Edge, File, Memory, Operators, Target, TestVector, comment, describe, edges, emitter,
    fill, fnv1a, is_nothing, list, operators, word,
};
use crate::error::Result;
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntNode};
use crate::ops::language::c::{Needs, Node, Types};
use crate::ops::language::{C, Emit, Source, Value};
use crate::ops::product::is_wide;
use crate::quant::Width;

operators!(
    C: Add, ArgMax, AveragePool, Clip, Concat, Conv, ConvTranspose, Embedding, Function, Gather, MatMul, Linear, MaxPool, Mean, Mul, Normalize, Pad,
    PRelu, Recode, Reshape, Resize, Slice, Softmax, Transpose, Unary,
);

impl Target for C {
    fn name(&self) -> &'static str {
        "c"
    }

    fn about(&self) -> &'static str {
        "C99"
    }

    fn takes(&self, _: &IntGraph, node: &IntNode) -> Result<()> {
        emitter::<Self>(node, self).map(|_| ())
    }

    fn files(&self, graph: &IntGraph, name: &str, vectors: &[TestVector]) -> Result<Vec<File>> {
        package::sources(&[Network { graph, name, vectors }], &Layout::default())
    }

    fn package(&self, networks: &[Network], layout: &Layout) -> Result<Vec<(String, Vec<u8>)>> {
        let files = package::sources(networks, layout)?;
        let files = files.into_iter().map(|(name, text)| (name, text.into_bytes()));
        Ok(files.chain(package::blobs(networks, layout)?).collect())
    }

    fn runner(&self, graph: &IntGraph, name: &str) -> File {
        let emitters = graph.nodes.iter().filter_map(|node| C::find(&node.op));
        let emitter = Emitter::new(graph, name, emitters.collect());
        ("run.c".into(), emitter.program(include_str!("run.c.in"), &format!("{name}.h")))
    }

    fn memory(&self, graph: &IntGraph) -> Option<Memory> {
        Some(memory(graph, &needs(graph)))
    }

    fn builds(&self) -> &'static [Build] {
        &[CHECKED, PORTABLE_DSP]
    }

    fn test(&self, folder: &Path, layout: &Layout) -> String {
        layout.project.test(&word(folder))
    }
}

/// The version as a number for the preprocessor: 100 for 0.1.0.
fn version_number() -> String {
    let [minor, patch] = [env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
    let number = format!("{}{minor:0>2}{patch:0>2}", env!("CARGO_PKG_VERSION_MAJOR"));
    number.trim_start_matches('0').into()
}

/// What all kernels are built on.
const ARITH: Source = Source::new("arith.h", include_str!("../../arith.h"));

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
    arguments: &[
        "-std=c99",
        "-O2",
        "-DNET_TRACE",
        "-DNAIVE_PTQ_DSP=1",
        "net.c",
        "run.c",
        "-o",
        "run",
    ],
    ..CHECKED
};

/// Bytes of constants that the linker puts into flash.
pub fn constant_bytes(graph: &IntGraph) -> usize {
    let constants = graph.values.iter().filter(|v| v.constant.is_some());
    let codes = constants.map(|v| v.len() * v.quant.width.bytes());
    node_bytes(graph).into_iter().chain(codes).sum()
}

/// Those of each node.
pub fn node_bytes(graph: &IntGraph) -> Vec<usize> {
    let emitters = graph.nodes.iter().filter_map(|node| C::find(&node.op));
    let emitter = Emitter::new(graph, "net", emitters.collect());
    (0..graph.nodes.len()).map(|i| emitter.print(i).bytes).collect()
}

/// What each node needs; nothing, if it is not had in C.
fn needs(graph: &IntGraph) -> Vec<Needs> {
    let of = |node: &IntNode| C::find(&node.op).map(|emitter| emitter.needs(width(graph, node)));
    graph.nodes.iter().map(|node| of(node).unwrap_or_default()).collect()
}

/// Width of the arguments of `node`.
fn width(graph: &IntGraph, node: &IntNode) -> Width {
    graph.values[node.inputs[0]].quant.width
}

fn memory(graph: &IntGraph, needs: &[Needs]) -> Memory {
    // Codes of one width only: others would reach into their neighbours, which may be still to be read.
    let writes_over = |i: usize, argument: usize| {
        let node = &graph.nodes[i];
        needs[i].writes_over.contains(&argument)
            && width(graph, node) == graph.values[node.output].quant.width
    };
    Memory::plan(graph, |i| needs[i].scratch.unwrap_or(0), writes_over)
}

/// `template` for a network called `name`.
fn named(template: &str, name: &str, values: &[(&str, &str)]) -> String {
    let upper = name.to_uppercase();
    fill(template, &[&[("name", name), ("NAME", &*upper)], values].concat())
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
    calls: Vec<(String, String, Option<usize>)>,
}

struct Emitter<'a> {
    graph: &'a IntGraph,
    name: &'a str,
    emitters: Vec<&'a dyn Emit<C>>,
    needs: Vec<Needs>,
    memory: Memory,
    blob: Option<Blob>,
}

impl<'a> Emitter<'a> {
    fn new(graph: &'a IntGraph, name: &'a str, emitters: Vec<&'a dyn Emit<C>>) -> Self {
        let needs = needs(graph);
        let memory = memory(graph, &needs);
        Self { graph, name, emitters, needs, memory, blob: None }
    }

    /// The same with long arrays in a file of their own.
    fn with_blob(self, order: ByteOrder) -> Self {
        let mut blob = Blob::new(order);
        for i in 0..self.graph.nodes.len() {
            self.print_and(i, |name, size, items| blob.add(name, size, items));
        }
        for (v, value) in self.graph.values.iter().enumerate() {
            let codes = value.constant.iter().flat_map(|codes| codes.iter());
            let items: Vec<Value> = codes.map(|code| Value::Int(code.into())).collect();
            blob.add(&self.value_name(v), value.quant.width.bytes(), &items);
        }
        Self { blob: Some(blob), ..self }
    }

    /// What an array is called that is in the blob.
    fn in_blob(&self, name: &str, of: &str) -> Option<String> {
        let at = self.blob.as_ref()?.place(name)?;
        Some(self.fill(&format!("(const {of} *)(const void *)(@NAME_BLOB + {at})"), &[]))
    }

    /// The array of a value that is a constant.
    fn value_name(&self, v: ValueId) -> String {
        format!("{}_value{v}_codes", self.name)
    }

    /// Types of the code of node `i`.
    fn types(&self, i: usize) -> Types {
        let node = &self.graph.nodes[i];
        Types {
            x: width(self.graph, node),
            y: self.graph.values[node.output].quant.width,
            weights: self.needs[i].weights,
            wide: !node.op.sums_are_64_bits() && node.op.acc_bound().is_some_and(is_wide),
        }
    }

    /// Whether node `i` has code, and does not leave everything where it is.
    fn has_code(&self, i: usize) -> bool {
        !is_nothing(&self.graph.nodes[i], &self.memory)
    }

    /// The types that occur, in the order of first use, each with its nodes.
    fn groups(&self) -> Vec<(Types, Vec<usize>)> {
        let mut groups: Vec<(Types, Vec<usize>)> = Vec::new();
        for i in (0..self.graph.nodes.len()).filter(|&i| self.has_code(i)) {
            let types = self.types(i);
            match groups.iter_mut().find(|(known, _)| *known == types) {
                Some((_, nodes)) => nodes.push(i),
                None => groups.push((types, vec![i])),
            }
        }
        groups
    }

    fn fill(&self, template: &str, values: &[(&str, &str)]) -> String {
        named(template, self.name, values)
    }

    /// The files that these nodes include, in the order of first use, and before them what they are built on.
    fn included(&self, nodes: impl Iterator<Item = usize>) -> Vec<&'static Source> {
        let sources: Vec<&Source> = nodes.map(|i| self.emitters[i].source()).collect();
        distinct(sources.iter().flat_map(|source| source.on).chain(sources.iter().copied()))
    }

    /// The files that the network includes, and what those include.
    fn sources(&self) -> Vec<&'static Source> {
        let used = (0..self.graph.nodes.len()).filter(|&i| self.has_code(i));
        let included = self.included(used).into_iter();
        distinct(included.flat_map(|source| [source].into_iter().chain(source.on)))
    }

    fn print(&self, i: usize) -> Printed {
        self.print_and(i, |_, _, _| ())
    }

    /// `see` takes each array of constants: name, bytes of an element, items.
    fn print_and(&self, i: usize, mut see: impl FnMut(&str, usize, &[Value])) -> Printed {
        let (node, name) = (&self.graph.nodes[i], format!("{}_layer{i}", self.name));
        let size = self.graph.values[node.output].len();
        let types = self.types(i);
        let mut c = Node::new(types, size);
        if self.has_code(i) {
            self.emitters[i].emit(&mut c);
        }
        let mut printed = Printed { constants: String::new(), bytes: 0, calls: vec![] };
        for (call, number) in c.calls.into_iter().zip(0..) {
            let suffix = call.argument.map_or(String::new(), |argument| format!("_{argument}"));
            let constants = format!("{name}{suffix}");
            let of_call = if number == 0 { String::new() } else { format!("_{number}") };
            let mut members = Vec::new();
            for (field, element) in call.fields {
                let value = match (element, &field.value) {
                    (Some(element), Value::List(items)) => {
                        let member = field.name.replace(['.', '['], "_").replace(']', "");
                        let array = format!("{name}{of_call}_{member}");
                        printed.bytes += items.len() * bytes(element, types);
                        see(&array, bytes(element, types), items);
                        self.in_blob(&array, &c_type(element, types)).unwrap_or_else(|| {
                            printed.constants +=
                                &declaration(self.name, &array, element, types, items);
                            array
                        })
                    }
                    (_, value) => initializer(value),
                };
                members.push((field.name, value));
            }
            let members = nested(&members, "    ");
            let function = typed(call.function, types);
            let _ = writeln!(
                printed.constants,
                "static const struct {function} {constants} = {{\n{members}}};"
            );
            printed.bytes += call.shared;
            printed.calls.push((function, constants, call.argument));
        }
        printed
    }

    /// `template` for each input and output.
    fn for_edges(&self, edges: &[Edge], template: &str) -> String {
        let filled = edges.iter().map(|edge| {
            let (scale, zero) = (edge.value.quant.scale[0], edge.zero_point());
            let own = code(edge.value.quant.width);
            let given = format!("{}{own}", if edge.is_flipped() { "u" } else { "" });
            let place = self.memory.values[edge.v];
            let values = [
                ("edge", &*edge.name),
                ("EDGE", &*edge.name.to_uppercase()),
                ("CODE", &*given),
                ("BITS", &*edge.value.quant.width.to_string()),
                ("SIZE", &*edge.value.len().to_string()),
                ("SCALE", &*format!("{scale:e}")),
                ("ZERO_POINT", &*zero.to_string()),
                ("QUOTED", &*quoted(&edge.value.name)),
                (
                    "OFFSET",
                    &*place.map_or(String::new(), |at| {
                        let edge = edge.name.to_uppercase();
                        self.fill(&format!("#define @NAME_{edge}_OFFSET {at}\n"), &[])
                    }),
                ),
                (
                    "PLACE",
                    &*place.map_or(String::new(), |at| match edge.is_flipped() {
                        true => format!("({given} *)(void *)(memory + {at})"),
                        false => self.at(at, edge.value.quant.width),
                    }),
                ),
                ("OWN", &*own),
                ("LOWEST", &*edge.value.quant.width.lowest().to_string()),
            ];
            self.fill(template, &values)
        });
        filled.collect()
    }

    /// `inputs` for each input, `outputs` for each output, and `between` two of them.
    fn joined(&self, inputs: &str, outputs: &str, between: &str) -> String {
        let edges = edges(self.graph);
        let each = edges.iter().map(|edge| {
            let template = if edge.is_input() { inputs } else { outputs };
            self.for_edges(std::slice::from_ref(edge), template)
        });
        each.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(between)
    }

    /// What the network's function takes.
    fn arguments(&self) -> String {
        self.joined("const @name_@edge_t *@edge", "@name_@edge_t *@edge", ", ")
    }

    /// A program around the network.
    fn program(&self, template: &str, header: &str) -> String {
        let buffer = "    static @name_@edge_t @edge[@NAME_@EDGE_SIZE];";
        let read = "fread(@edge, sizeof *@edge, @NAME_@EDGE_SIZE, stdin) == @NAME_@EDGE_SIZE";
        let write = "        fwrite(@edge, sizeof *@edge, @NAME_@EDGE_SIZE, stdout);";
        let compare = "        pass &= memcmp(@edge, @name_@edges[vector], sizeof @edge) == 0;";
        let check = self.fill(include_str!("check.c.in"), &[]);
        let inputs_too = if template.contains("@READ") { buffer } else { "" };
        let values = [
            ("BUFFERS", &*(self.joined(inputs_too, buffer, "\n") + "\n")),
            ("READ", &*self.joined(read, "", "\n           && ")),
            ("WRITE", &*(self.joined("", write, "\n") + "\n")),
            ("BUFFER_NAMES", &*self.joined("@edge", "@edge", ", ")),
            ("VECTOR_NAMES", &*self.joined("@name_@edges[vector]", "@edge", ", ")),
            ("COMPARE", &*(self.joined("", compare, "\n") + "\n")),
            ("HEADER", header),
            ("CHECK", if self.blob.is_some() { &*check } else { "" }),
        ];
        self.fill(template, &values)
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
        let edges = edges(self.graph);
        let values = [
            ("EDGES", &*self.for_edges(&edges, include_str!("edge.h.in"))),
            ("ARGUMENTS", &*self.arguments()),
            ("ARENA_SIZE", &*self.memory.size.to_string()),
            ("PLACES", &*self.for_edges(&self.places(), include_str!("place.h.in"))),
            ("LAYERS", &*graph.nodes.len().to_string()),
            ("HASH", &*format!("{:016x}", self.hash())),
            ("VERSION", env!("CARGO_PKG_VERSION")),
            ("CLASSES", &*self.classes()),
            ("BLOB", &*self.of_blob(include_str!("blob.h.in"))),
        ];
        text + " */\n" + &self.fill(include_str!("net.h.in"), &values)
    }

    /// What the model calls the classes, if it does.
    fn classes(&self) -> String {
        let names = &self.graph.classes;
        if names.is_empty() {
            return String::new();
        }
        let quoted = list(names.iter().map(|name| format!("\"{}\"", quoted(name))));
        let values =
            [("COUNT", &*names.len().to_string()), ("NAMES", &*quoted.replace('\n', " \\\n"))];
        self.fill(include_str!("classes.h.in"), &values)
    }

    /// `template` if there is a blob.
    fn of_blob(&self, template: &str) -> String {
        let Some(blob) = &self.blob else { return String::new() };
        let (hash, size) = (self.hash(), blob.size());
        let expected = [ORDER_MARK as u64, size as u64, hash >> 32, hash & 0xFFFF_FFFF];
        let (order, other) = (blob.order.name(), blob.order.other().name());
        let values = [
            ("SIZE", &*size.to_string()),
            ("order", order),
            ("ORDER", &*order.to_uppercase()),
            ("other", other),
            ("EXPECTED", &*list(expected.iter().map(|word| format!("0x{word:08x}u")))),
            ("CHECKSUM", &*format!("0x{:08x}u", blob.checksum())),
            ("MAGIC", MAGIC),
            ("HEAD", &*HEAD.to_string()),
        ];
        self.fill(template, &values)
    }

    /// FNV-1a of 64 bits of all constants, and of what is called with them, whatever the network is called.
    fn hash(&self) -> u64 {
        let it = Self::new(self.graph, "net", self.emitters.clone());
        let nodes: Vec<Printed> = (0..self.graph.nodes.len()).map(|i| it.print(i)).collect();
        let step = |hash: u64, byte: u8| (hash ^ byte as u64).wrapping_mul(0x0100_0000_01B3);
        let texts = nodes.iter().map(|node| node.constants.clone());
        let texts = texts.chain([it.codes(), it.calls(&nodes)]);
        texts.fold(0xCBF2_9CE4_8422_2325, |hash, text| text.bytes().fold(hash, step))
    }

    /// Inputs and outputs that have a place in the memory, and not a constant's.
    fn places(&self) -> Vec<Edge<'_>> {
        let mut edges = edges(self.graph);
        edges.retain(|edge| self.memory.values[edge.v].is_some());
        edges
    }

    fn source(&self) -> String {
        let nodes: Vec<Printed> = (0..self.graph.nodes.len()).map(|i| self.print(i)).collect();
        let groups = self.groups();
        let values = [
            ("KERNELS", &*version_number()),
            ("BLOB", &*self.of_blob(include_str!("blob.c.in"))),
            ("CODES", &*self.codes()),
            ("GROUPS", &*groups.iter().map(|group| self.group(group, &nodes)).collect::<String>()),
            ("ARGUMENTS", &*self.arguments()),
            ("PLACES", &*self.for_edges(&self.places(), include_str!("place.c.in"))),
            ("BODY", &*self.body(&nodes)),
        ];
        self.fill(include_str!("net.c.in"), &values)
    }

    /// Values that are constants.
    fn codes(&self) -> String {
        let mut text = String::new();
        let section = self.fill("@NAME_CONST_SECTION", &[]);
        for (v, value) in self.graph.values.iter().enumerate() {
            let place = self.in_blob(&self.value_name(v), "void");
            if let Some(codes) = value.constant.as_ref().filter(|_| place.is_none()) {
                let items = list(codes.iter().map(|code| code.to_string()));
                let (what, code) = (describe(value), code(value.quant.width));
                let name = self.value_name(v);
                let _ = writeln!(
                    text,
                    "\n/* {what} */\n{section} static const {code} {name}[] = {{\n    {items}\n}};"
                );
            }
        }
        text
    }

    /// The code for some types, and the constants of the nodes that have them.
    fn group(&self, (types, nodes): &(Types, Vec<usize>), printed: &[Printed]) -> String {
        let mut constants = String::new();
        for &i in nodes {
            let node = &self.graph.nodes[i];
            let bound = node.op.acc_bound().map_or(String::new(), |b| format!(", |acc| <= {b}"));
            let (name, op) = (comment(&node.name), node.op.name());
            let what = describe(&self.graph.values[node.output]);
            let _ = writeln!(constants, "\n/* layer{i}: {op} \"{name}\"{bound}\n   {what} */");
            constants += &printed[i].constants;
        }
        let include = |source: &Source| {
            let (name, _) = source.file.split_once('.').unwrap_or((source.file, ""));
            let name = typed(&name.to_uppercase(), *types);
            let values = [("SOURCE", &*name), ("FILE", source.file)];
            fill(include_str!("include.c.in"), &values)
        };
        let includes: String =
            self.included(nodes.iter().copied()).into_iter().map(include).collect();
        let values = [
            ("X_BITS", &*types.x.to_string()),
            ("Y_BITS", &*types.y.to_string()),
            ("WEIGHT_BITS", &*types.weights.to_string()),
            ("ACC_BITS", &*types.acc_bits().to_string()),
            ("INCLUDES", &*includes),
            ("CONSTANTS", &*constants),
        ];
        self.fill(include_str!("group.c.in"), &values)
    }

    /// Inputs are copied, functions called, outputs copied.
    fn body(&self, nodes: &[Printed]) -> String {
        let mut text = String::new();
        for edge in edges(self.graph).iter().filter(|edge| edge.is_input()) {
            text += &self.copy(edge, &self.place(edge.v), &edge.name);
        }
        text += &self.calls(nodes);
        for edge in edges(self.graph).iter().filter(|edge| !edge.is_input()) {
            text += &self.copy(edge, &edge.name, &self.place(edge.v));
        }
        text
    }

    fn calls(&self, nodes: &[Printed]) -> String {
        let (graph, upper, mut text) = (self.graph, self.name.to_uppercase(), String::new());
        for (i, (node, printed)) in graph.nodes.iter().zip(nodes).enumerate() {
            for (function, constants, argument) in &printed.calls {
                let inputs = match argument {
                    Some(argument) => &node.inputs[*argument..=*argument],
                    None => &node.inputs[..],
                };
                let mut arguments = vec![format!("&{constants}")];
                arguments.extend(inputs.iter().chain([&node.output]).map(|&v| self.place(v)));
                if self.needs[i].scratch.is_some() {
                    arguments.push(self.at(self.memory.scratch[i], Width::W8));
                }
                let _ = writeln!(text, "    {function}({});", arguments.join(", "));
            }
            let (place, value) = (self.place(node.output), &graph.values[node.output]);
            let (len, bits) = (value.len(), value.quant.width);
            let _ = writeln!(text, "    {upper}_TRACE_LAYER({i}, {place}, {len}, {bits});");
        }
        text
    }

    fn at(&self, bytes: usize, width: Width) -> String {
        match width {
            Width::W8 => format!("memory + {bytes}"),
            width => format!("({} *)(void *)(memory + {bytes})", code(width)),
        }
    }

    fn place(&self, v: ValueId) -> String {
        match self.memory.values[v] {
            Some(offset) => self.at(offset, self.graph.values[v].quant.width),
            None => {
                let name = self.value_name(v);
                self.in_blob(&name, &code(self.graph.values[v].quant.width)).unwrap_or(name)
            }
        }
    }

    /// Moves a value between the caller's memory and ours, unless the caller's is ours.
    fn copy(&self, edge: &Edge, to: &str, from: &str) -> String {
        let values = [("TO", to), ("FROM", from)];
        let template = match edge.is_flipped() {
            true => include_str!("flip.c.in"),
            false => include_str!("copy.c.in"),
        };
        self.for_edges(std::slice::from_ref(edge), &fill(template, &values))
    }

    fn vectors(&self, vectors: &[TestVector]) -> String {
        let rows = |of: &dyn Fn(&TestVector) -> Vec<String>| {
            let rows = vectors.iter().map(|v| format!("    {{{}}}", lines(&of(v))));
            rows.collect::<Vec<_>>().join(",\n") + "\n"
        };
        let edges = edges(self.graph);
        let of_edge = |edge: &Edge| {
            let codes =
                |v: &TestVector| edge.codes(v).iter().map(|code| code.to_string()).collect();
            let template = include_str!("vectors_edge.h.in");
            self.for_edges(
                std::slice::from_ref(edge),
                &fill(template, &[("CODES", &*rows(&codes))]),
            )
        };
        let hashes =
            |v: &TestVector| v.layers.iter().map(|l| format!("0x{:08x}u", fnv1a(l))).collect();
        let values = [
            ("COUNT", &*vectors.len().to_string()),
            ("EDGES", &*edges.iter().map(of_edge).collect::<String>()),
            ("HASHES", &*rows(&hashes)),
        ];
        self.fill(include_str!("vectors.h.in"), &values)
    }
}
