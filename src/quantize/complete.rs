//! What a quantized file leaves unsaid: parameters of values whose codes are only moved, those of
//! indices, and codes of biases that were left real.

use super::bias::bias_params;
use crate::codes::CodeTensor;
use crate::error::{Context, Result};
use crate::graph::{Constant, Graph, Index};
use crate::ops::{OutputParams, Role};
use crate::quant::QuantParams;
use crate::tensor::Tensor;

/// Gives the result of a node that only moves codes its argument's parameters, and the other way
/// round where nothing else uses the argument; both are exact. So are indices, which have scale 1. Real
/// biases become codes in units of the accumulator. Does nothing to a float graph.
///
/// # Errors
/// The node whose bias cannot be quantized.
pub fn complete_params(graph: &mut Graph) -> Result<()> {
    if !graph.has_codes() {
        return Ok(());
    }
    let mut index = Index::new(graph);
    let moves = |graph: &Graph, i: usize| {
        let node = &graph.nodes[i];
        let moves = node.op.output_params() == OutputParams::SameAsInput;
        moves.then_some((node.inputs[0], node.output))
    };
    for i in 0..graph.nodes.len() {
        if let Some((x, y)) = moves(graph, i).filter(|&(_, y)| graph.values[y].quant.is_none()) {
            graph.values[y].quant = graph.values[x].quant.clone();
        }
    }
    for node in &graph.nodes {
        let bits = graph.values[node.inputs[0]].quant.as_ref().map(|quant| quant.width);
        let y = &mut graph.values[node.output].quant;
        if let (OutputParams::Index, Some(bits), None) = (node.op.output_params(), bits, &y) {
            *y = Some(QuantParams::index(bits));
        }
    }
    for i in (0..graph.nodes.len()).rev() {
        let open = |&(x, _): &(usize, usize)| graph.values[x].quant.is_none() && index.uses(x) == 1;
        if let Some((x, y)) = moves(graph, i).filter(open) {
            graph.values[x].quant = graph.values[y].quant.clone();
        }
    }
    for i in 0..graph.nodes.len() {
        for argument in 0..graph.nodes[i].inputs.len() {
            let node = &graph.nodes[i];
            let real = graph.real_constant(node.inputs[argument]);
            let real = real.filter(|_| node.op.role(argument) == Role::Bias);
            // Without those of input and weight there are none for a bias.
            let quant = |i: usize| graph.values[*node.inputs.get(i)?].quant.as_ref();
            let (Some(real), Some(x), Some(w)) = (real, quant(0), quant(1)) else { continue };
            let params = bias_params(x, w, real.data().len());
            let codes = Tensor::new(real.shape(), params.quantize_all(real.data(), real.shape()));
            let codes = codes.in_node(&node.name, node.op.name())?;
            let v = index.own_argument(graph, i, argument);
            graph.values[v].constant = Some(Constant::Codes(CodeTensor::new(params.width, codes)));
            graph.values[v].quant = Some(params);
        }
    }
    Ok(())
}
