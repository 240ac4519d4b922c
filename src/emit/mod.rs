//! Integer graph → source code: constants and calls. The code that is called lies in the operators'
//! folders, in the language that it is for; no function body is put together from text.

pub mod c;
pub mod rust;
#[cfg(test)]
mod tests;

use crate::codes::Codes;
use crate::error::{Result, bail};
use crate::exec::int::IntExecutor;
use crate::exec::plan::{Buffer, DEFAULT_ALIGN, InPlace, plan};
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntNode, IntValue};
use crate::ops::accumulator::is_wide;
use crate::ops::{IntOp, Layout};
use crate::tensor::Tensor;

/// A file of the deployed network: its name and its text.
pub type File = (String, String);

/// Where every value lies while the network runs.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Offset in bytes of each value that is computed or given.
    pub values: Vec<Option<usize>>,
    /// Offset in bytes of each node's scratch memory.
    pub scratch: Vec<usize>,
    /// Bytes in all.
    pub size: usize,
    /// No plan needs less.
    pub bound: usize,
}

impl Memory {
    /// Plans for the C code, which takes scratch memory and may write a result over an argument.
    pub fn for_c(graph: &IntGraph) -> Self {
        let bits = code_bits(graph);
        let writes_over = |node: &IntNode, i: usize| node.op.writes_over(i);
        Self::plan(graph, |node| node.op.scratch(bits).unwrap_or(0), writes_over)
    }

    /// Plans for the Rust code, which borrows arguments and result at one time.
    pub fn for_rust(graph: &IntGraph) -> Self {
        Self::plan(graph, |_| 0, |_, _| false)
    }

    fn plan(
        graph: &IntGraph,
        scratch: impl Fn(&IntNode) -> usize,
        writes_over: impl Fn(&IntNode, usize) -> bool,
    ) -> Self {
        let bytes = |v: &IntValue| v.len() * code_bits(graph) as usize / 8;
        // Step 0 takes the inputs, step i + 1 computes node i, and the last one returns the outputs.
        let end = graph.nodes.len() + 1;
        let mut first = vec![None; graph.values.len()];
        graph.inputs.iter().for_each(|&v| first[v] = Some(0));
        let mut last = vec![0; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            first[node.output] = Some(i + 1);
            node.inputs.iter().chain([&node.output]).for_each(|&v| last[v] = i + 1);
        }
        graph.outputs.iter().for_each(|&v| last[v] = end);
        // What only has another shape, or another name, stays where it is.
        let mut home: Vec<ValueId> = (0..graph.values.len()).collect();
        for node in graph.nodes.iter().filter(|node| leaves_codes(node)) {
            let (x, y) = (home[node.inputs[0]], node.output);
            if first[x].is_some() && Some(last[x]) == first[y] {
                (home[y], last[x]) = (x, last[y]);
            }
        }
        let mut buffers = Vec::new();
        let mut of_value = vec![None; graph.values.len()];
        for (v, value) in graph.values.iter().enumerate() {
            if let (Some(first), true) = (first[v], home[v] == v) {
                of_value[v] = Some(buffers.len());
                buffers.push(Buffer { size: bytes(value), first, last: last[v] });
            }
        }
        let of_value: Vec<Option<usize>> = home.iter().map(|&v| of_value[v]).collect();
        let mut in_place = Vec::new();
        for node in &graph.nodes {
            for (i, v) in node.inputs.iter().enumerate() {
                let twice = node.inputs.iter().filter(|other| *other == v).count() > 1;
                if let (Some(argument), Some(result)) = (of_value[*v], of_value[node.output])
                    && argument != result
                    && writes_over(node, i)
                    && !twice
                {
                    in_place.push(InPlace { argument, result });
                }
            }
        }
        let values = buffers.len();
        for (i, node) in graph.nodes.iter().enumerate() {
            buffers.push(Buffer { size: scratch(node), first: i + 1, last: i + 1 });
        }
        let plan = plan(&buffers, &in_place, DEFAULT_ALIGN);
        Self {
            values: of_value.iter().map(|b| b.map(|b| plan.offsets[b])).collect(),
            scratch: plan.offsets[values..].to_vec(),
            size: plan.size,
            bound: plan.bound,
        }
    }
}

/// Bits of the codes of all activations.
pub fn code_bits(graph: &IntGraph) -> u32 {
    graph.values.first().map_or(8, |v| v.quant.bits)
}

/// Number of codes of `values` together.
fn total(graph: &IntGraph, values: &[ValueId]) -> usize {
    values.iter().map(|&v| graph.values[v].len()).sum()
}

/// Whether some accumulator needs 64 bits.
fn wide(graph: &IntGraph) -> bool {
    let bounds = graph.nodes.iter().filter(|n| !n.op.sums_are_64_bits());
    bounds.filter_map(|n| n.op.acc_bound()).any(is_wide)
}

/// Whether the node has the codes of its argument as its result, in the same order.
fn leaves_codes(node: &IntNode) -> bool {
    matches!(&node.op, IntOp::Transpose(op) | IntOp::Reshape(op) if op.is_copy())
}

/// Whether the node leaves all codes where they are under this plan: then nothing has to be done.
fn is_nothing(node: &IntNode, memory: &Memory) -> bool {
    let place = memory.values[node.inputs[0]];
    leaves_codes(node) && place.is_some() && place == memory.values[node.output]
}

/// What a value is, for a comment.
fn describe(value: &IntValue) -> String {
    let (scale, zero) = (value.quant.scale[0], value.quant.zero_point);
    let order = match (value.shape.len(), value.layout) {
        (4, Layout::ChannelsLast) => {
            let [n, c, h, w] = [0, 1, 2, 3].map(|i| value.shape[i]);
            format!("[n={n}, h={h}, w={w}, c={c}]")
        }
        _ => format!("{:?}", value.shape),
    };
    format!("\"{}\" {order}, real = {scale:e} * (code - {zero})", comment(&value.name))
}

/// A name as it may stand in a comment.
fn comment(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '_' })
        .collect::<String>()
        .replace("*/", "*_")
        .replace("/*", "/_")
}

/// Inputs, outputs and, layer by layer, results of one run, as codes in the order of memory.
#[derive(Clone, Debug, PartialEq)]
pub struct TestVector {
    /// All inputs, one after the other.
    pub input: Vec<i32>,
    /// All outputs, one after the other.
    pub output: Vec<i32>,
    /// The result of each node.
    pub layers: Vec<Codes>,
}

impl TestVector {
    /// Runs the engine on `inputs`.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn new(graph: &IntGraph, inputs: &[Tensor<f32>]) -> Result<Self> {
        let mut seen: Vec<Option<Codes>> = vec![None; graph.values.len()];
        IntExecutor::new(graph).run_codes(inputs, |v, codes| {
            seen[v] = Some(codes.clone());
            Ok(())
        })?;
        let codes = |v: ValueId| match seen[v].as_ref().or(graph.values[v].constant.as_ref()) {
            Some(codes) => Ok(codes.clone()),
            None => bail!(Invalid, "value \"{}\" is not computed", graph.values[v].name),
        };
        let all = |values: &[ValueId]| -> Result<Vec<i32>> {
            let lists = values.iter().map(|&v| Ok(codes(v)?.iter().collect::<Vec<_>>()));
            Ok(lists.collect::<Result<Vec<_>>>()?.concat())
        };
        let layers = graph.nodes.iter().map(|n| codes(n.output)).collect::<Result<_>>()?;
        Ok(Self { input: all(&graph.inputs)?, output: all(&graph.outputs)?, layers })
    }
}

/// FNV-1a of codes, byte by byte, the low one first: <https://www.rfc-editor.org/rfc/rfc9923>.
fn fnv1a(codes: &Codes) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ byte as u32).wrapping_mul(0x0100_0193);
    let bytes = codes.bits() as usize / 8;
    codes.iter().flat_map(|code| code.to_le_bytes().into_iter().take(bytes)).fold(0x811C_9DC5, step)
}

/// Refuses what cannot be deployed under this name.
fn check(graph: &IntGraph, name: &str) -> Result<()> {
    if graph.inputs.is_empty() || graph.outputs.is_empty() {
        bail!(Unsupported, "the network needs inputs and outputs to be deployed");
    }
    check_name(name)
}

/// Refuses a name that is no identifier.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) with the name.
pub fn check_name(name: &str) -> Result<()> {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let taken = RESERVED.contains(&name) || IntOp::kernels().any(|kernel| kernel.name == name);
    match first && rest && !taken {
        true => Ok(()),
        false => bail!(
            Invalid,
            "\"{name}\" cannot be a network's name in C and Rust: expected lower case letters, digits \
             and _, a letter first, no keyword, no kernel"
        ),
    }
}

/// Keywords of C99 and Rust, and names of files that are written beside the network's.
const RESERVED: &[&str] = &[
    "abstract", "alloc", "arith", "as", "assert", "async", "auto", "await", "become", "box",
    "break", "case", "char", "const", "continue", "core", "crate", "default", "do", "double",
    "dsp", "dyn", "else", "enum", "extern", "false", "final", "float", "fn", "for", "gen", "goto",
    "if", "impl", "in", "inline", "int", "let", "long", "loop", "macro", "main", "match", "math",
    "mod", "move", "mut", "override", "priv", "product", "pub", "ref", "register", "restrict",
    "return", "self", "short", "signed", "sizeof", "static", "std", "stdint", "stdio", "string",
    "struct", "super", "switch", "test", "trait", "true", "try", "type", "typedef", "typeof",
    "union", "unsafe", "unsigned", "unsized", "use", "vectors", "virtual", "void", "volatile",
    "where", "while", "yield",
];
