//! ReLU and Clip disappear into the node before: clamping a result costs nothing.

use super::merge_nodes;
use crate::graph::{Graph, Index};
use crate::ops::clip::Clip;
use crate::ops::{Op, OutputParams};

/// `Clip(f(x))` → `f(x)` with a clamp, where nothing else uses `f(x)` and it has no codes of its own; also if it is moved
/// in between, by a Transpose or a Reshape.
///
/// Exact in integers too: rounding is monotonic, so clamping before or after it is the same.
pub fn fuse_activation(graph: &mut Graph) {
    merge_nodes(graph, fuse);
}

fn fuse(graph: &mut Graph, index: &mut Index, node: usize) -> Option<usize> {
    let node = &graph.nodes[node];
    let Op::Clip(clip) = node.op else { return None };
    let last = index.sole_producer(graph, node.inputs[0])?;
    let mut producer = last;
    while matches!(graph.nodes[producer].op, Op::Transpose(_) | Op::Reshape(_)) {
        producer = index.sole_producer(graph, graph.nodes[producer].inputs[0])?;
    }
    let before = &graph.nodes[producer];
    let moves_codes = before.op.output_params() != OutputParams::Calibrated;
    if moves_codes {
        return None;
    }
    let clamp = intersection(before.clamp, clip)?;
    let clamp = intersection(clamp, node.clamp)?;
    graph.nodes[producer].clamp = clamp;
    Some(last)
}

/// `b` after `a` as one clamp, if their intervals meet.
pub(super) fn intersection(a: Clip, b: Clip) -> Option<Clip> {
    let both = Clip { lo: a.lo.max(b.lo), hi: a.hi.min(b.hi) };
    (both.lo <= both.hi).then_some(both)
}
