//! What a user asks for, in a file: defaults, and rules for some nodes.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use super::Plan;
use crate::error::{Result, bail};
use crate::graph::{Graph, Node};
use crate::quant::{Preset, Scheme, Width};

/// `{"version": 1, "defaults": {…}, "rules": […]}`; a bare list is its rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of this format: 1.
    pub version: u32,
    /// For whatever no rule is for.
    #[serde(default)]
    pub defaults: Settings,
    /// Exceptions; of two for one node the later one counts.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// What can be chosen; what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Where scales may lie: "scale" or "shift".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Which weights share a scale: "tensor" or "channel".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity: Option<String>,
    /// Bits of the codes of results, 8 or 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<u32>,
    /// Bits of the codes of weights, 4, 8 or 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<u32>,
    /// What else is in the file: nothing.
    #[serde(flatten)]
    unknown: BTreeMap<String, serde_json::Value>,
}

/// Settings for the nodes that meet all that the rule asks for. A rule that asks for `values` alone is for
/// inputs of the network, too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// A regular expression that occurs in the name of the node, or of one that is part of it; a node of the
    /// file without a name is called by its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Its operator type in ONNX is one of these, or that of a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// A regular expression that occurs in the name of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
    /// What is chosen.
    #[serde(flatten)]
    pub settings: Settings,
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// What is no recipe, and where.
    pub fn from_json(text: &str) -> Result<Self> {
        let is_list = text.trim_start().starts_with('[');
        let read = match is_list {
            true => serde_json::from_str(text).map(|rules| Self {
                version: 1,
                rules,
                ..Self::default()
            }),
            false => serde_json::from_str(text),
        };
        let recipe: Self = match read {
            Ok(recipe) => recipe,
            Err(error) => bail!(Invalid, "not a recipe: {error}"),
        };
        match recipe.version {
            1 => Ok(recipe),
            other => bail!(Unsupported, "a recipe of version {other}, expected 1"),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The scheme of each node of a prepared graph; what the defaults leave out is that of `scheme`.
    ///
    /// # Errors
    /// A rule that is for nothing, or makes no sense.
    pub fn plan(&self, graph: &Graph, scheme: Scheme) -> Result<Plan> {
        let mut plan = Plan::from(self.defaults.over(scheme)?);
        for (number, rule) in (1..).zip(&self.rules) {
            let scheme = |scheme| in_rule(number, rule.settings.over(scheme));
            let matcher = in_rule(number, Matcher::new(rule))?;
            let mut matched = false;
            for (index, node) in graph.nodes.iter().enumerate() {
                if matcher.node(graph, node) {
                    plan.nodes.insert(index, scheme(plan.of_node(index))?);
                    matched = true;
                }
            }
            for &v in &graph.inputs {
                if matcher.input(&graph.values[v].name) {
                    plan.inputs.insert(v, scheme(plan.of_input(v))?);
                    matched = true;
                }
            }
            if !matched {
                bail!(Invalid, "rule {number} matches nothing: {}", rule.asked());
            }
        }
        Ok(plan)
    }
}

impl Settings {
    /// `scheme`, with what is set here.
    ///
    /// # Errors
    /// A setting that does not exist.
    pub fn over(&self, scheme: Scheme) -> Result<Scheme> {
        if let Some(unknown) = self.unknown.keys().next() {
            bail!(Invalid, "there is no setting \"{unknown}\"");
        }
        let mut result = scheme;
        match self.scheme.as_deref() {
            None => {}
            Some("scale") => result.preset = Preset::Scale,
            Some("shift") => result.preset = Preset::Shift,
            Some(other) => bail!(Invalid, "scheme \"{other}\", expected \"scale\" or \"shift\""),
        }
        match self.granularity.as_deref() {
            None => {}
            Some("tensor") => result.per_channel = false,
            Some("channel") => result.per_channel = true,
            Some(other) => {
                bail!(Invalid, "granularity \"{other}\", expected \"tensor\" or \"channel\"")
            }
        }
        if let Some(bits) = self.activations {
            result.activation_width = width("activations", bits, &[Width::W8, Width::W16])?;
        }
        if let Some(bits) = self.weights {
            result.weight_width = width("weights", bits, Width::OF_WEIGHTS)?;
        }
        Ok(result)
    }
}

fn in_rule<T>(number: usize, result: Result<T>) -> Result<T> {
    match result {
        Ok(it) => Ok(it),
        Err(error) => bail!(Invalid, "rule {number}: {error}"),
    }
}

fn width(what: &str, bits: u32, allowed: &[Width]) -> Result<Width> {
    match allowed.iter().find(|width| width.bits() == bits) {
        Some(&width) => Ok(width),
        None => {
            let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            bail!(Invalid, "{what} of {bits} bits, expected {}", allowed.join(" or "))
        }
    }
}

impl Rule {
    /// What it asks for, as JSON.
    fn asked(&self) -> String {
        let asked = Self { settings: Settings::default(), ..self.clone() };
        serde_json::to_string(&asked).unwrap_or_default()
    }
}

/// A rule, ready to be tried.
struct Matcher<'a> {
    nodes: Option<Regex>,
    types: Option<&'a [String]>,
    values: Option<Regex>,
}

impl<'a> Matcher<'a> {
    fn new(rule: &'a Rule) -> Result<Self> {
        let regex = |text: &Option<String>| match text.as_deref().map(Regex::new).transpose() {
            Ok(regex) => Ok(regex),
            Err(error) => bail!(Invalid, "{error}"),
        };
        if rule.nodes.is_none() && rule.types.is_none() && rule.values.is_none() {
            bail!(Invalid, "it asks for no \"nodes\", \"types\" or \"values\"");
        }
        Ok(Self {
            nodes: regex(&rule.nodes)?,
            types: rule.types.as_deref(),
            values: regex(&rule.values)?,
        })
    }

    fn node(&self, graph: &Graph, node: &Node) -> bool {
        let parts = &node.parts.0;
        let any = |regex: &Regex| {
            parts.iter().any(|part| regex.is_match(&part.name)) || regex.is_match(&node.name)
        };
        let value = |regex: &Regex| regex.is_match(&graph.values[node.output].name);
        let typed = |types: &[String]| parts.iter().any(|part| types.contains(&part.op_type));
        self.nodes.as_ref().is_none_or(any)
            && self.values.as_ref().is_none_or(value)
            && self.types.is_none_or(typed)
    }

    fn input(&self, name: &str) -> bool {
        let alone = self.nodes.is_none() && self.types.is_none();
        alone && self.values.as_ref().is_some_and(|regex| regex.is_match(name))
    }
}
