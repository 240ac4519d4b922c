//! A `no_std` crate without dependencies: the integer references themselves, and the constants of this
//! network.

use std::fmt::Write;
use std::path::Path;

use super::{
    Build, Edge, File, Layout, Memory, Target, TestVector, comment, describe, edges, emitter,
    emitters, fill, is_nothing, list, operators, word,
};
use crate::error::Result;
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntNode, IntValue};
use crate::memory::Block;
use crate::ops::language::rust::{Call, Constant, Node, code};
use crate::ops::language::{Emit, Field, Rust, Source, ToValue, Value};
use crate::quant::Width;

operators!(
    Rust: Add, ArgMax, AveragePool, Clip, Concat, Conv, ConvTranspose, Embedding, Function, Gather, MatMul, Linear, MaxPool, Mean, Mul, Normalize,
    Pad, PRelu, Recode, Reshape, Resize, Slice, Softmax, Transpose, Unary,
);

impl Target for Rust {
    fn name(&self) -> &'static str {
        "rust"
    }

    fn about(&self) -> &'static str {
        "A no_std crate"
    }

    fn takes(&self, _: &IntGraph, node: &IntNode) -> Result<()> {
        emitter::<Self>(node, self).map(|_| ())
    }

    fn files(&self, graph: &IntGraph, name: &str, vectors: &[TestVector]) -> Result<Vec<File>> {
        super::check(graph, name)?;
        let (memory, [narrow, _]) = (places(graph), arenas(graph));
        let emitter =
            Emitter { graph, memory, narrow: narrow.size, emitters: emitters(graph, self)? };
        let mut files = vec![
            ("Cargo.toml".into(), fill(include_str!("Cargo.toml.in"), &[("name", name)])),
            ("src/lib.rs".into(), emitter.library(name)),
            ("src/arith.rs".into(), without_tests(include_str!("../../arith.rs"))),
        ];
        for source in emitter.sources() {
            files.push((format!("src/{}", source.file), without_tests(source.text)));
        }
        if !vectors.is_empty() {
            files.push(("tests/vectors.rs".into(), emitter.vectors(name, vectors)));
        }
        Ok(files)
    }

    fn runner(&self, graph: &IntGraph, name: &str) -> File {
        let joined = |inputs, outputs, between| joined(&edges(graph), inputs, outputs, between);
        let read = "read!(stdin, @edge, @CODE)";
        let write = "        all.extend(@edge.iter().flat_map(|code| code.to_le_bytes()));";
        let values = [
            ("name", name),
            ("BUFFERS", &*(joined(BUFFER, BUFFER, "\n") + "\n")),
            ("READ", &*joined(read, "", " && ")),
            ("BUFFER_NAMES", &*joined("&@edge", "&mut @edge", ", ")),
            ("WRITE", &*(joined("", write, "\n") + "\n")),
        ];
        ("src/bin/run.rs".into(), fill(include_str!("run.rs.in"), &values))
    }

    fn memory(&self, graph: &IntGraph) -> Option<Memory> {
        Some(places(graph))
    }

    fn builds(&self) -> &'static [Build] {
        &[Build {
            name: "rust",
            tool: ("CARGO", "cargo"),
            install: "Rust (https://rustup.rs)",
            arguments: &["build", "--release", "--offline", "--quiet", "--target-dir", "target"],
            program: "target/release/run",
        }]
    }

    fn test(&self, folder: &Path, _: &Layout) -> String {
        format!("cargo test --manifest-path {}", word(&folder.join("Cargo.toml")))
    }
}

/// A place for an input or an output.
const BUFFER: &str = "    static @EDGE: Mutex<[@CODE; @EDGE_SIZE]> = Mutex::new([0; @EDGE_SIZE]);\n    \
                      let mut @edge = @EDGE.lock().unwrap();";

const QUANTIZE: &str = include_str!("quantize.rs.in");
const DEQUANTIZE: &str = include_str!("dequantize.rs.in");

/// Where every value lies.
fn places(graph: &IntGraph) -> Memory {
    let [narrow, wide] = arenas(graph);
    let offset = |(v, value): (usize, &IntValue)| match value.quant.width {
        Width::W8 => narrow.values[v],
        _ => wide.values[v].map(|at| narrow.size + at),
    };
    let behind = wide
        .blocks
        .iter()
        .map(|block| Block { offset: narrow.size + block.offset, ..block.clone() });
    Memory {
        blocks: narrow.blocks.iter().cloned().chain(behind).collect(),
        values: graph.values.iter().enumerate().map(offset).collect(),
        scratch: narrow.scratch,
        size: narrow.size + wide.size,
        bound: narrow.bound + wide.bound,
    }
}

/// Codes of 8 bits and of 16 lie apart: without `unsafe` nothing is now the one and now the other.
fn arenas(graph: &IntGraph) -> [Memory; 2] {
    [Width::W8, Width::W16].map(|width| Memory::of_width(graph, width))
}

/// `inputs` for each input, `outputs` for each output, and `between` two of them.
fn joined(edges: &[Edge], inputs: &str, outputs: &str, between: &str) -> String {
    let each = edges.iter().map(|edge| {
        let values = [
            ("edge", &*edge.name),
            ("EDGE", &*edge.name.to_uppercase()),
            ("CODE", &*given(edge)),
            ("SIZE", &*edge.value.len().to_string()),
            ("SCALE", &*format!("{:e}", edge.value.quant.scale[0])),
            ("ZERO_POINT", &*edge.zero_point().to_string()),
        ];
        fill(if edge.is_input() { inputs } else { outputs }, &values)
    });
    each.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(between)
}

/// The type of what the caller gives or gets.
fn given(edge: &Edge) -> String {
    let own = code(edge.value.quant.width);
    if edge.is_flipped() { own.replace('i', "u") } else { own.into() }
}

fn without_tests(source: &str) -> String {
    let code = source.split("#[cfg(test)]").next().unwrap_or(source);
    format!("{}\n", code.trim_end())
}

/// A constant as an expression.
fn expression(value: &Value) -> String {
    let list = |items: &[Value]| list(items.iter().map(expression));
    match value {
        Value::Int(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Name(name) => name.to_string(),
        Value::Pair(pair) => format!("({}, {})", expression(&pair[0]), expression(&pair[1])),
        Value::Array(items) => format!("[{}]", list(items)),
        Value::List(items) => format!("&[{}]", list(items)),
        Value::Optional(None) => "None".into(),
        Value::Optional(Some(value)) => format!("Some({})", expression(value)),
        Value::Record(name, fields) => {
            let member = |f: &Field| format!("{}: {}", f.name, expression(&f.value));
            let members: Vec<String> = fields.iter().map(member).collect();
            match fields.iter().all(|f| matches!(f.value, Value::Int(_))) {
                true => format!("{name} {{ {} }}", members.join(", ")),
                false => format!("{name} {{\n    {},\n}}", members.join(",\n    ")),
            }
        }
    }
}

struct Emitter<'a> {
    graph: &'a IntGraph,
    memory: Memory,
    /// Bytes of 8-bit codes; those of 16 bits lie behind them.
    narrow: usize,
    emitters: Vec<&'a dyn Emit<Rust>>,
}

impl Emitter<'_> {
    /// Each once, by name.
    fn sources(&self) -> Vec<&'static Source> {
        let nodes = self.graph.nodes.iter().zip(&self.emitters);
        let used = nodes.filter(|(node, _)| !is_nothing(node, &self.memory));
        let mut sources: Vec<&Source> = used.map(|(_, emitter)| emitter.source()).collect();
        sources.sort_by_key(|source| source.file);
        sources.dedup();
        sources
    }

    fn library(&self, name: &str) -> String {
        let graph = self.graph;
        let mut doc = String::new();
        for (what, values) in [("Input", &graph.inputs), ("Output", &graph.outputs)] {
            for &v in values {
                let _ = writeln!(doc, "//! * {what}: {}", describe(&graph.values[v]));
            }
        }
        let module = |source: &&Source| {
            let name = source.file.trim_end_matches(".rs");
            format!("mod {name};\n")
        };
        let modules: String = self.sources().iter().map(module).collect();
        let (constants, body) = self.constants_and_body();
        let (edges, [narrow, wide]) = (edges(graph), arenas(graph));
        let uses = ["Multiplier", "Products"].into_iter();
        let uses = uses.filter(|name| constants.contains(&format!("{name} {{")));
        let uses: String = uses.map(|name| format!("use arith::{name};\n")).collect();
        let held = ["i8", "i16"].into_iter().enumerate();
        let held = held.filter(|(_, code)| body.contains(&format!("{code}[")));
        let field = |(i, code)| format!("    {code}: [{code}; ARENA_SIZES[{i}]],\n");
        let zeros = |(i, code)| format!("{code}: [0; ARENA_SIZES[{i}]]");
        let (size, real) = (include_str!("edge.rs.in"), include_str!("real.rs.in"));
        let (input, output) = ("@edge: &[@CODE; @EDGE_SIZE]", "@edge: &mut [@CODE; @EDGE_SIZE]");
        let lines = |edge: &str| format!("        {edge},\n");
        let several = body.contains("places(");
        let values = [
            ("DOC", &*doc),
            ("name", name),
            ("USES", &*uses),
            ("EDGES", &*joined(&edges, size, size, "")),
            ("REAL", &*(real.to_string() + &joined(&edges, QUANTIZE, DEQUANTIZE, ""))),
            ("FIELDS", &*held.clone().map(field).collect::<String>()),
            ("ZEROS", &*held.clone().map(zeros).collect::<Vec<_>>().join(", ")),
            ("ARENAS", &*held.map(|(_, code)| code).collect::<Vec<_>>().join(", ")),
            ("PARAMETERS", &*joined(&edges, input, output, ", ")),
            ("PARAMETER_LINES", &*joined(&edges, &lines(input), &lines(output), "")),
            ("NAMES", &*joined(&edges, "@edge", "@edge", ", ")),
            ("ARENA_8", &*narrow.size.to_string()),
            ("ARENA_16", &*(wide.size / 2).to_string()),
            ("MODULES", &*modules),
            ("CONSTANTS", &*constants),
            ("RANGE", if several { "use core::ops::Range;\n\n" } else { "" }),
            ("PLACES", if several { include_str!("places.rs.in") } else { "" }),
            ("BODY", &*body),
        ];
        fill(include_str!("lib.rs.in"), &values)
    }

    fn constants_and_body(&self) -> (String, String) {
        let graph = self.graph;
        let (mut constants, mut body) = (String::new(), String::new());
        for (v, value) in graph.values.iter().enumerate() {
            if let Some(codes) = &value.constant {
                let codes = expression(&codes.iter().collect::<Vec<_>>().as_slice().to_value());
                let (what, code) = (describe(value), code(value.quant.width));
                let _ = writeln!(constants, "/// {what}\nconst VALUE{v}: &[{code}] = {codes};");
            }
        }
        let mut line = |text: String| {
            let _ = writeln!(body, "        {text}");
        };
        let edges = edges(graph);
        for edge in edges.iter().filter(|edge| edge.is_input()) {
            let (to, own) = (self.place(edge.v), code(edge.value.quant.width));
            if !edge.is_flipped() {
                line(format!("{to}.copy_from_slice({});", edge.name));
                continue;
            }
            line(format!("for (code, given) in {to}.iter_mut().zip({}) {{", edge.name));
            line(format!("    *code = (*given as {own}) ^ {own}::MIN;"));
            line("}".into());
        }
        for (i, (node, emitter)) in graph.nodes.iter().zip(&self.emitters).enumerate() {
            let (name, width) = (format!("LAYER{i}"), graph.values[node.output].quant.width);
            let mut r = Node { name, width, constants: vec![], calls: vec![] };
            if !is_nothing(node, &self.memory) {
                emitter.emit(&mut r);
            }
            if !r.constants.is_empty() {
                let (op, name) = (node.op.name(), comment(&node.name));
                let _ = writeln!(constants, "// {i}: {op} \"{name}\"");
            }
            for Constant { name, of, value } in &r.constants {
                let _ = writeln!(constants, "const {name}: {of} = {};", expression(value));
            }
            for call in &r.calls {
                let inputs = match call.argument {
                    Some(argument) => &node.inputs[argument..=argument],
                    None => &node.inputs[..],
                };
                self.call(call, inputs, node.output).into_iter().for_each(&mut line);
            }
            let held = code(graph.values[node.output].quant.width).to_uppercase();
            line(format!("trace({i}, Codes::{held}(&{}));", self.place(node.output)));
        }
        for edge in edges.iter().filter(|edge| !edge.is_input()) {
            let from = match self.memory.values[edge.v] {
                Some(_) => self.place(edge.v),
                None => format!("VALUE{}[..]", edge.v),
            };
            line(format!("{}.copy_from_slice(&{from});", edge.name));
        }
        (constants, body)
    }

    /// What a call takes from the memory, and the call.
    fn call(&self, call: &Call, inputs: &[ValueId], output: ValueId) -> Vec<String> {
        let mut distinct: Vec<ValueId> = Vec::new();
        for &v in inputs {
            if self.memory.values[v].is_some() && !distinct.contains(&v) {
                distinct.push(v);
            }
        }
        let mut lines = Vec::new();
        for width in [Width::W8, Width::W16] {
            let taken =
                distinct.iter().map(|&v| (v, format!("x{v}"))).chain([(output, "y".into())]);
            let taken = taken.filter(|&(v, _)| self.graph.values[v].quant.width == width);
            let (ranges, bound): (Vec<_>, Vec<_>) =
                taken.map(|(v, name)| (self.range(v), name)).unzip();
            if !bound.is_empty() {
                let code = code(width);
                lines.push(match (&bound[..], &ranges[..]) {
                    ([bound], [range]) => format!("let {bound} = &mut {code}[{range}];"),
                    _ => {
                        let (bound, ranges) = (bound.join(", "), ranges.join(", "));
                        format!("let [{bound}] = places({code}, [{ranges}]);")
                    }
                });
            }
        }
        let argument = |v: &ValueId| match self.memory.values[*v] {
            Some(_) => format!("x{v}"),
            None => format!("VALUE{v}"),
        };
        let arguments: Vec<String> =
            inputs.iter().map(argument).chain([call.more.clone(), "y".into()]).collect();
        lines.push(format!("{}({});", call.function, arguments.join(", ")));
        lines
    }

    fn range(&self, v: ValueId) -> String {
        let value = &self.graph.values[v];
        let first = if value.quant.width == Width::W8 { 0 } else { self.narrow };
        let start = self.memory.values[v].map_or(0, |at| at - first) / value.quant.width.bytes();
        format!("{start}..{}", start + value.len())
    }

    fn place(&self, v: ValueId) -> String {
        format!("{}[{}]", code(self.graph.values[v].quant.width), self.range(v))
    }

    fn vectors(&self, name: &str, vectors: &[TestVector]) -> String {
        let edges = edges(self.graph);
        let of_edge = |edge: &Edge| {
            let row = |v| format!("[{}]", list(edge.codes(v).iter().map(|code| code.to_string())));
            let rows = vectors.iter().map(row).collect::<Vec<_>>().join(",\n");
            let (upper, code) = (edge.name.to_uppercase(), given(edge));
            format!(
                "static {upper}S: [[{code}; {upper}_SIZE]; {}] = [\n{rows}\n];\n",
                vectors.len()
            )
        };
        let compare = "        assert!(*@edge == @EDGES[i], \"vector {i}: {:?}\", *@edge);";
        let values = [
            ("name", name),
            ("COUNT", &*vectors.len().to_string()),
            ("VECTORS", &*edges.iter().map(of_edge).collect::<String>()),
            ("BUFFERS", &*(joined(&edges, "", BUFFER, "\n") + "\n")),
            ("VECTOR_NAMES", &*joined(&edges, "&@EDGES[i]", "&mut @edge", ", ")),
            ("COMPARE", &*(joined(&edges, "", compare, "\n") + "\n")),
        ];
        fill(include_str!("vectors.rs.in"), &values)
    }
}
