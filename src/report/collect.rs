//! Runs both networks, and writes down what there is to tell.

use std::collections::{BTreeMap, HashMap};

use super::facts::{
    Answers, Bars, Block, Bound, Changed, Codes, Confusion, Input, Layer, MemoryMap, Report, Run,
    Verdict, Weights,
};
use super::pixels::Picture;
use super::remedy::command;
use crate::analyze::{Blame, Coverage, Evaluation, Part, Seen, blame, channel_axis, coverage};
use crate::calibrate;
use crate::calibrate::histogram::Histogram;
use crate::data::{Samples, Workers};
use crate::emit::{C, TARGETS, Target, constant_bytes, node_bytes};
use crate::error::Result;
use crate::exec::engine::{Engine, Options};
use crate::exec::float::FloatExecutor;
use crate::graph::{Graph, Node};
use crate::lower::{IntGraph, lower};
use crate::ops::Role;
use crate::quant::{QuantParams, Scheme};
use crate::tensor::Tensor;

/// Pictures of each input,
const PICTURES: usize = 8;
/// bars of a histogram,
const BARS: usize = 64;
/// and answers that are named.
const NAMED: usize = 50;
/// Multiply-accumulates that are spent on asking who is to blame, by as many samples as that allows, within limits.
const MACS: u64 = 1 << 29;

impl Report {
    /// Runs `samples` through `quantized` and `float`, both prepared, and asks for the blame if that is not known yet.
    ///
    /// # Errors
    /// A network without codes, or a float one with codes; samples that cannot be read or do not fit.
    pub fn new(
        [quantized, float]: [&Graph; 2],
        samples: &dyn Samples,
        known: Option<Blame>,
        run: Run,
        workers: Workers,
    ) -> Result<Self> {
        let macs: u64 = quantized.nodes.iter().map(|node| quantized.macs(node)).sum();
        let few = First(samples, (MACS / macs.max(1)).clamp(8, 32) as usize);
        let blame = match known {
            Some(blame) => blame,
            None => blame(quantized, float, &few, workers)?,
        };
        let integer = lower(quantized)?;
        let (evaluation, answers, hash) = answers(&integer, float, samples, workers)?;
        let values = codes(quantized, &few, workers)?;
        let coverage = coverage(quantized, Scheme::default(), TARGETS);
        Ok(Self {
            network: quantized.name.clone(),
            verdict: Verdict::of(&evaluation),
            answers,
            inputs: inputs(quantized, &values, samples)?,
            nodes: layers(quantized, &integer, &blame, &coverage),
            values,
            memory: memory(&integer),
            commands: blame
                .causes
                .iter()
                .map(|cause| Some(command(cause.apply.as_ref()?, &run)))
                .collect(),
            coverage,
            run: Run { samples: samples.len(), data_hash: format!("{hash:016x}"), ..run },
            evaluation,
            blame,
        })
    }
}

/// No more than the first so many samples.
struct First<'a>(&'a dyn Samples, usize);

impl Samples for First<'_> {
    fn len(&self) -> usize {
        self.0.len().min(self.1)
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>> {
        self.0.get(i)
    }

    fn labels(&self, i: usize) -> Result<Option<Vec<usize>>> {
        self.0.labels(i)
    }
}

/// One row of an output of classes.
struct Row {
    sample: usize,
    label: Option<usize>,
    /// Answer, and by how much it is above the second one, or above the float network's.
    float: (usize, f64),
    ours: (usize, f64),
}

/// How the network does on all samples, which answers changed, and the hash of the samples.
fn answers(
    integer: &IntGraph,
    float: &Graph,
    samples: &dyn Samples,
    workers: Workers,
) -> Result<(Evaluation, Option<Answers>, u64)> {
    let ours: Vec<&str> = integer.outputs.iter().map(|&v| &*integer.values[v].name).collect();
    let theirs: Vec<&str> = float.outputs.iter().map(|&v| &*float.values[v].name).collect();
    let parts = Part::of(&ours, Some(&theirs), Some(float));
    let own_inputs = integer.named_inputs();
    let place = |(name, _): (&str, _)| own_inputs.iter().position(|(own, _)| *own == name);
    let order: Option<Vec<usize>> = float.named_inputs().into_iter().map(place).collect();
    let (network, engine) = (FloatExecutor::new(float), Engine::new(integer, Options::default())?);
    // The first output that makes classes, here and there.
    let is_classes = |&v: &usize| matches!(*integer.values[v].shape, [_, n, ref rest @ ..] if n > 1 && rest.iter().all(|&size| size == 1));
    let main = integer.outputs.iter().position(is_classes);
    let main = main.map(|i| (i, theirs.iter().position(|name| *name == ours[i]).unwrap_or(i)));
    let main = main.filter(|&(i, k)| {
        let shape = theirs.get(k).map(|_| &float.values[float.outputs[k]].shape);
        shape == Some(&integer.values[integer.outputs[i]].shape)
    });
    let each = workers.map(samples.len(), |i| {
        let inputs = samples.get(i)?;
        let hash = calibrate::hash(&inputs);
        let y = engine.run(&mut engine.session()?, &inputs)?;
        let inputs = match &order {
            Some(order) => order.iter().map(|&place| inputs[place].clone()).collect(),
            None => inputs,
        };
        let real = network.run(&inputs, |_, _| Ok(()))?;
        let labels = samples.labels(i)?;
        let see = |part: &Part| part.see(&y, Some(&real), labels.as_deref());
        let seen: Vec<Seen> = parts.iter().map(see).collect::<Result<_>>()?;
        let rows = main.map(|(a, b)| rows(i, &y[a], &real[b], labels.as_deref()));
        Ok((seen, labels.is_some(), rows.unwrap_or_default(), hash))
    })?;
    let labelled = each.iter().any(|(_, labels, ..)| *labels);
    let hash = each.iter().fold(0u64, |sum, (.., hash)| sum.wrapping_add(*hash));
    let (mut seen, mut all) = (Vec::new(), Vec::new());
    for (of_sample, _, rows, _) in each {
        seen.push(of_sample);
        all.extend(rows);
    }
    let answers = main.map(|(a, _)| Answers {
        output: ours[a].into(),
        classes: integer.classes.clone(),
        ..tell(all)
    });
    Ok((Evaluation::of(parts, seen, labelled), answers, hash))
}

/// The two largest, the first of equals, as class and number.
fn best(row: &[f32]) -> [(usize, f64); 2] {
    let mut best = [(0, f64::NEG_INFINITY); 2];
    for (class, &x) in row.iter().enumerate() {
        let x = x as f64;
        if x > best[0].1 {
            best = [(class, x), best[0]];
        } else if x > best[1].1 {
            best[1] = (class, x);
        }
    }
    best
}

fn rows(sample: usize, y: &Tensor<f32>, real: &Tensor<f32>, labels: Option<&[usize]>) -> Vec<Row> {
    let (rows, classes) = (y.shape()[0], y.shape()[1]);
    let labels = labels.filter(|labels| labels.len() == rows);
    let both = y.data().chunks(classes).zip(real.data().chunks(classes));
    let row = |(i, (y, real)): (usize, (&[f32], &[f32]))| {
        let ([(float, first), (_, second)], [(ours, highest), _]) = (best(real), best(y));
        Row {
            sample,
            label: labels.map(|labels| labels[i]).filter(|&label| label < classes),
            float: (float, first - second),
            ours: (ours, highest - y[float] as f64),
        }
    };
    both.enumerate().map(row).collect()
}

fn tell(rows: Vec<Row>) -> Answers {
    let labelled = rows.iter().all(|row| row.label.is_some());
    let mut confusion: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for row in &rows {
        let expected = row.label.filter(|_| labelled).unwrap_or(row.float.0);
        *confusion.entry((expected, row.ours.0)).or_default() += 1;
    }
    let of = |((expected, answer), count)| Confusion { expected, answer, count };
    let mut confusion: Vec<Confusion> = confusion.into_iter().map(of).collect();
    confusion.sort_by_key(|c| (c.expected == c.answer, std::cmp::Reverse(c.count)));
    let is_changed = |row: &&Row| row.float.0 != row.ours.0;
    let changed = |row: &Row| Changed {
        sample: row.sample,
        label: row.label,
        float: row.float.0,
        float_margin: row.float.1,
        ours: row.ours.0,
        margin: row.ours.1,
    };
    let mut samples: Vec<Changed> = rows.iter().filter(is_changed).map(changed).collect();
    samples.sort_by(|a, b| b.float_margin.total_cmp(&a.float_margin));
    let changed = samples.len();
    samples.truncate(NAMED);
    Answers { rows: rows.len(), changed, samples, labelled, confusion, ..Answers::default() }
}

/// What samples show of a value.
#[derive(Default)]
struct Numbers {
    histogram: Histogram,
    beyond: u64,
    /// The lowest and the highest code of each channel.
    channels: Vec<(i32, i32)>,
}

impl Numbers {
    fn add(&mut self, x: &Tensor<f32>, params: &QuantParams) -> Result<()> {
        self.histogram.add(x.data())?;
        let (lowest, highest) = params.code_range();
        let half = params.scale[0] / 2.0;
        let [lo, hi] = [lowest, highest].map(|code| params.dequantize(code, 0));
        let is_beyond = |x: &&f32| **x < lo - half || **x > hi + half;
        self.beyond += x.data().iter().filter(is_beyond).count() as u64;
        let axis = channel_axis(x.shape());
        let channels = axis.map_or(1, |axis| x.shape()[axis]).max(1);
        let inner = axis.map_or(x.data().len(), |axis| x.shape()[axis + 1..].iter().product());
        self.channels.resize(channels, (i32::MAX, i32::MIN));
        for (i, run) in x.data().chunks(inner.max(1)).enumerate() {
            let channel = &mut self.channels[i % channels];
            for code in run.iter().map(|&x| params.quantize(x, 0)) {
                *channel = (channel.0.min(code), channel.1.max(code));
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.histogram.merge(&other.histogram);
        self.beyond += other.beyond;
        self.channels.resize(other.channels.len().max(self.channels.len()), (i32::MAX, i32::MIN));
        for (mine, theirs) in self.channels.iter_mut().zip(other.channels) {
            *mine = (mine.0.min(theirs.0), mine.1.max(theirs.1));
        }
    }
}

/// What the codes of each value are used for. The network runs in real numbers that are rounded where it has codes.
fn codes(quantized: &Graph, samples: &dyn Samples, workers: Workers) -> Result<Vec<Codes>> {
    let network = FloatExecutor::new(quantized);
    let parts = workers.fold(samples.len(), BTreeMap::new, |seen, i| {
        let see = |v: usize, x: &mut Tensor<f32>| {
            let Some(params) = &quantized.values[v].quant else { return Ok(()) };
            seen.entry(v).or_insert_with(Numbers::default).add(x, params)?;
            x.data_mut().iter_mut().for_each(|x| *x = params.dequantize(params.quantize(*x, 0), 0));
            Ok(())
        };
        network.run_with(&samples.get(i)?, see).map(drop)
    })?;
    let mut all: BTreeMap<usize, Numbers> = BTreeMap::new();
    parts.into_iter().flatten().for_each(|(v, seen)| all.entry(v).or_default().merge(seen));
    let told = |v: usize| {
        let (value, seen) = (&quantized.values[v], all.get(&v)?);
        let params = value.quant.as_ref()?;
        let [lo, hi] = [params.width.lowest(), params.width.highest()]
            .map(|code| params.dequantize(code, 0) as f64);
        Some(Codes {
            name: value.name.clone(),
            shape: value.shape.clone(),
            bits: params.width.bits(),
            scale: params.scale[0] as f64,
            zero_point: params.zero_point,
            lo,
            hi,
            seen: bars(&seen.histogram),
            beyond: seen.beyond as f64 / seen.histogram.total().max(1) as f64,
            used: seen.channels.iter().map(|&(lo, hi)| (hi - lo + 1).max(0) as u32).collect(),
        })
    };
    Ok(quantized.activations().filter_map(told).collect())
}

fn bars(seen: &Histogram) -> Bars {
    let range = seen.range();
    let (lo, hi) = (range.lo as f64, range.hi as f64);
    let mut counts = vec![0; if hi > lo { BARS } else { 1 }];
    for (x, n) in seen.bins() {
        let bar = (x as f64 - lo) / (hi - lo).max(f64::MIN_POSITIVE) * counts.len() as f64;
        let last = counts.len() - 1;
        counts[(bar as usize).min(last)] += n;
    }
    Bars { lo, hi, counts }
}

fn inputs(quantized: &Graph, values: &[Codes], samples: &dyn Samples) -> Result<Vec<Input>> {
    let first: Vec<Vec<Tensor<f32>>> =
        (0..samples.len().min(PICTURES)).map(|i| samples.get(i)).collect::<Result<_>>()?;
    let told = |(i, &v): (usize, &usize)| {
        let value = &quantized.values[v];
        let of_sample = first.iter().filter_map(|inputs| inputs.as_slice().get(i));
        // Integers are shown as they are given.
        let quant = value.quant.as_ref().filter(|_| value.given.is_none());
        let numbers = of_sample.clone().flat_map(|x| x.data()).copied();
        let mut limits =
            numbers.fold([f32::INFINITY, f32::NEG_INFINITY], |[lo, hi], x| [lo.min(x), hi.max(x)]);
        if let Some(codes) = values.iter().find(|codes| quant.is_some() && codes.name == value.name)
        {
            limits = limits.map(|x| x.clamp(codes.lo as f32, codes.hi as f32));
        }
        Input {
            name: value.name.clone(),
            shape: value.shape.clone(),
            pictures: of_sample.map(|x| Picture::new(x, quant, limits)).collect(),
        }
    };
    Ok(quantized.inputs.iter().enumerate().map(told).collect())
}

fn layers(
    quantized: &Graph,
    integer: &IntGraph,
    blame: &Blame,
    coverage: &[Coverage],
) -> Vec<Layer> {
    let mut flash: HashMap<&str, usize> = HashMap::new();
    let mut bounds: HashMap<&str, Bound> = HashMap::new();
    for (node, bytes) in integer.nodes.iter().zip(node_bytes(integer)) {
        *flash.entry(&node.origin).or_default() += bytes;
        if let Some(accumulator) = node.accumulator() {
            let share = accumulator.share();
            let bound = Bound { bound: accumulator.bound, bits: accumulator.bits, share };
            let known = bounds.entry(&node.origin).or_insert(bound);
            if share > known.share {
                *known = bound;
            }
        }
    }
    let shares: HashMap<(&str, bool), f64> =
        blame.units.iter().map(|unit| ((&*unit.name, unit.constants), unit.share)).collect();
    let of = |name: &str, constants| shares.get(&(name, constants)).copied().unwrap_or(0.0);
    let name = |&v: &usize| quantized.values[v].name.clone();
    let told = |node: &Node| Layer {
        name: node.name.clone(),
        operator: node.op.name(),
        inputs: node
            .inputs
            .iter()
            .filter(|&&v| quantized.values[v].constant.is_none())
            .map(name)
            .collect(),
        output: name(&node.output),
        share: of(&node.name, true) + of(&quantized.values[node.output].name, false),
        macs: quantized.macs(node),
        flash_bytes: flash.get(&*node.name).copied().unwrap_or_default(),
        accumulator: bounds.get(&*node.name).copied(),
        weights: weights(quantized, node),
        refused_by: coverage
            .iter()
            .filter(|it| it.refused.iter().any(|refusal| refusal.node == node.name))
            .map(|it| it.target)
            .collect(),
    };
    quantized.nodes.iter().map(told).collect()
}

/// The first argument that is weights.
fn weights(graph: &Graph, node: &Node) -> Option<Weights> {
    let (v, axis) = node.inputs.iter().enumerate().find_map(|(i, &v)| match node.op.role(i) {
        Role::Weight { axis } => Some((v, axis)),
        _ => None,
    })?;
    let (real, params) = (graph.values[v].to_real()?, graph.values[v].quant.as_ref()?);
    let channels = real.shape().get(axis).copied().unwrap_or(1).max(1);
    let inner: usize = real.shape().iter().skip(axis + 1).product();
    let mut largest = vec![0f32; channels];
    for (i, run) in real.data().chunks(inner.max(1)).enumerate() {
        let most = &mut largest[i % channels];
        *most = run.iter().fold(*most, |most, w| most.max(w.abs()));
    }
    let code = |(c, &x): (usize, &f32)| (x / params.scale[c % params.scale.len()]).round() as u32;
    Some(Weights {
        bits: params.width.bits(),
        codes: largest.iter().enumerate().map(code).collect(),
        largest: largest.iter().map(|&x| x as f64).collect(),
    })
}

fn memory(integer: &IntGraph) -> MemoryMap {
    let plan = C.memory(integer).unwrap_or_else(|| crate::memory::Memory::disjoint(integer));
    let block = |block: &crate::memory::Block| Block {
        name: match block.value {
            Some(v) => integer.values[v].name.clone(),
            None => integer.nodes[block.first - 1].name.clone(),
        },
        scratch: block.value.is_none(),
        offset: block.offset,
        size: block.size,
        first: block.first,
        last: block.last,
    };
    MemoryMap {
        size: plan.size,
        bound: plan.bound,
        steps: integer.nodes.len() + 2,
        constant_bytes: constant_bytes(integer),
        blocks: plan.blocks.iter().map(block).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::Refusal;
    use crate::ops::Op;
    use crate::ops::add::Add;
    use crate::quantize::quantize;
    use crate::testing::{Net, SCHEMES, run_float};

    /// `x + x`, twice.
    fn networks() -> (Graph, Graph, Vec<Tensor<f32>>) {
        let mut net = Net::new(3);
        let x = net.input(&[1, 4]);
        let add = || Op::Add(Add { subtract: false });
        let y = net.node(add(), &[x, x]);
        let z = net.node(add(), &[y, x]);
        let float = net.finish(&[z]);
        let samples: Vec<_> = [1.0, -2.0].map(|x| Tensor::new([1, 4], vec![x; 4]).unwrap()).into();
        let (_, ranges) = run_float(&float, &samples[..1]);
        (quantize(&float, &ranges, SCHEMES[3]).unwrap(), float, samples)
    }

    #[test]
    fn refused_nodes_are_marked() {
        let (quantized, float, samples) = networks();
        let run = Run::default();
        let mut report =
            Report::new([&quantized, &float], &samples, None, run, Workers::default()).unwrap();
        assert!(!report.html().contains("node refused"));
        let node = quantized.nodes[1].name.clone();
        let refused = Refusal { node, reason: "it has <no> words".into() };
        report.coverage[1].refused.push(refused);
        let integer = lower(&quantized).unwrap();
        report.nodes = layers(&quantized, &integer, &report.blame, &report.coverage);
        assert_eq!(report.nodes[1].refused_by, [report.coverage[1].target]);
        let page = report.html();
        assert_eq!(page.matches("node refused").count(), 1);
        assert!(page.contains("it has &lt;no&gt; words"));
    }

    #[test]
    fn what_is_beyond_all_codes_is_counted() {
        let (quantized, _, samples) = networks();
        let told = codes(&quantized, &samples, Workers::default()).unwrap();
        // Calibrated for 0 to 1, seen from -2 to 1.
        assert_eq!((told[0].seen.lo, told[0].seen.hi, told[0].beyond), (-2.0, 1.0, 0.5));
        assert_eq!((told[0].lo, told[0].hi as f32, &told[0].used[..]), (0.0, 1.0, &[256; 4][..]));
    }

    fn told(labels: Option<&[usize]>) -> Answers {
        let tensor = |x: [f32; 12]| Tensor::new([4, 3], x.to_vec()).unwrap();
        let real = tensor([5.0, 1.0, 0.0, 0.0, 2.0, 1.5, 3.0, 0.0, 1.0, 0.0, 1.0, 4.0]);
        let y = tensor([5.0, 1.0, 0.0, 0.0, 1.5, 1.75, 2.0, 0.0, 2.5, 0.0, 1.0, 4.0]);
        tell(rows(7, &y, &real, labels))
    }

    #[test]
    fn changed_answers_have_margins_and_the_surest_comes_first() {
        let Answers { rows, changed, samples, .. } = told(None);
        assert_eq!((rows, changed), (4, 2));
        let of = |float, float_margin, margin| Changed {
            sample: 7,
            label: None,
            float,
            float_margin,
            ours: 2,
            margin,
        };
        assert_eq!(samples, [of(0, 2.0, 0.5), of(1, 0.5, 0.25)]);
    }

    #[test]
    fn answers_are_expected_by_labels_if_each_has_one() {
        let of = |(expected, answer, count)| Confusion { expected, answer, count };
        let answers = told(Some(&[0, 2, 2, 1]));
        assert!(answers.labelled);
        assert_eq!(answers.confusion, [(1, 2, 1), (2, 2, 2), (0, 0, 1)].map(of));
        for labels in [None, Some(&[0, 2, 2, 9][..]), Some(&[0][..])] {
            let answers = told(labels);
            assert!(!answers.labelled);
            assert_eq!(answers.confusion, [(0, 2, 1), (1, 2, 1), (0, 0, 1), (2, 2, 1)].map(of));
        }
    }
}
