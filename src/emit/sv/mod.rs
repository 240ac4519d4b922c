//! SystemVerilog: a module for each node, from the operators' folders, and streams of codes between them.

mod design;
mod plan;
mod schedule;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::path::Path;

pub use plan::{Aim, Plan};

use self::design::{Design, Instance, Kind, emitted};
use self::plan::{FRAMES, designed};
use self::schedule::Schedule;
use super::{
    Build, Edge, File, Layout, Memory, Target, TestVector, comment, describe, fill, operators, word,
};
use crate::error::{Result, bail};
use crate::lower::{IntGraph, IntNode};
use crate::ops::language::Sv;
use crate::ops::language::sv::{self, Parameter, code_bits};

operators!(
    Sv: Add, AveragePool, Clip, Conv, Function, Linear, MaxPool, Mean, Recode, Reshape, Softmax, Transpose, Unary,
);

impl Target for Sv {
    fn name(&self) -> &'static str {
        "sv"
    }

    fn about(&self) -> &'static str {
        "SystemVerilog, streams between modules; not all operators"
    }

    fn takes(&self, graph: &IntGraph, node: &IntNode) -> Result<()> {
        emitted(graph, node, u64::MAX).map(|_| ())
    }

    fn files(&self, graph: &IntGraph, name: &str, vectors: &[TestVector]) -> Result<Vec<File>> {
        hardware(graph, name, vectors, Aim::default()).map(|(files, _)| files)
    }

    fn runner(&self, graph: &IntGraph, name: &str) -> File {
        let text = Design::new(graph, 1).map(|design| Printer(&design).runner(name));
        ("run.sv".into(), text.unwrap_or_default())
    }

    fn memory(&self, _: &IntGraph) -> Option<Memory> {
        None
    }

    fn builds(&self) -> &'static [Build] {
        &[Build {
            name: "sv",
            tool: ("VERILATOR", "verilator"),
            install: "Verilator 5 (https://verilator.org; Debian: verilator)",
            arguments: &[
                "--binary",
                "-O3",
                "-Mdir",
                "build",
                "--top-module",
                "run",
                "-o",
                "run",
                "-f",
                "net.f",
                "run.sv",
            ],
            program: "build/run",
        }]
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn test(&self, folder: &Path, _: &Layout) -> String {
        format!("make -C {} test", word(folder))
    }
}

/// The files of `graph` as hardware called `name`, and what it comes to.
///
/// # Errors
/// As for [`Target::files`]; an aim that cannot be met.
pub fn hardware(
    graph: &IntGraph,
    name: &str,
    vectors: &[TestVector],
    aim: Aim,
) -> Result<(Vec<File>, Plan)> {
    super::check(graph, name)?;
    let (design, schedule) = designed(graph, aim)?;
    let plan = Plan::of(&design, &schedule);
    let sources = design.sources();
    if KEYWORDS.contains(&name)
        || sources.iter().any(|source| source.file.trim_end_matches(".sv") == name)
    {
        bail!(
            Invalid,
            "\"{name}\" cannot be a network's name in SystemVerilog: it is a keyword, or a module"
        );
    }
    let printer = Printer(&design);
    let mut files = vec![(format!("{name}.sv"), printer.network(name))];
    files.extend(sources.iter().map(|source| (source.file.into(), module(source.text))));
    let list: String = files.iter().rev().map(|(file, _)| format!("{file}\n")).collect();
    let list = format!("// The modules of {name}, written by naive-ptq\n{list}");
    files.push((format!("{name}.f"), list));
    files.extend(printer.memories());
    files.push(("README.md".into(), printer.readme(name, &plan)));
    if !vectors.is_empty() {
        let cycles = match vectors.len() {
            FRAMES => schedule.ends.last().copied(),
            frames => {
                Schedule::of(&design, frames, u64::MAX).and_then(|it| it.ends.last().copied())
            }
        };
        files.push((
            format!("{name}_tb.sv"),
            printer.bench(name, vectors.len(), cycles.unwrap_or(0)),
        ));
        files.push(("source.sv".into(), module(include_str!("source.sv"))));
        files.push(("sink.sv".into(), module(include_str!("sink.sv"))));
        files.extend(printer.vectors(vectors));
    }
    files.push(("Makefile".into(), fill(include_str!("Makefile.in"), &[("NAME", name)])));
    Ok((files, plan))
}

/// A file that is the same for all networks, with a mark by which it is known.
fn module(text: &str) -> String {
    format!("// A module of naive-ptq.\n{text}")
}

/// Names that a module cannot have, beside those that no network can have.
const KEYWORDS: &[&str] = &[
    "always",
    "and",
    "assign",
    "begin",
    "bit",
    "bind",
    "buf",
    "byte",
    "case",
    "cell",
    "checker",
    "class",
    "clocking",
    "config",
    "cover",
    "defparam",
    "deassign",
    "design",
    "disable",
    "edge",
    "end",
    "event",
    "export",
    "force",
    "fork",
    "forever",
    "function",
    "generate",
    "genvar",
    "global",
    "iff",
    "import",
    "initial",
    "inout",
    "input",
    "inside",
    "instance",
    "integer",
    "interface",
    "join",
    "large",
    "let",
    "liblist",
    "library",
    "local",
    "logic",
    "medium",
    "modport",
    "module",
    "nand",
    "negedge",
    "new",
    "nmos",
    "nor",
    "not",
    "null",
    "or",
    "output",
    "package",
    "packed",
    "parameter",
    "pmos",
    "posedge",
    "primitive",
    "priority",
    "program",
    "property",
    "protected",
    "pull0",
    "pull1",
    "pulldown",
    "pullup",
    "pure",
    "rand",
    "randc",
    "randcase",
    "real",
    "realtime",
    "reg",
    "release",
    "repeat",
    "run",
    "scalared",
    "sequence",
    "shortint",
    "shortreal",
    "showcancelled",
    "sink",
    "small",
    "solve",
    "source",
    "specify",
    "specparam",
    "strong",
    "strong0",
    "strong1",
    "sync_accept_on",
    "supply0",
    "supply1",
    "table",
    "tagged",
    "task",
    "this",
    "timeprecision",
    "timeunit",
    "tran",
    "tri",
    "tri0",
    "tri1",
    "triand",
    "trior",
    "trireg",
    "unique",
    "unique0",
    "until",
    "use",
    "uwire",
    "var",
    "vectored",
    "virtual",
    "wait",
    "wand",
    "weak",
    "weak0",
    "weak1",
    "wildcard",
    "wire",
    "with",
    "within",
    "wor",
    "xnor",
    "xor",
    "alias",
    "assume",
    "before",
    "bins",
    "binsof",
    "chandle",
    "constraint",
    "context",
    "cross",
    "dist",
    "endcase",
    "endmodule",
    "eventually",
    "expect",
    "extends",
    "foreach",
    "forkjoin",
    "highz0",
    "highz1",
    "ifnone",
    "implements",
    "implies",
    "include",
    "incdir",
    "interconnect",
    "intersect",
    "matches",
    "nettype",
    "nexttime",
    "notif0",
    "notif1",
    "bufif0",
    "bufif1",
    "cmos",
    "rcmos",
    "rnmos",
    "rpmos",
    "rtran",
    "s_always",
    "soft",
    "strong",
    "super",
    "throughout",
    "type",
    "untyped",
    "wait_order",
    "write",
];

/// Prints a design.
struct Printer<'a>(&'a Design<'a>);

impl Printer<'_> {
    /// `text` for each edge of the network, with its name, the bits of a code and the codes of a frame.
    fn edges(&self, inputs: &str, outputs: &str) -> Vec<String> {
        let each = self.0.edges().into_iter().map(|edge| {
            let values = [
                ("NAME", &*edge.name),
                ("TOP", &*(code_bits(edge.value.quant.width) - 1).to_string()),
                ("BITS", &*code_bits(edge.value.quant.width).to_string()),
                ("FRAME", &*edge.value.len().to_string()),
            ];
            fill(if edge.is_input() { inputs } else { outputs }, &values)
        });
        each.filter(|text| !text.is_empty()).collect()
    }

    fn ports(&self) -> String {
        let input = ",\n    input  wire [@TOP:0] @NAME_tdata,\n    input  wire @NAME_tvalid,\n    output wire @NAME_tready";
        let output = ",\n    output wire [@TOP:0] @NAME_tdata,\n    output wire @NAME_tvalid,\n    input  wire @NAME_tready,\n    output wire @NAME_tlast";
        self.edges(input, output).concat()
    }

    fn network(&self, name: &str) -> String {
        let graph = self.0.graph;
        let mut doc = String::new();
        for edge in self.0.edges() {
            let _ = writeln!(doc, "// {}: {}", edge.name, describe(edge.value));
        }
        let mut body = String::new();
        for stream in &self.0.streams {
            let (name, top) = (&stream.name, stream.bits - 1);
            let _ = writeln!(
                body,
                "    wire [{top}:0] {name}_tdata;\n    wire {name}_tvalid, {name}_tready;"
            );
        }
        let edges = self.0.edges();
        let (inputs, outputs): (Vec<&Edge>, Vec<&Edge>) =
            edges.iter().partition(|edge| edge.is_input());
        for (number, instance) in self.0.instances.iter().enumerate() {
            body += &match &instance.kind {
                &Kind::Input(i) => self.input(inputs[i], instance),
                &Kind::Output(i) => self.output(outputs[i], instance),
                Kind::Drop => {
                    format!("    assign {}_tready = 1'b1;\n", self.name(instance.inputs[0]))
                }
                Kind::Fork => self.fork(instance),
                &Kind::Queue(depth) => self.queue(instance, depth),
                Kind::Constant(_) => self.constant(number, instance),
                &Kind::Node(i) => {
                    let node = &graph.nodes[i];
                    let what =
                        format!("\n    // {}: {} \"{}\"\n", i, node.op.name(), comment(&node.name));
                    what + &self.node(i, instance)
                }
            };
        }
        let values = [
            ("NAME", name),
            ("VERSION", env!("CARGO_PKG_VERSION")),
            ("DOC", &*doc),
            ("PORTS", &*self.ports()),
            ("BODY", &*body),
        ];
        fill(include_str!("net.sv.in"), &values)
    }

    fn name(&self, stream: usize) -> &str {
        &self.0.streams[stream].name
    }

    /// The ports of a stream, which an instance calls `port`.
    fn connected(&self, port: &str, stream: usize) -> String {
        let name = self.name(stream);
        format!(
            ".{port}_tdata({name}_tdata), .{port}_tvalid({name}_tvalid), .{port}_tready({name}_tready)"
        )
    }

    fn input(&self, edge: &Edge, instance: &Instance) -> String {
        let (stream, name) = (self.name(instance.outputs[0]), &edge.name);
        let bits = code_bits(edge.value.quant.width);
        let flip = if edge.is_flipped() {
            format!(" ^ {bits}'h{:x}", 1_u64 << (bits - 1))
        } else {
            String::new()
        };
        format!(
            "    assign {stream}_tdata = {name}_tdata{flip};\n    assign {stream}_tvalid = {name}_tvalid;\n    assign {name}_tready = {stream}_tready;\n"
        )
    }

    fn output(&self, edge: &Edge, instance: &Instance) -> String {
        let (stream, name) = (self.name(instance.inputs[0]), &edge.name);
        let length = self.0.streams[instance.inputs[0]].frame;
        format!(
            "\n    assign {name}_tdata = {stream}_tdata;\n    assign {name}_tvalid = {stream}_tvalid;\n    assign {stream}_tready = {name}_tready;\n    \
             frame #(.LENGTH({length})) u_{name} (\n        .clk(clk), .rst_n(rst_n), .go({name}_tvalid && {name}_tready), .last({name}_tlast)\n    );\n"
        )
    }

    fn fork(&self, instance: &Instance) -> String {
        let (from, n) = (self.name(instance.inputs[0]), instance.outputs.len());
        let names: Vec<&str> = instance.outputs.iter().map(|&output| self.name(output)).collect();
        let all = |what: &str| {
            let each: Vec<String> =
                names.iter().rev().map(|name| format!("{name}_{what}")).collect();
            each.join(", ")
        };
        let data = names.iter().map(|name| format!("    assign {name}_tdata = {from}_tdata;\n"));
        format!(
            "{}    fork_stream #(.N({n})) u_{from}_fork (\n        .clk(clk), .rst_n(rst_n), .s_tvalid({from}_tvalid), .s_tready({from}_tready),\n        \
             .m_tvalid({{{}}}), .m_tready({{{}}})\n    );\n",
            data.collect::<String>(),
            all("tvalid"),
            all("tready"),
        )
    }

    fn queue(&self, instance: &Instance, depth: usize) -> String {
        let (from, to) = (instance.inputs[0], instance.outputs[0]);
        let (name, width) = (self.name(to), self.0.streams[to].bits);
        format!(
            "    queue #(.WIDTH({width}), .DEPTH({depth})) u_{name} (\n        .clk(clk), .rst_n(rst_n),\n        {},\n        {}\n    );\n",
            self.connected("s", from),
            self.connected("m", to)
        )
    }

    fn constant(&self, _: usize, instance: &Instance) -> String {
        let Kind::Constant(memory) = &instance.kind else { return String::new() };
        let (name, period) = (self.name(instance.outputs[0]), memory.words.len());
        format!(
            "    constant #(.WIDTH({}), .PERIOD({period}), .CODES(\"{name}.hex\")) u_{name} (\n        .clk(clk), .rst_n(rst_n),\n        {}\n    );\n",
            memory.bits,
            self.connected("m", instance.outputs[0])
        )
    }

    fn node(&self, i: usize, instance: &Instance) -> String {
        let Some(node) = &self.0.nodes[i] else { return String::new() };
        let ports: Vec<String> = match instance.inputs[..] {
            [one] => vec![self.connected("s", one)],
            _ => instance
                .inputs
                .iter()
                .zip(["a", "b", "c", "d"])
                .map(|(&input, port)| self.connected(port, input))
                .collect(),
        };
        let parameter = |(name, value): &(&str, Parameter)| match *value {
            Parameter::Int(value) => format!(".{name}({value})"),
            Parameter::Bits(bits, value) => {
                let mask = if bits < 64 { (1_u64 << bits) - 1 } else { u64::MAX };
                format!(".{name}({bits}'sh{:x})", value as u64 & mask)
            }
        };
        let files = node.memories.iter().map(|memory| {
            format!(".{}(\"layer{i}_{}.hex\")", memory.parameter, memory.parameter.to_lowercase())
        });
        let parameters = super::list(node.parameters.iter().map(parameter).chain(files));
        let parameters = parameters.replace("\n    ", "\n        ");
        format!(
            "    {} #(\n        {parameters}\n    ) u_layer{i} (\n        .clk(clk), .rst_n(rst_n),\n        {},\n        {}\n    );\n",
            node.module,
            ports.join(",\n        "),
            self.connected("m", instance.outputs[0])
        )
    }

    /// The files that are read with `$readmemh`.
    fn memories(&self) -> Vec<File> {
        let file = |name: String, what: &str, words: &[String]| {
            (name, format!("// {what}, written by naive-ptq\n{}\n", words.join("\n")))
        };
        let mut files = Vec::new();
        for instance in &self.0.instances {
            match &instance.kind {
                Kind::Constant(memory) => {
                    let name = self.name(instance.outputs[0]);
                    files.push(file(format!("{name}.hex"), "Codes", &memory.words));
                }
                &Kind::Node(i) => {
                    for sv::Memory { parameter, words, .. } in
                        self.0.nodes[i].iter().flat_map(|n| &n.memories)
                    {
                        let what = parameter.to_lowercase();
                        files.push(file(
                            format!("layer{i}_{what}.hex"),
                            &format!("Constants of layer {i}"),
                            words,
                        ));
                    }
                }
                _ => {}
            }
        }
        files
    }

    fn readme(&self, name: &str, plan: &Plan) -> String {
        let rows = self.edges(
            "| `@NAME_tdata[@TOP:0]`, `@NAME_tvalid`, `@NAME_tready` | takes @FRAME codes of a frame |\n",
            "| `@NAME_tdata[@TOP:0]`, `@NAME_tvalid`, `@NAME_tready`, `@NAME_tlast` | gives @FRAME codes of a frame, and tells the last |\n",
        );
        let values =
            [("NAME", name), ("PLAN", &*format!("```\n{plan}```\n\n")), ("PORTS", &*rows.concat())];
        fill(include_str!("README.in"), &values)
    }

    /// Wires of all edges, their connections, and what holds for all of them.
    fn bench(&self, name: &str, frames: usize, cycles: u64) -> String {
        let wires = self.edges(
            "    wire [@TOP:0] @NAME_tdata;\n    wire @NAME_tvalid, @NAME_tready;\n",
            "    wire [@TOP:0] @NAME_tdata;\n    wire @NAME_tvalid, @NAME_tready, @NAME_tlast;\n    int @NAME_taken, @NAME_errors;\n",
        );
        let count = |text: &str| text.replace("HOW_MANY", &frames.to_string());
        let ends = self.edges(
            &count("    source #(.WIDTH(@BITS), .COUNT(HOW_MANY * @FRAME), .CODES(\"@NAME.hex\")) u_@NAME (\n        .clk(clk), .rst_n(rst_n), .percent(give), .m_tdata(@NAME_tdata), .m_tvalid(@NAME_tvalid), .m_tready(@NAME_tready)\n    );\n"),
            &count("    sink #(.WIDTH(@BITS), .FRAME(@FRAME), .COUNT(HOW_MANY * @FRAME), .CODES(\"@NAME.hex\")) u_@NAME (\n        .clk(clk), .rst_n(rst_n), .percent(take), .s_tdata(@NAME_tdata), .s_tvalid(@NAME_tvalid), .s_tready(@NAME_tready),\n        .s_tlast(@NAME_tlast), .taken(@NAME_taken), .errors(@NAME_errors)\n    );\n"),
        );
        let all =
            |inputs: &str, outputs: &str, between: &str| self.edges(inputs, outputs).join(between);
        let went = "(@NAME_tvalid && @NAME_tready)";
        let values = [
            ("NAME", name),
            ("CYCLES", &*cycles.to_string()),
            ("WIRES", &*wires.concat()),
            ("PORTS", &*self.connections()),
            ("ENDS", &*ends.concat()),
            ("HALF", &*all("", &count("@NAME_taken > HOW_MANY * @FRAME / 2"), " && ")),
            ("ALL", &*all("", &count("@NAME_taken == HOW_MANY * @FRAME"), " && ")),
            ("ERRORS", &*all("", "@NAME_errors", " + ")),
            ("CAME", &*all(went, "", " || ")),
            ("LEFT", &*all("", went, " || ")),
        ];
        fill(include_str!("tb.sv.in"), &values)
    }

    fn connections(&self) -> String {
        let stream = ",\n        .@NAME_tdata(@NAME_tdata), .@NAME_tvalid(@NAME_tvalid), .@NAME_tready(@NAME_tready)";
        self.edges(stream, &format!("{stream}, .@NAME_tlast(@NAME_tlast)")).concat()
    }

    fn vectors(&self, vectors: &[TestVector]) -> Vec<File> {
        let file = |edge: Edge| {
            let bits = code_bits(edge.value.quant.width);
            let mask = (1_i64 << bits) - 1;
            let codes = vectors.iter().flat_map(|vector| edge.codes(vector));
            let lines =
                codes.map(|code| format!("{:0digits$x}\n", code as i64 & mask, digits = bits / 4));
            let text = format!("// Test vectors of {}\n{}", edge.name, lines.collect::<String>());
            (format!("{}.hex", edge.name), text)
        };
        self.0.edges().into_iter().map(file).collect()
    }

    /// A program around the network, for `verify`.
    fn runner(&self, name: &str) -> String {
        let wires = self.edges(
            "    logic [@TOP:0] @NAME_tdata;\n    wire @NAME_tvalid, @NAME_tready;\n    logic [@TOP:0] @NAME_codes [0:@FRAME-1];\n    int @NAME_sent;\n",
            "    wire [@TOP:0] @NAME_tdata;\n    wire @NAME_tvalid, @NAME_tlast;\n    wire @NAME_tready = go;\n",
        );
        let inputs = self.edges(
            "    always @(negedge clk) @NAME_tdata = @NAME_codes[@NAME_sent];\n    assign @NAME_tvalid = go && @NAME_sent < @FRAME;\n    always_ff @(posedge clk) @NAME_sent <= go ? @NAME_sent + int'(@NAME_tvalid && @NAME_tready) : 0;\n",
            "",
        );
        let read = "            for (int i = 0; i < @FRAME; i = i + 1) begin\n                for (int b = 0; b < @BITS; b = b + 8) begin\n                    byte_read = $fgetc(from);\n                    if (byte_read < 0) ended = 1;\n                    @NAME_codes[i][b+:8] = byte_read[7:0];\n                end\n            end\n";
        let (graph, streams) = (self.0.graph, &self.0.streams);
        let mut watched: Vec<(String, String, usize, usize)> = Vec::new();
        for (i, (node, &stream)) in graph.nodes.iter().zip(&self.0.results).enumerate() {
            let value = &graph.values[node.output];
            watched.push((
                format!("layer{i}"),
                format!("dut.{}", streams[stream].name),
                code_bits(value.quant.width),
                value.len(),
            ));
        }
        for edge in self.0.edges().iter().filter(|edge| !edge.is_input()) {
            watched.push((
                edge.name.clone(),
                edge.name.clone(),
                code_bits(edge.value.quant.width),
                edge.value.len(),
            ));
        }
        let (mut text, mut done, mut write) = (inputs.concat(), vec![], String::new());
        for (name, stream, bits, len) in &watched {
            let _ = writeln!(
                text,
                "    logic [{}:0] {name}_seen [0:{}];\n    int {name}_count;\n    always_ff @(posedge clk) begin\n        \
                 if (!go) {name}_count <= 0;\n        else if ({stream}_tvalid && {stream}_tready && {name}_count < {len}) begin\n            \
                 {name}_seen[{name}_count] <= {stream}_tdata;\n            {name}_count <= {name}_count + 1;\n        end\n    end",
                bits - 1,
                len - 1
            );
            done.push(format!("{name}_count == {len}"));
            let bytes: Vec<String> =
                (0..*bits).step_by(8).map(|b| format!("{name}_seen[i][{b}+:8]")).collect();
            let _ = writeln!(
                write,
                "                for (int i = 0; i < {len}; i = i + 1) $fwrite(to, \"{}\", {});",
                "%c".repeat(bytes.len()),
                bytes.join(", ")
            );
        }
        let values = [
            ("NAME", name),
            ("WIRES", &*wires.concat()),
            ("PORTS", &*self.connections()),
            ("STREAMS", &*text),
            ("DONE", &*done.join(" && ")),
            ("READ", &*self.edges(read, "").concat()),
            ("WRITE", &*write),
        ];
        fill(include_str!("run.sv.in"), &values)
    }
}
