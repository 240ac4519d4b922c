//! Greedy widths beside all that there are, the same widths again, and what is refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use super::measure::Bench;
use super::mixed::{Mixed, Widths};
use super::*;
use crate::analyze::argmax;
use crate::exec::float::FloatExecutor;
use crate::graph::Graph;
use crate::lower::lower;
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::conv::Conv;
use crate::ops::linear::Linear;
use crate::ops::{Op, Window};
use crate::quant::{Preset, Scheme};
use crate::quantize::{Recipe, steps_of};
use crate::tensor::Tensor;
use crate::testing::{Net, Rng};

const SHIFT: Scheme = Scheme::new(Preset::Shift).per_tensor();

fn conv(kernel: usize, group: usize) -> Op {
    let pads = [kernel / 2; 4];
    let window = Window { pads, ..Window::new([kernel; 2]) };
    Op::Conv(Conv { window, group })
}

/// Layers of `channels`, each a convolution; with a sum over the second and third. The channels of one are far apart.
fn network(seed: u64, channels: &[usize], sum: bool) -> Graph {
    let mut net = Net::new(seed);
    let mut x = net.input(&[1, 3, 6, 6]);
    let (mut from, mut results) = (3, vec![]);
    for (i, &to) in channels.iter().enumerate() {
        let kernel = if i % 2 == 0 { 3 } else { 1 };
        let mut w = net.rng.reals(&[to, from, kernel, kernel], 1.0 / (from as f32).sqrt());
        if i == 1 {
            w.data_mut().iter_mut().take(from * kernel * kernel).for_each(|w| *w *= 8.0);
        }
        let (w, b) = (net.constant(w), net.random(&[to]));
        x = net.node(conv(kernel, 1), &[x, w, b]);
        if i + 1 < channels.len() {
            net.graph.nodes.last_mut().unwrap().clamp = Clip::RELU;
        }
        results.push(x);
        if sum && i == 2 {
            x = net.node(Op::Add(Add { subtract: false }), &[results[1], x]);
        }
        from = to;
    }
    net.finish(&[x])
}

fn quantizer(graph: Graph) -> Quantizer {
    let mut net = Net::new(3);
    let samples: Vec<Tensor<f32>> = (0..12).map(|_| net.rng.reals(&[1, 3, 6, 6], 1.0)).collect();
    let quantizer = Quantizer::from_graph(graph).unwrap().scheme(SHIFT).steps(steps_of(0));
    quantizer.calibrate(&samples).unwrap()
}

fn all_widths(goal: Goal) -> Options {
    let (activations, weights) = (vec![Width::W8, Width::W16], Width::OF_WEIGHTS.to_vec());
    Options { goal, activations, weights, ..Options::default() }
}

fn bytes(cost: Cost) -> usize {
    cost.ram_bytes + cost.constant_bytes
}

/// Every choice of widths, measured.
fn exhaustive(quantizer: &Quantizer, options: &Options) -> Vec<(f64, Cost)> {
    let mixed = Mixed::new(quantizer, options).unwrap();
    assert!(mixed.units.len() <= 12, "{} units", mixed.units.len());
    let session = quantizer.session().unwrap();
    let bench = Bench::new(&session.graph, session.held_back(), options.workers).unwrap();
    let mut all: Vec<Widths> = vec![vec![]];
    for unit in &mixed.units {
        let longer = |widths: &Widths| {
            unit.widths.iter().map(|&w| [&widths[..], &[w]].concat()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    let measured = bench.measure(&mixed, options, &mixed.own(), &all).unwrap();
    measured.into_iter().flatten().map(|it| (db(it.energy), it.cost)).collect()
}

#[test]
fn greedy_is_near_the_best_of_all() {
    for (seed, channels, sum) in
        [(1, &[8, 6, 6, 4][..], true), (2, &[4, 12, 5], false), (3, &[6, 6, 6], true)]
    {
        let quantizer = quantizer(network(seed, channels, sum));
        let base = all_widths(Goal::Best);
        let all = exhaustive(&quantizer, &base);
        for wanted in [16.0, 22.0, 28.0, 34.0] {
            let tuned = tune(&quantizer, &all_widths(Goal::Sqnr(wanted))).unwrap();
            assert!(tuned.sqnr_db >= wanted, "{} of {wanted}", tuned.sqnr_db);
            let enough = all.iter().filter(|(db, _)| *db >= wanted);
            let best = enough.map(|(_, cost)| bytes(*cost)).min().unwrap();
            assert!(
                bytes(tuned.cost) * 10 <= best * 11,
                "seed {seed}, {wanted} dB: {} bytes, the best has {best}",
                bytes(tuned.cost)
            );
        }
    }
}

/// What is put together is what quantization with the recipe gives, and the simulation of it is what the engine computes.
#[test]
fn networks_that_are_put_together_are_those_of_their_recipes() {
    let quantizer = quantizer(network(1, &[8, 6, 6, 4], true));
    let options = all_widths(Goal::Best);
    let mixed = Mixed::new(&quantizer, &options).unwrap();
    let session = quantizer.session().unwrap();
    let bench = Bench::new(&session.graph, session.held_back(), options.workers).unwrap();
    let mut rng = Rng(7);
    let any = |_: usize| mixed.units.iter().map(|unit| rng.pick(&unit.widths)).collect();
    let all: Vec<Widths> = (0..12).map(any).collect();
    let measured = bench.measure(&mixed, &options, &mixed.own(), &all).unwrap();
    assert_eq!(bench.measure(&mixed, &options, &all[3], &all).unwrap(), measured);
    for (widths, measured) in all.iter().zip(measured) {
        let whole = quantizer.quantize_by(&mixed.recipe(widths)).unwrap();
        assert_eq!(lower(&mixed.graph(widths).unwrap()).unwrap(), *whole.integer);
        let (ours, engine) = (measured.unwrap(), bench.computed(&whole.graph, &options).unwrap());
        assert_eq!(ours.cost, engine.cost);
        assert!((db(ours.energy) - db(engine.energy)).abs() < 0.2, "{ours:?}, {engine:?}");
    }
}

#[test]
fn the_recipe_gives_the_same_file() {
    let network = || self::quantizer(network(1, &[8, 6, 6, 4], true));
    let mut bits = BTreeSet::new();
    for wanted in [20.0, 45.0] {
        let quantizer = network();
        let tuned = tune(&quantizer, &all_widths(Goal::Sqnr(wanted))).unwrap();
        let text = quantizer.rules(tuned.rules.clone()).full_recipe().unwrap().to_json();
        let recipe = Recipe::from_json(&text).unwrap();
        let again = network().recipe(recipe).quantize().unwrap();
        assert!(again.to_onnx() == tuned.quantized.to_onnx());
        let of = |rule: &Rule| rule.settings.activations.or(rule.settings.weights);
        bits.extend(tuned.rules.iter().filter_map(of));
    }
    assert!(bits.contains(&4) && bits.contains(&16), "{bits:?}");
}

/// From whatever step it goes on, by whatever number of threads.
#[test]
fn a_search_that_was_cut_off_goes_on_to_the_same_end() {
    let quantizer = quantizer(network(3, &[6, 6, 6], true));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.json");
    let seen = Mutex::new(vec![]);
    let watch = |event: Event| {
        if let Event::Step(_) = event {
            seen.lock().unwrap().push(std::fs::read(&path).unwrap());
        }
    };
    let goal = Goal::Sqnr(34.0);
    let of = |tuned: &Tuned| {
        (tuned.steps.clone(), tuned.rules.clone(), tuned.quantized.to_onnx().to_vec())
    };
    type Seen<'s> = &'s (dyn Fn(Event) + Sync);
    let with = |resume: Option<&Path>, watch: Seen, threads: usize| {
        let workers = Workers::new(threads.try_into().unwrap());
        let resume = resume.map(Path::to_path_buf);
        tune(&quantizer, &Options { resume, watch, workers, ..all_widths(goal) })
    };
    let whole = with(None, &|_| (), 2).unwrap();
    let kept = with(Some(&path), &watch, 1).unwrap();
    assert_eq!(of(&kept), of(&whole));
    let seen = seen.lock().unwrap().clone();
    assert!(seen.len() > 2 && seen[0] != *seen.last().unwrap(), "{} steps", seen.len());
    let mut before = usize::MAX;
    for state in &seen {
        let cut = folder.path().join("cut.json");
        std::fs::write(&cut, state).unwrap();
        let rest = with(Some(&cut), &|_| (), 2).unwrap();
        assert_eq!(of(&rest), of(&whole));
        assert!(rest.measured <= before && rest.measured < whole.measured);
        before = rest.measured;
    }
    assert_eq!(with(Some(&path), &|_| (), 2).unwrap().measured, 0);
    let other = self::quantizer(network(4, &[6, 6, 6], true));
    let options = Options { resume: Some(path.clone()), ..all_widths(goal) };
    let error = tune(&other, &options).unwrap_err().to_string();
    assert!(error.ends_with("a search of another network, other data or other options"), "{error}");
    std::fs::write(&path, &seen[0][..seen[0].len() / 2]).unwrap();
    let error = with(Some(&path), &|_| (), 2).unwrap_err().to_string();
    assert!(error.contains("search.json: not a search"), "{error}");
}

#[test]
fn limits_are_kept_and_the_more_there_is_the_better_it_gets() {
    let quantizer = quantizer(network(1, &[8, 6, 6, 4], true));
    let within = |limits: Limits| tune(&quantizer, &Options { limits, ..all_widths(Goal::Best) });
    let own = within(Limits { share: Some([1.0; 3]), ..Limits::default() }).unwrap();
    let Cost { ram_bytes, constant_bytes, macs } = own.steps[0].cost;
    let mut before = f64::NEG_INFINITY;
    for percent in [80, 90, 100, 120, 200] {
        let limits = Limits {
            ram_bytes: Some(ram_bytes * percent.max(100) / 100),
            constant_bytes: Some(constant_bytes * percent / 100),
            macs: Some(macs * percent.max(100) as u64 / 100),
            share: None,
        };
        let tuned = within(limits).unwrap();
        let cost = tuned.cost;
        assert!(Some(cost.ram_bytes) <= limits.ram_bytes, "{cost:?}, {limits:?}");
        assert!(Some(cost.constant_bytes) <= limits.constant_bytes, "{cost:?}, {limits:?}");
        assert!(Some(cost.macs) <= limits.macs, "{cost:?}, {limits:?}");
        assert!(tuned.sqnr_db > before - 0.1, "{percent} %: {} after {before}", tuned.sqnr_db);
        before = tuned.sqnr_db;
    }
    assert!(before > own.steps[0].sqnr_db + 10.0, "{before}");
    let limits = Limits { ram_bytes: Some(100), constant_bytes: Some(50), ..Limits::default() };
    let error = within(limits).unwrap_err().to_string();
    let ram = format!("the limits cannot be kept; bytes of RAM: at least {ram_bytes}, not 100");
    assert!(
        error.starts_with(&ram) && error.contains("; bytes of constants: at least "),
        "{error}"
    );
}

#[test]
fn what_cannot_be_reached_is_said_with_what_can() {
    let quantizer = quantizer(network(2, &[4, 12, 5], false));
    let best = tune(&quantizer, &all_widths(Goal::Best)).unwrap();
    let error = tune(&quantizer, &all_widths(Goal::Sqnr(150.0))).unwrap_err().to_string();
    let said = error.strip_prefix("150 dB cannot be reached: the best is ").unwrap();
    let reached: f64 = said.split_once(" dB").unwrap().0.parse().unwrap();
    assert!((reached - best.sqnr_db).abs() < 1.0, "{error}, {}", best.sqnr_db);
    let narrow = Options { weights: vec![], activations: vec![], ..all_widths(Goal::Sqnr(60.0)) };
    let error = tune(&quantizer, &narrow).unwrap_err().to_string();
    assert!(error.starts_with("60 dB cannot be reached: the best is "), "{error}");
}

/// Samples whose class is what the float network says.
struct Labelled(Vec<Tensor<f32>>, Vec<usize>);

impl Samples for Labelled {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>> {
        Ok(vec![self.0[i].clone()])
    }

    fn label(&self, i: usize) -> Option<usize> {
        Some(self.1[i])
    }
}

#[test]
fn a_drop_of_top_1_is_a_goal_too() {
    let mut net = Net::new(9);
    let x = net.input(&[1, 24]);
    let linear = Op::Linear(Linear { transposed: true });
    let (w, v) = (net.random(&[16, 24]), net.random(&[10, 16]));
    let hidden = net.node(linear.clone(), &[x, w]);
    net.graph.nodes.last_mut().unwrap().clamp = Clip::RELU;
    let y = net.node(linear, &[hidden, v]);
    let graph = net.finish(&[y]);
    let mut rng = Rng(1);
    let samples: Vec<Tensor<f32>> = (0..200).map(|_| rng.reals(&[1, 24], 1.0)).collect();
    let quantizer = Quantizer::from_graph(graph).unwrap().scheme(SHIFT).steps(steps_of(0));
    let quantizer = quantizer.calibrate(&samples[..40].to_vec()).unwrap();
    let float = FloatExecutor::new(quantizer.graph().clone());
    let class =
        |x: &Tensor<f32>| argmax(&float.run(std::slice::from_ref(x), |_, _| Ok(())).unwrap()[0]);
    let labels = samples.iter().map(class).collect();
    let data = Labelled(samples, labels);
    let mut before = 0;
    for points in [20.0, 5.0, 0.0] {
        let options = Options { goal: Goal::Drop(points, &data), ..all_widths(Goal::Best) };
        let tuned = tune(&quantizer, &options).unwrap();
        let [float, ours] = tuned.top1.unwrap();
        assert!(float == 1.0 && 100.0 * (1.0 - ours) <= points, "{points}: {ours}");
        assert!(bytes(tuned.cost) >= before, "{points}: {:?}", tuned.cost);
        before = bytes(tuned.cost);
    }
    let unlabelled = Options { goal: Goal::Drop(1.0, &data.0), ..all_widths(Goal::Best) };
    let error = tune(&quantizer, &unlabelled).unwrap_err().to_string();
    assert!(error.contains("no labels"), "{error}");
}
