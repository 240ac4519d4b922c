//! A node whose arguments are all constants becomes a constant.

use crate::graph::{Constant, Folding, Graph};

/// Evaluates every node that depends on real constants only, and removes it.
pub fn fold_constants(graph: &mut Graph) {
    let mut folding = Folding::default();
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        match graph.constant_result(&node, &mut folding) {
            Some(result) => graph.values[node.output].constant = Some(Constant::Real(result)),
            None => graph.nodes.push(node),
        }
    }
}
