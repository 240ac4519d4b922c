//! What a quantized file leaves unsaid: parameters of values whose codes are only moved, those of
//! indices, and codes of biases that were left real or count in other units.

use super::bias::bias_params;
use super::weights::weight_params;
use crate::codes::CodeTensor;
use crate::error::{Context, Result, bail};
use crate::graph::{Constant, Graph, Index, Node};
use crate::ops::{OutputParams, Role};
use crate::quant::{QuantParams, Scheme, Width};
use crate::tensor::Tensor;

/// Gives the result of a node that only moves codes its argument's parameters, and the other way
/// round where nothing else uses the argument; both are exact. So are indices, which have scale 1. Real
/// biases, and those in other units, become codes in units of the accumulator, and real weights with one number
/// for each channel codes with a scale for each. Does nothing to a float graph.
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
            let Some((codes, params)) = factor_codes(graph, &graph.nodes[i], argument) else {
                continue;
            };
            let v = index.own_argument(graph, i, argument);
            graph.values[v].constant = Some(Constant::Codes(codes));
            graph.values[v].quant = Some(params);
        }
        for argument in 0..graph.nodes[i].inputs.len() {
            let node = &graph.nodes[i];
            let own = bias_codes(graph, node, argument).in_node(&node.name, node.op.name());
            let Some((codes, params)) = own? else { continue };
            let v = index.own_argument(graph, i, argument);
            graph.values[v].constant = Some(Constant::Codes(codes));
            graph.values[v].quant = Some(params);
        }
        let node = &graph.nodes[i];
        if let Some(params) = sign_params(graph, node) {
            let y = node.output;
            graph.values[y].quant = Some(params);
        }
    }
    Ok(())
}

/// Parameters under which the result of `node`, of which only the sign counts, is saturated as well: a scale of which the
/// unit of the accumulator is a multiple large enough. `None` where something else counts.
fn sign_params(graph: &Graph, node: &Node) -> Option<QuantParams> {
    let quant = |v: usize| graph.values[v].quant.as_ref();
    let [x, w] = [node.inputs[0], *node.inputs.get(1)?].map(quant);
    if quant(node.output) != Some(&QuantParams::sign()) {
        return None;
    }
    let Role::Weight { .. } = node.op.role(1) else { return None };
    let units = bias_params(x?, w?, w?.scale.len()).scale;
    // Of these a factor is a multiplier.
    let scale = units.iter().fold(0f32, |max, &unit| max.max(unit)) / (1 << 22) as f32;
    let counts = scale.is_normal() && units.iter().all(|unit| *unit >= scale);
    counts.then(|| QuantParams { scale: vec![scale], ..QuantParams::sign() })
}

/// Codes of argument `argument` of `node`, if it is a real weight with one number for each channel: a scale for
/// each says them all.
fn factor_codes(graph: &Graph, node: &Node, argument: usize) -> Option<(CodeTensor, QuantParams)> {
    let Role::Weight { axis } = node.op.role(argument) else { return None };
    let real = graph.real_constant(node.inputs[argument])?;
    if real.shape().get(axis) != Some(&real.data().len()) {
        return None;
    }
    let scale = |v: usize| Some(graph.values[v].quant.as_ref()?.scale[0]);
    let scales = [scale(node.inputs[0])?, scale(node.output)?];
    let bias = node.inputs.get(2).and_then(|&v| graph.values[v].to_real());
    let params = weight_params(real, axis, bias.as_deref(), scales, Scheme::default());
    let codes = params.quantize_all(real.data(), real.shape());
    let codes = Tensor::new(real.shape(), codes).ok()?;
    Some((CodeTensor::new(params.width, codes), params))
}

/// Argument `argument` of `node` in units of the accumulator, if it is a bias in others.
fn bias_codes(
    graph: &Graph,
    node: &Node,
    argument: usize,
) -> Result<Option<(CodeTensor, QuantParams)>> {
    let bias = &graph.values[node.inputs[argument]];
    // Without those of input and weight there are none for a bias.
    let quant = |i: usize| graph.values[*node.inputs.get(i)?].quant.as_ref();
    let (Role::Bias, Some(x), Some(w)) = (node.op.role(argument), quant(0), quant(1)) else {
        return Ok(None);
    };
    let channels = bias.shape.iter().product();
    let params = bias_params(x, w, channels);
    let codes = match (&bias.constant, &bias.quant) {
        (Some(Constant::Real(real)), _) => params.quantize_all(real.data(), real.shape()),
        (Some(Constant::Codes(codes)), Some(quant)) => {
            let code = |o: usize| {
                let scale = |quant: &QuantParams| quant.scale[o % quant.scale.len()] as f64;
                let (steps, ratio) =
                    (codes.get(o) as i64 - quant.zero_point as i64, scale(quant) / scale(&params));
                // Others round the unit differently.
                let same =
                    (ratio - 1.0).abs() <= 1e-6 && (steps as f64 * (ratio - 1.0)).abs() <= 0.5;
                if same { steps } else { (steps as f64 * ratio).round_ties_even() as i64 }
            };
            let code = |o: usize| match i32::try_from(code(o)) {
                Ok(code) => Ok(code),
                Err(_) => bail!(
                    Range,
                    "the bias of channel {o} is {} units of input times weight, beyond 32 bits",
                    code(o)
                ),
            };
            let all = (0..channels).map(code).collect::<Result<Vec<i32>>>()?;
            if quant.width == Width::W32 && (0..channels).all(|o| all[o] == codes.get(o)) {
                return Ok(None);
            }
            all
        }
        _ => return Ok(None),
    };
    let codes = Tensor::new(bias.shape.clone(), codes)?;
    Ok(Some((CodeTensor::new(params.width, codes), params)))
}
