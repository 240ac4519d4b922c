//! What QuantizeLinear makes of a value: codes, once for each set of parameters.
//!
//! While a file is read, a real value and its codes are two values. In the end the node that computes the real one
//! computes the codes; where others read other codes of it, or the real value itself, each has a node of its
//! own, so that the exact result is rounded once for each.

use std::collections::BTreeMap;

use super::importer::Importer;
use crate::error::{Result, bail};
use crate::graph::{Graph, Index, Node, Parts, Value, ValueId};
use crate::ops::clip::Clip;
use crate::ops::recode::Recode;
use crate::ops::{Op, OutputParams};
use crate::quant::{QuantParams, Width};

/// What is left of a name that others are made of.
pub(super) fn part(name: &str) -> &str {
    name.char_indices().nth(1000).map_or(name, |(end, _)| &name[..end])
}

/// What a second node for other codes costs, in steps of folding: a small file may ask for some ten thousand.
const TWIN: u64 = 1 << 12;

impl Importer<'_> {
    /// The codes of `params` of value `v`, called `x` in the file; if it consists of other codes, node `node`
    /// makes them.
    pub(super) fn round(
        &mut self,
        v: ValueId,
        x: &str,
        node: &str,
        output: &str,
        params: QuantParams,
    ) -> Result<ValueId> {
        let value = &self.graph.values[v];
        if value.quant.as_ref() == Some(&params) {
            return Ok(v);
        }
        let (scale, zero_point) = (params.scale[0].to_bits(), params.zero_point);
        let key = (v, params.scale.len(), scale, zero_point, params.width);
        if let Some(&known) = self.rounded.by_params.get(&key) {
            return Ok(known);
        }
        let quant = Some(params);
        let codes = if value.quant.is_none() {
            let (name, shape) = (self.names.fresh(output.into()), value.shape.clone());
            let codes = self.add_value(Value { name, shape, quant, ..Value::default() });
            self.rounded.raw.insert(codes, v);
            codes
        } else {
            let (node, wanted) =
                self.copies.get_key_value(x).map_or((node, output), |(x, n)| (*n, *x));
            let name = self.names.fresh(wanted.into());
            let node = if name == wanted { node.to_owned() } else { name.clone() };
            let codes = self.emit(&node, Op::Recode(Recode), vec![v], &name)?;
            self.graph.values[codes].quant = quant;
            codes
        };
        self.rounded.by_params.insert(key, codes);
        Ok(codes)
    }

    /// Gives each value its codes, once the whole file is read.
    pub(super) fn settle(&mut self) -> Result<()> {
        let index = Index::new(&self.graph);
        let mut codes_of: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
        let is_read =
            |codes: &ValueId| !self.rounded.limited.contains(codes) || index.uses(*codes) > 0;
        self.rounded
            .raw
            .iter()
            .filter(|(codes, _)| is_read(codes))
            .for_each(|(&codes, &raw)| codes_of.entry(raw).or_default().push(codes));
        let mut becomes: Vec<ValueId> = (0..self.graph.values.len()).collect();
        let (mut recodes, mut twins) = (Vec::new(), Vec::new());
        for (raw, mut codes) in codes_of {
            let is_real = index.uses(raw) > 0;
            let Some(producer) = index.producer(raw) else {
                if is_real {
                    let name = &self.graph.values[raw].name;
                    bail!(Unsupported, "\"{name}\" is used both with and without being quantized");
                }
                self.settle_input(raw, &codes, &mut becomes, &mut recodes)?;
                continue;
            };
            if !is_real {
                let first = codes.remove(0);
                let Value { name, quant, .. } = std::mem::take(&mut self.graph.values[first]);
                self.graph.values[raw].quant = quant;
                if self.outputs.contains(name.as_str()) {
                    self.graph.values[raw].name = name;
                }
                becomes[first] = raw;
            }
            for codes in codes {
                self.twin(&index, producer, codes, &mut twins)?;
            }
        }
        twins.sort_by_key(|&(position, _)| position);
        let mut twins = twins.into_iter().peekable();
        let mut nodes = recodes;
        for (position, node) in std::mem::take(&mut self.graph.nodes).into_iter().enumerate() {
            nodes.push(node);
            while let Some((_, twin)) = twins.next_if(|&(of, _)| of == position) {
                nodes.push(twin);
            }
        }
        let used = nodes.iter_mut().flat_map(|n| &mut n.inputs);
        used.chain(&mut self.graph.outputs)
            .filter(|v| **v < becomes.len())
            .for_each(|v| *v = becomes[*v]);
        self.graph.nodes = nodes;
        Ok(())
    }

    /// An input becomes codes once; those that hold the most, if its readers want different ones.
    fn settle_input(
        &mut self,
        input: ValueId,
        codes: &[ValueId],
        becomes: &mut [ValueId],
        recodes: &mut Vec<Node>,
    ) -> Result<()> {
        let wanted = || codes.iter().filter_map(|&v| self.graph.values[v].quant.as_ref());
        let quant = match codes {
            &[only] => self.graph.values[only].quant.clone(),
            _ => match covering(wanted()) {
                Some(quant) => Some(quant),
                None => bail!(
                    Unsupported,
                    "input \"{}\" is quantized in two ways, and 16 bits do not hold both",
                    self.graph.values[input].name
                ),
            },
        };
        for &codes in codes {
            let value = &self.graph.values[codes];
            if value.quant == quant {
                becomes[codes] = input;
                continue;
            }
            let (name, op) = (value.name.clone(), Op::Recode(Recode));
            let (parts, inputs, clamp) = (Parts::default(), vec![input], Clip::NONE);
            recodes.push(Node { name, parts, op, clamp, inputs, output: codes });
        }
        self.graph.values[input].quant = quant;
        Ok(())
    }

    /// Computes `codes` by a node like `node`, and by such ones like what is merged with it.
    fn twin(
        &mut self,
        index: &Index,
        mut node: usize,
        mut codes: ValueId,
        twins: &mut Vec<(usize, Node)>,
    ) -> Result<()> {
        loop {
            let mut twin = self.graph.nodes[node].clone();
            for &v in twin.inputs.iter().filter(|&&v| self.graph.values[v].constant.is_some()) {
                self.folding.take(&self.graph.values[v].shape, 0)?;
            }
            if self.folding.take(&[], TWIN).is_err() {
                let name = &twin.name;
                bail!(
                    Unsupported,
                    "too many nodes as \"{name}\" would be computed once for each set of codes"
                );
            }
            self.names.take(&twin.name);
            (twin.name, twin.output) = (self.names.fresh(part(&twin.name).into()), codes);
            let before = merged(&self.graph, index, &twin);
            if let Some((argument, producer)) = before {
                let value = &self.graph.values[twin.inputs[argument]];
                let (name, shape) =
                    (self.names.fresh(part(&value.name).into()), value.shape.clone());
                codes = self.add_value(Value { name, shape, ..Value::default() });
                twin.inputs[argument] = codes;
                twins.push((node, twin));
                node = producer;
            } else {
                twins.push((node, twin));
                return Ok(());
            }
        }
    }
}

/// The one argument of `node` that is neither constant nor codes, and the node that computes it, if a rewrite
/// may merge the two.
fn merged(graph: &Graph, index: &Index, node: &Node) -> Option<(usize, usize)> {
    let merges = matches!(node.op, Op::Add(_) | Op::BatchNorm(_) | Op::Clip(_) | Op::Mul(_))
        || node.op.output_params() == OutputParams::SameAsInput;
    let mut computed =
        (0..node.inputs.len()).filter(|&i| graph.values[node.inputs[i]].constant.is_none());
    let (argument, None) = (computed.next()?, computed.next()) else { return None };
    let v = node.inputs[argument];
    let is_real = merges && graph.values[v].quant.is_none();
    is_real.then(|| index.producer(v)).flatten().map(|producer| (argument, producer))
}

/// Codes of 16 bits for all numbers that have codes of one of `params`, as fine as they can be, and such that
/// those of the finest follow from them exactly; `None` if their range is too wide for that.
fn covering<'a>(params: impl Iterator<Item = &'a QuantParams>) -> Option<QuantParams> {
    let (mut finest, mut lo, mut hi) = (f32::MAX, 0f64, 0f64);
    for params in params {
        let (first, last) = params.code_range();
        let real = |code: i32| (code - params.zero_point) as f64 * params.scale[0] as f64;
        (lo, hi) = (lo.min(real(first)), hi.max(real(last)));
        finest = finest.min(params.scale[0]);
    }
    let steps = (65535.0 * finest as f64 / (hi - lo)) as i64;
    if steps < 1 {
        return None;
    }
    // The middle between two codes of the finest is one between two of these: an odd part of a step.
    let parts = if steps % 2 == 0 { steps - 1 } else { steps }.max(1);
    let scale = ((finest as f64 / parts as f64) as f32).max(f32::MIN_POSITIVE);
    let zero_point = (-32768.0 - lo / scale as f64).round_ties_even().clamp(-32768.0, 32767.0);
    Some(QuantParams::per_tensor(scale, zero_point as i32, Width::W16))
}
