//! Integer graph → source code: constants and calls. The code that is called lies in the operators'
//! folders, in the language that it is for; no function body is put together from text.

pub mod c;
pub mod rust;
#[cfg(test)]
mod tests;
mod written;

use crate::codes::Codes;
use crate::error::{Result, bail};
use crate::exec::int::IntExecutor;
use crate::graph::ValueId;
use crate::lower::{IntGraph, IntNode, IntValue};
use crate::memory::leaves_codes;
pub use crate::memory::{Memory, code_width};
use crate::ops::product::is_wide;
use crate::ops::{IntOp, Order};
use crate::tensor::Tensor;
pub use written::written_files;

/// A file of the deployed network: its name and its text.
pub type File = (String, String);

/// Number of codes of `values` together.
fn total(graph: &IntGraph, values: &[ValueId]) -> usize {
    values.iter().map(|&v| graph.values[v].len()).sum()
}

/// Whether some accumulator needs 64 bits.
fn wide(graph: &IntGraph) -> bool {
    let bounds = graph.nodes.iter().filter(|n| !n.op.sums_are_64_bits());
    bounds.filter_map(|n| n.op.acc_bound()).any(is_wide)
}

/// Whether the node leaves all codes where they are under this plan: then nothing has to be done.
fn is_nothing(node: &IntNode, memory: &Memory) -> bool {
    let place = memory.values[node.inputs[0]];
    leaves_codes(node) && place.is_some() && place == memory.values[node.output]
}

/// What a value is, for a comment.
fn describe(value: &IntValue) -> String {
    let (scale, zero) = (value.quant.scale[0], value.quant.zero_point);
    let order = match (value.shape.len(), value.order) {
        (4, Order::ChannelsLast) => {
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
    /// Runs the reference on `inputs`.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn new(reference: &IntExecutor, inputs: &[Tensor<f32>]) -> Result<Self> {
        let graph = reference.graph();
        let mut seen: Vec<Option<Codes>> = vec![None; graph.values.len()];
        reference.run_codes(inputs, |v, codes| {
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
    let bytes = codes.width().bytes();
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
