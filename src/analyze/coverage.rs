//! Which nodes run where, known before any work is done.

use serde::Serialize;

use crate::emit::Target;
use crate::error::Error;
use crate::graph::{Copies, Graph, Node};
use crate::lower::{IntGraph, lower_all, lower_owned};
use crate::quant::{Range, Scheme};
use crate::quantize::quantize;

/// A place where integer networks run, and what it does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Coverage {
    /// "engine", or the name of a target.
    pub target: &'static str,
    /// Nodes that it does not take.
    pub refused: Vec<Refusal>,
}

/// A node that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Refusal {
    /// Its name.
    pub node: String,
    /// Why, with the node's name.
    pub reason: String,
}

/// What the engine, which takes whatever has an integer form, and each of `targets` do not take of a prepared
/// graph.
///
/// A quantized graph is lowered. Of a float graph each node is quantized after `scheme` and lowered by itself, as
/// if all activations were in −16..16: what depends on their true ranges shows only when the network is quantized.
pub fn coverage(graph: &Graph, scheme: Scheme, targets: &[&dyn Target]) -> Vec<Coverage> {
    if graph.has_codes() {
        let (integer, refused) = lower_all(graph);
        return coverage_of_integers(&integer, refused, targets);
    }
    let mut copies = Copies::new();
    let mut alone = |node: &Node| {
        copies.take(graph, node)?;
        let alone = graph.alone(node);
        let ranges = vec![Some(Range { lo: -16.0, hi: 16.0 }); alone.values.len()];
        lower_owned(quantize(&alone, &ranges, scheme)?)
    };
    let mut survey = Survey::new(targets);
    for node in &graph.nodes {
        match alone(node) {
            Ok(integer) => survey.ask(&integer),
            Err(error) => survey.has_no_form(&node.name, &error),
        }
    }
    survey.0.into_iter().map(|(_, coverage)| coverage).collect()
}

/// That of a graph which was lowered, except for what was `refused`.
pub(super) fn coverage_of_integers(
    integer: &IntGraph,
    refused: Vec<(String, Error)>,
    targets: &[&dyn Target],
) -> Vec<Coverage> {
    let mut survey = Survey::new(targets);
    refused.iter().for_each(|(node, error)| survey.has_no_form(node, error));
    survey.ask(integer);
    survey.0.into_iter().map(|(_, coverage)| coverage).collect()
}

/// What is known so far; the engine is no target.
struct Survey<'a>(Vec<(Option<&'a dyn Target>, Coverage)>);

impl<'a> Survey<'a> {
    fn new(targets: &[&'a dyn Target]) -> Self {
        let targets = targets.iter().map(|&target| (Some(target), target.name()));
        let all = [(None, "engine")].into_iter().chain(targets);
        Self(all.map(|(place, target)| (place, Coverage { target, refused: vec![] })).collect())
    }

    /// Nobody takes `node`.
    fn has_no_form(&mut self, node: &str, error: &Error) {
        for (_, coverage) in &mut self.0 {
            coverage.refused.push(Refusal { node: node.into(), reason: error.to_string() });
        }
    }

    /// Asks each target for each node.
    fn ask(&mut self, integer: &IntGraph) {
        for (target, coverage) in &mut self.0 {
            let Some(target) = target else { continue };
            for node in &integer.nodes {
                let Err(error) = target.takes(integer, node) else { continue };
                let reason = error.to_string();
                let (node, refused) = (&node.origin, &mut coverage.refused);
                // Of several operators that a node becomes, the first one that is refused says enough.
                if refused.last().is_none_or(|last| last.node != *node) {
                    refused.push(Refusal { node: node.clone(), reason });
                }
            }
        }
    }
}
