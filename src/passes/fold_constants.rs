//! A node whose arguments are all constants becomes a constant.

use crate::graph::{Constant, Graph};
use crate::tensor::Tensor;

/// Evaluates every node that depends on real constants only, and removes it.
pub fn fold_constants(graph: &mut Graph) {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        let arguments: Option<Vec<&Tensor<f32>>> =
            node.inputs.iter().map(|&v| graph.real_constant(v)).collect();
        match arguments {
            Some(arguments) => {
                let result = node.op.eval_f32(&arguments).map(|&y| node.clamp.apply(y));
                graph.values[node.output].constant = Some(Constant::Real(result));
            }
            None => graph.nodes.push(node),
        }
    }
}
