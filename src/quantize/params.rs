//! Ranges → scale and zero point of every activation and every constant.

use super::Plan;
use super::bias::bias_params;
use super::weights::weight_params;
use crate::error::{Context, Result, bail};
use crate::graph::{Copies, Graph, Node, ValueId};
use crate::ops::{Op, OutputParams, Role};
use crate::quant::{QuantParams, Range, Scheme, Width};
use crate::tensor::Tensor;

/// How each number of a graph becomes a code.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// Of each activation, by its value; those of a constant if it has codes already.
    pub values: Vec<Option<QuantParams>>,
    /// Of each real constant, by node and argument: each of its users reads other codes.
    pub constants: Vec<Vec<Option<QuantParams>>>,
}

impl Params {
    /// Chooses those of the constants of node `index`, which may be other numbers than before, but for those of which
    /// `is_kept`.
    ///
    /// # Errors
    /// The node, if its numbers have no codes.
    pub fn choose_constants(
        &mut self,
        graph: &Graph,
        index: usize,
        plan: &Plan,
        is_kept: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let (node, scheme) = (&graph.nodes[index], plan.of_node(index));
        let own = &mut self.constants[index];
        own.resize(node.inputs.len(), None);
        own.iter_mut().enumerate().filter(|(i, _)| !is_kept(*i)).for_each(|(_, own)| *own = None);
        self.values.resize(graph.values.len(), None);
        for (argument, &v) in node.inputs.iter().enumerate().filter(|&(i, _)| !is_kept(i)) {
            if let Some(real) = graph.real_constant(v) {
                let chosen = constant_params(self, graph, index, argument, real, scheme);
                let chosen = chosen.in_node(&node.name, node.op.name())?;
                self.constants[index][argument] = Some(chosen);
            }
        }
        Ok(())
    }

    /// Those of argument `argument` of `graph.nodes[index]`.
    fn of(&self, graph: &Graph, index: usize, argument: usize) -> Result<&QuantParams> {
        let v = graph.nodes[index].inputs[argument];
        let own = self.constants.get(index).and_then(|arguments| arguments.get(argument));
        match own.and_then(Option::as_ref).or(self.values[v].as_ref()) {
            Some(params) => Ok(params),
            None => bail!(Unsupported, "value \"{}\" is not quantized", graph.values[v].name),
        }
    }
}

/// Chooses scales and zero points for a prepared graph; `ranges` has the range of each activation. What
/// has codes already, in a graph that another tool has quantized in part, keeps them.
///
/// # Errors
/// The node whose numbers have no codes (NaN, missing range), by name.
pub fn choose_params(graph: &Graph, ranges: &[Option<Range>], plan: &Plan) -> Result<Params> {
    let ranges = &shared_ranges(graph, ranges, &plan.widths(graph));
    let values = graph.values.iter().map(|v| v.quant.clone()).collect();
    let mut params = Params { values, constants: vec![vec![]; graph.nodes.len()] };
    let mut copies = Copies::new();
    graph.nodes.iter().try_for_each(|node| copies.take(graph, node))?;
    for &input in graph.inputs.iter().filter(|&&v| graph.values[v].quant.is_none()) {
        params.values[input] = Some(calibrated(graph, ranges, input, plan.of_input(input))?);
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        if params.values[node.output].is_none() {
            let result = result_params(&params, graph, node, ranges, plan.of_node(index));
            params.values[node.output] = Some(result.in_node(&node.name, node.op.name())?);
        }
        params.choose_constants(graph, index, plan, |_| false)?;
    }
    Ok(params)
}

fn result_params(
    params: &Params,
    graph: &Graph,
    node: &Node,
    ranges: &[Option<Range>],
    scheme: Scheme,
) -> Result<QuantParams> {
    Ok(match node.op.output_params() {
        OutputParams::Calibrated | OutputParams::Shared => {
            calibrated(graph, ranges, node.output, scheme)?
        }
        OutputParams::Unit => scheme.unit_up_to(range_of(graph, ranges, node.output)?.hi),
        OutputParams::Index => QuantParams::index(scheme.activation_width),
        OutputParams::Table => {
            let is_table = |(i, _): &(usize, &ValueId)| node.op.role(*i) == Role::Table;
            let table = node.inputs.iter().enumerate().find(is_table).map(|(_, &v)| v);
            match table.map(|v| (graph.real_constant(v), &graph.values[v].quant)) {
                Some((Some(real), _)) => {
                    let range = extent(real.data());
                    scheme.check_range(range)?;
                    scheme.activation(range)
                }
                Some((None, Some(quant))) => quant.clone(),
                _ => bail!(Unsupported, "the table must be a constant"),
            }
        }
        OutputParams::SameAsInput => match &params.values[node.inputs[0]] {
            Some(params) => params.clone(),
            None => bail!(Unsupported, "the input is a constant: fold it first"),
        },
    })
}

/// Those of the activation `v` by its range.
fn calibrated(
    graph: &Graph,
    ranges: &[Option<Range>],
    v: ValueId,
    scheme: Scheme,
) -> Result<QuantParams> {
    let range = range_of(graph, ranges, v)?;
    scheme.check_range(range).in_value(&graph.values[v].name, "value")?;
    Ok(scheme.activation(range))
}

fn constant_params(
    params: &Params,
    graph: &Graph,
    index: usize,
    argument: usize,
    real: &Tensor<f32>,
    scheme: Scheme,
) -> Result<QuantParams> {
    let node = &graph.nodes[index];
    let name = &graph.values[node.inputs[argument]].name;
    if let Some(bad) = real.data().iter().find(|x| !x.is_finite()) {
        bail!(Range, "constant \"{name}\" holds {bad}");
    }
    let of = |argument| params.of(graph, index, argument);
    Ok(match node.op.role(argument) {
        Role::Activation => {
            // Beside activations it has their width.
            let widths = node.inputs.iter().filter_map(|&v| Some(params.values[v].as_ref()?.width));
            let width = widths.max().unwrap_or(scheme.activation_width);
            let scheme = scheme.with_widths(width, scheme.weight_width);
            let mut range = extent(real.data());
            // Beside a sum's other argument its last bits are nothing, and would take many.
            if matches!(node.op, Op::Add(_)) && range.max_abs() > 0.0 {
                let step = output_scale(params, graph, node)? / 65536.0;
                range.hi = range.hi.max(step * (1u32 << width.bits()) as f32);
            }
            scheme.check_range(range).in_value(name, "constant")?;
            scheme.activation(range)
        }
        Role::Weight { axis } => {
            // Weights that are all but nothing have the scale that their node needs.
            let max = extent(real.data()).max_abs();
            let range = Range { lo: 0.0, hi: max.max(1.0) };
            scheme.check_range(range).in_value(name, "constant")?;
            let bias = node.inputs.get(2).and_then(|&v| graph.values[v].to_real());
            let scales = [of(0)?.scale[0], output_scale(params, graph, node)?];
            weight_params(real, axis, bias.as_deref(), scales, scheme)
        }
        Role::Bias => bias_params(of(0)?, of(1)?, real.data().len()),
        Role::Table => match &params.values[node.output] {
            Some(params) => params.clone(),
            None => {
                bail!(Unsupported, "value \"{}\" is not quantized", graph.values[node.output].name)
            }
        },
    })
}

fn output_scale(params: &Params, graph: &Graph, node: &Node) -> Result<f32> {
    match &params.values[node.output] {
        Some(params) => Ok(params.scale[0]),
        None => bail!(Unsupported, "value \"{}\" is not quantized", graph.values[node.output].name),
    }
}

/// Gives all values whose codes are to be copied, not rescaled, the union of their ranges: arguments
/// and result of a node with [`OutputParams::Shared`], if they have one width, through the nodes that only
/// move codes.
fn shared_ranges(graph: &Graph, ranges: &[Option<Range>], widths: &[Width]) -> Vec<Option<Range>> {
    let mut group: Vec<ValueId> = (0..graph.values.len()).collect();
    fn root(group: &[ValueId], mut v: ValueId) -> ValueId {
        while group[v] != v {
            v = group[v];
        }
        v
    }
    let mut fixed = vec![false; graph.values.len()];
    for node in &graph.nodes {
        let joined = match node.op.output_params() {
            OutputParams::Shared => &node.inputs[..],
            OutputParams::SameAsInput => &node.inputs[..1],
            OutputParams::Unit | OutputParams::Index | OutputParams::Table => {
                fixed[node.output] = true;
                continue;
            }
            OutputParams::Calibrated => continue,
        };
        let joins = |&&v: &&ValueId| {
            !fixed[v] && graph.values[v].constant.is_none() && widths[v] == widths[node.output]
        };
        for &v in joined.iter().filter(joins) {
            let (a, b) = (root(&group, v), root(&group, node.output));
            group[a] = b;
        }
    }
    let mut union: Vec<Option<Range>> = vec![None; graph.values.len()];
    for (v, range) in ranges.iter().enumerate() {
        let union = &mut union[root(&group, v)];
        *union = match (*union, *range) {
            (Some(a), Some(b)) => Some(Range { lo: a.lo.min(b.lo), hi: a.hi.max(b.hi) }),
            (a, b) => a.or(b),
        };
    }
    let observed = |v| ranges.get(v).copied().flatten();
    (0..graph.values.len()).map(|v| observed(v).and(union[root(&group, v)])).collect()
}

fn range_of(graph: &Graph, ranges: &[Option<Range>], v: ValueId) -> Result<Range> {
    match ranges.get(v) {
        Some(&Some(range)) => Ok(range),
        _ => bail!(Invalid, "value \"{}\" was not calibrated", graph.values[v].name),
    }
}

/// Smallest and largest element.
fn extent(x: &[f32]) -> Range {
    Range {
        lo: x.iter().copied().fold(f32::INFINITY, f32::min),
        hi: x.iter().copied().fold(f32::NEG_INFINITY, f32::max),
    }
}
