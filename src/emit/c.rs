//! C99: `net.h`, `net.c`, the kernels that this network uses, a Makefile, and a program with test
//! vectors.

use std::fmt::Write;

use super::{
    File, Memory, TestVector, code_width, comment, describe, fnv1a, is_nothing, total, wide,
};
use crate::error::Result;
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntNode};
use crate::ops::source::{CNode, Kernel};
use crate::quant::Width;

/// The files of a network called `name`; without `vectors` there is no `main.c`.
///
/// # Errors
/// A name that is no identifier, or that of another file.
pub fn emit(graph: &IntGraph, name: &str, vectors: &[TestVector]) -> Result<Vec<File>> {
    super::check(graph, name)?;
    let emitter = Emitter { graph, name, upper: name.to_uppercase(), memory: Memory::for_c(graph) };
    let mut files = vec![
        (format!("{name}.h"), emitter.header()),
        (format!("{name}.c"), emitter.source()),
        ("arith.h".into(), include_str!("../arith.h").into()),
        ("Makefile".into(), emitter.fill(include_str!("c/Makefile"))),
    ];
    let kernels = emitter.kernels();
    if kernels.iter().any(|kernel| kernel.products) {
        files.push(("product.c".into(), include_str!("../ops/product/product.c").into()));
        files.push(("dsp.h".into(), include_str!("../ops/product/dsp.h").into()));
    }
    files.extend(kernels.iter().map(|kernel| (file_of(kernel), kernel.c.into())));
    if !vectors.is_empty() {
        files.push(("main.c".into(), emitter.fill(include_str!("c/main.c"))));
        files.push(("vectors.h".into(), emitter.vectors(vectors)));
    }
    Ok(files)
}

/// A program that reads inputs from standard input and writes outputs, and what each layer computed,
/// to standard output: for `verify`.
pub fn runner(name: &str) -> String {
    include_str!("c/run.c")
        .replace("NET_", &format!("{}_", name.to_uppercase()))
        .replace("net_", &format!("{name}_"))
        .replace("\"net.h\"", &format!("\"{name}.h\""))
}

/// The file of a kernel; that of the network could have the same name.
fn file_of(kernel: &Kernel) -> String {
    format!("{}.c", kernel.name)
}

/// Bytes of constants that the linker puts into flash.
pub fn constant_bytes(graph: &IntGraph) -> usize {
    let memory = Memory::for_c(graph);
    let emitter = Emitter { graph, name: "net", upper: "NET".into(), memory };
    emitter.nodes().iter().map(|node| node.bytes).sum::<usize>() + emitter.constant_values()
}

struct Emitter<'a> {
    graph: &'a IntGraph,
    name: &'a str,
    upper: String,
    memory: Memory,
}

impl Emitter<'_> {
    /// A file that is the same for every network but for the name.
    fn fill(&self, text: &str) -> String {
        text.replace("NET_", &format!("{}_", self.upper))
            .replace("net_", &format!("{}_", self.name))
            .replace("net.", &format!("{}.", self.name))
    }

    /// Each kernel once, in the order of first use.
    fn kernels(&self) -> Vec<&'static Kernel> {
        let mut kernels: Vec<&Kernel> = Vec::new();
        for node in &self.graph.nodes {
            let kernel = node.op.kernel();
            if !is_nothing(node, &self.memory) && !kernels.iter().any(|k| k.name == kernel.name) {
                kernels.push(kernel);
            }
        }
        kernels
    }

    fn nodes(&self) -> Vec<CNode> {
        let (width, wide) = (code_width(self.graph), wide(self.graph));
        let weight_width = weight_width(self.graph);
        let node = |(i, node): (usize, &IntNode)| {
            let (name, size) = (format!("layer{i}"), self.graph.values[node.output].len());
            let mut c = CNode { name, width, wide, size, weight_width, ..CNode::default() };
            if !is_nothing(node, &self.memory) {
                node.op.emit_c(&mut c);
            }
            c
        };
        self.graph.nodes.iter().enumerate().map(node).collect()
    }

    fn constant_values(&self) -> usize {
        let constants = self.graph.values.iter().filter(|v| v.constant.is_some());
        constants.map(|v| v.len() * code_width(self.graph).bytes()).sum()
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
        let [input, output] = [&graph.inputs, &graph.outputs].map(|values| total(graph, values));
        let edges = [("INPUT", &graph.inputs), ("OUTPUT", &graph.outputs)];
        let parameters = edges.map(|(what, values)| self.parameters(what, values)).join("\n");
        let declare = |(of, _)| {
            format!(
                "/* The place of the {of} within this memory: passed to net_run, it is not copied. What is there\n   \
                 does not outlive the next call. */\nnet_code_t *net_{of}(void);\n"
            )
        };
        let places: String = self.own_places().map(declare).collect();
        let fill = include_str!("c/net.h")
            .replace("@BITS", &code_width(graph).to_string())
            .replace("@INPUT_SIZE", &input.to_string())
            .replace("@OUTPUT_SIZE", &output.to_string())
            .replace("@ARENA_SIZE", &self.memory.size.to_string())
            .replace("@PLACES\n", &places)
            .replace("@LAYERS", &graph.nodes.len().to_string())
            .replace("@PARAMETERS", &parameters);
        text + " */\n" + &self.fill(&fill)
    }

    /// Scale and zero point of inputs or outputs.
    fn parameters(&self, what: &str, values: &[ValueId]) -> String {
        let mut text = String::new();
        for (i, &v) in values.iter().enumerate() {
            let quant = &self.graph.values[v].quant;
            let number = if i == 0 { String::new() } else { i.to_string() };
            let (scale, zero) = (quant.scale[0], quant.zero_point);
            let _ = writeln!(text, "#define NET_{what}{number}_SCALE {scale:e}f");
            let _ = writeln!(text, "#define NET_{what}{number}_ZERO_POINT ({zero})");
        }
        text.trim_end().into()
    }

    fn source(&self) -> String {
        let graph = self.graph;
        // Names in comments are the file's, and stay as they are.
        let mut text = self
            .fill(include_str!("c/net.c"))
            .replace("@BITS", &code_width(graph).to_string())
            .replace("@WEIGHT_BITS", &weight_width(graph).to_string())
            .replace("@ACC_BITS", if wide(graph) { "64" } else { "32" });
        text += "\n";
        let kernels = self.kernels();
        if kernels.iter().any(|kernel| kernel.products) {
            text += "#include \"product.c\"\n";
        }
        kernels.iter().for_each(|kernel| text += &format!("#include \"{}\"\n", file_of(kernel)));
        let nodes = self.nodes();
        for (v, value) in graph.values.iter().enumerate() {
            if let Some(codes) = &value.constant {
                let mut c = CNode { name: format!("value{v}"), ..CNode::default() };
                c.array("codes", "code_t", codes.iter());
                text += &format!("\n/* {} */\n{}", describe(value), c.constants);
            }
        }
        for (node, c) in graph.nodes.iter().zip(&nodes) {
            let bound = node.op.acc_bound().map_or(String::new(), |b| format!(", |acc| <= {b}"));
            let (name, op) = (comment(&node.name), node.op.name());
            let what = describe(&graph.values[node.output]);
            text +=
                &format!("\n/* {}: {op} \"{name}\"{bound}\n   {what} */\n{}", c.name, c.constants);
        }
        text += "\n";
        let place = |of: &str, v: ValueId| {
            let place =
                self.at(self.memory.values[v].unwrap_or(0)).replace("memory", "arena.codes");
            format!("net_code_t *net_{of}(void)\n{{\n    return {place};\n}}\n\n")
        };
        let places: String = self.own_places().map(|(of, v)| place(of, v)).collect();
        text += &self.fill(&include_str!("c/arena.c").replace("@PLACES\n", &places));
        for (i, &v) in graph.inputs.iter().enumerate() {
            let start = total(graph, &graph.inputs[..i]);
            text += &self.copy(v, &format!("input + {start}"), true);
        }
        for (i, (node, c)) in graph.nodes.iter().zip(&nodes).enumerate() {
            for (kernel, constants, argument) in &c.calls {
                let inputs = match argument {
                    Some(argument) => &node.inputs[*argument..=*argument],
                    None => &node.inputs[..],
                };
                let mut arguments = vec![format!("&{constants}")];
                arguments.extend(inputs.iter().chain([&node.output]).map(|&v| self.place(v)));
                if node.op.scratch(code_width(graph)).is_some() {
                    arguments.push(self.at(self.memory.scratch[i]));
                }
                let _ = writeln!(text, "    {kernel}({});", arguments.join(", "));
            }
            let y = node.output;
            let _ = writeln!(text, "    TRACE({i}, {}, {});", self.place(y), graph.values[y].len());
        }
        for (i, &v) in graph.outputs.iter().enumerate() {
            let start = total(graph, &graph.outputs[..i]);
            text += &self.copy(v, &format!("output + {start}"), false);
        }
        text + "}\n"
    }

    /// The input and the output, as far as there is just one, and it is not a constant.
    fn own_places(&self) -> impl Iterator<Item = (&'static str, ValueId)> {
        let edges = [("input", &self.graph.inputs), ("output", &self.graph.outputs)];
        edges.into_iter().filter_map(|(name, values)| match values[..] {
            [v] if self.memory.values[v].is_some() => Some((name, v)),
            _ => None,
        })
    }

    fn at(&self, offset: usize) -> String {
        format!("memory + {}", offset / code_width(self.graph).bytes())
    }

    fn place(&self, v: ValueId) -> String {
        match self.memory.values[v] {
            Some(offset) => self.at(offset),
            None => format!("value{v}_codes"),
        }
    }

    /// Moves a value between the caller's memory and ours, unless the caller's is ours.
    fn copy(&self, v: ValueId, theirs: &str, inward: bool) -> String {
        let (ours, size) = (self.place(v), self.graph.values[v].len());
        let (to, from) = if inward { (ours.as_str(), theirs) } else { (theirs, ours.as_str()) };
        format!(
            "    if ({to} != {from}) {{\n        memcpy({to}, {from}, {size} * sizeof(code_t));\n    }}\n"
        )
    }

    fn vectors(&self, vectors: &[TestVector]) -> String {
        let mut text = format!(
            "/* Test vectors of {}.h: inputs, the outputs that the reference computes, and the FNV-1a hashes\n   \
             of what each layer computes. */\n#define NET_VECTORS {}\n",
            self.name,
            vectors.len()
        );
        let rows = |of: &dyn Fn(&TestVector) -> Vec<String>| {
            let rows = vectors.iter().map(|v| format!("    {{{}}}", lines(&of(v))));
            rows.collect::<Vec<_>>().join(",\n")
        };
        let codes = |codes: &[i32]| codes.iter().map(i32::to_string).collect::<Vec<_>>();
        let hashes =
            |v: &TestVector| v.layers.iter().map(|l| format!("0x{:08x}u", fnv1a(l))).collect();
        for (name, of) in [
            (
                "const net_code_t net_inputs[NET_VECTORS][NET_INPUT_SIZE]",
                &(|v: &TestVector| codes(&v.input)) as &dyn Fn(&TestVector) -> Vec<String>,
            ),
            ("const net_code_t net_outputs[NET_VECTORS][NET_OUTPUT_SIZE]", &|v: &TestVector| {
                codes(&v.output)
            }),
        ] {
            let _ = writeln!(text, "static {name} = {{\n{}\n}};", rows(of));
        }
        let _ = writeln!(
            text,
            "#ifdef NET_TRACE\nstatic const uint32_t net_layers[NET_VECTORS][NET_LAYERS] = {{\n{}\n}};\n#endif",
            rows(&hashes)
        );
        self.fill(&text)
    }
}

/// Bits of the widest weights: narrower ones are stored like them.
fn weight_width(graph: &IntGraph) -> Width {
    graph.nodes.iter().map(|n| n.op.weight_width()).max().unwrap_or(Width::W8)
}

/// Twenty numbers in a line.
fn lines(numbers: &[String]) -> String {
    numbers.chunks(20).map(|line| line.join(",")).collect::<Vec<_>>().join(",\n     ")
}
