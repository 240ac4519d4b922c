//! Networks of many widths, each as quantization would make it, but put together from few that are quantized as a whole.

use std::collections::BTreeMap;

use super::Options;
use crate::analyze::of_values;
use crate::emit::constant_bytes;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::lower::{IntNode, lower};
use crate::ops::product::is_wide;
use crate::ops::{OutputParams, Role};
use crate::quant::{QuantParams, Width};
use crate::quantize::{
    Equalize, Plan, Quantizer, Recipe, Rounding, Rule, Session, Settings, Step, apply,
    choose_params,
};

use super::{Cost, UnitKind};

/// What has a width of its own.
#[derive(Clone, Debug)]
pub struct Unit {
    pub name: String,
    pub kind: UnitKind,
    /// Values whose codes are only moved between them; the result of a layer.
    values: Vec<ValueId>,
    /// The node, if it is a layer.
    layer: Option<usize>,
    /// Names of values that a rule has to ask for.
    asked: Vec<String>,
    /// The widths that it may have, the least first; its own of before among them.
    pub widths: Vec<Width>,
    pub own: Width,
}

/// The width of each unit.
pub type Widths = Vec<Width>;

/// A network, and what it is with widths of all kinds.
pub struct Mixed<'a> {
    base: Session<'a>,
    recipe: &'a Recipe,
    pub units: Vec<Unit>,
    /// Parameters of all values if they have this width.
    values: BTreeMap<Width, Vec<Option<QuantParams>>>,
    /// What becomes of layers whose weights have this width.
    layers: BTreeMap<Width, Session<'a>>,
}

impl<'a> Mixed<'a> {
    /// Runs the steps of `quantizer`: once for all values and layers as they are, then for other widths of all layers
    /// those behind equalization.
    ///
    /// # Errors
    /// Those of the steps.
    pub fn new(quantizer: &'a Quantizer, options: &Options) -> Result<Self> {
        let mut base = quantizer.session()?;
        quantizer.run_steps(&mut base, |_| true)?;
        let quantized = base.quantized()?;
        let asked = quantizer.asked();
        let is_fixed = |v: &ValueId| {
            let given = base.graph.values[*v].quant.is_some();
            given || asked.defaults.output_bits.is_some() && base.graph.outputs.contains(v)
        };
        let mut units = Vec::new();
        for unit in of_values(&quantized) {
            if let (false, Some(quant)) =
                (unit.values.iter().any(is_fixed), &quantized.values[unit.values[0]].quant)
            {
                let asked = unit.values.iter().filter(|&&v| is_rounded(&base.graph, v));
                units.push(Unit {
                    asked: asked.map(|&v| base.graph.values[v].name.clone()).collect(),
                    widths: with(&options.activations, quant.width),
                    own: quant.width,
                    kind: UnitKind::Activations,
                    name: unit.name,
                    values: unit.values,
                    layer: None,
                });
            }
        }
        for (index, node) in base.graph.nodes.iter().enumerate() {
            let own = base.params.constants[index].iter().enumerate().find_map(|(i, params)| {
                matches!(node.op.role(i), Role::Weight { .. }).then(|| params.as_ref())?
            });
            let Some(own) = own.map(|params| params.width) else { continue };
            units.push(Unit {
                name: node.name.clone(),
                kind: UnitKind::Weights,
                values: vec![node.output],
                layer: Some(index),
                asked: vec![base.graph.values[node.output].name.clone()],
                widths: with(&options.weights, own),
                own,
            });
        }
        let mut mixed =
            Self { base, recipe: asked, units, values: BTreeMap::new(), layers: BTreeMap::new() };
        for (kind, widths) in
            [(UnitKind::Activations, &options.activations), (UnitKind::Weights, &options.weights)]
        {
            let own = mixed.units.iter().filter(|unit| unit.kind == kind).map(|unit| unit.own);
            for width in with(widths, Width::W8).into_iter().chain(own.collect::<Vec<_>>()) {
                mixed.prepare(kind, width, quantizer)?;
            }
        }
        Ok(mixed)
    }

    /// What it is before anything is changed.
    pub fn own(&self) -> Widths {
        self.units.iter().map(|unit| unit.own).collect()
    }

    fn prepare(&mut self, kind: UnitKind, width: Width, quantizer: &Quantizer) -> Result<()> {
        let known = match kind {
            UnitKind::Activations => self.values.contains_key(&width),
            UnitKind::Weights => self.layers.contains_key(&width),
        };
        let mut units = self.units.iter().filter(|unit| unit.kind == kind).peekable();
        if known || units.peek().is_none() {
            return Ok(());
        }
        let is_own = units.clone().all(|unit| unit.own == width);
        let mut all = self.base.clone();
        if !is_own {
            units.for_each(|unit| unit.widen(&mut all.plan, &self.base.graph, width));
        }
        match kind {
            UnitKind::Activations => {
                if !is_own {
                    all.choose_ranges()?;
                    all.params = choose_params(&all.graph, &all.ranges, &all.plan)?;
                }
                self.values.insert(width, all.params.values);
            }
            UnitKind::Weights => {
                if !is_own {
                    all.graph = all.uncorrected.take().unwrap_or(all.graph);
                    all.rounding = Rounding::default();
                    all.params.constants = vec![vec![]; all.graph.nodes.len()];
                    (0..all.graph.nodes.len()).try_for_each(|i| all.choose_constants(i))?;
                    quantizer.run_steps(&mut all, |step| step.name() != Equalize.name())?;
                }
                self.layers.insert(width, all);
            }
        }
        Ok(())
    }

    /// The network with these widths.
    ///
    /// # Errors
    /// The node whose numbers have no such codes.
    pub fn graph(&self, widths: &Widths) -> Result<Graph> {
        let mut all = self.base.clone();
        for (unit, &width) in self.units.iter().zip(widths) {
            unit.widen(&mut all.plan, &self.base.graph, width);
            match unit.layer {
                Some(index) => {
                    let Some(from) = self.layers.get(&width) else { continue };
                    all.rounding.0.retain(|&(i, _), _| i != index);
                    let rounded = from.rounding.0.range((index, 0)..(index + 1, 0));
                    all.rounding.0.extend(rounded.map(|(&at, codes)| (at, codes.clone())));
                    all.params.constants[index].clone_from(&from.params.constants[index]);
                    let inputs = all.graph.nodes[index].inputs.iter();
                    for (&v, &of) in inputs.zip(&from.graph.nodes[index].inputs) {
                        let constant = &from.graph.values[of].constant;
                        if all.graph.values[v].constant != *constant {
                            all.graph.values[v].constant.clone_from(constant);
                        }
                    }
                }
                None => {
                    for &v in &unit.values {
                        let of = self.values.get(&width).and_then(|values| values[v].clone());
                        all.params.values[v] = of;
                    }
                }
            }
        }
        (0..all.graph.nodes.len()).try_for_each(|index| all.choose_constants(index))?;
        apply(&all.graph, &all.params, &all.rounding)
    }

    /// What makes the quantizer give these widths: its own rules, and one for each unit that has not what they, and the
    /// defaults, say.
    pub fn recipe(&self, widths: &Widths) -> Recipe {
        let mut recipe = self.recipe.clone();
        let default = self.base.plan.default.activation_width;
        for (unit, &width) in self.units.iter().zip(widths) {
            let is_said =
                unit.own == width && (unit.kind == UnitKind::Weights || unit.own == default);
            if !is_said {
                recipe.rules.push(unit.rule(width));
            }
        }
        recipe
    }
}

/// What a quantized network takes.
///
/// # Errors
/// The node that has no integer form.
pub fn cost(graph: &Graph, options: &Options) -> Result<Cost> {
    let integer = lower(graph)?;
    let by_name: BTreeMap<&str, &IntNode> =
        integer.nodes.iter().map(|node| (&*node.name, node)).collect();
    let macs = graph.nodes.iter().map(|node| {
        let of = |role: fn(Role) -> bool| {
            let inputs =
                node.inputs.iter().enumerate().filter(move |&(i, _)| role(node.op.role(i)));
            inputs.filter_map(|(_, &v)| graph.values[v].quant.as_ref()).map(|quant| quant.width)
        };
        let widths = of(|role| role != Role::Bias);
        let wide = widths.max().is_some_and(|width| width > Width::W8);
        let wider = by_name.get(&*node.name).is_some_and(|node| {
            node.op.sums_are_64_bits() || node.op.acc_bound().is_some_and(is_wide)
        });
        graph.macs(node) << (u32::from(wide) + u32::from(wider))
    });
    Ok(Cost {
        ram_bytes: options.target.memory(&integer).map_or(0, |memory| memory.size),
        constant_bytes: constant_bytes(&integer),
        macs: macs.sum(),
    })
}

impl Unit {
    /// Gives it `width` in `plan`.
    fn widen(&self, plan: &mut Plan, graph: &Graph, width: Width) {
        if let Some(index) = self.layer {
            let scheme = plan.of_node(index);
            plan.nodes.insert(index, scheme.with_widths(scheme.activation_width, width));
            return;
        }
        for &v in &self.values {
            if graph.inputs.contains(&v) {
                let scheme = plan.of_input(v);
                plan.inputs.insert(v, scheme.with_widths(width, scheme.weight_width));
            }
            if let Some(index) = graph.nodes.iter().position(|node| node.output == v) {
                let scheme = plan.of_node(index);
                plan.nodes.insert(index, scheme.with_widths(width, scheme.weight_width));
            }
        }
    }

    fn rule(&self, width: Width) -> Rule {
        let names: Vec<String> = self.asked.iter().map(|name| regex_lite::escape(name)).collect();
        let mut settings = Settings::default();
        match self.kind {
            UnitKind::Activations => settings.activations = Some(width.bits()),
            UnitKind::Weights => settings.weights = Some(width.bits()),
        }
        let values = match &names[..] {
            [one] => format!("^{one}$"),
            several => format!("^({})$", several.join("|")),
        };
        Rule { values: Some(values), settings, ..Rule::default() }
    }
}

/// Whether `v` has a width by itself.
fn is_rounded(graph: &Graph, v: ValueId) -> bool {
    let node = graph.nodes.iter().find(|node| node.output == v);
    node.is_none_or(|node| node.op.output_params() != OutputParams::SameAsInput)
}

/// `widths` and `own`, in order.
fn with(widths: &[Width], own: Width) -> Vec<Width> {
    let all: std::collections::BTreeSet<Width> = widths.iter().copied().chain([own]).collect();
    all.into_iter().collect()
}
