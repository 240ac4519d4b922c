//! What a user asks for, in a file: defaults, and rules for some nodes.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use super::{Plan, Step, step};
use crate::calibrate::Calibrator;
use crate::data::Preprocess;
use crate::error::{Result, bail};
use crate::graph::{Graph, Node};
use crate::quant::{Preset, Scheme, Width};

/// `{"version": 1, "defaults": {…}, "rules": […]}`; a bare list is its rules. [`Quantizer::full_recipe`] makes one that
/// says all, so that the same data give the same file again.
///
/// [`Quantizer::full_recipe`]: super::Quantizer::full_recipe
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of this format: 1.
    pub version: u32,
    /// For whatever no rule is for.
    #[serde(default)]
    pub defaults: Defaults,
    /// Exceptions; of two for one node the later one counts.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What part of the model it is for.
    #[serde(default, skip_serializing_if = "Part::is_whole")]
    pub model: Part,
    /// What it has calibrated on; other data are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
}

/// What is chosen for the whole network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// For each node.
    #[serde(flatten)]
    pub settings: Settings,
    /// Names of what makes up for the loss, in order: "narrow-ranges", "equalize", "round-weights", "bias-correction".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<String>>,
    /// Bits of the codes of the network's outputs, 8 or 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bits: Option<u32>,
    /// Whether the arguments of each Concat that is an output become outputs in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_outputs: Option<bool>,
}

/// A part of a model, and the shapes that its file leaves open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Part {
    /// The shape of an input, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub input_shape: BTreeMap<String, Vec<usize>>,
    /// The values that are inputs, if not those of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// The values that are outputs, if not those of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
}

/// What calibration has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Number of samples.
    pub samples: u64,
    /// [`Observer::hash`](crate::calibrate::Observer::hash) of them, as 16 hexadecimal digits; any samples will do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// What the samples were made by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
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
    /// Bits of the codes of weights, 4, 8 or 16; in the first and last layer and depthwise ones 4 is for rules to ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<u32>,
    /// How ranges are chosen: "auto", "minmax", "moving-average", "percentile", "mse" or "entropy".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrator: Option<String>,
    /// The share of the values that "percentile" keeps, in percent; 99.99 without this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
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

    /// Refuses defaults that make no sense by themselves, of whatever network.
    ///
    /// # Errors
    /// The setting.
    pub fn check(&self) -> Result<()> {
        within("defaults", self.defaults.plan(Scheme::default()).map(|_| ()))
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The scheme of each node of a prepared graph; what the defaults leave out is that of `scheme`. Weights of 4 bits
    /// that only the defaults ask for have 8 in the first and last layer and in depthwise ones.
    ///
    /// # Errors
    /// A rule that is for nothing, or makes no sense.
    pub fn plan(&self, graph: &Graph, scheme: Scheme) -> Result<Plan> {
        let mut plan = within("defaults", self.defaults.plan(scheme))?;
        plan.widen_sensitive_weights(graph);
        for (number, rule) in (1..).zip(&self.rules) {
            let rule_name = format!("rule {number}");
            let matcher = within(&rule_name, Matcher::new(rule))?;
            let choose = |old: Scheme| {
                let new = rule.settings.over(old)?;
                Ok((new, rule.settings.calibrator(new)?))
            };
            let choose = |old| within(&rule_name, choose(old));
            let mut matched = false;
            for (index, node) in graph.nodes.iter().enumerate() {
                if matcher.node(graph, node) {
                    let (scheme, calibrator) = choose(plan.of_node(index))?;
                    plan.nodes.insert(index, scheme);
                    plan.calibrators.extend(calibrator.map(|it| (node.output, it)));
                    matched = true;
                }
            }
            for &v in &graph.inputs {
                if matcher.input(&graph.values[v].name) {
                    let (scheme, calibrator) = choose(plan.of_input(v))?;
                    plan.inputs.insert(v, scheme);
                    plan.calibrators.extend(calibrator.map(|it| (v, it)));
                    matched = true;
                }
            }
            if !matched {
                bail!(Invalid, "rule {number} matches nothing: {}", rule.asked());
            }
        }
        Ok(plan)
    }

    /// The same without the rule of index `index`.
    pub(super) fn without(&self, index: usize) -> Self {
        let mut rest = self.clone();
        rest.rules.remove(index);
        rest
    }

    /// Puts what `asked` says in place of the own defaults. Says of each that was another what it was and is.
    pub fn override_defaults(&mut self, asked: &Defaults) -> Vec<String> {
        let object = |defaults| match serde_json::to_value(defaults) {
            Ok(serde_json::Value::Object(object)) => object,
            _ => serde_json::Map::new(),
        };
        let (mut own, asked) = (object(&self.defaults), object(asked));
        let mut replaced = Vec::new();
        for (name, new) in &asked {
            match own.get(name) {
                Some(old) if old != new => replaced.push(format!("\"{name}\" is {new}, not {old}")),
                _ => {}
            }
        }
        let ways = ["calibrator", "percentile"];
        if ways.iter().any(|&way| asked.contains_key(way)) {
            // The two belong together.
            own.retain(|name, _| !ways.contains(&name.as_str()));
        }
        own.extend(asked);
        if let Ok(defaults) = serde_json::from_value(own.into()) {
            self.defaults = defaults;
        }
        replaced
    }
}

impl Defaults {
    fn plan(&self, scheme: Scheme) -> Result<Plan> {
        let scheme = self.settings.over(scheme)?;
        let calibrator = self.settings.calibrator(scheme)?;
        self.steps()?;
        self.output_width()?;
        Ok(Plan { calibrator, ..scheme.into() })
    }

    /// The steps, if there is a choice.
    ///
    /// # Errors
    /// A name that no step has.
    pub fn steps(&self) -> Result<Option<Vec<Box<dyn Step>>>> {
        self.steps.as_ref().map(|names| names.iter().map(|name| step(name)).collect()).transpose()
    }

    /// The width of the outputs, if there is a choice.
    ///
    /// # Errors
    /// Other bits than 8 or 16.
    pub fn output_width(&self) -> Result<Option<Width>> {
        let width = |bits| width("output_bits", bits, &[Width::W8, Width::W16]);
        self.output_bits.map(width).transpose()
    }
}

impl Part {
    /// Whether it is all that the file has.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }
}

impl Settings {
    /// Those that say all of this scheme and this calibrator.
    pub fn all(scheme: Scheme, calibrator: Calibrator) -> Self {
        let (calibrator, percentile) = match calibrator {
            Calibrator::Auto => ("auto", None),
            Calibrator::MinMax => ("minmax", None),
            Calibrator::MovingAverage => ("moving-average", None),
            Calibrator::Percentile(percent) => ("percentile", Some(percent)),
            Calibrator::Mse(_) => ("mse", None),
            Calibrator::Entropy => ("entropy", None),
        };
        let preset = match scheme.preset {
            Preset::Scale => "scale",
            Preset::Shift => "shift",
        };
        let granularity = if scheme.per_channel { "channel" } else { "tensor" };
        Self {
            scheme: Some(preset.into()),
            granularity: Some(granularity.into()),
            activations: Some(scheme.activation_width.bits()),
            weights: Some(scheme.weight_width.bits()),
            calibrator: Some(calibrator.into()),
            percentile,
            unknown: BTreeMap::new(),
        }
    }

    /// How ranges are chosen under `scheme`, if there is a choice.
    ///
    /// # Errors
    /// A calibrator that does not exist, or a share that is none.
    pub fn calibrator(&self, scheme: Scheme) -> Result<Option<Calibrator>> {
        let percent = self.percentile.unwrap_or(99.99);
        let calibrator = match self.calibrator.as_deref() {
            None if self.percentile.is_none() => return Ok(None),
            None | Some("percentile") => Calibrator::Percentile(percent),
            Some(other) if self.percentile.is_some() => {
                bail!(Invalid, "a percentile beside calibrator \"{other}\"")
            }
            Some("auto") => Calibrator::Auto,
            Some("minmax") => Calibrator::MinMax,
            Some("moving-average") => Calibrator::MovingAverage,
            Some("mse") => Calibrator::Mse(scheme),
            Some("entropy") => Calibrator::Entropy,
            Some(other) => bail!(
                Invalid,
                "calibrator \"{other}\", expected \"auto\", \"minmax\", \"moving-average\", \"percentile\", \
                 \"mse\" or \"entropy\""
            ),
        };
        calibrator.check()?;
        Ok(Some(calibrator))
    }

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

fn within<T>(part: &str, result: Result<T>) -> Result<T> {
    match result {
        Ok(it) => Ok(it),
        Err(error) => bail!(Invalid, "{part}: {error}"),
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
    pub(super) fn asked(&self) -> String {
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
