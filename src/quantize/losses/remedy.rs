//! What would help a value, of what is not done yet.

use crate::graph::{Graph, Node, ValueId};
use crate::ops::{Op, OutputParams, Role};
use crate::quant::Width;
use crate::quantize::Params;

const WIDER: &str = "give it 16 bits, or calibrate by another --calibrator";
const WIDER_RESULT: &str = "give the result 16 bits";
const WIDER_OR_SPLIT: &str = "give the result 16 bits, or use --split-outputs";
const WIDER_OR_CUT: &str = "give the result 16 bits, or make it an output of its own by --outputs";
const SPLIT: &str = "use --split-outputs, so that it has a scale of its own";
const CUT: &str = "make it an output of its own by --outputs";
const RESCALE: &str =
    "no codes are finer: bring it and what it is joined with to one size in the model";
const RESCALE_CHANNELS: &str = "no codes are finer: bring its channels to one size in the model";
const REWRITE: &str = "no codes are finer: compute it in another way in the model";

/// How a value becomes part of an output without being rounded again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Output,
    Moved,
    /// By a Concat that is an output,
    Joined,
    /// perhaps behind moves;
    MovedAndJoined,
    /// by a Concat behind which codes are moved, or joined again.
    Within,
}

impl Way {
    fn through_move(self) -> Self {
        match self {
            Self::Output => Self::Moved,
            Self::Joined => Self::MovedAndJoined,
            way => way,
        }
    }

    fn through_concat(self) -> Self {
        match self {
            Self::Output | Self::Joined => Self::Joined,
            _ => Self::Within,
        }
    }
}

/// Knows what a quantization has done already.
pub struct Remedies<'a> {
    params: &'a Params,
    /// For each value, and the output that it is part of.
    ways: Vec<Option<(Way, ValueId)>>,
}

impl<'a> Remedies<'a> {
    pub fn new(graph: &Graph, params: &'a Params) -> Self {
        let mut ways = vec![None; graph.values.len()];
        graph.outputs.iter().for_each(|&v| ways[v] = Some((Way::Output, v)));
        for node in graph.nodes.iter().rev() {
            let Some((way, output)) = ways[node.output] else { continue };
            let (arguments, way) = match (&node.op, node.op.output_params()) {
                (Op::Concat(_), _) => (&node.inputs[..], way.through_concat()),
                (_, OutputParams::SameAsInput) => (&node.inputs[..1], way.through_move()),
                _ => continue,
            };
            arguments.iter().for_each(|&v| _ = ways[v].get_or_insert((way, output)));
        }
        Self { params, ways }
    }

    fn width(&self, v: ValueId) -> Option<Width> {
        self.params.values[v].as_ref().map(|params| params.width)
    }

    /// For a value that has the scale of an output that joins it with others.
    fn apart(&self, v: ValueId) -> Option<&'static str> {
        let (way, output) = self.ways[v]?;
        let scale = |v: ValueId| self.params.values[v].as_ref().map(|params| params.scale[0]);
        match way {
            _ if scale(v) != scale(output) => None,
            Way::Output | Way::Moved => None,
            Way::Joined | Way::MovedAndJoined => Some(SPLIT),
            Way::Within => Some(CUT),
        }
    }

    /// For channels of `v` that have few codes.
    pub fn of_channels(&self, v: ValueId) -> &'static str {
        let wider = match self.width(v) {
            Some(Width::W16 | Width::W32) => RESCALE_CHANNELS,
            _ => WIDER,
        };
        self.apart(v).unwrap_or(wider)
    }

    /// For `v`, which is little beside the other arguments of `node`.
    pub fn of_argument(&self, node: &Node, v: ValueId) -> &'static str {
        let narrow = matches!(self.width(node.output), Some(Width::W4 | Width::W8));
        let way = self.ways[v].filter(|_| matches!(node.op, Op::Concat(_)));
        match (way.map(|(way, _)| way), narrow) {
            (Some(Way::Joined | Way::MovedAndJoined), true) => WIDER_OR_SPLIT,
            (Some(Way::Joined | Way::MovedAndJoined), false) => SPLIT,
            (Some(Way::Within), true) => WIDER_OR_CUT,
            (Some(Way::Within), false) => CUT,
            (_, true) => WIDER_RESULT,
            (_, false) => RESCALE,
        }
    }

    /// For the result of node `index`, `node`, which is much less exact than its arguments.
    pub fn of_noise(&self, index: usize, node: &Node) -> &'static str {
        let constants = self.params.constants[index].iter().enumerate();
        let weights = constants
            .filter(|&(argument, _)| matches!(node.op.role(argument), Role::Weight { .. }))
            .filter_map(|(_, params)| Some(params.as_ref()?.width))
            .min();
        let arguments = node.inputs.iter().filter_map(|&v| self.width(v)).min();
        match (weights, self.width(node.output), arguments) {
            (Some(Width::W4), ..) => "give its weights 8 bits",
            _ if self.apart(node.output).is_some() => self.of_channels(node.output),
            (_, Some(Width::W8), _) => WIDER,
            (Some(Width::W8), ..) => "give its weights 16 bits",
            (_, _, Some(Width::W8)) => "give its arguments 16 bits",
            _ => REWRITE,
        }
    }

    /// For an output that has lost too much on the way.
    pub fn of_output(&self, graph: &Graph, v: ValueId) -> &'static str {
        let constants = self.params.constants.iter().zip(&graph.nodes).flat_map(|(own, node)| {
            let weights = own.iter().enumerate();
            weights.filter(|&(argument, _)| matches!(node.op.role(argument), Role::Weight { .. }))
        });
        let weights = constants.filter_map(|(_, params)| Some(params.as_ref()?.width)).min();
        let activations = graph.activations().filter_map(|v| self.width(v)).min();
        match (weights, activations) {
            (Some(Width::W4), _) => "use --weights 8, or give 8 bits to some weights by a recipe",
            (_, Some(Width::W4 | Width::W8)) => {
                "use --activations 16, or give 16 bits to some values by a recipe"
            }
            (Some(Width::W8), _) => "use --weights 16",
            _ => self.apart(v).unwrap_or(REWRITE),
        }
    }

    /// For weights with one scale for all channels.
    pub fn of_weights(width: Width) -> &'static str {
        match width {
            Width::W4 => "use --granularity channel, or --weights 8",
            Width::W8 => "use --granularity channel, or --weights 16",
            Width::W16 | Width::W32 => "use --granularity channel",
        }
    }
}
