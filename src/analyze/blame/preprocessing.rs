//! Whether the samples are what the network was made for.

use super::{Apply, Bench, Cause, CauseKind, energy, gain_db};
use crate::analyze::Evaluation;
use crate::error::Result;
use crate::lower::IntGraph;
use crate::tensor::Tensor;

/// Other preprocessings that samples may lack, or have had twice: what each does to an element of a channel, of three.
type Way = (&'static str, fn(f32, usize) -> f32);

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

const WAYS: [Way; 6] = [
    ("--scale 1/255", |x, _| x / 255.0),
    ("--scale 255", |x, _| x * 255.0),
    ("--mean 127.5 --std 127.5", |x, _| (x - 127.5) / 127.5),
    ("--scale 2 --mean 1", |x, _| 2.0 * x - 1.0),
    ("--scale 1/255 --mean .485,.456,.406 --std .229,.224,.225", |x, c| {
        (x / 255.0 - MEAN[c]) / STD[c]
    }),
    ("--mean .485,.456,.406 --std .229,.224,.225", |x, c| (x - MEAN[c]) / STD[c]),
];

/// More points of the float network are no chance.
const POINTS: f64 = 10.0;

fn changed(inputs: &[Tensor<f32>], (_, f): Way) -> Vec<Tensor<f32>> {
    let one = |x: &Tensor<f32>| {
        let mut y = x.clone();
        if let &[_, channels, ref rest @ ..] = x.shape()
            && !rest.is_empty()
        {
            let inner = rest.iter().product::<usize>().max(1);
            for (i, run) in y.data_mut().chunks_mut(inner).enumerate() {
                let channel = if channels == 3 { i % 3 } else { 0 };
                run.iter_mut().for_each(|x| *x = f(*x, channel));
            }
        }
        y
    };
    inputs.iter().map(one).collect()
}

/// The float network first, on the same samples: answers by chance, or inputs far from what was calibrated, are no
/// matter of quantization. What would help is looked for among ways that are usual.
pub(super) fn cause(bench: &Bench, integer: &IntGraph, base: &Evaluation) -> Result<Option<Cause>> {
    let looked_at = (0..bench.samples.len().min(32)).map(|i| bench.samples.get(i));
    let looked_at: Vec<Vec<Tensor<f32>>> = looked_at.collect::<Result<_>>()?;
    let is_strange = |way: Option<Way>| {
        integer.inputs.iter().enumerate().find_map(|(i, &v)| {
            let value = &integer.values[v];
            let own = looked_at.iter().map(|inputs| match way {
                Some(way) => changed(&inputs[i..=i], way).remove(0),
                None => inputs[i].clone(),
            });
            let own: Vec<Tensor<f32>> = own.collect();
            let what = value.quant.strange(own.iter().flat_map(|x| x.data()))?;
            value.given.is_none().then(|| (value.name.clone(), what))
        })
    };
    let by_chance = base.notes.iter().find(|note| note.contains("by chance"));
    let (at, what) = match (is_strange(None), by_chance) {
        (Some(strange), _) => strange,
        (None, Some(note)) => (
            integer.inputs.first().map_or(String::new(), |&v| integer.values[v].name.clone()),
            note.clone(),
        ),
        (None, None) => return Ok(None),
    };
    let mut best: Option<(f64, &'static str, Evaluation)> = None;
    for way in WAYS {
        if is_strange(Some(way)).is_some() {
            continue;
        }
        let each = bench.workers.map(bench.samples.len(), |i| {
            let inputs = changed(&bench.samples.get(i)?, way);
            let real = bench.float.run(&bench.of_float(&inputs), |_, _| Ok(()))?;
            let run = bench.simulation.run(&inputs, |_, _| ())?;
            let labels = bench.samples.labels(i)?;
            let seen = bench.see(&bench.simulation.outputs(&run), &real, labels.as_deref())?;
            Ok((vec![seen], labels.is_some()))
        })?;
        let Some(after) = bench.together(each).pop() else { continue };
        let gain = match (after.reference_top1, base.reference_top1) {
            (Some(after), Some(before)) => 100.0 * (after - before),
            _ => gain_db(energy(base), energy(&after)),
        };
        let enough = if base.reference_top1.is_some() { POINTS } else { 0.0 };
        if gain > best.as_ref().map_or(enough, |(best, ..)| *best) {
            best = Some((gain, way.0, after));
        }
    }
    let number = base.reference_top1.map_or(0.0, |top1| 100.0 * top1);
    let (remedy, gain_db, points) = match &best {
        Some((_, way, after)) => (
            format!("{way}, as it seems"),
            gain_db(energy(base), energy(after)),
            after.top1.zip(base.top1).map(|(after, before)| 100.0 * (after - before)),
        ),
        None => ("samples prepared as those of training and calibration".into(), 0.0, None),
    };
    let kind = CauseKind::Preprocessing;
    let what = format!("the samples are not what the network is for: {what}");
    let apply = best.map(|(_, way, _)| Apply::Options(way.into()));
    Ok(Some(Cause { kind, at, number, what, remedy, apply, gain_db, points, named: true }))
}
