//! Quantized graph → the bytes of a file, and the proof that they mean the same.

use super::prepare;
use crate::error::{Result, bail};
use crate::graph::Graph;
use crate::lower::{IntGraph, lower, lower_owned};
use crate::onnx;

/// A quantized graph as the bytes of an ONNX file, and as the integers that it means. The bytes are read
/// again before they are given out: they mean the same.
///
/// # Errors
/// The node that has no integer form; what of the file cannot be read, or is read as something else.
pub fn export_checked(quantized: &Graph) -> Result<(Vec<u8>, IntGraph)> {
    let integer = lower(quantized)?;
    let bytes = onnx::export(quantized);
    let read = onnx::import(&bytes, None).and_then(|mut graph| {
        prepare(&mut graph)?;
        lower_owned(graph)
    });
    let read = match read {
        Ok(read) => read,
        Err(e) => bail!(Unsupported, "the quantized file could not be read again: {e}"),
    };
    if read == integer {
        return Ok((bytes, integer));
    }
    let pairs = integer.nodes.iter().zip(&read.nodes);
    let differs = pairs.map(|(a, b)| (a, a == b)).find(|(_, same)| !same);
    let last = integer.nodes.last();
    let node = differs.map(|(node, _)| node).or(last).map_or("", |node| node.origin.as_str());
    bail!(
        Unsupported,
        "the quantized file would be read as another network, from node \"{node}\" on"
    )
}
