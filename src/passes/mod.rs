//! Rewrites of the graph, one per file. Each keeps what the float network computes, up to the rounding
//! of `f32`.

mod fold_batch_norm;
mod fold_constants;
mod fuse_activation;
mod fuse_bias;

#[cfg(test)]
mod tests;

pub use fold_batch_norm::fold_batch_norm;
pub use fold_constants::fold_constants;
pub use fuse_activation::fuse_activation;
pub use fuse_bias::fuse_bias;

use crate::graph::Graph;

/// All of them, in order.
pub fn prepare(graph: &mut Graph) {
    fold_constants(graph);
    fuse_bias(graph);
    fold_batch_norm(graph);
    fuse_bias(graph);
    fuse_activation(graph);
    graph.remove_unused_values();
}
