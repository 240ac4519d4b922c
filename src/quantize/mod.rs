//! Float graph and ranges → quantized graph: every activation gets scale and zero point
//! ([`choose_params`]), every constant becomes codes ([`apply`]). Between the two a list of [`Step`]s makes
//! up for what quantization loses.

mod bias;
mod choose_ranges;
mod complete;
mod correct_bias;
mod equalize;
mod export;
mod hints;
mod judge;
mod losses;
mod masks;
mod narrow_ranges;
mod outputs;
mod params;
mod plan;
mod quantizer;
mod ranges;
mod raw_input;
mod recipe;
mod round_weights;
mod session;
#[cfg(test)]
mod tests;
mod weights;

use std::collections::BTreeMap;

use crate::calibrate::{Calibrator, Observer};
use crate::codes::CodeTensor;
use crate::error::{Context, Result, bail};
use crate::graph::{Constant, Graph, Index};
use crate::passes;
use crate::quant::{QuantParams, Range};
use crate::tensor::Tensor;

pub use bias::{RoundedBias, rounded_biases};
pub use complete::complete_params;
pub use correct_bias::BiasCorrection;
pub use equalize::Equalize;
pub use export::export_checked;
pub(crate) use judge::results;
pub use losses::{DeadChannels, Loss, LossKind, ValueSqnr, value_sqnrs};
pub use narrow_ranges::NarrowRanges;
pub use outputs::split_outputs;
pub use params::{Params, choose_params};
pub use plan::Plan;
pub use quantizer::{Quantized, Quantizer, Summary};
pub use ranges::{Ranges, RangesFormat};
pub use raw_input::raw_input;
pub use recipe::{Data, Defaults, Part, Recipe, Rule, Settings};
pub use round_weights::RoundWeights;
use session::limits;
pub use session::{
    Change, DEFAULT_EFFORT, Report, Session, Step, all_steps, default_steps, step, steps_of,
};

/// Everything that has to happen between import and calibration or lowering, in order.
///
/// # Errors
/// The node of a quantized file whose bias cannot be quantized, or one with a constant that is no number.
pub fn prepare(graph: &mut Graph) -> Result<()> {
    passes::prepare(graph);
    graph.check_numbers()?;
    complete_params(graph)
}

/// Quantizes a prepared float graph; `ranges` has the range of each activation: chooses parameters, and
/// applies them with the nearest codes.
///
/// # Errors
/// Those of [`choose_params`].
pub fn quantize(graph: &Graph, ranges: &[Option<Range>], plan: impl Into<Plan>) -> Result<Graph> {
    apply(graph, &choose_params(graph, ranges, &plan.into())?, &Rounding::default())
}

/// Quantizes a prepared float graph and corrects its biases: the steps of effort 0.
///
/// # Errors
/// Those of [`Session::new`], of a step, and of [`apply`].
pub fn quantize_corrected(
    graph: &Graph,
    observer: &Observer,
    calibrator: Calibrator,
    plan: impl Into<Plan>,
) -> Result<Graph> {
    let mut session = Session::new(graph.clone(), observer, calibrator, plan)?;
    session.run(&steps_of(0))?;
    session.quantized()
}

/// Codes of constants that are not the nearest ones, by node and argument.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rounding(pub BTreeMap<(usize, usize), Vec<i32>>);

impl Rounding {
    /// The codes of argument `argument` of node `index`, whose real numbers are `real`.
    fn codes(
        &self,
        (index, argument): (usize, usize),
        real: &Tensor<f32>,
        params: &QuantParams,
    ) -> Result<CodeTensor> {
        let codes = match self.0.get(&(index, argument)) {
            Some(codes) => codes.clone(),
            None => params.quantize_all(real.data(), real.shape()),
        };
        let (lo, hi) = params.code_range();
        if let Some(bad) = codes.iter().find(|code| !(lo..=hi).contains(code)) {
            bail!(Range, "{bad} is not a {}-bit code", params.width);
        }
        Ok(CodeTensor::new(params.width, Tensor::new(real.shape(), codes)?))
    }
}

/// The graph with these parameters, and the codes of its constants.
///
/// # Errors
/// The node whose constant does not fit its parameters or its codes.
pub fn apply(graph: &Graph, params: &Params, rounding: &Rounding) -> Result<Graph> {
    let mut quantized = graph.clone();
    for (value, params) in quantized.values.iter_mut().zip(&params.values) {
        value.quant.clone_from(params);
    }
    let mut users = Index::new(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        for (argument, params) in params.constants[index].iter().enumerate() {
            let real = graph.real_constant(node.inputs[argument]);
            let (Some(params), Some(real)) = (params, real) else { continue };
            let codes = rounding.codes((index, argument), real, params);
            let codes = codes.in_node(&node.name, node.op.name())?;
            // A constant with another user there gets other codes: it stays real for that one.
            let v = users.own_argument(&mut quantized, index, argument);
            quantized.values[v].constant = Some(Constant::Codes(codes));
            quantized.values[v].quant = Some(params.clone());
        }
    }
    quantized.check()?;
    Ok(quantized)
}
