//! Why a unit loses: each cause has a number, and a change that takes it away.

use super::facts::{Facts, NOTHING, Seen, channel_axis, union};
use super::simulation::Change;
use super::units::Unit;
use super::{Apply, CauseKind, CauseKind::*};
use crate::graph::{Constant, Graph, ValueId};
use crate::ops::{Op, Role};
use crate::quant::{Granularity, QuantParams, Range, Width};
use crate::tensor::Tensor;

/// A mean that is off by less, in steps of the result, is rounding.
const MOVED: f64 = 0.25;

/// A cause that may be, and what takes it away.
pub struct Candidate {
    pub kind: CauseKind,
    pub number: f64,
    pub what: String,
    pub remedy: String,
    pub apply: Option<Apply>,
    pub change: Change,
}

/// Ranges, and largest weights, that are as far apart share no 8 bits well.
const APART: f64 = 8.0;

/// Of the unit, those first that say most.
pub fn candidates(graph: &Graph, unit: &Unit, facts: &Facts) -> Vec<Candidate> {
    match unit.layer {
        Some(index) => of_layer(graph, unit, index, facts),
        None => of_values(graph, unit, facts),
    }
}

/// Rounds each element by the parameters of its channel.
fn by_channel(x: &mut Tensor<f32>, params: &[QuantParams]) {
    let axis = channel_axis(x.shape());
    let inner = axis.map_or(x.data().len(), |axis| x.shape()[axis + 1..].iter().product());
    for (i, run) in x.data_mut().chunks_mut(inner.max(1)).enumerate() {
        let params = &params[i % params.len()];
        run.iter_mut().for_each(|x| *x = params.dequantize(params.quantize(*x, 0), 0));
    }
}

/// Codes for just this range, as many as `like` has.
fn fitted(range: Range, like: &QuantParams) -> QuantParams {
    let (lowest, highest) = like.code_range();
    let (lo, hi) = (range.lo.min(0.0) as f64, range.hi.max(0.0) as f64);
    let scale = ((hi - lo) / (highest - lowest) as f64).max(1e-30);
    let zero = (lowest as f64 - lo / scale).round() as i32;
    QuantParams::per_tensor(scale as f32, zero.clamp(lowest, highest), like.width)
}

fn limits(params: &QuantParams) -> Range {
    let (lowest, highest) = params.code_range();
    Range { lo: params.dequantize(lowest, 0), hi: params.dequantize(highest, 0) }
}

fn span(range: Range) -> f64 {
    (range.hi.max(0.0) - range.lo.min(0.0)) as f64
}

/// The largest of these against the one in the middle, of those that are any.
fn apart(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = numbers.filter(|&x| x > 0.0).collect();
    all.sort_by(f64::total_cmp);
    match (all.last(), all.get(all.len() / 2)) {
        (Some(last), Some(middle)) => last / middle,
        _ => 1.0,
    }
}

/// A rule for what has just this name.
fn rule(what: &str, name: &str, of: &str, bits: u32) -> Apply {
    let name = serde_json::Value::from(format!("^{}$", regex_lite::escape(name)));
    Apply::Rule(format!("{{\"{what}\": {name}, \"{of}\": {bits}}}"))
}

/// The options that give 16 bits to a value.
fn wider(unit: &Unit) -> Apply {
    rule("values", &unit.name, "activations", 16)
}

fn options(options: &str) -> Option<Apply> {
    Some(Apply::Options(options.into()))
}

/// What the values of `unit` should hold: that of the float network where it is like this one, or else their own.
fn wanted(seen: &Seen) -> Range {
    let own = seen.own.iter().copied().fold(NOTHING, union);
    seen.float.filter(|_| seen.accumulated.db() > 0.0).unwrap_or(own)
}

fn of_values(graph: &Graph, unit: &Unit, facts: &Facts) -> Vec<Candidate> {
    let mut found = Vec::new();
    let first = unit.values[0];
    let Some(params) = graph.values[first].quant.clone() else { return found };
    let seen: Vec<(ValueId, &Seen)> =
        unit.values.iter().filter_map(|&v| Some((v, facts.values.get(&v)?))).collect();
    let Some(&(_, of_first)) = seen.first() else { return found };
    let step = params.scale[0];
    let range = seen.iter().map(|(_, seen)| wanted(seen)).fold(NOTHING, union);
    let has = limits(&params);
    // One rule for all values of the unit.
    let all = |rule: fn(&Rule, &mut Tensor<f32>), own: Rule| {
        let mut change = Change::default();
        for &v in &unit.values {
            let own = own.clone();
            change.rules.insert(v, Box::new(move |x| rule(&own, x)));
        }
        change
    };
    let wider = wider(unit);
    if range.lo < has.lo - step || range.hi > has.hi + step {
        let clipped: u64 = seen.iter().map(|(_, seen)| seen.clipped).sum();
        let share = 100.0 * clipped as f64
            / seen.iter().map(|(_, seen)| seen.count).sum::<u64>().max(1) as f64;
        let own = Rule { params: vec![params.clone()], limits: union(range, has) };
        found.push(Candidate {
            kind: Clipping,
            number: share,
            what: format!(
                "cuts off {share:.2} % of its numbers: they reach {:.4}…{:.4}, its codes {:.4}…{:.4}",
                range.lo, range.hi, has.lo, has.hi
            ),
            remedy: "a wider range: --calibrator minmax".into(),
            apply: options("--calibrator minmax"),
            change: all(|own, x| {
                let Rule { params, limits } = own;
                let step = params[0].scale[0];
                x.data_mut().iter_mut().for_each(|x| {
                    *x = ((*x / step).round_ties_even() * step).clamp(limits.lo, limits.hi);
                });
            }, own),
        });
    }
    let codes = (span(range) / step as f64).min(span(has) / step as f64) + 1.0;
    let of = params.width.bits();
    if 2.0 * span(range) < span(has) {
        found.push(Candidate {
            kind: CoarseStep,
            number: codes,
            what: format!("uses {codes:.0} of its 2^{of} codes: its step {step:.3e} is for a range that nothing fills"),
            remedy: "calibrate it on samples like these".into(),
            apply: None,
            change: all(|own, x| by_channel(x, &own.params), Rule::of(vec![fitted(range, &params)])),
        });
    }
    found.extend(scale_ratio(graph, unit, facts, &params));
    let spans: Vec<f64> = of_first.own.iter().map(|&range| span(range)).collect();
    let one_code = |c: usize| {
        let own = of_first.own[c];
        let rounded = of_first.rounded.get(c).copied().unwrap_or(own);
        own.hi > own.lo && rounded.lo == rounded.hi
    };
    let dead: Vec<usize> = (0..spans.len()).filter(|&c| one_code(c)).collect();
    let per_channel = |of: &dyn Fn(usize) -> bool| {
        let each = of_first.own.iter().enumerate();
        each.map(|(c, &own)| if of(c) { fitted(own, &params) } else { params.clone() }).collect()
    };
    let one_shape = seen.iter().all(|(_, seen)| seen.own.len() == of_first.own.len());
    if !dead.is_empty() && one_shape {
        found.push(Candidate {
            kind: DeadCodes,
            number: dead.len() as f64,
            what: format!(
                "has one code in {} of its {} channels, which vary",
                dead.len(),
                spans.len()
            ),
            remedy: format!(
                "bring these channels to the size of the others in the model, or {wider}"
            ),
            apply: Some(wider.clone()),
            change: all(
                |own, x| by_channel(x, &own.params),
                Rule::of(per_channel(&|c| dead.contains(&c))),
            ),
        });
    }
    let ratio = apart(spans.iter().copied());
    if one_shape && (ratio > APART || spans.iter().any(|&x| x > 0.0 && x * APART < span(range))) {
        let few = spans.iter().filter(|&&x| x > 0.0 && x / (step as f64) < APART).count();
        let least = spans.iter().copied().filter(|&x| x > 0.0).fold(f64::INFINITY, f64::min);
        let ratio = ratio.max(span(range) / least);
        found.push(Candidate {
            kind: ActivationImbalance,
            number: ratio,
            what: format!("has channels up to {ratio:.0} times as large as others, {few} with fewer than 8 codes"),
            remedy: format!("bring its channels to one size in the model (equalization), or {wider}"),
            apply: Some(wider.clone()),
            change: all(|own, x| by_channel(x, &own.params), Rule::of(per_channel(&|_| true))),
        });
    }
    if params.width == Width::W8 {
        let fine = Rule { params: vec![params.clone()], limits: has };
        found.push(Candidate {
            kind: CoarseStep,
            number: codes,
            what: format!("uses {codes:.0} of its 2^{of} codes, of step {step:.3e}"),
            remedy: wider.to_string(),
            apply: Some(wider),
            change: all(
                |own, x| {
                    let step = own.params[0].scale[0] / 256.0;
                    x.data_mut().iter_mut().for_each(|x| {
                        *x = ((*x / step).round_ties_even() * step)
                            .clamp(own.limits.lo, own.limits.hi);
                    });
                },
                fine,
            ),
        });
    }
    found
}

/// What a rule knows.
#[derive(Clone)]
struct Rule {
    params: Vec<QuantParams>,
    limits: Range,
}

impl Rule {
    fn of(params: Vec<QuantParams>) -> Self {
        Self { params, limits: NOTHING }
    }
}

/// Arguments of a Concat, or of a sum, that are small beside what they are joined with.
fn scale_ratio(
    graph: &Graph,
    unit: &Unit,
    facts: &Facts,
    params: &QuantParams,
) -> Option<Candidate> {
    let node = graph.nodes.iter().find(|node| node.output == unit.values[0])?;
    let is_concat = matches!(node.op, Op::Concat(_));
    if !is_concat && !matches!(node.op, Op::Add(_)) {
        return None;
    }
    let ranges: Vec<(ValueId, Range)> =
        node.inputs.iter().filter_map(|&v| Some((v, wanted(facts.values.get(&v)?)))).collect();
    let spans = ranges.iter().map(|&(_, range)| span(range)).filter(|&x| x > 0.0);
    let (least, most) = spans.fold((f64::INFINITY, 0f64), |(lo, hi), x| (lo.min(x), hi.max(x)));
    let ratio = most / least;
    if ranges.len() < 2 || ratio < APART {
        return None;
    }
    let mut change = Change::default();
    // The result joins what has a scale of its own; a sum is one number, and gets finer codes.
    unit.values.iter().for_each(|&v| _ = change.rules.insert(v, Box::new(|_| ())));
    if is_concat {
        for &(v, range) in ranges.iter().filter(|(v, _)| unit.values.contains(v)) {
            let own = fitted(range, params);
            change.rules.insert(v, Box::new(move |x| super::simulation::round(&own, x)));
        }
    }
    let name = node.op.name();
    let remedy = wider(unit);
    Some(Candidate {
        kind: ScaleRatio,
        number: ratio,
        what: format!("is a {name} of values of which one is {ratio:.0} times as large as another"),
        remedy: match is_concat {
            true => format!(
                "scales of their own for its arguments: --split-outputs if it is an output, or {remedy}"
            ),
            false => remedy.to_string(),
        },
        apply: Some(remedy),
        change,
    })
}

fn of_layer(graph: &Graph, unit: &Unit, index: usize, facts: &Facts) -> Vec<Candidate> {
    let mut found = Vec::new();
    let node = &graph.nodes[index];
    let of = |role: fn(Role) -> bool| {
        let place = (0..node.inputs.len()).find(|&i| role(node.op.role(i)))?;
        unit.real.contains_key(&node.inputs[place]).then_some((place, node.inputs[place]))
    };
    let bias = of(|role| role == Role::Bias).map(|(_, v)| v);
    let constants = |all: Vec<(ValueId, Tensor<f32>)>| {
        let constants = all.into_iter().map(|(v, tensor)| ((index, v), tensor)).collect();
        Change { constants, ..Change::default() }
    };
    let real_bias = || bias.map(|v| (v, unit.real[&v].clone()));
    if let Some(v) = bias
        && let (Some(Constant::Codes(codes)), Some(quant)) =
            (&graph.values[v].constant, &graph.values[v].quant)
    {
        let limit = |o: usize| {
            let code = codes.get(o);
            let real = unit.real[&v].data()[o] as f64 / quant.scale[o % quant.scale.len()] as f64;
            code == quant.width.lowest()
                || code == quant.width.highest()
                || real.abs() > quant.width.highest() as f64
        };
        let at = (0..unit.real[&v].data().len()).filter(|&o| limit(o)).count();
        if at > 0 {
            found.push(Candidate {
                kind: BiasLimit,
                number: at as f64,
                what: format!("has {at} bias codes at the end of {} bits", quant.width),
                remedy: "larger scales of input or weights: a wider range of the input".into(),
                apply: None,
                change: constants(real_bias().into_iter().collect()),
            });
        }
    }
    if let (Some(v), Some((sums, count))) = (bias, facts.shifts.get(&index))
        && let Some(own) = graph.values[v].to_real().filter(|own| own.data().len() == sums.len())
    {
        let means = || sums.iter().map(|sum| sum / count.max(1.0));
        let step =
            graph.values[node.output].quant.as_ref().map_or(1.0, |quant| quant.scale[0] as f64);
        let most = means().fold(0.0, |most: f64, x| most.max(x.abs())) / step;
        let shifted = own.data().iter().zip(means()).map(|(&b, mean)| (b as f64 - mean) as f32);
        let shifted = Tensor::new(own.shape(), shifted.collect()).ok();
        if let Some(shifted) = shifted.filter(|_| most > MOVED) {
            found.push(Candidate {
                kind: BiasShift,
                number: most,
                what: format!("moves the mean of a channel by up to {most:.1} steps of its result"),
                remedy: "bias correction (a default step of quantize) on samples like these".into(),
                apply: None,
                change: constants(vec![(v, shifted)]),
            });
        }
    }
    let Some((place, w)) = of(|role| matches!(role, Role::Weight { .. })) else { return found };
    let (Role::Weight { axis }, Some(quant)) = (node.op.role(place), &graph.values[w].quant) else {
        return found;
    };
    let real = &unit.real[&w];
    let mut change = |kind, number, what, apply: Apply, scale: Vec<f32>, width| {
        let granularity = match scale.len() {
            1 => Granularity::PerTensor,
            _ => Granularity::PerChannel { axis },
        };
        let params = QuantParams { scale, zero_point: 0, width, granularity };
        let codes = params.quantize_all(real.data(), real.shape());
        let Ok(weight) = Tensor::new(real.shape(), params.dequantize_all(&codes, real.shape()))
        else {
            return;
        };
        let all = real_bias().into_iter().chain([(w, weight)]).collect();
        let (remedy, apply) = (apply.to_string(), Some(apply));
        found.push(Candidate { kind, number, what, remedy, apply, change: constants(all) });
    };
    let channels = real.shape().get(axis).copied().unwrap_or(1);
    let inner: usize = real.shape().iter().skip(axis + 1).product();
    let mut largest = vec![0f32; channels];
    for (i, run) in real.data().chunks(inner.max(1)).enumerate() {
        let most = &mut largest[i % channels];
        *most = run.iter().fold(*most, |most, w| most.max(w.abs()));
    }
    if quant.granularity == Granularity::PerTensor && channels > 1 {
        let ratio = apart(largest.iter().map(|&x| x as f64));
        let highest = quant.width.highest() as f32;
        let scale = largest.iter().map(|&most| (most / highest).max(1e-30)).collect();
        let what = format!(
            "has one scale for channels of weights of which the largest is {ratio:.0} times the middle one"
        );
        let apply = Apply::Options("--granularity channel".into());
        change(WeightImbalance, ratio, what, apply, scale, quant.width);
    }
    let most = largest.iter().copied().fold(0.0, f32::max);
    let codes = 2.0 * (most / quant.scale[0]) as f64 + 1.0;
    let (width, bits) = match quant.width {
        Width::W4 => (Width::W8, 8),
        _ => (Width::W16, 16),
    };
    let ratio = (1u32 << (width.bits() - quant.width.bits().min(8))) as f32;
    let scale = quant.scale.iter().map(|scale| scale / ratio).collect();
    let what = format!("has weights of {} bits", quant.width);
    let apply = rule("nodes", &unit.name, "weights", bits);
    change(CoarseWeights, codes, what, apply, scale, width);
    found
}
