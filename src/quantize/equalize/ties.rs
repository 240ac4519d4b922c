//! Which channels must have equal factors.

use crate::calibrate::channels::ChannelStats;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Channels;

/// A channel that comes so near to the upper limit of its node, as a share of it, reaches it on some data.
const REACHES: f32 = 0.5;

/// The variables of a network: factors of the channels (axis 1) of its values. Variable 0 stands for the factor 1.
#[derive(Debug)]
pub struct Ties {
    /// For each channel of each activation its variable.
    pub of: Vec<Vec<usize>>,
    /// How many there are.
    pub count: usize,
}

/// Channels in sets, as trees.
struct Sets(Vec<usize>);

impl Sets {
    fn root(&mut self, mut a: usize) -> usize {
        while self.0[a] != a {
            self.0[a] = self.0[self.0[a]];
            a = self.0[a];
        }
        a
    }

    /// The lower root stays one.
    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

impl Ties {
    /// Those of `graph`, whose activations were seen as `stats`.
    pub fn new(graph: &Graph, stats: &[Option<&ChannelStats>]) -> Self {
        let mut sets = Sets(vec![0]);
        let mut of = vec![vec![]; graph.values.len()];
        for v in graph.activations() {
            let channels = graph.values[v].shape.get(1).copied().unwrap_or(1);
            of[v] = (sets.0.len()..sets.0.len() + channels).collect();
            sets.0.extend(&of[v]);
        }
        let mut ties = Self { of, count: 0 };
        let given = graph.activations().filter(|&v| graph.values[v].quant.is_some());
        for v in graph.inputs.iter().chain(&graph.outputs).copied().chain(given) {
            ties.fix(v, &mut sets);
        }
        for node in &graph.nodes {
            ties.see(graph, node, &mut sets);
            ties.see_limits(node, stats, &mut sets);
        }
        let roots: Vec<usize> = (0..sets.0.len()).map(|a| sets.root(a)).collect();
        let mut numbers = vec![0; roots.len()];
        for a in 0..roots.len() {
            // A root comes before what it stands for.
            numbers[a] = match roots[a] == a {
                true => (ties.count, ties.count += 1).0,
                false => numbers[roots[a]],
            };
        }
        ties.of.iter_mut().flatten().for_each(|a| *a = numbers[*a]);
        ties
    }

    fn fix(&self, v: ValueId, sets: &mut Sets) {
        self.of[v].iter().for_each(|&a| sets.join(a, 0));
    }

    fn see(&self, graph: &Graph, node: &Node, sets: &mut Sets) {
        let shapes = graph.input_shapes(node);
        let is_real = |&v: &ValueId| graph.real_constant(v).is_some();
        match node.op.channel_factors(&shapes, &graph.values[node.output].shape) {
            Channels::Made { of, .. } => {
                for (&y, made_of) in self.of[node.output].iter().zip(&of) {
                    for &(argument, c) in made_of {
                        // A constant has no factor.
                        sets.join(y, self.of[node.inputs[argument]].get(c).copied().unwrap_or(0));
                    }
                }
            }
            Channels::Weighted(_) if node.inputs[1..].iter().all(is_real) => {}
            _ => node.inputs.iter().chain([&node.output]).for_each(|&v| self.fix(v, sets)),
        }
    }

    /// The lower limit must be 0, and one upper limit serves all channels: those that reach it have one factor.
    fn see_limits(&self, node: &Node, stats: &[Option<&ChannelStats>], sets: &mut Sets) {
        let (clamp, y) = (node.clamp, &self.of[node.output]);
        if !(clamp.lo == 0.0 || clamp.lo == f32::NEG_INFINITY) || clamp.hi <= 0.0 {
            self.fix(node.output, sets);
        } else if clamp.hi.is_finite() {
            let mut reaching = reaching(node, stats).map(|c| y[c]);
            if let Some(first) = reaching.next() {
                reaching.for_each(|a| sets.join(first, a));
            }
        }
    }
}

/// The channels of the result of `node` that reach its upper limit.
pub fn reaching<'a>(
    node: &Node,
    stats: &'a [Option<&'a ChannelStats>],
) -> impl Iterator<Item = usize> + use<'a> {
    let (seen, hi) = (&stats[node.output], node.clamp.hi);
    seen.iter()
        .flat_map(move |seen| (0..seen.len()).filter(move |&c| seen.highest(c) >= REACHES * hi))
}
