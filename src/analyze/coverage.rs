//! Which nodes run where, known before any work is done.

use serde::Serialize;

use crate::emit::{Target, refusal};
use crate::error::{Context, Result};
use crate::graph::{Graph, Node};
use crate::lower::{IntGraph, lower};
use crate::quant::{Range, Scheme};
use crate::quantize::quantize;

/// A place where integer networks run, and what it does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// "engine", or the name of a target.
    pub target: &'static str,
    /// Nodes that it does not take.
    pub refused: Vec<Refused>,
}

/// A node that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its name.
    pub node: String,
    /// Why, with the node's name.
    pub reason: String,
}

/// What the engine, which takes whatever has an integer form, and each of `targets` do not take of a prepared
/// float graph.
///
/// A node is quantized and lowered by itself, as if all activations were in −16..16. What depends on
/// their true ranges shows only when the network is quantized.
pub fn coverage(graph: &Graph, scheme: Scheme, targets: &[&dyn Target]) -> Vec<Coverage> {
    let alone = |node: &Node| {
        let alone = graph.alone(node);
        let ranges = vec![Some(Range { lo: -16.0, hi: 16.0 }); alone.values.len()];
        lower(&quantize(&alone, &ranges, scheme)?)
    };
    let lowered: Vec<(&Node, Result<IntGraph>)> =
        graph.nodes.iter().map(|node| (node, alone(node))).collect();
    let refused = |target: Option<&&dyn Target>| {
        let reason = |(node, lowered): &(&Node, Result<IntGraph>)| {
            let reason = match lowered {
                Err(error) => Some(error.to_string()),
                Ok(int) => target.and_then(|target| refuses(*target, int)),
            };
            Some(Refused { node: node.name.clone(), reason: reason? })
        };
        lowered.iter().filter_map(reason).collect()
    };
    let engine = Coverage { target: "engine", refused: refused(None) };
    let others = targets.iter().map(|t| Coverage { target: t.name(), refused: refused(Some(t)) });
    [engine].into_iter().chain(others).collect()
}

/// Why `target` does not take an integer network, if it does not.
fn refuses(target: &dyn Target, int: &IntGraph) -> Option<String> {
    let node = int.nodes.iter().find(|node| !target.takes(&node.op))?;
    let refused: Result<()> = Err(refusal(target)).in_node(&node.name, node.op.name());
    refused.err().map(|error| error.to_string())
}
