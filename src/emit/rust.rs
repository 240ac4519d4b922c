//! A `no_std` crate without dependencies: the integer references themselves, and the constants of this
//! network.

use std::fmt::Write;

use super::{File, Memory, TestVector, code_width, comment, describe, is_nothing, total};
use crate::error::Result;
use crate::graph::ValueId;
use crate::lower::IntGraph;
use crate::ops::source::{Kernel, Rust, RustNode};
use crate::quant::Width;

/// The files of a crate called `name`.
///
/// # Errors
/// A name that is no identifier.
pub fn emit(graph: &IntGraph, name: &str, vectors: &[TestVector]) -> Result<Vec<File>> {
    super::check(graph, name)?;
    let emitter = Emitter {
        graph,
        memory: Memory::for_rust(graph),
        code: if code_width(graph) == Width::W8 { "i8" } else { "i16" },
    };
    let mut files = vec![
        ("Cargo.toml".into(), include_str!("rust/Cargo.toml.in").replace("@NAME", name)),
        ("src/lib.rs".into(), emitter.library(name)),
        ("src/arith.rs".into(), without_tests(include_str!("../arith.rs"))),
    ];
    for kernel in emitter.kernels() {
        files.push((format!("src/{}.rs", kernel.name), without_tests(kernel.rust)));
    }
    if !vectors.is_empty() {
        files.push(("tests/vectors.rs".into(), emitter.vectors(name, vectors)));
    }
    Ok(files)
}

/// A program that reads inputs from standard input and writes outputs, and what each layer computed,
/// to standard output: for `verify`.
pub fn runner(graph: &IntGraph, name: &str) -> String {
    let code = if code_width(graph) == Width::W8 { "i8" } else { "i16" };
    include_str!("rust/run.rs.in").replace("@NAME", name).replace("@CODE", code)
}

fn without_tests(source: &str) -> String {
    let code = source.split("#[cfg(test)]").next().unwrap_or(source);
    format!("{}\n", code.trim_end())
}

struct Emitter<'a> {
    graph: &'a IntGraph,
    memory: Memory,
    code: &'static str,
}

impl Emitter<'_> {
    fn kernels(&self) -> Vec<&'static Kernel> {
        let mut kernels: Vec<&Kernel> = self.graph.nodes.iter().map(|n| n.op.kernel()).collect();
        kernels.sort_by_key(|kernel| kernel.name);
        kernels.dedup_by_key(|kernel| kernel.name);
        kernels
    }

    fn library(&self, name: &str) -> String {
        let graph = self.graph;
        let mut doc = String::new();
        for (what, values) in [("Input", &graph.inputs), ("Output", &graph.outputs)] {
            for &v in values {
                let _ = writeln!(doc, "//! * {what}: {}", describe(&graph.values[v]));
            }
        }
        let modules: String = self
            .kernels()
            .iter()
            .map(|k| format!("#[allow(dead_code)]\nmod {};\n", k.name))
            .collect();
        let [input, output] = [&graph.inputs, &graph.outputs].map(|values| total(graph, values));
        let mut constants = String::new();
        for (v, value) in graph.values.iter().enumerate() {
            if let Some(codes) = &value.constant {
                let codes: Vec<i32> = codes.iter().collect();
                let (text, code) = (codes.as_slice().rust(), self.code);
                let _ = writeln!(
                    constants,
                    "/// {}\nconst VALUE{v}: &[{code}] = {text};",
                    describe(value)
                );
            }
        }
        let mut body = String::new();
        for (i, &v) in graph.inputs.iter().enumerate() {
            let start = total(graph, &graph.inputs[..i]);
            let end = start + graph.values[v].len();
            let _ = writeln!(
                body,
                "memory[{}].copy_from_slice(&input[{start}..{end}]);",
                self.range(v)
            );
        }
        for (i, node) in graph.nodes.iter().enumerate() {
            let mut r =
                RustNode { name: format!("LAYER{i}"), code: self.code, ..RustNode::default() };
            if !is_nothing(node, &self.memory) {
                node.op.emit_rust(&mut r);
            }
            if !r.constants.is_empty() {
                let _ = write!(
                    constants,
                    "// {i}: {} \"{}\"\n{}",
                    node.op.name(),
                    comment(&node.name),
                    r.constants
                );
            }
            for (kernel, more, argument) in &r.calls {
                let inputs = match argument {
                    Some(argument) => &node.inputs[*argument..=*argument],
                    None => &node.inputs[..],
                };
                body += &self.call(kernel, inputs, more, node.output);
            }
            let _ = writeln!(body, "trace({i}, &memory[{}]);", self.range(node.output));
        }
        for (i, &v) in graph.outputs.iter().enumerate() {
            let start = total(graph, &graph.outputs[..i]);
            let end = start + graph.values[v].len();
            let from = match self.memory.values[v] {
                Some(_) => format!("memory[{}]", self.range(v)),
                None => format!("VALUE{v}[..]"),
            };
            let _ = writeln!(body, "output[{start}..{end}].copy_from_slice(&{from});");
        }
        let body: String = body.lines().map(|line| format!("        {line}\n")).collect();
        include_str!("rust/lib.rs.in")
            .replace("//! @DOC\n", &doc)
            .replace("@NAME", name)
            .replace("@CODE", self.code)
            .replace("@INPUT_SIZE", &input.to_string())
            .replace("@OUTPUT_SIZE", &output.to_string())
            .replace("@ARENA_SIZE", &(self.memory.size / code_width(graph).bytes()).to_string())
            .replace("// @MODULES\n", &modules)
            .replace("// @CONSTANTS\n", &constants)
            .replace("        // @BODY\n", &body)
    }

    fn call(&self, kernel: &str, inputs: &[ValueId], more: &str, output: ValueId) -> String {
        let mut distinct: Vec<ValueId> = Vec::new();
        for &v in inputs {
            if self.memory.values[v].is_some() && !distinct.contains(&v) {
                distinct.push(v);
            }
        }
        let ranges: Vec<String> =
            distinct.iter().chain([&output]).map(|&v| self.range(v)).collect();
        let names: Vec<String> = distinct.iter().map(|v| format!("x{v}")).collect();
        let mut bound = names.clone();
        bound.push("y".into());
        let argument = |v: &ValueId| match self.memory.values[*v] {
            Some(_) => format!("x{v}"),
            None => format!("VALUE{v}"),
        };
        let arguments: Vec<String> =
            inputs.iter().map(argument).chain([more.to_string(), "y".into()]).collect();
        format!(
            "let [{}] = places(memory, [{}]);\n{kernel}({});\n",
            bound.join(", "),
            ranges.join(", "),
            arguments.join(", ")
        )
    }

    fn range(&self, v: ValueId) -> String {
        let start = self.memory.values[v].unwrap_or(0) / code_width(self.graph).bytes();
        format!("{start}..{}", start + self.graph.values[v].len())
    }

    fn vectors(&self, name: &str, vectors: &[TestVector]) -> String {
        let rows = |of: fn(&TestVector) -> &Vec<i32>| {
            let rows = vectors.iter().map(|v| of(v).as_slice().rust().replacen('&', "", 1));
            rows.collect::<Vec<_>>().join(",\n")
        };
        include_str!("rust/vectors.rs.in")
            .replace("@NAME", name)
            .replace("@CODE", self.code)
            .replace("@COUNT", &vectors.len().to_string())
            .replace("@INPUTS", &rows(|v| &v.input))
            .replace("@OUTPUTS", &rows(|v| &v.output))
    }
}
