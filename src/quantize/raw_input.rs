//! A network that is given bytes, in place of what preprocessing makes of them.

use crate::data::Preprocess;
use crate::error::{Result, bail};
use crate::graph::{Graph, Node, Parts, Value, ValueId};
use crate::ops::Op;
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::mul::Mul;
use crate::quant::{Given, Integer};
use crate::tensor::Tensor;

/// Makes the only real input of an imported `graph` one of bytes without a sign: the network itself computes
/// `(x · scale − mean) / std`.
///
/// # Errors
/// A graph with another number of real inputs, or another number of channels than `mean` or `std` has.
pub fn raw_input(graph: &mut Graph, preprocess: &Preprocess) -> Result<()> {
    let real = |v: &&ValueId| graph.values[**v].given.is_none();
    let inputs: Vec<ValueId> = graph.inputs.iter().filter(real).copied().collect();
    let &[input] = &inputs[..] else {
        bail!(
            Unsupported,
            "raw input: the network has {} inputs of real numbers, not one",
            inputs.len()
        );
    };
    let shape = graph.values[input].shape.clone();
    let Preprocess { scale, mean, std, .. } = preprocess;
    let channels = mean.len().max(std.len());
    // Data take the layout of the network.
    let is_last = shape.get(1) != Some(&channels);
    let axis = if is_last { shape.len().saturating_sub(1) } else { 1 };
    if channels > 1 && shape.get(axis) != Some(&channels) {
        let name = &graph.values[input].name;
        bail!(
            Shape,
            "input \"{name}\" of shape {shape:?} has not the {channels} channels of mean or std"
        );
    }
    let of = |list: &[f32], c: usize, none: f32| match list {
        [] => none as f64,
        [one] => *one as f64,
        list => list[c] as f64,
    };
    let numbers = |f: &dyn Fn(usize) -> f64| {
        let mut shape = vec![1; if channels > 1 { shape.len() - axis } else { 0 }];
        shape.iter_mut().take(1).for_each(|size| *size = channels);
        Tensor::new(shape, (0..channels.max(1)).map(|c| f(c) as f32).collect())
    };
    let factor = numbers(&|c| *scale as f64 / of(std, c, 1.0))?;
    let offset = numbers(&|c| -of(mean, c, 0.0) / of(std, c, 1.0))?;
    let mut new = Vec::new();
    let mut v = input;
    for (what, op, by) in
        [("scaled", Op::Mul(Mul), factor), ("shifted", Op::Add(Add { subtract: false }), offset)]
    {
        let name = graph.fresh(format!("{}.{what}", graph.values[input].name));
        let output =
            graph.add_value(Value { name: name.clone(), shape: shape.clone(), ..Value::default() });
        let by_name = graph.fresh(format!("{name}.by"));
        let by = graph.add_value(Value::real(by_name, by));
        let (parts, clamp) = (Parts::default(), Clip::NONE);
        new.push(Node { name, parts, op, clamp, inputs: vec![v, by], output });
        v = output;
    }
    let readers = graph.nodes.iter_mut().flat_map(|node| &mut node.inputs);
    readers.chain(&mut graph.outputs).filter(|x| **x == input).for_each(|x| *x = v);
    graph.nodes.splice(0..0, new);
    let given = Given::any(Integer::U8);
    let value = &mut graph.values[input];
    (value.given, value.quant) = (Some(given), Some(given.params()));
    graph.check()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Layout, Preprocess};
    use crate::ops::Window;
    use crate::ops::conv::Conv;
    use crate::testing::{Net, Rng, random_inputs, refused, run_float};

    #[test]
    fn bytes_make_what_preprocessed_numbers_did() {
        for (layout, shape) in [(Layout::Nchw, [1, 3, 4, 5]), (Layout::Nhwc, [1, 4, 5, 3])] {
            let mut net = Net::new(4);
            let x = net.input(&shape);
            let weight = net.random(&[2, shape[1], 3, 3]);
            let conv = Op::Conv(Conv { window: Window::new([3, 3]), group: 1 });
            let y = net.node(conv, &[x, weight]);
            let float = net.finish(&[y]);
            for (mean, std) in
                [(vec![], vec![]), (vec![0.5], vec![]), (vec![0.4, 0.5, 0.6], vec![0.2, 0.3, 0.4])]
            {
                let preprocess =
                    Preprocess { scale: 1.0 / 255.0, mean, std, layout, ..Preprocess::default() };
                let [mut other, mut raw] = [float.clone(), float.clone()];
                raw_input(&mut raw, &preprocess).unwrap();
                // Images have no layout of their own.
                raw_input(&mut other, &Preprocess { layout: Layout::Nchw, ..preprocess.clone() })
                    .unwrap();
                assert_eq!(other, raw);
                crate::quantize::prepare(&mut raw).unwrap();
                let bytes = random_inputs(&raw, &mut Rng(5), 1.0);
                let real = preprocess.apply(bytes[0].clone()).unwrap();
                let (expected, _) = run_float(&float, &[real]);
                let (got, _) = run_float(&raw, &bytes);
                for (a, b) in expected[0].data().iter().zip(got[0].data()) {
                    assert!((a - b).abs() < 1e-4, "{preprocess:?}: {a} {b}");
                }
            }
            let mean = vec![0.5; 2];
            let two = Preprocess { mean, layout, ..Preprocess::default() };
            let error = refused(raw_input(&mut float.clone(), &two));
            assert!(error.contains("has not the 2 channels of mean or std"), "{error}");
        }
    }
}
