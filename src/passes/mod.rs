//! Rewrites of the graph, one per file. Each keeps what the float network computes, up to the rounding
//! of `f32`.

mod fold_batch_norm;
mod fold_constants;
mod fold_input;
mod fuse_activation;
mod fuse_bias;
mod fuse_functions;
mod fuse_normalization;
mod split_concat;

#[cfg(test)]
mod tests;

pub use fold_batch_norm::{fold_batch_norm, fold_scale, reshape_batch_norm};
pub use fold_constants::fold_constants;
pub use fold_input::fold_input;
pub use fuse_activation::fuse_activation;
pub use fuse_bias::fuse_bias;
pub use fuse_functions::fuse_functions;
pub use fuse_normalization::fuse_normalization;
pub use split_concat::split_concat;

use crate::graph::{Graph, Index};

/// Tries `merge` on each node in turn: where it has changed an earlier node such that this one computes
/// the result of both, it returns the earlier one, and the later one is removed.
fn merge_nodes(
    graph: &mut Graph,
    mut merge: impl FnMut(&mut Graph, &mut Index, usize) -> Option<usize>,
) {
    let mut index = Index::new(graph);
    let mut merged = vec![false; graph.nodes.len()];
    for (node, merged) in merged.iter_mut().enumerate() {
        if let Some(producer) = merge(graph, &mut index, node) {
            index.merge(graph, node, producer);
            *merged = true;
        }
    }
    let mut merged = merged.into_iter();
    graph.nodes.retain(|_| merged.next() == Some(false));
}

/// All of them, in order.
pub fn prepare(graph: &mut Graph) {
    fold_constants(graph);
    fold_input(graph);
    fuse_normalization(graph);
    split_concat(graph);
    fuse_bias(graph);
    fold_batch_norm(graph);
    fold_scale(graph);
    fuse_bias(graph);
    fuse_activation(graph);
    fuse_functions(graph);
    reshape_batch_norm(graph);
    graph.remove_unused_values();
}
