//! Which layers lose what their arguments still have.

use std::collections::HashMap;

use serde::Serialize;

use crate::graph::{Graph, Node};
use crate::quantize::ValueSqnr;

/// What is exact, as pixels are, is no measure.
const BEST_DB: f64 = 35.0;

/// A layer of a quantized network beside that of the float network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LayerLoss {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub operator: &'static str,
    /// Its result,
    pub value: String,
    /// how exact that is,
    pub sqnr_db: f64,
    /// and how much less than its arguments are, which count 35 dB at most.
    pub drop_db: f64,
}

/// The layers of `float` whose results are known, those first that lose most.
pub fn layer_losses(float: &Graph, values: &[ValueSqnr]) -> Vec<LayerLoss> {
    let known = values.iter().map(|it| (it.value.as_str(), it.sqnr_db));
    let known: HashMap<&str, f64> = known.collect();
    let db = |&v: &usize| known.get(float.values[v].name.as_str()).copied();
    let loss = |node: &Node| {
        let sqnr_db = db(&node.output)?;
        let before = node.inputs.iter().filter_map(db).fold(BEST_DB, f64::min);
        Some(LayerLoss {
            node: node.name.clone(),
            operator: node.op.name(),
            value: float.values[node.output].name.clone(),
            sqnr_db,
            drop_db: before - sqnr_db,
        })
    };
    let mut losses: Vec<LayerLoss> = float.nodes.iter().filter_map(loss).collect();
    losses.sort_by(|a, b| b.drop_db.total_cmp(&a.drop_db));
    losses
}
