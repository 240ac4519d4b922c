//! ReLU and Clip disappear into the node before: clamping a result costs nothing.

use crate::graph::Graph;
use crate::ops::clip::Clip;
use crate::ops::{Op, OutputParams};

/// `Clip(f(x))` → `f(x)` with a clamp, where nothing else uses `f(x)` and it has no codes of its own.
///
/// Exact in integers too: rounding is monotonic, so clamping before or after it is the same.
pub fn fuse_activation(graph: &mut Graph) {
    let mut index = 0;
    while index < graph.nodes.len() {
        if fuse(graph, index).is_none() {
            index += 1;
        }
    }
}

fn fuse(graph: &mut Graph, index: usize) -> Option<()> {
    let node = &graph.nodes[index];
    let Op::Clip(clip) = node.op else { return None };
    let x = node.inputs[0];
    let producer = graph.sole_producer(x)?;
    let before = &graph.nodes[producer];
    let moves_codes = before.op.output_params() != OutputParams::Calibrated;
    if moves_codes {
        return None;
    }
    let clamp = intersection(before.clamp, clip)?;
    let clamp = intersection(clamp, node.clamp)?;
    let node = graph.nodes.remove(index);
    let before = &mut graph.nodes[producer];
    before.clamp = clamp;
    before.output = node.output;
    Some(())
}

/// `b` after `a` as one clamp, if their intervals meet.
fn intersection(a: Clip, b: Clip) -> Option<Clip> {
    let both = Clip { lo: a.lo.max(b.lo), hi: a.hi.min(b.hi) };
    (both.lo <= both.hi).then_some(both)
}
