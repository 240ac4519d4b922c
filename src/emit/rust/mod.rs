//! A `no_std` crate without dependencies: the integer references themselves, and the constants of this
//! network.

use std::fmt::Write;
use std::path::Path;

use super::{
    Build, File, Memory, Target, TestVector, code_width, comment, describe, emitters, fill,
    is_nothing, list, operators, total,
};
use crate::error::Result;
use crate::graph::ValueId;
use crate::lower::IntGraph;
use crate::ops::IntOp;
use crate::ops::language::rust::{Call, Constant, Node, code};
use crate::ops::language::{Emit, Field, Rust, Source, ToValue, Value};

operators!(
    Rust: Add, ArgMax, AveragePool, Clip, Concat, Conv, ConvTranspose, MatMul, Linear, MaxPool, Mean, Mul,
    Pad, PRelu, Reshape, Resize, Slice, Softmax, Transpose, Unary,
);

impl Target for Rust {
    fn name(&self) -> &'static str {
        "rust"
    }

    fn about(&self) -> &'static str {
        "A no_std crate"
    }

    fn takes(&self, op: &IntOp) -> bool {
        <Self as super::Operators>::find(op).is_some()
    }

    fn files(&self, graph: &IntGraph, name: &str, vectors: &[TestVector]) -> Result<Vec<File>> {
        super::check(graph, name)?;
        let (memory, emitters) = (self.memory(graph), emitters(graph, self)?);
        let emitter = Emitter { graph, memory, emitters, code: code(code_width(graph)) };
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
        let values = [("name", name), ("CODE", code(code_width(graph)))];
        ("src/bin/run.rs".into(), fill(include_str!("run.rs.in"), &values))
    }

    fn memory(&self, graph: &IntGraph) -> Memory {
        Memory::disjoint(graph)
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

    fn test(&self, folder: &Path) -> String {
        format!("cargo test --manifest-path {}", folder.join("Cargo.toml").display())
    }
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
    emitters: Vec<&'a dyn Emit<Rust>>,
    code: &'static str,
}

impl Emitter<'_> {
    /// Each once, by name.
    fn sources(&self) -> Vec<&'static Source> {
        let mut sources: Vec<&Source> = self.emitters.iter().map(|e| e.source()).collect();
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
            format!("#[allow(dead_code)]\nmod {name};\n")
        };
        let modules: String = self.sources().iter().map(module).collect();
        let [input, output] =
            [&graph.inputs, &graph.outputs].map(|values| total(graph, values).to_string());
        let (constants, body) = self.constants_and_body();
        let values = [
            ("DOC", &*doc),
            ("name", name),
            ("CODE", self.code),
            ("INPUT_SIZE", &*input),
            ("OUTPUT_SIZE", &*output),
            ("ARENA_SIZE", &*(self.memory.size / code_width(graph).bytes()).to_string()),
            ("MODULES", &*modules),
            ("CONSTANTS", &*constants),
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
                let (what, code) = (describe(value), self.code);
                let _ = writeln!(constants, "/// {what}\nconst VALUE{v}: &[{code}] = {codes};");
            }
        }
        let mut line = |text: String| {
            let _ = writeln!(body, "        {text}");
        };
        let parts = |values: &[ValueId]| -> Vec<_> {
            let mut end = 0;
            let range = |&v: &ValueId| {
                let start = end;
                end += graph.values[v].len();
                (v, format!("{start}..{end}"))
            };
            values.iter().map(range).collect()
        };
        for (v, part) in parts(&graph.inputs) {
            line(format!("memory[{}].copy_from_slice(&input[{part}]);", self.range(v)));
        }
        for (i, (node, emitter)) in graph.nodes.iter().zip(&self.emitters).enumerate() {
            let (name, width) = (format!("LAYER{i}"), code_width(graph));
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
            line(format!("trace({i}, &memory[{}]);", self.range(node.output)));
        }
        for (v, part) in parts(&graph.outputs) {
            let from = match self.memory.values[v] {
                Some(_) => format!("memory[{}]", self.range(v)),
                None => format!("VALUE{v}[..]"),
            };
            line(format!("output[{part}].copy_from_slice(&{from});"));
        }
        (constants, body)
    }

    /// What a call takes from the memory, and the call.
    fn call(&self, call: &Call, inputs: &[ValueId], output: ValueId) -> [String; 2] {
        let mut distinct: Vec<ValueId> = Vec::new();
        for &v in inputs {
            if self.memory.values[v].is_some() && !distinct.contains(&v) {
                distinct.push(v);
            }
        }
        let ranges: Vec<String> =
            distinct.iter().chain([&output]).map(|&v| self.range(v)).collect();
        let mut bound: Vec<String> = distinct.iter().map(|v| format!("x{v}")).collect();
        bound.push("y".into());
        let argument = |v: &ValueId| match self.memory.values[*v] {
            Some(_) => format!("x{v}"),
            None => format!("VALUE{v}"),
        };
        let arguments: Vec<String> =
            inputs.iter().map(argument).chain([call.more.clone(), "y".into()]).collect();
        [
            format!("let [{}] = places(memory, [{}]);", bound.join(", "), ranges.join(", ")),
            format!("{}({});", call.function, arguments.join(", ")),
        ]
    }

    fn range(&self, v: ValueId) -> String {
        let start = self.memory.values[v].unwrap_or(0) / code_width(self.graph).bytes();
        format!("{start}..{}", start + self.graph.values[v].len())
    }

    fn vectors(&self, name: &str, vectors: &[TestVector]) -> String {
        let rows = |of: fn(&TestVector) -> &Vec<i32>| {
            let row = |v| format!("[{}]", list(of(v).iter().map(i32::to_string)));
            vectors.iter().map(row).collect::<Vec<_>>().join(",\n") + "\n"
        };
        let values = [
            ("name", name),
            ("CODE", self.code),
            ("COUNT", &*vectors.len().to_string()),
            ("INPUTS", &*rows(|v| &v.input)),
            ("OUTPUTS", &*rows(|v| &v.output)),
        ];
        fill(include_str!("vectors.rs.in"), &values)
    }
}
