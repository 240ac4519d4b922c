//! Node data for Google's Model Explorer, which colours the graph of a model file by them.

use serde_json::{Map, Value, json};

use super::facts::Report;

impl Report {
    /// The share of the error that each node, and each input, is to blame for, as node data of one graph: a node is found by its
    /// name or by that of its result, <https://github.com/google-ai-edge/model-explorer/wiki/4.-API-Guide>.
    pub fn model_explorer(&self) -> String {
        let mut results = Map::new();
        let mut add = |key: &str, share: f64| {
            results.entry(key).or_insert_with(|| json!({ "value": share }));
        };
        for node in &self.nodes {
            add(&node.name, node.share);
            add(&node.output, node.share);
        }
        for unit in self.blame.units.iter().filter(|unit| !unit.constants) {
            add(&unit.name, unit.share);
        }
        let stop = |stop: u8, colour: &str| json!({ "stop": stop, "bgColor": colour });
        let gradient = Value::from(vec![stop(0, "#ffffff"), stop(1, "#d6453d")]);
        format!("{:#}\n", json!({ "results": results, "gradient": gradient }))
    }
}
